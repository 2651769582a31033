"""E2RankEmbeddings: plain lists of floats, the core's vectors, nothing done to the texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.stores import InMemoryByteStore

from e2rank_integrations.errors import InputError
from e2rank_integrations.langchain import E2RankEmbeddings
from e2rank_integrations.stores import FINGERPRINT_KEY
from tests.support.passages import LONG_PASSAGE, QUERIES, TEXTS

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder
    from tests.support.engines import Recording

SOME = TEXTS[:5]


async def test_vectors_are_the_cores_as_python_floats(embeddings: E2RankEmbeddings, encoder: E2RankEncoder) -> None:
    """Lists of lists of `float`, equal to what the encoder gives, of unit length; async gives the same."""
    vectors = embeddings.embed_documents(SOME)
    query = embeddings.embed_query(QUERIES[0])
    assert all(type(row) is list and {*map(type, row)} == {float} for row in [*vectors, query])
    assert np.array_equal(vectors, encoder.encode_documents(SOME).astype(float))
    assert np.array_equal([query], encoder.encode_queries(QUERIES[:1]).astype(float))
    assert np.linalg.norm([*vectors, query], axis=1) == pytest.approx(1, abs=1e-5)
    later = [*await embeddings.aembed_documents(SOME), await embeddings.aembed_query(QUERIES[0])]
    assert all(type(row) is list and {*map(type, row)} == {float} for row in later)
    assert np.allclose(later, [*vectors, query], atol=1e-5)


def test_queries_have_their_instruction(qwen_encoder: E2RankEncoder) -> None:
    """With E2Rank the same text is another input as a query than as a document, and the instruction is settable."""
    embeddings = E2RankEmbeddings(encoder=qwen_encoder)
    worded = E2RankEmbeddings(encoder=qwen_encoder, query_instruction="Find the law that applies")
    (document,) = embeddings.embed_documents(["Explain gravity"])
    assert not np.allclose(document, embeddings.embed_query("Explain gravity"), atol=1e-3)
    assert not np.allclose(embeddings.embed_query("Explain gravity"), worded.embed_query("Explain gravity"), atol=1e-3)
    assert worded.embed_documents(["Explain gravity"]) == [document]


def test_texts_are_embedded_as_they_are(qwen_encoder: E2RankEncoder) -> None:
    """Line ends, spaces and case are part of a text; none is tidied away."""
    embeddings = E2RankEmbeddings(encoder=qwen_encoder)
    vectors = np.array(embeddings.embed_documents(["one\ntwo", "one two", "one  two", "One two", " one two", ""]))
    for position, vector in enumerate(vectors):
        others = np.delete(vectors, position, axis=0)
        assert np.linalg.norm(others - vector, axis=1).min() > 1e-3


def test_no_texts_give_no_vectors(embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """An empty list is answered without asking the model."""
    assert embeddings.embed_documents([]) == []
    assert recording.calls == []


@pytest.mark.parametrize("texts", [None, "text", [None], [1], ["fine", b"bytes"], ["lone \ud800"], 5], ids=ascii)
async def test_what_is_not_text_is_refused(embeddings: E2RankEmbeddings, texts: object) -> None:
    """A typed error, sync and async, for documents and for queries; nothing is embedded in part."""
    with pytest.raises(InputError):
        embeddings.embed_documents(texts)
    with pytest.raises(InputError):
        await embeddings.aembed_documents(texts)
    if not isinstance(texts, str):
        with pytest.raises(InputError):
            embeddings.embed_query(texts)
        with pytest.raises(InputError):
            await embeddings.aembed_query(texts)


def test_a_long_document_is_cut_and_reported_once(
    embeddings: E2RankEmbeddings, caplog: pytest.LogCaptureFixture
) -> None:
    """The call says how many were cut, once, and without their texts."""
    embeddings.embed_documents([LONG_PASSAGE, "short", LONG_PASSAGE])
    (record,) = caplog.records
    assert "2 of 3 documents were cut to 256 tokens" in record.getMessage()
    assert LONG_PASSAGE[:20] not in record.getMessage()


def test_cache_backed_embeddings_embed_each_text_once(embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """LangChain's cache gives the same vectors, and the model sees each text one time."""
    cached = CacheBackedEmbeddings.from_bytes_store(
        embeddings, InMemoryByteStore(), namespace=embeddings.encoder.fingerprint.weights, key_encoder="sha256"
    )
    expected = embeddings.embed_documents(SOME)
    recording.calls.clear()
    assert np.allclose(cached.embed_documents(SOME), expected, atol=1e-6)
    assert np.allclose(cached.embed_documents(SOME[::-1]), expected[::-1], atol=1e-6)
    assert recording.usage.documents == len(SOME)
    assert cached.embed_query(QUERIES[0]) == embeddings.embed_query(QUERIES[0])


def test_collection_metadata_is_the_fingerprint(embeddings: E2RankEmbeddings, encoder: E2RankEncoder) -> None:
    """Native strings that any store can keep."""
    assert embeddings.collection_metadata() == {FINGERPRINT_KEY: encoder.fingerprint.to_json()}
