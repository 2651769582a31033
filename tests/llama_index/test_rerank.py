"""E2RankRerank: the core's order on copies of the nodes, nothing lost, nothing written to."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from pydantic import ValidationError

from e2rank_integrations import Reranker
from e2rank_integrations.errors import EngineMemoryError, InputError
from e2rank_integrations.llama_index import E2RankRerank
from tests.llama_index.helpers import expect_alike, found_nodes, ids, scores, snapshot
from tests.support.engines import Failing
from tests.support.passages import QUERIES, TEXTS
from tests.support.reranking import SECRET, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.llama_index import E2RankEmbedding
    from e2rank_integrations.values import TokenInput
    from tests.support.engines import Recording

QUERY = QUERIES[0]
MODELS_SEE = (MetadataMode.EMBED, MetadataMode.LLM)


def scored(*nodes: Any) -> list[NodeWithScore]:
    """Nodes as a retriever returns them."""
    return [NodeWithScore(node=node, score=0.9 - place / 10) for place, node in enumerate(nodes)]


def asked(recording: Recording, role: str) -> list[TokenInput]:
    """What the engine was asked of one role, in order."""
    return [item for call in recording.calls for item in call if item.role == role]


async def both(rerank: E2RankRerank, found: Any, query: Any = QUERY) -> list[list[NodeWithScore]]:
    """The results of the sync way and of the async way."""
    return [rerank.postprocess_nodes(found, query_str=query), await rerank.apostprocess_nodes(found, query_str=query)]


def broken(encoder: E2RankEncoder, **options: Any) -> E2RankRerank:
    """A reranker whose engine runs out of memory."""
    engine = Failing(encoder.engine, EngineMemoryError("out of memory"))
    return E2RankRerank(encoder=replace(encoder, custom_engine=engine), **{"top_n": None, **options})


@pytest.fixture
def rich() -> list[NodeWithScore]:
    """Nodes with metadata that are shown to the embedding, to the LLM, to both, or to nobody."""
    metadata = {"title": "A title", "embed": "for the embedding", "llm": "for the LLM", "nobody": "hidden"}
    return scored(*(
        TextNode(text=text, id_=f"n-{place}", metadata=dict(metadata),
                 excluded_embed_metadata_keys=["llm", "nobody"], excluded_llm_metadata_keys=["embed", "nobody"])
        for place, text in enumerate(TEXTS[:3])
    ))  # fmt: skip


async def test_order_and_scores_are_the_cores(
    rerank: E2RankRerank, encoder: E2RankEncoder, found: list[NodeWithScore]
) -> None:
    """Sync and async: the core's ranking of the same texts, its cosines as Python floats."""
    expected = Reranker(encoder).rank(QUERY, [item.text for item in found])
    for ranked in await both(rerank, found):
        assert [item.text for item in ranked] == [item.candidate.text for item in expected]
        assert scores(ranked) == pytest.approx([item.score for item in expected], abs=1e-5)
        assert {type(item.score) for item in ranked} == {float}
        assert {type(item) for item in ranked} == {NodeWithScore}


