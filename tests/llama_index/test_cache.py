"""LlamaIndex's embeddings cache: nothing embedded twice, and no two kinds of vectors mixed up in one store."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.storage.kvstore import SimpleKVStore

from e2rank_integrations import checkpoint
from e2rank_integrations.errors import InputError
from e2rank_integrations.llama_index import E2RankEmbedding
from e2rank_integrations.llama_index.cache import EmbeddingCache
from e2rank_integrations.profiles import E2RANK
from tests.llama_index.test_embedding import expect_close
from tests.support.passages import TEXTS
from tests.support.reranking import watched

if TYPE_CHECKING:
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from tests.support.engines import Recording

TEXT = TEXTS[0]


class Both:
    """The methods of an embedding, all sync or all async."""

    def __init__(self, embed_model: E2RankEmbedding, asynchronous: bool) -> None:
        self.embed_model = embed_model
        self.asynchronous = asynchronous

    async def query(self, text: str) -> Any:
        return await self._call("get_query_embedding", text)

    async def text(self, text: str) -> Any:
        return await self._call("get_text_embedding", text)

    async def texts(self, texts: list[str]) -> Any:
        return await self._call("get_text_embedding_batch", texts)

    async def _call(self, method: str, given: Any) -> Any:
        if self.asynchronous:
            return await getattr(self.embed_model, f"a{method}")(given)
        return getattr(self.embed_model, method)(given)


@pytest.fixture
def kept() -> SimpleKVStore:
    return SimpleKVStore()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_query_is_not_taken_for_a_document(
    qwen_encoder: E2RankEncoder, kept: SimpleKVStore, asynchronous: bool
) -> None:
    """The same text as a query and as a document, in both orders: each has its own vector, and is embedded once."""
    for text, order in ((TEXTS[0], ("query", "text")), (TEXTS[1], ("text", "query"))):
        encoder, recording = watched(qwen_encoder)
        cached = Both(E2RankEmbedding(encoder=encoder, embeddings_cache=kept), asynchronous)
        expected = {"query": qwen_encoder.encode_queries([text])[0], "text": qwen_encoder.encode_documents([text])[0]}
        for _ in range(2):
            for role in order:
                expect_close(await getattr(cached, role)(text), expected[role])
        assert recording.usage.forwards == 2
    assert not set(expected["query"]) <= set(expected["text"])


async def test_batches_embed_what_is_new(
    encoder: E2RankEncoder, recording: Recording, kept: SimpleKVStore, asynchronous: bool, passage_vectors: Any
) -> None:
    """Of a batch only the texts that are not kept, in their right places; a single text is found there, too."""
    cached = Both(E2RankEmbedding(encoder=encoder, embeddings_cache=kept, embed_batch_size=4), asynchronous)
    await cached.texts(TEXTS[2:5])
    recording.calls.clear()
    expect_close(await cached.texts(TEXTS[:8]), passage_vectors[:8])
    assert recording.usage.documents == 5
    recording.calls.clear()
    expect_close(await cached.texts(TEXTS[7::-1]), passage_vectors[7::-1])
    expect_close(await cached.text(TEXTS[6]), passage_vectors[6])
    assert recording.calls == []


async def test_what_sync_kept_async_finds(encoder: E2RankEncoder, recording: Recording, kept: SimpleKVStore) -> None:
    """Both ways use the same entries."""
    embed_model = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
    one, other = Both(embed_model, asynchronous=False), Both(embed_model, asynchronous=True)
    await one.query(TEXT)
    await other.text(TEXT)
    recording.calls.clear()
    await other.query(TEXT)
    await one.text(TEXT)
    assert recording.calls == []


async def test_two_models_share_a_store(
    qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder, kept: SimpleKVStore, asynchronous: bool
) -> None:
    """Models of the same width never get each other's vectors."""
    for encoder in (qwen_encoder, other_qwen, qwen_encoder):
        cached = Both(E2RankEmbedding(encoder=encoder, embeddings_cache=kept), asynchronous)
        expect_close(await cached.query(TEXT), encoder.encode_queries([TEXT])[0])
        expect_close(await cached.text(TEXT), encoder.encode_documents([TEXT])[0])
        expect_close(await cached.texts([TEXT]), encoder.encode_documents([TEXT]))


async def test_two_instructions_share_a_store(
    qwen_encoder: E2RankEncoder, kept: SimpleKVStore, asynchronous: bool
) -> None:
    """Queries of another instruction are embedded anew; documents, which have none, are not."""
    encoder, recording = watched(qwen_encoder)
    found = []
    for instruction in ("Find the baker", "Find the river"):
        made = E2RankEmbedding(encoder=encoder, embeddings_cache=kept, query_instruction=instruction)
        cached = Both(made, asynchronous)
        found.append(await cached.query(TEXT))
        expect_close(found[-1], made.encoder.encode_queries([TEXT])[0])
        await cached.text(TEXT)
    assert found[0] != found[1]
    assert recording.usage.documents == 1


