"""Stored vectors that are older than their texts, found by a hash stored beside them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations import Candidate, Reranker, Searcher
from e2rank_integrations.stores import TEXT_HASH_KEY, text_hash
from e2rank_integrations.stores.chroma import ChromaStore
from tests.support.chroma import new_collection
from tests.support.passages import PASSAGES, QUERIES, TEXTS

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording

CHANGED = {"bread-2": "The tides follow the Moon.", "law-1": "A day on Venus is longer than its year."}


@pytest.fixture
def edited(memory: ClientAPI, passage_vectors: Matrix) -> Collection:
    """Two texts were changed after they were embedded; hashes tell of what was embedded."""
    hashes = [{TEXT_HASH_KEY: text_hash(text)} for text in TEXTS]
    return new_collection(memory, {**PASSAGES, **CHANGED}, passage_vectors, metadatas=hashes)


def test_changed_texts_are_embedded_again(
    edited: Collection, encoder: E2RankEncoder, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """Their stale vectors are not used, the others are, and the order is that of recomputing all."""
    searcher = Searcher(ChromaStore(edited), Reranker(encoder), fetch_k=24)
    searcher.save_fingerprint()
    recording.calls.clear()
    ranking = searcher.search(QUERIES[1], k=24)
    assert recording.usage.documents == len(CHANGED)
    computed = {item.candidate.id for item in ranking if item.vector_source == "computed"}
    assert computed == set(CHANGED)
    in_order = sorted(ranking, key=lambda item: item.old_position or 0)
    again = Reranker(encoder).rank(QUERIES[1], [Candidate(i.candidate.text, id=i.candidate.id) for i in in_order])
    assert [item.candidate.id for item in ranking] == [item.candidate.id for item in again]
    assert [item.score for item in ranking] == pytest.approx([item.score for item in again], abs=1e-5)
    assert len(stale_warnings(caplog)) == 1


@pytest.mark.usefixtures("unchecked")
def test_one_search_warns_once(edited: Collection, encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture) -> None:
    """Without a fingerprint, too: the spot check reads the same records, and says nothing of its own."""
    Searcher(ChromaStore(edited), Reranker(encoder), fetch_k=24, search_again=True).search(QUERIES[1], k=24)
    (warning,) = stale_warnings(caplog)
    assert "2 of 24" in warning
    assert not any(text[:10] in warning for text in CHANGED.values())


@pytest.mark.usefixtures("unchecked")
def test_stale_vectors_are_no_mismatch(edited: Collection, encoder: E2RankEncoder) -> None:
    """A spot check passes over records that are known to be stale: the model is the right one."""
    longest = max(TEXTS, key=len) + " This was added later."
    edited.update(ids=["orbit-3"], documents=[longest], embeddings=[[1.0] + [0.0] * 383])
    assert len(Searcher(ChromaStore(edited), Reranker(encoder)).search(QUERIES[0])) == 4


def test_lookup_by_id_leaves_stale_vectors_out(edited: Collection) -> None:
    """The texts come, the vectors do not."""
    records = ChromaStore(edited).get(["law-1", "law-2"])
    assert records["law-1"].text == CHANGED["law-1"]
    assert records["law-1"].vector is None
    assert records["law-2"].vector is not None


def test_a_hash_tells_texts_apart_by_a_character() -> None:
    """It is SHA-256 of the text in UTF-8: spaces, case and line ends count."""
    texts = ["a b", "a  b", "A b", "a b\n", "a\u00a0b", "", "ä", "a\u0308"]
    assert len({text_hash(text) for text in texts}) == len(texts)
    assert text_hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def stale_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "older than their texts" in record.getMessage()
    ]
