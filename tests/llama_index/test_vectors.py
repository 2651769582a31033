"""Where the reranker's vectors come from: the node, the store, a callable; what is left is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.node_parser import SentenceWindowNodeParser
from llama_index.core.postprocessor import MetadataReplacementPostProcessor
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from e2rank_integrations.errors import EngineMemoryError, InputError, StoreError, StoreMismatchError, VectorError
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, with_text_hash
from tests.llama_index.helpers import expect_alike, found_nodes, ids, scores, text_nodes
from tests.support.engines import Failing
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import BaseNode

    from e2rank_integrations import E2RankEncoder, Ranking
    from tests.support.engines import Recording

QUERY = QUERIES[0]
SPOT_CHECK = 3
"""Documents that a spot check embeds at most."""


@pytest.fixture
def other(embedded_encoder: E2RankEncoder) -> E2RankEmbedding:
    """Another embedding of the same width: the embedded model's weights, read out otherwise."""
    profile = replace(embedded_encoder.profile, pooling="cls")
    return E2RankEmbedding(encoder=replace(embedded_encoder, profile=profile))


def embedded(nodes: Sequence[BaseNode], embed_model: BaseEmbedding) -> list[BaseNode]:
    """The nodes with their embeddings, as LlamaIndex makes them."""
    return list(embed_model(nodes))


def retrieved(nodes: Iterable[BaseNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.5) for node in nodes]


def carrying(topics: Iterable[str], embed_model: BaseEmbedding) -> list[NodeWithScore]:
    """Nodes of some topics that carry their embeddings, as those of Pinecone or Weaviate do."""
    return retrieved(embedded(text_nodes(topics), embed_model))


def bare(found: Iterable[NodeWithScore]) -> list[NodeWithScore]:
    """The same nodes without their embeddings."""
    return [item.model_copy(update={"node": item.node.model_copy(update={"embedding": None})}) for item in found]


def sources(ranking: Ranking) -> dict[str | None, str | None]:
    return {item.candidate.id: item.vector_source for item in ranking}


def computed(ranking: Ranking) -> set[str | None]:
    return {id_ for id_, source in sources(ranking).items() if source == "computed"}


def settled(rerank: E2RankRerank, recording: Recording) -> E2RankRerank:
    """The reranker after its one spot check of vectors that nodes carry, with nothing counted yet."""
    rerank.rank(carrying(["law"], E2RankEmbedding(encoder=rerank.encoder)), QUERY)
    recording.calls.clear()
    return rerank


def lookup_in(embed_model: BaseEmbedding, topics: Iterable[str]) -> Callable[[list[str]], dict[str, list[float]]]:
    """A `vector_lookup` that knows some topics and answers in an order of its own."""
    known = {node.node_id: node.embedding for node in embedded(text_nodes(topics), embed_model)}
    return lambda asked: {id_: known[id_] for id_ in sorted(asked, reverse=True) if id_ in known}


