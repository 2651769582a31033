"""Nodes as candidates and back: which text is meant, the hash that vouches for a vector, nodes of all kinds."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from e2rank_integrations.errors import InputError
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever, with_text_hash
from e2rank_integrations.llama_index.nodes import candidate_of
from e2rank_integrations.stores import TEXT_HASH_KEY, text_hash
from tests.llama_index.helpers import expect_alike, ids, snapshot, text_nodes
from tests.support.passages import LONG_PASSAGE, PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_index.core.schema import BaseNode

    from tests.support.engines import Recording

QUERY = QUERIES[0]
TEXT = PASSAGES["bread-1"]
MODES = tuple(MetadataMode)


def of_all_kinds() -> list[BaseNode]:
    """One text in each class of node that LlamaIndex has, with visible and hidden metadata."""
    fields = {"metadata": {"topic": "bread", "page": 7}, "excluded_embed_metadata_keys": ["page"]}
    return [
        TextNode(id_="text", text=TEXT, **fields),
        Document(id_="document", text=TEXT, **fields),
        IndexNode(id_="index", index_id="book", text=TEXT, **fields),
        ImageNode(id_="image", text=TEXT, image_url="https://example.com/bread.png", **fields),
        Node(id_="node", text_resource=MediaResource(text=TEXT), **fields),
    ]


def shown(node: BaseNode) -> list[str]:
    return [node.get_content(metadata_mode=mode) for mode in (MetadataMode.EMBED, MetadataMode.LLM, MetadataMode.NONE)]


# The hash of the embedded text.


def test_hashes_are_added_to_copies() -> None:
    """The nodes given stay as they are; the copies differ by the hash alone, which no model reads."""
    given = of_all_kinds()
    before = snapshot(given)
    hashed = with_text_hash(given)
    assert snapshot(given) == before
    for node, original in zip(hashed, given, strict=True):
        assert type(node) is type(original)
        assert node.node_id == original.node_id
        embedded = original.get_content(metadata_mode=MetadataMode.EMBED)
        assert embedded == f"topic: bread\n\n{TEXT}"
        assert node.metadata == {**original.metadata, TEXT_HASH_KEY: text_hash(embedded)}
        assert shown(node) == shown(original)
        assert node.excluded_embed_metadata_keys == ["page", TEXT_HASH_KEY]
        assert node.excluded_llm_metadata_keys == [TEXT_HASH_KEY]


def test_hashing_twice_is_hashing_once() -> None:
    """And after a change of the text the new one counts."""
    (once,) = with_text_hash([TextNode(text=TEXT)])
    assert snapshot(with_text_hash([once])) == snapshot([once])
    once.set_content("Other words.")
    (again,) = with_text_hash([once])
    assert again.metadata[TEXT_HASH_KEY] == text_hash("Other words.")
    assert again.excluded_embed_metadata_keys == [TEXT_HASH_KEY]


def test_any_iterable_can_be_hashed() -> None:
    """A generator, a tuple, nothing."""
    assert [node.node_id for node in with_text_hash(node for node in of_all_kinds())] == [
        "text", "document", "index", "image", "node",
    ]  # fmt: skip
    assert with_text_hash(()) == []


@pytest.mark.parametrize(
    "wrong",
    ["text", ["text"], [NodeWithScore(node=TextNode(text=TEXT))], [None]],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_cannot_be_hashed(wrong: object) -> None:
    """Is an InputError that says where and holds no text."""
    with pytest.raises(InputError, match="node 0") as caught:
        with_text_hash(wrong)
    assert "yeast" not in str(caught.value)


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_a_hash_survives_a_store(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, kind: str
) -> None:
    """Indexed and read back: every vector is used, and texts, metadata and the order are as without hashes."""
    plain, hashed = (
        make_index(kind, text_nodes(["bread", "law"])),
        make_index(kind, with_text_hash(text_nodes(["bread", "law"]))),
    )
    expected = E2RankRetriever(plain, similarity_top_k=8).retrieve(QUERY)
    retriever = E2RankRetriever(hashed, similarity_top_k=8)
    retriever.retrieve(QUERY)
    recording.calls.clear()
    found = retriever.retrieve(QUERY)
    rerank = E2RankRerank(embed_model=embed_model, vector_store=hashed)
    rerank.postprocess_nodes(hashed.as_retriever(similarity_top_k=8).retrieve(QUERY), query_str=QUERY)
    assert recording.usage.documents == 0
    assert ids(found) == ids(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert shown(one.node) == shown(other.node)
        assert {key: value for key, value in one.node.metadata.items() if key != TEXT_HASH_KEY} == other.node.metadata


def test_metadata_that_are_embedded_are_hashed(
    make_index: Callable[..., VectorStoreIndex], recording: Recording
) -> None:
    """A change of visible metadata makes a vector stale, and one of hidden metadata does not."""
    nodes = [node for node in of_all_kinds()[:1] for node in (node, node.model_copy(update={"id_": "other"}))]
    index = make_index("chroma", with_text_hash(nodes))
    retriever = E2RankRetriever(index)
    retriever.retrieve(QUERY)
    for id_, key in (("text", "page"), ("other", "topic")):
        (node,) = index.vector_store.get_nodes([id_])
        node.metadata[key] = "8"
        node.embedding = index.vector_store.client.get(ids=[id_], include=["embeddings"])["embeddings"][0].tolist()
        index.vector_store.delete_nodes([id_])
        index.vector_store.add([node])
    recording.calls.clear()
    sources = {item.candidate.id: item.vector_source for item in retriever.rank(QUERY)}
    assert sources == {"text": "store", "other": "computed"}
    assert recording.usage.documents == 1


def test_hashed_before_splitting(embed_model: E2RankEmbedding, rerank: E2RankRerank) -> None:
    """Parts inherit the hash of the whole: their vectors are not believed, which costs forwards and is never wrong."""
    whole = with_text_hash([Document(id_="book", text=LONG_PASSAGE)])
    parts = SentenceSplitter(chunk_size=60, chunk_overlap=0).get_nodes_from_documents(whole)
    assert len(parts) > 3
    index = VectorStoreIndex(parts, embed_model=embed_model)
    found = index.as_retriever(similarity_top_k=20).retrieve(QUERY)
    expected = rerank.postprocess_nodes(found, query_str=QUERY)
    reading = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=None)
    expect_alike(reading.postprocess_nodes(found, query_str=QUERY), expected)
    parts_hashed = VectorStoreIndex(with_text_hash(parts), embed_model=embed_model)
    ranking = E2RankRetriever(parts_hashed).rank(QUERY)
    assert {item.vector_source for item in ranking.ranked} == {"store"}


# Which text is meant.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prompt_mode", [None, *MODES])
def test_modes_choose_the_texts(mode: MetadataMode, prompt_mode: MetadataMode | None) -> None:
    """The candidate's texts are what LlamaIndex shows in these modes; nothing is written to."""
    node = TextNode(
        text=TEXT,
        id_="n",
        metadata={"a": "alpha", "b": "beta"},
        excluded_embed_metadata_keys=["a"],
        excluded_llm_metadata_keys=["b"],
        text_template="{metadata_str} :: {content}",
        metadata_template="{key}={value}",
    )
    item = NodeWithScore(node=node, score=0.25)
    before = snapshot([item])
    candidate = candidate_of(item, mode, prompt_mode)
    assert candidate.text == node.get_content(metadata_mode=mode)
    assert candidate.prompt_text == (None if prompt_mode is None else node.get_content(metadata_mode=prompt_mode))
    assert (candidate.id, candidate.vector, candidate.item) == ("n", None, item)
    assert snapshot([item]) == before