@pytest.mark.parametrize(
    "options", [{"document_format": "{document}<|im_end|>"}, {"pooling": "mean"},
                {"caps": replace(E2RANK.caps, document=8)}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
async def test_other_forms_of_a_document_share_a_store(
    qwen_encoder: E2RankEncoder, kept: SimpleKVStore, options: dict[str, Any]
) -> None:
    """Another format, pooling or cap gives other vectors, so it has entries of its own."""
    other = replace(qwen_encoder, profile=replace(qwen_encoder.profile, **options))
    for encoder in (qwen_encoder, other):
        embed_model = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
        expect_close(embed_model.get_text_embedding(TEXT), encoder.encode_documents([TEXT])[0])


async def test_a_dtype_of_its_own_but_not_a_device(
    encoder: E2RankEncoder, recording: Recording, kept: SimpleKVStore, asynchronous: bool
) -> None:
    """Another precision gives other digits and is embedded anew; where it was computed does not matter."""
    for changes, forwards in (({}, 2), ({"device": "cuda"}, 0), ({"dtype": "bfloat16"}, 2)):
        recording.calls.clear()
        made = E2RankEmbedding(encoder=replace(encoder, **changes), embeddings_cache=kept)
        cached = Both(made, asynchronous)
        await cached.query(TEXT)
        await cached.texts([TEXT])
        assert recording.usage.forwards == forwards


def test_a_query_format_of_its_own_has_entries_of_its_own(qwen_encoder: E2RankEncoder, kept: SimpleKVStore) -> None:
    """As its instruction, the format around a query decides its vector."""
    profile = replace(qwen_encoder.profile, query_format="Task: {task}\nQ:{query}<|endoftext|>")
    for encoder in (qwen_encoder, replace(qwen_encoder, profile=profile)):
        embed_model = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
        expect_close(embed_model.get_query_embedding(TEXT), encoder.encode_queries([TEXT])[0])


def test_other_components_entries_stay_apart(encoder: E2RankEncoder, kept: SimpleKVStore) -> None:
    """Under the bare text, as LlamaIndex's own embeddings keep theirs, nothing is read and nothing written."""
    kept.put(TEXT, {"other": [0.0, 1.0]}, collection="embeddings")
    embed_model = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
    assert len(embed_model.get_text_embedding(TEXT)) == encoder.width
    assert len(embed_model.get_query_embedding(TEXT)) == encoder.width
    assert kept.get(TEXT, collection="embeddings") == {"other": [0.0, 1.0]}
    assert len(kept.get_all(collection="embeddings")) == 3


def test_a_cache_survives_on_disk(encoder: E2RankEncoder, recording: Recording, tmp_path: Path) -> None:
    """A store that was saved and read again still saves the forwards."""
    kept = SimpleKVStore()
    first = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
    query, text = first.get_query_embedding(TEXT), first.get_text_embedding(TEXT)
    kept.persist(str(tmp_path / "cache.json"))
    recording.calls.clear()
    read = SimpleKVStore.from_persist_path(str(tmp_path / "cache.json"))
    again = E2RankEmbedding(encoder=encoder, embeddings_cache=read)
    assert (again.get_query_embedding(TEXT), again.get_text_embedding(TEXT)) == (query, text)
    assert recording.calls == []


def test_a_cache_is_handed_on_as_it_is(encoder: E2RankEncoder, recording: Recording, kept: SimpleKVStore) -> None:
    """The cache of one embedding given to another, or copied with it, is still the same store and not one inside it."""
    first = E2RankEmbedding(encoder=encoder, embeddings_cache=kept)
    first.get_text_embedding(TEXT)
    recording.calls.clear()
    second = E2RankEmbedding(encoder=encoder, embeddings_cache=first.embeddings_cache)
    for made in (second, first.model_copy()):
        assert made.embeddings_cache.store is kept
        made.get_text_embedding(TEXT)
    assert recording.calls == []


@pytest.mark.parametrize("role", ["query", "document"])
async def test_a_key_value_store_of_its_own(encoder: E2RankEncoder, kept: SimpleKVStore, role: Any) -> None:
    """It keeps LlamaIndex's contract for its own entries: put, get, list, delete, sync and async, by plain keys."""
    own, others = EmbeddingCache(kept, encoder, role), EmbeddingCache(kept, encoder, _other(role))
    others.put("a", {"x": 0})
    own.put("a", {"x": 1})
    await own.aput("b", {"x": 2})
    assert own.get("a") == await own.aget("a") == {"x": 1}
    assert own.get_all() == await own.aget_all() == {"a": {"x": 1}, "b": {"x": 2}}
    assert own.delete("a")
    assert await own.adelete("b")
    assert not own.delete("a")
    assert own.get("a") is None
    assert own.get_all() == {}
    assert others.get_all() == {"a": {"x": 0}}


def _other(role: str) -> Any:
    return "document" if role == "query" else "query"


async def test_the_files_are_not_read_in_the_event_loop(
    encoder: E2RankEncoder, kept: SimpleKVStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells entries apart comes from the model's files, which may even have to be fetched."""
    threads: list[threading.Thread] = []
    resolve = checkpoint.resolve

    def watched_resolve(*given: Any, **options: Any) -> checkpoint.Checkpoint:
        threads.append(threading.current_thread())
        return resolve(*given, **options)

    monkeypatch.setattr(checkpoint, "resolve", watched_resolve)
    embed_model = E2RankEmbedding(encoder=replace(encoder), embeddings_cache=kept)
    await embed_model.aget_query_embedding("bread")
    await embed_model.aget_text_embedding("bread")
    assert threads
    assert threading.current_thread() not in threads


def test_a_cache_is_settled(encoder: E2RankEncoder, kept: SimpleKVStore) -> None:
    """One that was assigned later would be asked by bare texts."""
    with pytest.raises(InputError, match="embeddings_cache"):
        E2RankEmbedding(encoder=encoder).embeddings_cache = kept