async def test_a_nodes_own_embedding_is_used(
    rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """No document is embedded, sync or async, and the result is the recomputed one."""
    found = carrying(["bread", "law"], embed_model)
    expected = rerank.postprocess_nodes(bare(found), query_str=QUERY)
    settled(rerank, recording)
    results = [
        rerank.postprocess_nodes(found, query_str=QUERY),
        await rerank.apostprocess_nodes(found, query_str=QUERY),
    ]
    assert (recording.usage.documents, recording.usage.prompts) == (0, 2)
    for some in results:
        expect_alike(bare(some), expected)
    assert set(sources(rerank.rank(found, QUERY)).values()) == {"document"}


def test_carried_vectors_are_spot_checked_once(
    rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """The first list costs a few documents, and the following ones none."""
    found = carrying(["bread", "law", "river"], embed_model)
    recording.calls.clear()
    rerank.rank(found, QUERY)
    assert 1 <= recording.usage.documents <= SPOT_CHECK
    recording.calls.clear()
    rerank.rank(found, QUERIES[1])
    assert recording.usage.documents == 0


def test_only_what_lacks_a_vector_is_computed(
    rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """Some nodes carry a vector and some do not: each is scored by its own."""
    mixed = [*carrying(["bread"], embed_model), *found_nodes(["law"])]
    expected = rerank.rank(bare(mixed), QUERY)
    settled(rerank, recording)
    ranking = rerank.rank(mixed, QUERY)
    assert recording.usage.documents == 4
    assert computed(ranking) == {"law-1", "law-2", "law-3", "law-4"}
    assert [item.candidate.id for item in ranking] == [item.candidate.id for item in expected]
    assert [item.score for item in ranking] == pytest.approx([item.score for item in expected], abs=1e-5)


def test_vectors_come_in_order_of_their_sources(embed_model: E2RankEmbedding, recording: Recording) -> None:
    """The node first, then the lookup, which is asked for the rest alone, each id once; then the model."""
    asked: list[list[str]] = []
    known = lookup_in(embed_model, ["bread", "orbit"])

    def lookup(wanted: list[str]) -> dict[str, list[float]]:
        asked.append(wanted)
        return known(wanted)

    rerank = E2RankRerank(embed_model=embed_model, vector_lookup=lookup, top_n=None)
    found = [*carrying(["bread"], embed_model), *found_nodes(["orbit"]), *found_nodes(["law"]), *found_nodes(["law"])]
    rerank.rank(found, QUERY)
    recording.calls.clear()
    ranking = rerank.rank(found, QUERY)
    by_topic = {str(id_).split("-")[0]: source for id_, source in sources(ranking).items()}
    assert by_topic == {"bread": "document", "orbit": "store", "law": "computed"}
    assert len(ranking) == len(found)
    assert asked[-1] == [item.node.node_id for item in [*found_nodes(["orbit"]), *found_nodes(["law"])]]
    assert recording.usage.documents == 4
    before = len(asked)
    rerank.rank(carrying(["bread"], embed_model), QUERY)
    assert len(asked) == before, "nothing was lacking"


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_a_nodes_own_vector_comes_before_the_stores(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, kind: str
) -> None:
    """A node that carries its vector is not looked up, and the others are."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=make_index(kind), top_n=None)
    ranking = rerank.rank([*carrying(["bread"], embed_model), *found_nodes(["law"])], QUERY)
    assert {str(id_).split("-")[0]: source for id_, source in sources(ranking).items()} == {
        "bread": "document", "law": "store",
    }  # fmt: skip


def test_a_lookup_gives_the_vectors(rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording) -> None:
    """In whatever order it answers: no document is embedded after the first list, and the result is as if computed."""
    found = found_nodes(["bread", "law"])
    expected = rerank.postprocess_nodes(found, query_str=QUERY)
    looking = E2RankRerank(embed_model=embed_model, vector_lookup=lookup_in(embed_model, []), top_n=None)
    recording.calls.clear()
    looking.rank(found, QUERY)
    assert 1 <= recording.usage.documents <= SPOT_CHECK
    recording.calls.clear()
    expect_alike(looking.postprocess_nodes(found, query_str=QUERY), expected)
    assert recording.usage.documents == 0


def test_a_lookup_comes_before_a_store(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding
) -> None:
    """Both given, the callable is what was meant: it is there for stores that cannot be read."""
    asked: list[str] = []

    def lookup(wanted: list[str]) -> dict[str, list[float]]:
        asked.extend(wanted)
        return lookup_in(embed_model, ["law"])(wanted)

    rerank = E2RankRerank(embed_model=embed_model, vector_store=make_index("chroma"), vector_lookup=lookup)
    rerank.rank(found_nodes(["law"]), QUERY)
    assert asked == ["law-1", "law-2", "law-3", "law-4"]


@pytest.mark.parametrize("answer", [None, [[0.0] * 384], 5], ids=["None", "list", "number"])
async def test_a_lookup_that_gives_no_mapping(embed_model: E2RankEmbedding, answer: object) -> None:
    """Is named in a typed error, sync and async."""
    rerank = E2RankRerank(embed_model=embed_model, vector_lookup=lambda _: answer)
    with pytest.raises(InputError, match="vector_lookup"):
        rerank.rank(found_nodes(["law"]), QUERY)
    with pytest.raises(InputError, match="vector_lookup"):
        await rerank.apostprocess_nodes(found_nodes(["law"]), query_str=QUERY)


@pytest.mark.parametrize("through", ["node", "lookup"])
async def test_foreign_vectors_of_the_same_width_are_refused(
    embed_model: E2RankEmbedding, other: E2RankEmbedding, through: str
) -> None:
    """Of another model: refused each time, not the first alone, sync and async, without a word of a text."""
    options = {"vector_lookup": lookup_in(other, ["law"])} if through == "lookup" else {}
    rerank = E2RankRerank(embed_model=embed_model, **options)
    found = found_nodes(["law"]) if through == "lookup" else carrying(["law"], other)
    for _ in range(2):
        with pytest.raises(StoreMismatchError, match="record 'law-") as caught:
            rerank.rank(found, QUERY)
        assert not any(text[:12] in str(caught.value) for text in PASSAGES.values())
    with pytest.raises(StoreMismatchError):
        await rerank.apostprocess_nodes(found, query_str=QUERY)


@pytest.mark.parametrize("through", ["node", "lookup"])
def test_vectors_of_another_width_are_refused(embed_model: E2RankEmbedding, through: str) -> None:
    """With both widths in the message."""
    narrow = MockEmbedding(embed_dim=64)
    options = {"vector_lookup": lookup_in(narrow, ["law"])} if through == "lookup" else {}
    found = found_nodes(["law"]) if through == "lookup" else carrying(["law"], narrow)
    with pytest.raises(StoreMismatchError, match=r"64.*384"):
        E2RankRerank(embed_model=embed_model, **options).rank(found, QUERY)


def test_good_vectors_of_one_place_vouch_for_no_other(embed_model: E2RankEmbedding, other: E2RankEmbedding) -> None:
    """Checked nodes say nothing of the lookup, nor of what another reranker is given."""
    rerank = E2RankRerank(embed_model=embed_model, vector_lookup=lookup_in(other, ["bread"]))
    rerank.rank(carrying(["law"], embed_model), QUERY)
    with pytest.raises(StoreMismatchError):
        rerank.rank(found_nodes(["bread"]), QUERY)
    with pytest.raises(StoreMismatchError):
        E2RankRerank(embed_model=embed_model).rank(carrying(["bread"], other), QUERY)


@pytest.mark.parametrize(
    "vector", [[], [0.0] * 384, [float("nan")] * 384, [float("inf")] * 384], ids=["empty", "zero", "NaN", "infinity"]
)
@pytest.mark.parametrize("checked", [False, True], ids=["first", "later"])
def test_vectors_that_point_nowhere(
    rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording, vector: list[float], checked: bool
) -> None:
    """Are errors of this package that name the node, before the spot check and after it; never a score."""
    if checked:
        settled(rerank, recording)
    (node,) = (node for node in text_nodes(["law"]) if node.node_id == "law-2")
    found = [*carrying(["bread"], embed_model), *retrieved([node.model_copy(update={"embedding": vector})])]
    with pytest.raises((StoreMismatchError, VectorError), match="'law-2'"):
        rerank.rank(found, QUERY)


def test_vectors_need_not_be_of_length_one(
    rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """A store that scales its vectors changes no score."""
    found = carrying(["bread", "law"], embed_model)
    scaled = [
        item.model_copy(update={"node": item.node.model_copy(update={"embedding": [7 * x for x in item.embedding]})})
        for item in found
    ]
    expected = rerank.postprocess_nodes(bare(found), query_str=QUERY)
    settled(rerank, recording)
    expect_alike(bare(rerank.postprocess_nodes(scaled, query_str=QUERY)), expected)
    assert recording.usage.documents == 0


# What was changed since it was embedded.


WINDOWS = Document(
    text="Bread rises by yeast. The dough is kneaded first. Gluten holds the gas. A contract needs an offer.",
    id_="book",
)


def windows() -> list[BaseNode]:
    """One node for each sentence, with its surroundings in the metadata."""
    return SentenceWindowNodeParser.from_defaults(window_size=1).get_nodes_from_documents([WINDOWS])


async def test_a_replaced_text_is_embedded_anew(
    rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """`MetadataReplacementPostProcessor` leaves the sentence's vector on a node that shows its window."""
    found = retrieved(embedded(windows(), embed_model))
    settled(rerank, recording)
    assert set(sources(rerank.rank(found, QUERY)).values()) == {"document"}
    replaced = MetadataReplacementPostProcessor(target_metadata_key="window").postprocess_nodes(found)
    assert all(item.node.embedding is not None for item in replaced)
    recording.calls.clear()
    assert set(sources(rerank.rank(replaced, QUERY)).values()) == {"computed"}
    assert recording.usage.documents == len({item.text for item in replaced})
    expected = rerank.postprocess_nodes(bare(replaced), query_str=QUERY)
    expect_alike(bare(rerank.postprocess_nodes(replaced, query_str=QUERY)), expected)
    expect_alike(bare(await rerank.apostprocess_nodes(replaced, query_str=QUERY)), expected)


@pytest.mark.parametrize("kind", ["simple", "chroma", "simple store", "chroma store", "lookup"])
def test_a_replaced_text_is_not_given_the_stored_vector(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, kind: str
) -> None:
    """In a whole index, with and without texts beside the vectors."""
    index = make_index("chroma" if kind.startswith("chroma") else "simple", windows())
    store: Any = index.vector_store if kind.endswith("store") else index
    options: dict[str, Any] = {"vector_store": store}
    if kind == "lookup":
        options = {"vector_lookup": lambda wanted: {id_: index.vector_store.get(id_) for id_ in wanted}}
    rerank = E2RankRerank(embed_model=embed_model, top_n=None, **options)
    found = index.as_retriever(similarity_top_k=4).retrieve(QUERY)
    assert set(sources(rerank.rank(found, QUERY)).values()) == {"store"}
    replaced = MetadataReplacementPostProcessor(target_metadata_key="window").postprocess_nodes(found)
    recording.calls.clear()
    ranking = rerank.rank(replaced, QUERY)
    assert set(sources(ranking).values()) == {"computed"}
    assert recording.usage.documents == len({item.text for item in replaced})
    expected = E2RankRerank(embed_model=embed_model, top_n=None).rank(replaced, QUERY)
    assert [item.candidate.id for item in ranking] == [item.candidate.id for item in expected]


@pytest.mark.parametrize("through", ["node", "lookup", "simple store"])
def test_a_text_hash_shows_a_changed_text(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, through: str
) -> None:
    """Where nobody else says which text a vector embeds, the hash does: the changed node alone is computed."""
    index = make_index("simple", with_text_hash(text_nodes(["bread", "law"])))
    options: dict[str, Any] = {}
    if through == "lookup":
        options = {"vector_lookup": lambda wanted: {id_: index.vector_store.get(id_) for id_ in wanted}}
    if through == "simple store":
        options = {"vector_store": index.vector_store}
    found = retrieved(embedded(with_text_hash(text_nodes(["bread", "law"])), embed_model))
    if through != "node":
        found = bare(found)
    rerank = E2RankRerank(embed_model=embed_model, top_n=None, **options)
    assert computed(rerank.rank(found, QUERY)) == set()
    found[5].node.set_content("Yeast makes bread rise.")
    recording.calls.clear()
    ranking = rerank.rank(found, QUERY)
    assert computed(ranking) == {found[5].node.node_id}
    assert recording.usage.documents == 1
    assert ranking[0].candidate.id == found[5].node.node_id, "its new text answers the query"


@pytest.mark.parametrize("through", ["node", "store", "lookup"])
def test_another_metadata_mode_has_other_vectors(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, through: str
) -> None:
    """The index embeds metadata and text; a reranker that wants the text alone cannot use those vectors."""
    nodes = [TextNode(text=text, id_=id_, metadata={"topic": id_}) for id_, text in list(PASSAGES.items())[:6]]
    index = make_index("simple", [node.model_copy(deep=True) for node in nodes])
    options = {
        "node": {},
        "store": {"vector_store": index},
        "lookup": {"vector_lookup": lambda wanted: {id_: index.vector_store.get(id_) for id_ in wanted}},
    }[through]
    found = retrieved(embedded(nodes, embed_model) if through == "node" else nodes)
    same = E2RankRerank(embed_model=embed_model, top_n=None, **options)
    same.rank(found, QUERY)
    recording.calls.clear()
    assert computed(same.rank(found, QUERY)) == set()
    prompted = E2RankRerank(
        embed_model=embed_model, top_n=None, prompt_metadata_mode=MetadataMode.NONE, **options
    ).rank(found, QUERY)
    assert computed(prompted) == set(), "what the prompt shows does not matter to the vectors"
    recording.calls.clear()
    other = E2RankRerank(embed_model=embed_model, top_n=None, metadata_mode=MetadataMode.NONE, **options)
    assert computed(other.rank(found, QUERY)) == set(ids(found))
    assert recording.usage.documents == 6
    plain = retrieved(TextNode(text=node.text, id_=node.node_id) for node in nodes)
    expected = E2RankRerank(embed_model=embed_model, top_n=None).postprocess_nodes(plain, query_str=QUERY)
    assert ids(other.postprocess_nodes(found, query_str=QUERY)) == ids(expected)
    assert scores(other.postprocess_nodes(found, query_str=QUERY)) == pytest.approx(scores(expected), abs=1e-5)


def test_another_metadata_mode_of_the_same_text_uses_the_vectors(
    embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """Where no metadata are in the embedded text, `NONE` and `EMBED` are one."""
    rerank = E2RankRerank(embed_model=embed_model, metadata_mode=MetadataMode.NONE)
    found = carrying(["law"], embed_model)
    settled(rerank, recording)
    assert computed(rerank.rank(found, QUERY)) == set()
    assert recording.usage.documents == 0


def test_a_text_that_stands_in_the_metadata_is_checked_by_its_hash(
    embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """A node whose text is one of its metadata looks replaced; the hash says that it is not."""
    nodes = [TextNode(text=text, id_=id_, metadata={"original": text}) for id_, text in list(PASSAGES.items())[:4]]
    rerank = settled(E2RankRerank(embed_model=embed_model), recording)
    plain = retrieved(embedded(nodes, embed_model))
    hashed = retrieved(embedded(with_text_hash(nodes), embed_model))
    recording.calls.clear()
    assert computed(rerank.rank(hashed, QUERY)) == set()
    assert computed(rerank.rank(plain, QUERY)) == set(ids(plain))


# Duplicates.


@pytest.mark.parametrize("through", ["node", "simple", "chroma", "nothing"])
def test_nodes_with_one_id_are_all_ranked(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, through: str
) -> None:
    """The same node several times: as many results, with one score, and no more forwards than for one."""
    options = {"vector_store": make_index(through)} if through in {"simple", "chroma"} else {}
    once = carrying(["law"], embed_model) if through == "node" else found_nodes(["law"])
    rerank = settled(E2RankRerank(embed_model=embed_model, top_n=None, **options), recording)
    ranked = rerank.postprocess_nodes([*once, *once, *once], query_str=QUERY)
    assert sorted(ids(ranked)) == sorted(ids(once) * 3)
    assert len(set(scores(ranked))) == 4
    assert recording.usage.documents <= SPOT_CHECK + (4 if through == "nothing" else 0)


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_one_id_with_two_texts(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, kind: str
) -> None:
    """The stored vector goes to the node whose text is stored, and the other's is computed."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=make_index(kind), top_n=None)
    rerank.rank(found_nodes(["law"]), QUERY)
    twin = TextNode(text="Bread rises by yeast.", id_="law-1")
    recording.calls.clear()
    ranking = rerank.rank([*found_nodes(["law"]), *retrieved([twin])], QUERY)
    assert recording.usage.documents == 1
    assert {item.candidate.text: item.vector_source for item in ranking if item.candidate.id == "law-1"} == {
        PASSAGES["law-1"]: "store", twin.text: "computed",
    }  # fmt: skip
    assert ranking[0].candidate.text == twin.text


def test_one_id_with_two_texts_where_no_text_is_stored(embed_model: E2RankEmbedding, recording: Recording) -> None:
    """A lookup cannot say which of them its vector embeds: both are computed, and other ids are read."""
    rerank = E2RankRerank(embed_model=embed_model, vector_lookup=lookup_in(embed_model, ["law"]), top_n=None)
    rerank.rank(found_nodes(["law"]), QUERY)
    found = [*found_nodes(["law"]), *retrieved([TextNode(text="Bread rises by yeast.", id_="law-1")])]
    recording.calls.clear()
    ranking = rerank.rank(found, QUERY)
    assert recording.usage.documents == 2
    assert computed(ranking) == {"law-1"}
    expected = E2RankRerank(embed_model=embed_model, top_n=None).rank(found, QUERY)
    assert [item.score for item in ranking] == pytest.approx([item.score for item in expected], abs=1e-5)


# What a store does not have.


@pytest.mark.parametrize("kind", ["simple", "chroma", "simple store", "chroma store", "native", "lookup"])
def test_nodes_that_a_store_lacks_are_computed(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, kind: str
) -> None:
    """Ids that are not stored are embedded; no node is lost and none gets a neighbour's vector."""
    kept = text_nodes(["bread", "law"])
    index = make_index("chroma" if kind.startswith(("chroma", "native")) else "simple", kept)
    options: dict[str, Any] = {"vector_store": index.vector_store if kind.endswith("store") else index}
    if kind == "native":
        options = {"vector_store": index.vector_store.client}
    if kind == "lookup":
        options = {"vector_lookup": lookup_in(embed_model, ["bread", "law"])}
    rerank = E2RankRerank(embed_model=embed_model, top_n=None, **options)
    found = [
        node
        for trio in zip(*(found_nodes([topic]) for topic in ("orbit", "law", "bread")), strict=True)
        for node in trio
    ]
    rerank.rank(found, QUERY)
    recording.calls.clear()
    ranking = rerank.rank(found, QUERY)
    assert recording.usage.documents == 4
    assert computed(ranking) == {"orbit-1", "orbit-2", "orbit-3", "orbit-4"}
    expected = E2RankRerank(embed_model=embed_model, top_n=None).rank(found, QUERY)
    assert [item.candidate.id for item in ranking] == [item.candidate.id for item in expected]
    assert [item.score for item in ranking] == pytest.approx([item.score for item in expected], abs=1e-5)


@pytest.mark.parametrize("kind", ["simple", "chroma"])
@pytest.mark.parametrize("changed", ["text", "metadata"])
def test_a_node_that_differs_from_what_is_stored(
    make_index: Callable[..., VectorStoreIndex],
    embed_model: E2RankEmbedding,
    recording: Recording,
    kind: str,
    changed: str,
) -> None:
    """Another text than the one that was embedded, be it by its metadata: its vector is computed, the others' read."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=make_index(kind), top_n=None)
    found = found_nodes(["law"])
    rerank.rank(found, QUERY)
    if changed == "text":
        found[2].node.set_content("Yeast makes bread rise.")
    else:
        found[2].node.excluded_embed_metadata_keys = ["number"]
    recording.calls.clear()
    ranking = rerank.rank(found, QUERY)
    assert recording.usage.documents == 1
    assert computed(ranking) == {"law-3"}
    (item,) = (item for item in ranking if item.candidate.id == "law-3")
    vector = embed_model.encoder.encode_documents([item.candidate.text])[0]
    assert item.score == pytest.approx(float(np.asarray(ranking.query_vector) @ vector), abs=1e-5)


@pytest.mark.usefixtures("unchecked")
async def test_a_spot_check_that_fails_is_a_failure_of_the_call(
    embed_model: E2RankEmbedding, encoder: E2RankEncoder
) -> None:
    """The engine is down at the first request: `on_error` decides, also where the check of vectors meets it first."""
    found = carrying(["law"], embed_model)
    down = replace(encoder, custom_engine=Failing(encoder.engine, EngineMemoryError("out of memory")))
    kept = E2RankRerank(encoder=down, on_error="keep_order", top_n=None)
    for result in (
        kept.postprocess_nodes(found, query_str=QUERY),
        await kept.apostprocess_nodes(found, query_str=QUERY),
    ):
        assert ids(result) == ids(found)
    with pytest.raises(EngineMemoryError):
        E2RankRerank(encoder=down).postprocess_nodes(found, query_str=QUERY)


def test_a_good_store_vouches_for_no_other(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, other: E2RankEmbedding
) -> None:
    """A reranker that is given another store has it checked anew."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=make_index("simple").vector_store)
    rerank.rank(found_nodes(["law"]), QUERY)
    rerank.vector_store = VectorStoreIndex(text_nodes(), embed_model=other).vector_store
    with pytest.raises(StoreMismatchError):
        rerank.rank(found_nodes(["law"]), QUERY)


def test_a_store_has_what_the_lookup_lacks(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """The callable is asked first, the store for the rest, and nothing is computed."""
    index = make_index("chroma")
    kept = make_index("simple").vector_store.data.embedding_dict
    rerank = E2RankRerank(
        embed_model=embed_model, vector_store=index, vector_lookup=lambda asked: {i: kept[i] for i in asked[:2]}
    )
    rerank.rank(found_nodes(["law"]), QUERY)
    recording.calls.clear()
    assert {item.vector_source for item in rerank.rank(found_nodes(["law"]), QUERY)} == {"store"}
    assert recording.usage.documents == 0


def test_vectors_of_nodes_may_be_left_aside(embed_model: E2RankEmbedding, recording: Recording) -> None:
    """Where a postprocessor rewrites texts, their vectors are computed."""
    found = carrying(["law"], embed_model)
    rerank = E2RankRerank(embed_model=embed_model, use_node_embedding=False)
    recording.calls.clear()
    assert {item.vector_source for item in rerank.rank(found, QUERY)} == {"computed"}
    assert recording.usage.documents == len(found)


def test_stale_vectors_of_nodes_are_reported(embed_model: E2RankEmbedding, caplog: pytest.LogCaptureFixture) -> None:
    """One log record counts them, as it does for those of a store."""
    found = retrieved(embedded(with_text_hash(text_nodes(["law"])), embed_model))
    found[0].node.set_content("Yeast makes bread rise.")
    E2RankRerank(embed_model=embed_model).rank(found, QUERY)
    assert "1 of 4 stored vectors are older than their texts" in caplog.text


def test_a_lookup_that_fails_is_a_store_error(embed_model: E2RankEmbedding) -> None:
    """With the kind of the failure, and without its message, which may hold an address or a key."""

    def lookup(_: list[str]) -> dict[str, list[float]]:
        raise ConnectionError("https://user:key@host")

    with pytest.raises(StoreError, match=r"vector_lookup failed \(ConnectionError\)") as caught:
        E2RankRerank(embed_model=embed_model, vector_lookup=lookup).rank(found_nodes(["law"]), QUERY)
    assert "key" not in str(caught.value)
