"""IngestionPipeline with its cache: embedded once, and again when, and only when, the vectors would be others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.core.vector_stores.simple import SimpleVectorStore

from e2rank_integrations import checkpoint
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, TextHash
from e2rank_integrations.profiles import TEMPLATES
from e2rank_integrations.stores import TEXT_HASH_KEY, text_hash
from tests.llama_index.helpers import text_nodes
from tests.llama_index.test_embedding import expect_close
from tests.support.passages import IDS, QUERIES, TEXTS
from tests.support.reranking import watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.engines.registry import EngineKey
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording

    Change = Callable[[E2RankEncoder], E2RankEncoder]

TOPICS = ("bread", "law")


def tasks(encoder: E2RankEncoder, **words: str) -> E2RankEncoder:
    return profiled(encoder, tasks=replace(encoder.profile.tasks, **words))


def profiled(encoder: E2RankEncoder, **options: Any) -> E2RankEncoder:
    return replace(encoder, profile=replace(encoder.profile, **options))


CHANGES: dict[str, Change] = {
    "query instruction": lambda encoder: tasks(encoder, query="Find the baker"),
    "rerank instruction": lambda encoder: tasks(encoder, listwise="Sort by baker"),
    "model": lambda encoder: replace(encoder, model="other", profile=encoder.profile),
    "revision": lambda encoder: replace(encoder, revision="main"),
    "adapter": lambda encoder: replace(encoder, adapter="folder"),
    "cap": lambda encoder: profiled(encoder, caps=replace(encoder.profile.caps, document=16)),
    "format": lambda encoder: profiled(encoder, document_format="{document}<|im_end|>"),
    "pooling": lambda encoder: profiled(encoder, pooling="mean"),
    "words": lambda encoder: replace(encoder, profile=encoder.profile.for_reproduction()),
    "template": lambda encoder: profiled(encoder, template=replace(TEMPLATES["readme"], name="paper")),
}


def embedded(encoder: E2RankEncoder, cache: IngestionCache) -> list[Any]:
    """The nodes that a pipeline with this encoder makes of new nodes."""
    pipeline = IngestionPipeline(transformations=[E2RankEmbedding(encoder=encoder)], cache=cache)
    return list(pipeline.run(nodes=text_nodes(TOPICS)))


@pytest.fixture
def cache() -> IngestionCache:
    return IngestionCache()


async def test_a_second_run_costs_nothing(encoder: E2RankEncoder, recording: Recording) -> None:
    """Sync and async: the same nodes again are not embedded again, and come with the same vectors."""
    pipeline = IngestionPipeline(transformations=[E2RankEmbedding(encoder=encoder)])
    first = pipeline.run(nodes=text_nodes(TOPICS))
    assert recording.usage.documents == len(first) == 8
    expect_close([node.embedding for node in first], encoder.encode_documents([node.text for node in first]))
    recording.calls.clear()
    for again in (pipeline.run(nodes=text_nodes(TOPICS)), await pipeline.arun(nodes=text_nodes(TOPICS))):
        assert [node.embedding for node in again] == [node.embedding for node in first]
    assert recording.calls == []


async def test_async_first(encoder: E2RankEncoder, recording: Recording) -> None:
    """`arun` embeds, and what it kept serves `run`."""
    pipeline = IngestionPipeline(transformations=[E2RankEmbedding(encoder=encoder)])
    first = await pipeline.arun(nodes=text_nodes(TOPICS))
    expect_close([node.embedding for node in first], encoder.encode_documents([node.text for node in first]))
    recording.calls.clear()
    assert [n.embedding for n in pipeline.run(nodes=text_nodes(TOPICS))] == [n.embedding for n in first]
    assert recording.calls == []


def test_the_cache_knows_the_model_after_a_restart(
    encoder: E2RankEncoder, recording: Recording, tmp_path: Path
) -> None:
    """Saved, and read by another pipeline with an embedding made anew: nothing is embedded."""
    pipeline = IngestionPipeline(transformations=[E2RankEmbedding(encoder=encoder)])
    first = pipeline.run(nodes=text_nodes(TOPICS))
    pipeline.persist(str(tmp_path))
    other = IngestionPipeline(transformations=[E2RankEmbedding.from_dict(E2RankEmbedding(encoder=encoder).to_dict(),
                                                                         encoder=encoder)])  # fmt: skip
    other.load(str(tmp_path))
    recording.calls.clear()
    assert [node.embedding for node in other.run(nodes=text_nodes(TOPICS))] == [node.embedding for node in first]
    assert recording.calls == []


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_vectors_recomputes(
    qwen_encoder: E2RankEncoder, cache: IngestionCache, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model, instruction, or anything of the profile is another entry; back again, the old entry serves."""
    files = qwen_encoder.checkpoint
    monkeypatch.setattr(checkpoint, "resolve", lambda *_, **__: files)  # names may be invented: no files are looked up
    encoder, recording = watched(qwen_encoder)
    embedded(encoder, cache)
    recording.calls.clear()
    other, other_recording = watched(qwen_encoder)
    embedded(CHANGES[what](other), cache)
    assert other_recording.usage.documents == 8
    embedded(encoder, cache)
    assert recording.calls == []