def test_the_report_is_that_of_the_results(rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """`rank` gives the `Ranking` of the same nodes, in the order of `postprocess_nodes`."""
    ranking = rerank.rank(found, QUERY)
    assert [item.candidate.id for item in ranking] == ids(rerank.postprocess_nodes(found, query_str=QUERY))
    assert ranking.usage.prompts == 1
    assert [found[item.old_position or 0].node_id for item in ranking] == [item.candidate.id for item in ranking]


async def test_a_bundle_is_as_good_as_a_string(rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """Both forms of a query give the same; a bundle is what query engines hand over."""
    expected = rerank.postprocess_nodes(found, query_str=QUERY)
    expect_alike(rerank.postprocess_nodes(found, query_bundle=QueryBundle(QUERY)), expected)
    expect_alike(rerank.postprocess_nodes(found, QueryBundle(QUERY)), expected)
    expect_alike(await rerank.apostprocess_nodes(found, QueryBundle(QUERY)), expected)


@pytest.mark.parametrize("top_n", [1, 3, 12, 100, None])
async def test_top_n(embed_model: E2RankEmbedding, found: list[NodeWithScore], top_n: int | None) -> None:
    """The first `top_n` of all, or all where there are fewer or it is None."""
    everything = E2RankRerank(embed_model=embed_model, top_n=None).postprocess_nodes(found, query_str=QUERY)
    assert sorted(ids(everything)) == sorted(ids(found))
    for ranked in await both(E2RankRerank(embed_model=embed_model, top_n=top_n), found):
        expect_alike(ranked, everything[:top_n])


def test_five_by_default(embed_model: E2RankEmbedding, found: list[NodeWithScore]) -> None:
    """As many as the documentation says where nothing is said."""
    assert len(E2RankRerank(embed_model=embed_model).postprocess_nodes(found, query_str=QUERY)) == 5


@pytest.mark.parametrize("top_n", [0, -1, True, False, 2.5, "many"], ids=repr)
async def test_a_bad_top_n_is_refused(
    embed_model: E2RankEmbedding, rerank: E2RankRerank, found: list[NodeWithScore], top_n: Any
) -> None:
    """At construction, and where it is assigned at the next call at the latest."""
    with pytest.raises(ValidationError, match="top_n"):
        E2RankRerank(embed_model=embed_model, top_n=top_n)
    with pytest.raises(ValueError, match="top_n"):
        _assigned(rerank, top_n).postprocess_nodes(found, query_str=QUERY)
    with pytest.raises(ValueError, match="top_n"):
        await _assigned(rerank, top_n).apostprocess_nodes(found, query_str=QUERY)


def _assigned(rerank: E2RankRerank, top_n: Any) -> E2RankRerank:
    rerank.top_n = top_n
    return rerank


def test_an_option_that_is_assigned_counts(rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """Also on a copy; it is never shown and ignored."""
    rerank.top_n = 2
    assert len(rerank.postprocess_nodes(found, query_str=QUERY)) == 2
    assert len(rerank.model_copy(update={"top_n": 1}).postprocess_nodes(found, query_str=QUERY)) == 1


@pytest.mark.parametrize(
    "options",
    [{"query_weight": 1.5}, {"score_threshold": 2}, {"on_error": "ignore"}, {"num_input_docs": 0},
     {"num_input_docs": True}, {"query_weight": True},
     {"metadata_mode": "some"}, {"prompt_metadata_mode": 3}, {"topn": 3}, {"vector_lookup": 3}],
    ids=str,
)  # fmt: skip
def test_bad_options_are_refused(embed_model: E2RankEmbedding, options: dict[str, Any]) -> None:
    """At construction; the message names the option."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        E2RankRerank(embed_model=embed_model, **options)


def test_a_model_of_its_own(embed_model: E2RankEmbedding, qwen_encoder: E2RankEncoder) -> None:
    """By name, by a ready encoder, or that of the embedding; two that differ are refused."""
    assert E2RankRerank(model="embedded", device="cpu").encoder.model == "embedded"
    assert E2RankRerank(encoder=qwen_encoder).encoder == qwen_encoder
    assert E2RankRerank(embed_model=embed_model).encoder == embed_model.encoder
    for options in ({"model": "other"}, {"encoder": qwen_encoder}, {"device": "cuda"}):
        with pytest.raises(ValidationError, match=r"another .*(leave|give one)"):
            E2RankRerank(embed_model=embed_model, **options)


def test_options_reach_the_core(embed_model: E2RankEmbedding, found: list[NodeWithScore]) -> None:
    """How many nodes are listed, and how much the plain query counts."""
    ranking = E2RankRerank(embed_model=embed_model, num_input_docs=2, query_weight=0).rank(found, QUERY)
    assert ranking.plan is not None
    assert ranking.plan.documents_used == 2
    assert ranking.usage.queries == 0
    assert E2RankRerank(embed_model=embed_model, query_weight=0.5).rank(found, QUERY).usage.queries == 1


async def test_a_query_is_needed(rerank: E2RankRerank, found: list[NodeWithScore], recording: Recording) -> None:
    """None at all, a blank one, and both forms at once are errors, before anything is computed."""
    for blank in ("", "  \n"):
        with pytest.raises(InputError, match=r"query.*blank"):
            rerank.postprocess_nodes(found, query_str=blank)
        with pytest.raises(InputError, match=r"query.*blank"):
            await rerank.apostprocess_nodes(found, query_str=blank)
    with pytest.raises(InputError, match=r"query: missing.*query_str"):
        rerank.postprocess_nodes(found)
    with pytest.raises(InputError, match=r"query: missing.*query_str"):
        await rerank.apostprocess_nodes(found)
    with pytest.raises(ValueError, match="both"):
        rerank.postprocess_nodes(found, QueryBundle(QUERY), QUERY)
    assert recording.calls == []


async def test_an_empty_list_is_an_empty_list(rerank: E2RankRerank, recording: Recording) -> None:
    """Whatever the reranker; nothing is computed."""
    assert await both(rerank, []) == [[], []]
    assert recording.calls == []


@pytest.mark.parametrize("bad", [SECRET, None, 3], ids=repr)
async def test_what_is_no_list_is_refused(rerank: E2RankRerank, bad: Any) -> None:
    """The error says what was found, and no text."""
    for caught in await _errors(rerank, bad):
        assert f"nodes: expected a list of NodeWithScore, found {type(bad).__name__}" in caught
        assert SECRET not in caught


@pytest.mark.parametrize("bad", [SECRET, TextNode(text=SECRET), None], ids=lambda bad: type(bad).__name__)
async def test_what_is_no_node_with_score_is_refused(
    rerank: E2RankRerank, found: list[NodeWithScore], bad: Any
) -> None:
    """The error names its position and what it is."""
    for caught in await _errors(rerank, [*found[:2], bad]):
        assert f"node 2: expected a NodeWithScore, found {type(bad).__name__}" in caught
        assert SECRET not in caught


async def _errors(rerank: E2RankRerank, bad: Any) -> list[str]:
    with pytest.raises(InputError) as one:
        rerank.postprocess_nodes(bad, query_str=QUERY)
    with pytest.raises(InputError) as other:
        await rerank.apostprocess_nodes(bad, query_str=QUERY)
    with pytest.raises(InputError) as third:
        rerank.rank(bad, QUERY)
    return [str(caught.value) for caught in (one, other, third)]


async def test_nodes_are_not_written_to(embed_model: E2RankEmbedding, encoder: E2RankEncoder) -> None:
    """Nodes, metadata, scores and the list are as before, whatever the options and whether or not it failed."""
    found = found_nodes(["bread", "law"])
    found[0].node.metadata["nested"] = {"list": [1, 2]}
    found[1].node.metadata["retrieval_score"] = 99
    found[2].node.metadata["rerank_error"] = "TimeoutError"
    found += scored(TextNode(text=""), ImageNode(image_path="a.png"))
    before, order = snapshot(found), ids(found)
    keep = E2RankRerank(embed_model=embed_model, top_n=None, keep_retrieval_score=True)
    for rerank in (keep, E2RankRerank(embed_model=embed_model), broken(encoder, on_error="keep_order"),
                   broken(encoder, on_error="keep_order", keep_retrieval_score=True)):  # fmt: skip
        for ranked in await both(rerank, found):
            assert snapshot(found) == before
            assert ids(found) == order
            assert not {map(id, ranked)} & {map(id, found)}
    for item in keep.postprocess_nodes(found, query_str=QUERY):
        item.score = 7.0
        if item.node.metadata:
            item.node.metadata["retrieval_score"] = 7.0
    assert [item.score for item in found] == [row[1] for row in before]


def test_nodes_come_back_whole(rerank: E2RankRerank) -> None:
    """Of every class, with all of their fields; only the score of what holds them is new."""
    thing = object()

    class Page(TextNode):
        number: int = 0

    class Hit(NodeWithScore):
        rank: int = 0

    nodes = [
        Page(text=TEXTS[0], number=7, metadata={"thing": thing}, embedding=None),
        IndexNode(text=TEXTS[1], index_id="other", obj=thing),
        ImageNode(text=TEXTS[2], image_path="a.png"),
        Document(text=TEXTS[3], metadata={"a": [1]}),
        Node(text_resource=MediaResource(text=TEXTS[4]), image_resource=MediaResource(path="b.png")),
    ]
    found = [Hit(node=node, score=0.5, rank=place) for place, node in enumerate(nodes)]
    ranked = rerank.postprocess_nodes(found, query_str=QUERY)
    assert ranked[0].node is nodes[4] or ranked[0].node == nodes[4]
    assert sorted(item.rank for item in ranked if isinstance(item, Hit)) == [0, 1, 2, 3, 4]
    for item in ranked:
        (old,) = (other for other in found if other.node_id == item.node_id)
        assert type(item.node) is type(old.node)
        assert item.node.__dict__ == old.node.__dict__
        assert item.score != old.score


def test_two_queries_on_one_list_do_not_mix(rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """The same nodes reranked for another query and for the first again: as if each were the only one."""
    first = snapshot(rerank.postprocess_nodes(found, query_str=QUERIES[0]))
    second = snapshot(rerank.postprocess_nodes(found_nodes(("bread", "orbit", "law")), query_str=QUERIES[1]))
    assert snapshot(rerank.postprocess_nodes(found, query_str=QUERIES[1])) == second
    assert snapshot(rerank.postprocess_nodes(found, query_str=QUERIES[0])) == first
    assert first != second


async def test_duplicates_are_all_kept(rerank: E2RankRerank, encoder: E2RankEncoder) -> None:
    """One id under several texts, one node twice, equal texts: each comes back, scored by its own text."""
    node = TextNode(text=TEXTS[0], id_="one")
    found = scored(node, TextNode(text=TEXTS[4], id_="one"), node, TextNode(text=TEXTS[4], id_="two"))
    cosines = Reranker(encoder).rank(QUERY, [item.text for item in found])
    for ranked in await both(rerank, found):
        assert [(item.node_id, item.text) for item in ranked] == [
            ("one", TEXTS[4]), ("two", TEXTS[4]), ("one", TEXTS[0]), ("one", TEXTS[0])
        ]  # fmt: skip
        assert scores(ranked) == pytest.approx([item.score for item in cosines], abs=1e-5)


def test_the_embedded_text_is_that_of_the_index(
    rerank: E2RankRerank, encoder: E2RankEncoder, recording: Recording, rich: list[NodeWithScore]
) -> None:
    """By default what LlamaIndex embeds when indexing: with metadata, without the keys excluded from embedding."""
    rerank.postprocess_nodes(rich, query_str=QUERY)
    texts = [f"title: A title\nembed: for the embedding\n\n{text}" for text in TEXTS[:3]]
    assert asked(recording, "document") == encoder.document_inputs(texts)
    assert asked(recording, "listwise") == [encoder.listwise_input(QUERY, texts)[0]]


@pytest.mark.parametrize("mode", MetadataMode)
async def test_metadata_modes(
    embed_model: E2RankEmbedding, encoder: E2RankEncoder, recording: Recording, rich: list[NodeWithScore],
    mode: MetadataMode,
) -> None:  # fmt: skip
    """Any mode may be asked for; the ids that the model sees are those of that content, embedded and listed."""
    rerank = E2RankRerank(embed_model=embed_model, metadata_mode=mode, num_input_docs=3)
    texts = [item.get_content(mode) for item in rich]
    for call in ("sync", "async"):
        recording.calls.clear()
        if call == "sync":
            rerank.postprocess_nodes(rich, query_str=QUERY)
        else:
            await rerank.apostprocess_nodes(rich, query_str=QUERY)
        assert asked(recording, "document") == encoder.document_inputs(texts)
        assert asked(recording, "listwise") == [encoder.listwise_input(QUERY, texts, 3)[0]]


@pytest.mark.parametrize("mode", MetadataMode)
def test_prompt_metadata_mode(qwen_encoder: E2RankEncoder, rich: list[NodeWithScore], mode: MetadataMode) -> None:
    """The prompt may show other metadata than the embedded text, which stays that of the index."""
    encoder, recording = watched(qwen_encoder)
    E2RankRerank(encoder=encoder, prompt_metadata_mode=mode).postprocess_nodes(rich, query_str=QUERY)
    listed = [item.get_content(mode) for item in rich]
    assert asked(recording, "listwise") == [encoder.listwise_input(QUERY, listed)[0]]
    assert asked(recording, "document") == encoder.document_inputs(
        [item.get_content(MetadataMode.EMBED) for item in rich]
    )


def test_the_retrieval_score_is_kept_out_of_sight(embed_model: E2RankEmbedding, rich: list[NodeWithScore]) -> None:
    """Under `retrieval_score` in the metadata, and in no text that an LLM or an embedding reads."""
    rich[2].score = None
    rerank = E2RankRerank(embed_model=embed_model, top_n=None, keep_retrieval_score=True)
    given = {item.node_id: item for item in rich}
    for item in rerank.postprocess_nodes(rich, query_str=QUERY):
        old = given[item.node_id]
        assert item.node.metadata.get("retrieval_score") == old.score
        assert ("retrieval_score" in item.node.metadata) == (old.score is not None)
        assert [item.get_content(mode) for mode in MODELS_SEE] == [old.get_content(mode) for mode in MODELS_SEE]
        assert {key: item.node.metadata[key] for key in old.metadata} == old.metadata
        for name in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys"):
            assert getattr(item.node, name)[: len(getattr(old.node, name))] == getattr(old.node, name)
            assert len(set(getattr(item.node, name))) == len(getattr(item.node, name))


def test_the_retrieval_score_is_not_kept_unasked(rerank: E2RankRerank, rich: list[NodeWithScore]) -> None:
    """By default the metadata are those given."""
    for item in rerank.postprocess_nodes(rich, query_str=QUERY):
        assert item.metadata == rich[0].metadata


def test_reranked_nodes_may_be_reranked(embed_model: E2RankEmbedding, found: list[NodeWithScore]) -> None:
    """What one reranker noted is replaced by the next, neither embedded nor piled up."""
    rerank = E2RankRerank(embed_model=embed_model, top_n=None, keep_retrieval_score=True)
    once = rerank.postprocess_nodes(found, query_str=QUERY)
    twice = rerank.postprocess_nodes(once, query_str=QUERY)
    first = {item.node_id: item.score for item in once}
    assert {item.node_id: item.metadata["retrieval_score"] for item in twice} == first
    plain = E2RankRerank(embed_model=embed_model, top_n=None)
    again = plain.postprocess_nodes(twice, query_str=QUERY)
    assert not any("retrieval_score" in item.metadata for item in again)
    bare = plain.postprocess_nodes([*map(copy.deepcopy, _in_order_of(found, twice))], query_str=QUERY)
    assert scores(again) == scores(bare)


def _in_order_of(found: list[NodeWithScore], ranked: list[NodeWithScore]) -> list[NodeWithScore]:
    return sorted(found, key=lambda item: ids(ranked).index(item.node_id))


def test_metadata_of_the_same_name_are_the_users(rerank: E2RankRerank) -> None:
    """A node that was indexed with a `retrieval_score` of its own, which models do read, keeps it."""
    found = scored(TextNode(text=TEXTS[0], metadata={"retrieval_score": 3, "rerank_error": "none"}))
    (item,) = rerank.postprocess_nodes(found, query_str=QUERY)
    assert item.metadata == {"retrieval_score": 3, "rerank_error": "none"}


async def test_score_threshold(embed_model: E2RankEmbedding, rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """What lies below is left out, also where that is everything; a node without a score does not reach it."""
    everything = rerank.postprocess_nodes(found, query_str=QUERY)
    least = scores(everything)[2] - 1e-4
    found += scored(TextNode(text=""))
    for ranked in await both(E2RankRerank(embed_model=embed_model, top_n=None, score_threshold=least), found):
        expect_alike(ranked, everything[:3])
    assert await both(E2RankRerank(embed_model=embed_model, score_threshold=1.0), found) == [[], []]


async def test_keep_order_loses_nothing(
    encoder: E2RankEncoder, found: list[NodeWithScore], caplog: pytest.LogCaptureFixture
) -> None:
    """After an absorbed failure: the order, nodes and scores as they came, marked with what failed; one warning."""
    with caplog.at_level(logging.WARNING):
        (ranked, again) = await both(broken(encoder, on_error="keep_order"), found)
    assert len(caplog.records) == 2
    for kept in (ranked, again):
        assert [(item.node_id, item.score) for item in kept] == [(item.node_id, item.score) for item in found]
        assert {item.metadata["rerank_error"] for item in kept} == {"EngineMemoryError"}
        for item, old in zip(kept, found, strict=True):
            assert [item.get_content(mode) for mode in MODELS_SEE] == [old.get_content(mode) for mode in MODELS_SEE]
    for kept in await both(broken(encoder, on_error="keep_order", top_n=5), found):
        assert ids(kept) == ids(found)[:5]
    assert not any("rerank_error" in item.metadata for item in found)


def test_a_mark_does_not_outlive_its_failure(
    encoder: E2RankEncoder, rerank: E2RankRerank, found: list[NodeWithScore]
) -> None:
    """Nodes that an earlier call could not rerank are not marked any more once they are."""
    kept = broken(encoder, on_error="keep_order").postprocess_nodes(found, query_str=QUERY)
    expected = rerank.postprocess_nodes(found, query_str=QUERY)
    ranked = rerank.postprocess_nodes(kept, query_str=QUERY)
    assert [(item.node_id, item.score, item.metadata) for item in ranked] == [
        (item.node_id, item.score, item.metadata) for item in expected
    ]


async def test_a_failure_is_raised_by_default(encoder: E2RankEncoder, found: list[NodeWithScore]) -> None:
    """Nobody takes the retriever's order for the reranker's unasked."""
    with pytest.raises(EngineMemoryError):
        broken(encoder).postprocess_nodes(found, query_str=QUERY)
    with pytest.raises(EngineMemoryError):
        await broken(encoder).apostprocess_nodes(found, query_str=QUERY)


TEXTLESS: dict[str, Callable[[], Any]] = {
    "empty": lambda: TextNode(text=""),
    "blank": lambda: TextNode(text=" \n\t"),
    "image": lambda: ImageNode(image_path="a.png"),
    "image by url": lambda: ImageNode(image_url="http://localhost/a.png"),
    "index": lambda: IndexNode(index_id="other", obj="an object"),
    "multimodal": lambda: Node(image_resource=MediaResource(path="b.png")),
    "audio": lambda: Node(audio_resource=MediaResource(path="c.wav")),
    "document": lambda: Document(text=""),
    "metadata out of sight": lambda: TextNode(text="", metadata={"a": "b"}, excluded_embed_metadata_keys=["a"]),
}


@pytest.mark.parametrize("kind", TEXTLESS)
async def test_a_textless_node_comes_last(
    rerank: E2RankRerank, found: list[NodeWithScore], recording: Recording, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of every kind: not embedded, not listed, not lost; after all others, whole, without a score, and said so once."""
    expected = rerank.postprocess_nodes(found, query_str=QUERY)
    node = TEXTLESS[kind]()
    mixed = [*found[:3], NodeWithScore(node=node, score=0.99), *found[3:]]
    recording.calls.clear()
    with caplog.at_level(logging.WARNING):
        ranked = rerank.postprocess_nodes(mixed, query_str=QUERY)
    assert [record.getMessage()[:26] for record in caplog.records] == ["1 of 13 nodes have no text"]
    assert recording.usage.documents == len(found)
    for results in (ranked, await rerank.apostprocess_nodes(mixed, query_str=QUERY)):
        expect_alike(results[:-1], expected)
        assert results[-1].score is None
        assert type(results[-1].node) is type(node)
        assert results[-1].node.__dict__ == node.__dict__


async def test_several_textless_nodes_keep_their_order(rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """Among themselves, and where there is nothing else."""
    textless = scored(*(make() for make in TEXTLESS.values()))
    mixed = [textless[0], *found, *textless[1:]]
    for ranked in await both(rerank, mixed):
        assert ids(ranked)[len(found) :] == ids(textless)
    for ranked in await both(rerank, textless):
        assert ids(ranked) == ids(textless)


async def test_top_n_counts_textless_nodes(embed_model: E2RankEmbedding, found: list[NodeWithScore]) -> None:
    """They fill up what is left of `top_n`, and are cut first."""
    mixed = [*scored(TextNode(text=""), ImageNode()), *found[:2]]
    for top_n, count in ((1, 0), (2, 0), (3, 1), (4, 2), (9, 2)):
        for ranked in await both(E2RankRerank(embed_model=embed_model, top_n=top_n), mixed):
            assert len(ranked) == min(top_n, 4)
            assert sum(item.score is None for item in ranked) == count


def test_what_counts_as_text(embed_model: E2RankEmbedding) -> None:
    """The content that the model would read, with the metadata that `metadata_mode` shows."""
    shown = TextNode(text="", id_="shown", metadata={"title": "Bread"})
    hidden = TextNode(text="", id_="hidden", metadata={"title": "Bread"}, excluded_embed_metadata_keys=["title"])
    expected = {MetadataMode.NONE: set(), MetadataMode.EMBED: {"shown"}, MetadataMode.ALL: {"shown", "hidden"}}
    for mode, readable in expected.items():
        rerank = E2RankRerank(embed_model=embed_model, metadata_mode=mode)
        ranked = rerank.postprocess_nodes(scored(shown, hidden), query_str=QUERY)
        assert {item.node_id for item in ranked if item.score is not None} == readable
        assert {str(item.candidate.id) for item in rerank.rank(scored(shown, hidden), QUERY)} == readable


async def test_keep_order_keeps_textless_nodes_where_they_are(
    encoder: E2RankEncoder, found: list[NodeWithScore]
) -> None:
    """Where nothing could be reranked nothing moves: every node in its place with its score, marked."""
    mixed = [*scored(TextNode(text="")), *found[:3]]
    for options in ({}, {"score_threshold": 0.5}, {"top_n": 2}):
        for kept in await both(broken(encoder, on_error="keep_order", **options), mixed):
            expected = mixed[: options.get("top_n")]
            assert [(item.node_id, item.score) for item in kept] == [(item.node_id, item.score) for item in expected]
            assert {item.metadata["rerank_error"] for item in kept} == {"EngineMemoryError"}


def test_a_text_given_as_a_bundle(rerank: E2RankRerank, found: list[NodeWithScore]) -> None:
    """The second place is the bundle's: the error says where a text goes."""
    with pytest.raises(InputError, match="give a text as query_str="):
        rerank.postprocess_nodes(found, "bread")  # type: ignore[arg-type]
