"""Whether an index holds this model's vectors: by its fingerprint, else by embedding a few records again."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations import Reranker, Searcher
from e2rank_integrations.errors import StoreError, StoreMismatchError
from e2rank_integrations.fingerprint import Fingerprint
from e2rank_integrations.stores import FINGERPRINT_KEY, expect_same_embedding
from e2rank_integrations.stores.chroma import ChromaStore
from tests.support.chroma import new_collection, unique_name
from tests.support.engines import Recording
from tests.support.passages import LONG_PASSAGE, METADATAS, PASSAGES, QUERIES, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from chromadb.api import ClientAPI

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix

FEW = dict(list(PASSAGES.items())[:6])
WITH_LONG = {**FEW, "long": LONG_PASSAGE}


def index(
    client: ClientAPI, encoder: E2RankEncoder, texts: dict[str, str] = FEW, *, fingerprint: bool = False
) -> ChromaStore:
    """Texts indexed with a model, with its fingerprint or without."""
    metadata = {FINGERPRINT_KEY: encoder.fingerprint.to_json()} if fingerprint else {"made": "by hand"}
    vectors = encoder.encode_documents(list(texts.values()))
    return ChromaStore(new_collection(client, texts, vectors, metadata=metadata))


def searcher(store: ChromaStore, encoder: E2RankEncoder) -> Searcher:
    return Searcher(store, Reranker(encoder))


def with_cap(encoder: E2RankEncoder, tokens: int) -> E2RankEncoder:
    caps = replace(encoder.profile.caps, document=tokens)
    return replace(encoder, profile=replace(encoder.profile, caps=caps))


@pytest.mark.parametrize("fingerprint", [True, False], ids=["fingerprint", "spot check"])
def test_another_model_of_the_same_width_is_refused(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder, fingerprint: bool
) -> None:
    """Chroma would take its vectors in silence; every search is refused, not the first alone."""
    store = index(memory, other_qwen, fingerprint=fingerprint)
    assert qwen_encoder.width == other_qwen.width
    for _ in range(2):
        with pytest.raises(StoreMismatchError, match="index again"):
            searcher(store, qwen_encoder).search(QUERIES[0])
    assert len(searcher(store, other_qwen).search(QUERIES[0])) == 4


@pytest.mark.parametrize("fingerprint", [True, False], ids=["fingerprint", "spot check"])
async def test_another_model_is_refused_asynchronously(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder, fingerprint: bool
) -> None:
    """As without async."""
    with pytest.raises(StoreMismatchError):
        await searcher(index(memory, other_qwen, fingerprint=fingerprint), qwen_encoder).asearch(QUERIES[0])


@pytest.mark.parametrize("fingerprint", [True, False], ids=["fingerprint", "spot check"])
def test_another_width_is_refused(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, embedded_encoder: E2RankEncoder, fingerprint: bool
) -> None:
    """Before anything is searched, with an error that says what to do."""
    with pytest.raises(StoreMismatchError, match="index again"):
        searcher(index(memory, embedded_encoder, fingerprint=fingerprint), qwen_encoder).search(QUERIES[0])


def test_message_names_what_differs(memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder) -> None:
    """Of two fingerprints, the attributes that differ are named, with both values, and the others are not."""
    with pytest.raises(StoreMismatchError) as caught:
        searcher(index(memory, other_qwen, fingerprint=True), qwen_encoder).search(QUERIES[0])
    message = str(caught.value)
    for part in ("weights", qwen_encoder.fingerprint.weights, other_qwen.fingerprint.weights, other_qwen.model):
        assert part in message
    assert "document_cap" not in message
    assert "pooling" not in message


def test_spot_check_message_holds_no_text(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder
) -> None:
    """It names the record by its id; a stored text may be confidential."""
    with pytest.raises(StoreMismatchError) as caught:
        searcher(index(memory, other_qwen), qwen_encoder).search(QUERIES[0])
    assert any(repr(id_) in str(caught.value) for id_ in FEW)
    assert not any(text[:12] in str(caught.value) for text in FEW.values())


CHANGES = {
    "document_cap": lambda profile: replace(profile, caps=replace(profile.caps, document=64)),
    "document_format": lambda profile: replace(profile, document_format="[CLS]passage: {document}[SEP]"),
    "document_words": lambda profile: profile.for_reproduction(),
    "pooling": lambda profile: replace(profile, pooling="cls"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_part_of_the_embedding_is_compared(memory: ClientAPI, embedded_encoder: E2RankEncoder, name: str) -> None:
    """The same weights with another cap, frame, rewriting or pooling made other vectors, and the message says which."""
    changed = replace(embedded_encoder, profile=CHANGES[name](embedded_encoder.profile))
    with pytest.raises(StoreMismatchError, match=name):
        searcher(index(memory, embedded_encoder, fingerprint=True), changed).search(QUERIES[0])


def test_what_does_not_touch_documents_is_no_mismatch(memory: ClientAPI, embedded_encoder: E2RankEncoder) -> None:
    """Task strings, prompt size and query weight leave the document vectors as they are."""
    profile = replace(embedded_encoder.profile, num_input_docs=2, query_weight=0.1)
    caps = replace(profile.caps, prompt=300, listed=100, query=200)
    tasks = replace(profile.tasks, query="Find it", listwise="Sort them")
    changed = replace(embedded_encoder, profile=replace(profile, caps=caps, tasks=tasks))
    assert changed.fingerprint == embedded_encoder.fingerprint
    assert len(searcher(index(memory, embedded_encoder, fingerprint=True), changed).search(QUERIES[0])) == 4


@pytest.mark.parametrize("fingerprint", [True, False], ids=["fingerprint", "spot check"])
def test_another_dtype_is_no_mismatch(memory: ClientAPI, embedded_encoder: E2RankEncoder, fingerprint: bool) -> None:
    """An index made in float32 is read in bfloat16, on whatever device."""
    elsewhere = replace(embedded_encoder, dtype="bfloat16", device="auto")
    store = index(memory, embedded_encoder, WITH_LONG, fingerprint=fingerprint)
    assert len(searcher(store, elsewhere).search(QUERIES[0])) == 4


def test_a_copy_of_the_checkpoint_is_no_mismatch(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, qwen_folder: Path, tmp_path: Path
) -> None:
    """The same files in another folder make the same vectors: the name of a model is not compared."""
    elsewhere = replace(qwen_encoder, model=str(shutil.copytree(qwen_folder, tmp_path / "copy")))
    assert elsewhere.fingerprint.model != qwen_encoder.fingerprint.model
    assert len(searcher(index(memory, qwen_encoder, fingerprint=True), elsewhere).search(QUERIES[0])) == 4


@pytest.mark.parametrize("cap", [64, 250])
def test_another_cap_shows_in_the_longest_record(memory: ClientAPI, embedded_encoder: E2RankEncoder, cap: int) -> None:
    """Without a fingerprint: short texts have the same vector under both caps, so the longest is checked."""
    shorter = with_cap(embedded_encoder, cap)
    assert len(searcher(index(memory, shorter), embedded_encoder).search(QUERIES[0])) == 4, "no text reaches the cap"
    with pytest.raises(StoreMismatchError, match="'long'"):
        searcher(index(memory, shorter, WITH_LONG), embedded_encoder).search(QUERIES[0])


@pytest.mark.usefixtures("unchecked")
def test_spot_check_happens_once(memory: ClientAPI, encoder: E2RankEncoder, recording: Recording) -> None:
    """A few documents are embedded on the first use of an index, and none after it, whoever opens it again."""
    store = index(memory, encoder)
    recording.calls.clear()
    searcher(store, encoder).search(QUERIES[0])
    assert 1 <= recording.usage.documents <= 5
    recording.calls.clear()
    again = ChromaStore(memory.get_collection(store._collection.name))
    searcher(store, encoder).search(QUERIES[1])
    searcher(again, replace(encoder, device="auto")).search(QUERIES[1])
    assert recording.usage.documents == 0


@pytest.mark.usefixtures("unchecked")
def test_threads_share_one_spot_check(memory: ClientAPI, encoder: E2RankEncoder, recording: Recording) -> None:
    """Eight first searches at once check the index once."""
    store = index(memory, encoder)
    recording.calls.clear()
    start = threading.Barrier(8)

    def first_use(_: int) -> int:
        start.wait(timeout=30)
        return len(searcher(store, encoder).search(QUERIES[0]))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first_use, range(8))) == [4] * 8
    assert recording.usage.documents <= 5


@pytest.mark.usefixtures("unchecked")
def test_each_index_and_each_model_is_checked(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder
) -> None:
    """A good index vouches neither for another one nor for another model."""
    good, foreign = index(memory, qwen_encoder), index(memory, other_qwen)
    searcher(good, qwen_encoder).search(QUERIES[0])
    with pytest.raises(StoreMismatchError):
        searcher(foreign, qwen_encoder).search(QUERIES[0])
    with pytest.raises(StoreMismatchError):
        searcher(good, other_qwen).search(QUERIES[0])


@pytest.mark.usefixtures("unchecked")
def test_a_saved_fingerprint_spares_the_spot_check(
    memory: ClientAPI, encoder: E2RankEncoder, recording: Recording
) -> None:
    """It is compared, and no document is embedded for the check."""
    store = index(memory, encoder, fingerprint=True)
    recording.calls.clear()
    searcher(store, encoder).search(QUERIES[0])
    assert recording.usage.documents == 0


@pytest.mark.parametrize("saved", ["", "{", "[1, 2]", "17", "null", '"text"', "{}", '{"weights": "abc"}'])
def test_an_unreadable_fingerprint_is_a_store_error(
    memory: ClientAPI, encoder: E2RankEncoder, passage_vectors: Matrix, saved: str
) -> None:
    """Cut off, of another version or by another hand: it is said to be unreadable, and not taken for none."""
    metadata = {FINGERPRINT_KEY: saved}
    store = ChromaStore(new_collection(memory, PASSAGES, passage_vectors, metadata=metadata))
    with pytest.raises(StoreError, match=FINGERPRINT_KEY) as caught:
        searcher(store, encoder).search(QUERIES[0])
    assert not isinstance(caught.value, StoreMismatchError)


def test_a_fingerprint_survives_json(embedded_encoder: E2RankEncoder) -> None:
    """What is written is read back equal, and what is not JSON of one is a ValueError."""
    ours = embedded_encoder.fingerprint
    assert Fingerprint.from_json(ours.to_json()) == ours
    assert json.loads(ours.to_json())["document_cap"] == 256
    with pytest.raises(ValueError, match="fingerprint"):
        Fingerprint.from_json(json.dumps({"unknown": 1}))


@pytest.mark.usefixtures("unchecked")
def test_an_empty_index_is_checked_once_it_is_filled(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder
) -> None:
    """Searching an empty index is no proof of what will be in it."""
    collection = memory.create_collection(unique_name(), embedding_function=None)
    search = searcher(ChromaStore(collection), qwen_encoder).search
    assert len(search(QUERIES[0])) == 0
    collection.add(ids=list(FEW), documents=list(FEW.values()), embeddings=other_qwen.encode_documents([*FEW.values()]))
    with pytest.raises(StoreMismatchError):
        search(QUERIES[0])


def test_saving_a_fingerprint_checks_first(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder
) -> None:
    """Another model's index gets no false fingerprint; the maker's own is then found by everybody."""
    store = index(memory, other_qwen)
    with pytest.raises(StoreMismatchError):
        searcher(store, qwen_encoder).save_fingerprint()
    assert store.fingerprint is None
    searcher(store, other_qwen).save_fingerprint()
    assert store.fingerprint == other_qwen.fingerprint.to_json()
    assert memory.get_collection(store._collection.name).metadata["made"] == "by hand"
    with pytest.raises(StoreMismatchError):
        searcher(store, qwen_encoder).save_fingerprint()


@pytest.mark.usefixtures("unchecked")
def test_records_without_text_are_not_compared(
    memory: ClientAPI, encoder: E2RankEncoder, recording: Recording, passage_vectors: Matrix
) -> None:
    """A vector without a text cannot be embedded again; those with one are checked instead."""
    collection = memory.create_collection(unique_name(), embedding_function=None)
    collection.add(ids=["bare-1", "bare-2"], embeddings=passage_vectors[:2])
    store = ChromaStore(collection)
    expect_same_embedding(store, encoder)
    assert recording.usage.documents == 0
    collection.add(ids=["text"], documents=[TEXTS[5]], embeddings=passage_vectors[6:7], metadatas=METADATAS[:1])
    with pytest.raises(StoreMismatchError, match="'text'"):
        expect_same_embedding(store, encoder)


def test_found_records_are_checked_where_a_store_shows_no_sample(
    memory: ClientAPI, qwen_encoder: E2RankEncoder, other_qwen: E2RankEncoder
) -> None:
    """A store that cannot list its records is checked by those of the first search."""

    class Unlisted(ChromaStore):
        def sample(self) -> list:
            return []

    foreign = Unlisted(index(memory, other_qwen)._collection)
    expect_same_embedding(foreign, qwen_encoder)  # nothing to compare yet
    with pytest.raises(StoreMismatchError):
        searcher(foreign, qwen_encoder).search(QUERIES[0])
