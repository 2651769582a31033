"""LlamaIndex's filters: translated for Chroma as LlamaIndex translates them, passed on whole, never dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from chromadb.errors import ChromaError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from llama_index.vector_stores.chroma.base import _to_chroma_filter

from e2rank_integrations.errors import E2RankError, InputError, StoreError
from e2rank_integrations.llama_index import E2RankRerank, E2RankRetriever
from e2rank_integrations.llama_index.filters import chroma_where
from tests.llama_index.helpers import ids, text_nodes
from tests.support.chroma import new_collection
from tests.support.passages import METADATAS, PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from e2rank_integrations.llama_index import E2RankEmbedding
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording

QUERY = QUERIES[0]
SUPPORTED = ("==", "!=", ">", ">=", "<", "<=", "in", "nin")
UNSUPPORTED = sorted({operator.value for operator in FilterOperator} - set(SUPPORTED))
TOPICS = ("orbit", "bread", "blood", "music", "river", "law", "absent")


def one(key: str, value: Any, operator: str = "==") -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=FilterOperator(operator))


def both(*filters: MetadataFilter | MetadataFilters, condition: str | None = "and") -> MetadataFilters:
    return MetadataFilters(filters=list(filters), condition=condition and FilterCondition(condition))


def retriever(index: object, rerank: E2RankRerank | None = None, **options: Any) -> E2RankRetriever:
    return E2RankRetriever(index, rerank, similarity_top_k=24, **options)


# The translation.

comparisons = st.one_of(
    st.builds(one, st.just("topic"), st.sampled_from(TOPICS), st.sampled_from(["==", "!="])),
    st.builds(one, st.just("number"), st.integers(0, 5), st.sampled_from(["==", "!=", ">", ">=", "<", "<="])),
    st.builds(
        one,
        st.just("topic"),
        st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3),
        st.sampled_from(["in", "nin"]),
    ),
    st.builds(
        one, st.just("number"), st.lists(st.integers(0, 5), min_size=1, max_size=3), st.sampled_from(["in", "nin"])
    ),
)
conditions = st.sampled_from([FilterCondition.AND, FilterCondition.OR, None])
groups = st.recursive(
    st.builds(MetadataFilters, filters=st.lists(comparisons, min_size=1, max_size=3), condition=conditions),
    lambda inner: st.builds(
        MetadataFilters,
        filters=st.lists(st.one_of(comparisons, inner), min_size=1, max_size=3),
        condition=conditions,
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def collection(passage_vectors: Matrix) -> Collection:
    """All passages with their topics and numbers."""
    import chromadb

    return new_collection(chromadb.EphemeralClient(), PASSAGES, passage_vectors, metadatas=METADATAS)


def expected_ids(filters: MetadataFilters) -> set[str]:
    """What the filters mean, by their own words."""
    return {id_ for id_, data in zip(PASSAGES, METADATAS, strict=True) if _holds(filters, data)}


def _holds(part: MetadataFilter | MetadataFilters, data: dict[str, Any]) -> bool:
    if isinstance(part, MetadataFilters):
        verdicts = [_holds(inner, data) for inner in part.filters]
        return any(verdicts) if part.condition == FilterCondition.OR else all(verdicts)
    value = data[part.key]
    return {
        "==": lambda: value == part.value,
        "!=": lambda: value != part.value,
        ">": lambda: value > part.value,
        ">=": lambda: value >= part.value,
        "<": lambda: value < part.value,
        "<=": lambda: value <= part.value,
        "in": lambda: value in part.value,
        "nin": lambda: value not in part.value,
    }[part.operator.value]()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters=groups)
@example(filters=both(both(both(one("topic", "law")))))
@example(filters=both(both(one("topic", "law"), one("number", 2), condition="or"), one("number", 3, "<=")))
def test_filters_are_translated_as_llama_index_does(collection: Collection, filters: MetadataFilters) -> None:
    """Any operators, nested in any way: the very `where` that LlamaIndex's own store sends, and what it means."""
    where = chroma_where(filters)
    assert where == _to_chroma_filter(filters)
    assert set(collection.get(where=where)["ids"]) == expected_ids(filters)


@settings(max_examples=25, deadline=None)
@given(filters=groups, doc_ids=st.lists(st.text(max_size=3), min_size=1, max_size=3))
def test_doc_ids_join_the_filters(filters: MetadataFilters, doc_ids: list[str]) -> None:
    """A node must meet both."""
    assert chroma_where(filters, doc_ids) == {"$and": [chroma_where(filters), {"document_id": {"$in": doc_ids}}]}