def test_the_default_is_what_llama_index_embeds(embed_model: E2RankEmbedding) -> None:
    """The candidate's text is the very string whose vector the index holds."""
    for node in of_all_kinds():
        (carried,) = embed_model([node.model_copy()])
        text = candidate_of(NodeWithScore(node=node)).text
        assert carried.embedding == pytest.approx(embed_model.get_text_embedding(text), abs=1e-6)


@pytest.mark.parametrize("score", [0.25, None])
def test_a_nodes_score_is_the_candidates(score: float | None) -> None:
    """A template that shows the first stage's score finds it on the candidate."""
    assert candidate_of(NodeWithScore(node=TextNode(text=TEXT), score=score)).retrieval_score == score


# Nodes of all kinds through stores.


@pytest.mark.parametrize("kind", ["simple", "chroma"])
async def test_nodes_of_all_kinds(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, recording: Recording, kind: str
) -> None:
    """Each comes back as the class that it was, with what it holds, its vector read from the store."""
    index = make_index(kind, [node.model_copy(deep=True) for node in of_all_kinds()])
    retriever = E2RankRetriever(index, similarity_top_k=9)
    retriever.retrieve(QUERY)
    found = retriever.retrieve(QUERY)
    own = {item.node.node_id: item.node for item in index.as_retriever(similarity_top_k=9).retrieve(QUERY)}
    rerank = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=None)
    recording.calls.clear()
    for some in (
        retriever.retrieve(QUERY),
        await retriever.aretrieve(QUERY),
        rerank.postprocess_nodes(found, query_str=QUERY),
        await rerank.apostprocess_nodes(found, query_str=QUERY),
    ):
        assert sorted(ids(some)) == ["document", "image", "index", "node", "text"]
        for item in some:
            assert type(item.node) is type(own[item.node.node_id])
            assert item.node.model_dump() == own[item.node.node_id].model_dump()
            assert item.score == pytest.approx(some[0].score, abs=1e-5), "they have one text"
    assert recording.usage.documents == 0


def test_relationships_come_back(make_index: Callable[..., VectorStoreIndex]) -> None:
    """What `PrevNextNodePostprocessor` and the like go by is not lost on the way through Chroma."""
    nodes = text_nodes(["law"])
    for one, other in pairwise(nodes):
        one.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=other.node_id)
    found = {item.node.node_id: item.node for item in E2RankRetriever(make_index("chroma", nodes)).retrieve(QUERY)}
    assert found["law-1"].next_node is not None
    assert [found[f"law-{place}"].next_node.node_id for place in (1, 2, 3)] == ["law-2", "law-3", "law-4"]


def test_a_node_of_the_users_own_class(rerank: E2RankRerank) -> None:
    """A subclass keeps its class and its fields."""

    class Priced(TextNode):
        price: float = 0.0

    found = [NodeWithScore(node=Priced(text=text, price=1.5)) for text in list(PASSAGES.values())[:3]]
    ranked = rerank.postprocess_nodes(found, query_str=QUERY)
    assert [(type(item.node), item.node.price) for item in ranked] == [(Priced, 1.5)] * 3
    assert [type(node) for node in with_text_hash([item.node for item in found])] == [Priced] * 3