def test_words_of_the_component_recompute(encoder: E2RankEncoder, recording: Recording, cache: IngestionCache) -> None:
    """An instruction given to the embedding itself counts as one of the profile does."""
    embedded(encoder, cache)
    recording.calls.clear()
    other = E2RankEmbedding(encoder=encoder, query_instruction="Find the baker")
    IngestionPipeline(transformations=[other], cache=cache).run(nodes=text_nodes(TOPICS))
    assert recording.usage.documents == 8


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "auto"])
def test_another_device_does_not_recompute(
    encoder: E2RankEncoder, recording: Recording, cache: IngestionCache, device: str
) -> None:
    """The vectors are the same wherever they were computed: indexing on a GPU serves a laptop."""
    first = embedded(encoder, cache)
    recording.calls.clear()
    again = embedded(replace(encoder, device=device), cache)
    assert [node.embedding for node in again] == [node.embedding for node in first]
    assert recording.calls == []


def test_a_change_of_text_recomputes(encoder: E2RankEncoder, recording: Recording) -> None:
    """Another text among the nodes is embedded."""
    pipeline = IngestionPipeline(transformations=[E2RankEmbedding(encoder=encoder)])
    pipeline.run(nodes=text_nodes(TOPICS))
    recording.calls.clear()
    changed = text_nodes(TOPICS)
    changed[0].text = "Bread is baked at 230 degrees."
    done = pipeline.run(nodes=changed)
    expect_close(done[0].embedding, encoder.encode_documents([changed[0].text])[0])


def test_from_documents_to_an_answer(encoder: E2RankEncoder, recording: Recording) -> None:
    """Split, embed, store, and rerank out of the store: no document is embedded after indexing."""
    store = SimpleVectorStore()
    embed_model = E2RankEmbedding(encoder=encoder)
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), embed_model])
    nodes = pipeline.run(documents=[Document(text=text) for text in TEXTS[:8]])
    index = VectorStoreIndex(nodes, embed_model=embed_model)
    rerank = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=1)
    recording.calls.clear()
    found = index.as_retriever(similarity_top_k=4).retrieve(QUERIES[0])
    (best,) = rerank.postprocess_nodes(found, query_str=QUERIES[0])
    assert best.text == TEXTS[4]
    assert recording.usage.documents <= 3, "more than the spot check"
    assert not store.data.embedding_dict


# Where there is one processor, LlamaIndex warns that it takes one worker.
@pytest.mark.filterwarnings("ignore:Specified num_workers exceed number of CPUs:UserWarning")
def test_spawned_workers(loads: list[EngineKey], passage_vectors: Matrix) -> None:
    """`num_workers=2`: the embedding travels to new processes, which load their own weights."""
    embed_model = E2RankEmbedding(model_name="embedded", device="cpu", dtype="float32")
    pipeline = IngestionPipeline(transformations=[embed_model])
    nodes = text_nodes(["law"])
    done = pipeline.run(nodes=nodes, num_workers=2)
    assert [node.node_id for node in done] == [node.node_id for node in nodes]
    expect_close([node.embedding for node in done], passage_vectors[[IDS.index(node.node_id) for node in nodes]])
    assert loads == []


def test_the_texts_hash_is_a_step_of_a_pipeline(embed_model: E2RankEmbedding) -> None:
    """After the splitter each part carries the hash of its own text, and none is stale."""
    steps = [SentenceSplitter(chunk_size=64, chunk_overlap=0), TextHash(), embed_model]
    nodes = IngestionPipeline(transformations=steps).run(documents=[Document(text=" ".join(TEXTS))])
    assert len(nodes) > 2
    assert all(node.metadata[TEXT_HASH_KEY] == text_hash(node.get_content(MetadataMode.EMBED)) for node in nodes)
    ranking = E2RankRerank(embed_model=embed_model, top_n=None).rank([NodeWithScore(node=n) for n in nodes], QUERIES[0])
    assert {item.vector_source for item in ranking} == {"document"}