def test_no_filters_are_no_condition() -> None:
    """None, an empty group, and groups of empty groups: Chroma would refuse an empty condition."""
    assert chroma_where(None) is None
    assert chroma_where(both()) is None
    assert chroma_where(both(both(), both(both(), condition="or"))) is None
    assert chroma_where(both(both(), one("number", 2))) == {"number": {"$eq": 2}}
    assert chroma_where(None, ["a"]) == {"document_id": {"$in": ["a"]}}


def test_filters_are_not_written_to() -> None:
    """The caller's objects are as they were, and so are lists among their values."""
    filters = both(one("topic", ["law", "river"], "in"), both(one("number", 2), condition="or"))
    before, doc_ids = filters.model_copy(deep=True), ["a"]
    where = chroma_where(filters, doc_ids)
    assert where is not None
    assert (filters, doc_ids) == (before, ["a"])


@pytest.mark.parametrize("operator", UNSUPPORTED)
def test_an_operator_that_chroma_lacks(operator: str) -> None:
    """Is named, alone or deep among others, where LlamaIndex raises a ValueError, too."""
    unsupported = one("topic", "law", operator)
    for filters in (both(unsupported), both(one("number", 2), both(unsupported, condition="or"))):
        with pytest.raises(StoreError, match=f"'{operator}'"):
            chroma_where(filters)
        with pytest.raises(ValueError, match="not supported"):
            _to_chroma_filter(filters)


def test_a_condition_that_chroma_lacks() -> None:
    """`not` is named, and is not taken for another one."""
    for filters in (both(one("topic", "law"), condition="not"), both(both(one("topic", "law"), condition="not"))):
        with pytest.raises(StoreError, match="not"):
            chroma_where(filters)


def test_every_operator_is_known_or_refused() -> None:
    """Those of a later LlamaIndex are refused until somebody looks at them."""
    assert set(SUPPORTED) | set(UNSUPPORTED) == {operator.value for operator in FilterOperator}
    assert len(UNSUPPORTED) >= 5


# Through the retriever.

FILTERS = {
    "equal": both(one("topic", "law")),
    "not equal": both(one("topic", "law", "!="), one("number", 1)),
    "between": both(one("number", 1, ">"), one("number", 4, "<")),
    "at least": both(one("number", 3, ">="), one("topic", "music")),
    "one of": both(one("topic", ["law", "river"], "in")),
    "none of": both(one("number", [1, 2, 3], "nin")),
    "or": both(one("topic", "law"), one("number", 2), condition="or"),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_filters_reach_the_store(index: VectorStoreIndex, recording: Recording, name: str) -> None:
    """In a `SimpleVectorStore` and in Chroma, sync and async, and no vector is computed for them."""
    expected = expected_ids(FILTERS[name])
    assert 0 < len(expected) < 24
    filtered = retriever(index, filters=FILTERS[name])
    assert set(ids(filtered.retrieve(QUERY))) == expected
    recording.calls.clear()
    assert set(ids(await filtered.aretrieve(QUERY))) == expected
    assert {item.candidate.id for item in filtered.rank(QUERY).ranked} == expected
    assert recording.usage.documents == 0


def test_nested_filters(make_index: Callable[..., VectorStoreIndex]) -> None:
    """Chroma takes them; a `SimpleVectorStore` does not, and says so."""
    filters = both(both(one("topic", "law"), one("topic", "river"), condition="or"), one("number", 2, "<="))
    assert set(ids(retriever(make_index("chroma"), filters=filters).retrieve(QUERY))) == expected_ids(filters)
    with pytest.raises(StoreError, match="SimpleVectorStore"):
        retriever(make_index("simple"), filters=filters).retrieve(QUERY)


async def test_unsupported_filters_are_refused(make_index: Callable[..., VectorStoreIndex]) -> None:
    """Sync and async, with the operator's name; a store that has the operator takes it."""
    filters = both(one("topic", "la", "text_match"))
    chroma = retriever(make_index("chroma"), filters=filters)
    with pytest.raises(StoreError, match="text_match"):
        chroma.retrieve(QUERY)
    with pytest.raises(StoreError, match="text_match"):
        await chroma.aretrieve(QUERY)
    assert set(ids(retriever(make_index("simple"), filters=filters).retrieve(QUERY))) == expected_ids(FILTERS["equal"])


def test_a_filter_that_nothing_meets(index: VectorStoreIndex) -> None:
    """Gives nothing, and no error."""
    assert retriever(index, filters=both(one("topic", "absent"))).retrieve(QUERY) == []


@pytest.mark.parametrize("filters", [{"topic": "law"}, [one("topic", "law")], one("topic", "law"), "law"], ids=type)
def test_what_are_no_filters(index: VectorStoreIndex, filters: Any) -> None:
    """Another type is an error of this package, at the latest by the first query, and never no filter at all."""
    with pytest.raises(E2RankError, match=r"filters|Filter|filter"):
        retriever(index, filters=filters).retrieve(QUERY)


def of_documents() -> list[TextNode]:
    """The passages as parts of one source document for each topic."""
    nodes = text_nodes()
    for node in nodes:
        source = RelatedNodeInfo(node_id=f"document-{node.metadata['topic']}")
        node.relationships[NodeRelationship.SOURCE] = source
    return nodes


@pytest.mark.parametrize("kind", ["simple", "chroma"])
@pytest.mark.parametrize("again", [False, True], ids=["one search", "two searches"])
async def test_source_documents_and_nodes_to_search_among(
    make_index: Callable[..., VectorStoreIndex], kind: str, again: bool
) -> None:
    """`doc_ids` and `node_ids`, alone, together, and with filters: a node must meet them all, in both searches."""
    index = make_index(kind, of_documents())
    second = both(one("number", 2))
    for options, expected in (
        ({"doc_ids": ["document-law", "document-river"]}, {"law", "river"}),
        ({"doc_ids": ["document-law"], "filters": second}, {"law-2"}),
        ({"node_ids": ["law-1", "bread-2", "unknown"]}, {"law-1", "bread-2"}),
        ({"node_ids": ["law-1", "bread-2"], "filters": second}, {"bread-2"}),
        ({"node_ids": ["law-1", "bread-2"], "doc_ids": ["document-law"]}, {"law-1"}),
        ({"node_ids": ["law-1", "law-2"], "doc_ids": ["document-law"], "filters": second}, {"law-2"}),
        ({"doc_ids": ["document-absent"]}, set()),
    ):
        wanted = {id_ for id_ in PASSAGES if {id_, id_.split("-")[0]} & expected}
        among = retriever(index, fetch_k=2 if again else 50, search_again=again, **options)
        assert set(ids(among.retrieve(QUERY))) == wanted
        assert set(ids(await among.aretrieve(QUERY))) == wanted


@pytest.mark.parametrize("name", ["doc_ids", "node_ids"])
def test_to_search_among_none(index: VectorStoreIndex, name: str) -> None:
    """An empty list lets nothing through: no node or an error, and not all nodes."""
    try:
        found = retriever(index, **{name: []}).retrieve(QUERY)
    except (StoreError, InputError):
        return
    assert found == []


@pytest.mark.parametrize("options", [{"doc_ids": ["document-law"]}, {"node_ids": ["law-1", "law-2"]}], ids=str)
@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_restrictions_with_a_lookup(
    make_index: Callable[..., VectorStoreIndex], kind: str, options: dict[str, Any]
) -> None:
    """LlamaIndex's Chroma and simple stores do not look at all of them: kept all the same, or refused, not dropped."""
    index = make_index(kind, of_documents())
    looking = retriever(index, vector_lookup=lambda wanted: {}, **options)
    try:
        found = looking.retrieve(QUERY)
    except StoreError as error:
        assert next(iter(options)) in str(error)  # noqa: PT017 - either is fine
        return
    assert {item.node.metadata["topic"] for item in found} == {"law"}
    assert set(ids(found)) <= set(options.get("node_ids", ids(found)))


# The store's own arguments.


async def test_chromas_own_arguments(make_index: Callable[..., VectorStoreIndex]) -> None:
    """`where` and `where_document` pass through, alone and joined with filters, doc_ids and node_ids."""
    index = make_index("chroma", of_documents())
    law = {"topic": "law"}
    for kwargs, options, expected in (
        ({"where": law}, {}, {"law-1", "law-2", "law-3", "law-4"}),
        ({"where": {"$and": [law, {"number": {"$gt": 2}}]}}, {}, {"law-3", "law-4"}),
        ({"where_document": {"$contains": "Danube"}}, {}, {"river-4"}),
        ({"where": law, "where_document": {"$contains": "patent"}}, {}, {"law-3"}),
        ({"where": law}, {"filters": both(one("number", 2))}, {"law-2"}),
        ({"where": law}, {"doc_ids": ["document-river"]}, set()),
        ({"where": law}, {"node_ids": ["law-4", "river-4"]}, {"law-4"}),
        ({"ids": ["law-4", "river-4"]}, {"filters": both(one("topic", "law"))}, {"law-4"}),
        ({"where": None}, {"filters": both(one("topic", "law"), one("number", 1))}, {"law-1"}),
        ({"where_document": {"$contains": "patent"}}, {"filters": both(one("topic", "law"))}, {"law-3"}),
    ):
        given_arguments = dict(kwargs)
        found = retriever(index, vector_store_kwargs=kwargs, **options)
        assert set(ids(found.retrieve(QUERY))) == expected
        assert set(ids(await found.aretrieve(QUERY))) == expected
        assert kwargs == given_arguments, "not written to"


@pytest.mark.parametrize(
    "kwargs",
    [{"bogus": 1}, {"where": "law"}, {"where": {"topic": {"$near": 1}}}, {"where_document": 5}, {"n_results": 1},
     {"mmr_threshold": 0.5}, {"where": {"a": 1, "b": 2}}],
    ids=str,
)  # fmt: skip
async def test_arguments_that_chroma_refuses(
    make_index: Callable[..., VectorStoreIndex], kwargs: dict[str, Any]
) -> None:
    """Come as a StoreError, sync and async, alone and beside filters."""
    index = make_index("chroma")
    for options in ({}, {"filters": FILTERS["equal"]}):
        refused = retriever(index, vector_store_kwargs=kwargs, **options)
        with pytest.raises(StoreError) as caught:
            refused.retrieve(QUERY)
        assert not isinstance(caught.value, ChromaError)
        with pytest.raises(StoreError):
            await refused.aretrieve(QUERY)


@pytest.mark.parametrize("kwargs", [{"where": {"topic": "law"}}, {"bogus": 1}], ids=str)
def test_arguments_of_another_store(make_index: Callable[..., VectorStoreIndex], kwargs: dict[str, Any]) -> None:
    """A `SimpleVectorStore` would drop what it does not know, and show too much: it is an error."""
    with pytest.raises((StoreError, InputError), match=next(iter(kwargs))):
        retriever(make_index("simple"), vector_store_kwargs=kwargs).retrieve(QUERY)


@pytest.mark.parametrize(
    ("kwargs", "options"),
    [
        ({"ids": ["law-1"]}, {"node_ids": ["law-2"]}),
        ({"filters": None}, {"filters": FILTERS["equal"]}),
        ({"node_ids": None}, {"node_ids": ["law-2"]}),
        ({"query_vector": [1.0] * 384}, {}),
        ({"query": "other"}, {}),
        ({"k": 1}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_an_argument_given_twice(
    make_index: Callable[..., VectorStoreIndex], kwargs: dict[str, Any], options: dict[str, Any]
) -> None:
    """What has a parameter of its own, or is none of the store's, is refused: neither of the two may be dropped."""
    with pytest.raises(E2RankError):
        retriever(make_index("chroma"), vector_store_kwargs=kwargs, **options).retrieve(QUERY)


@pytest.mark.parametrize("kwargs", [5, "where", [1]], ids=repr)
def test_arguments_that_are_no_mapping(index: VectorStoreIndex, kwargs: Any) -> None:
    """Are an error that names them."""
    with pytest.raises((InputError, TypeError, ValueError)):
        retriever(index, vector_store_kwargs=kwargs)


def test_filters_hold_for_both_searches(index: VectorStoreIndex, embed_model: E2RankEmbedding) -> None:
    """What searching again brings in meets them, too."""
    rerank = E2RankRerank(embed_model=embed_model, query_weight=0.0, num_input_docs=3)
    filters = both(one("topic", ["river", "music", "law"], "in"))
    ranking = E2RankRetriever(index, rerank, fetch_k=3, search_again=True, filters=filters).rank(QUERY)
    assert any(item.old_position is None for item in ranking.ranked), "the second search must bring something"
    assert {item.candidate.metadata["topic"] for item in ranking.ranked} <= {"river", "music", "law"}


def test_records_of_other_hands_can_be_filtered(collection: Collection, rerank: E2RankRerank) -> None:
    """A plain collection's own metadata are what filters see."""
    found = retriever(collection, rerank, filters=FILTERS["or"]).retrieve(QUERY)
    assert set(ids(found)) == expected_ids(FILTERS["or"])


def test_a_filter_of_a_server(server_port: int, passage_vectors: Matrix, rerank: E2RankRerank) -> None:
    """Over the network as in memory."""
    from tests.support.chroma import server_client

    with server_client(server_port) as client:
        served: ClientAPI = client
        collection = new_collection(served, PASSAGES, passage_vectors, metadatas=METADATAS)
        for name, filters in FILTERS.items():
            assert set(ids(retriever(collection, rerank, filters=filters).retrieve(QUERY))) == expected_ids(filters), (
                name
            )
