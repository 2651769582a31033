"""A corpus gets into a store row by row, each once, whenever the job is killed and taken up again."""

from __future__ import annotations

import gzip
import hashlib
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2rank_integrations import E2RankEncoder, Reranker, Searcher
from e2rank_integrations.engines.base import Engine
from e2rank_integrations.errors import InputError, NonFiniteError, StoreError, StoreMismatchError
from e2rank_integrations.indexing import embedding
from e2rank_integrations.indexing.embedding import embed_here
from e2rank_integrations.indexing.job import index_corpus
from e2rank_integrations.indexing.manifest import Manifest
from e2rank_integrations.indexing.sources import open_source
from e2rank_integrations.stores.base import TEXT_HASH_KEY, text_hash
from e2rank_integrations.values import Candidate, Encoded, Usage
from tests.indexing.conftest import COLLECTION, Killed, Memory, Place, expect_same, rows, write_lines
from tests.support.engines import Failing, Recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2rank_integrations.values import TokenInput


def test_every_row_is_stored_with_its_vector(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Title and text as one text, its vector, its other fields and its hash; searching finds it."""
    report = place.index(qwen_encoder)
    assert (report.rows, report.written, report.skipped_before, report.errors, report.parts) == (10, 10, 0, 0, 4)
    assert report.stored == 10
    assert report.tokens > 10
    stored = place.records()
    for row in rows(10):
        record = stored[row["_id"]]
        text = f"{row['title']} {row['text']}".strip()
        assert record.text == text
        assert record.metadata == {"year": row["year"], TEXT_HASH_KEY: text_hash(text)}
        vector = qwen_encoder.encode_documents([text])[0]
        np.testing.assert_allclose(np.asarray(record.vector), vector, rtol=0, atol=1e-6)
    with place.store() as store:
        assert store.fingerprint == qwen_encoder.fingerprint.to_json()
        assert len(Searcher(store, Reranker(qwen_encoder)).search("What is article 3 about?", k=3)) == 3


def test_a_second_run_embeds_nothing(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """It says that all was done before."""
    place.index(qwen_encoder)
    recording = Recording(qwen_encoder.engine)
    report = place.index(replace(qwen_encoder, custom_engine=recording))
    assert recording.calls == []
    assert (report.rows, report.written, report.skipped_before, report.parts, report.stored) == (10, 0, 10, 0, 10)
    assert "10 rows were indexed before" in str(report)


def test_a_server_is_filled_like_a_folder(
    request: pytest.FixtureRequest, place: Place, qwen_encoder: E2RankEncoder, tmp_path: Path
) -> None:
    """The same records, but for the last bit, which Chroma rounds elsewhere."""
    place.index(qwen_encoder)
    port = request.getfixturevalue("server_port")
    elsewhere = replace(place, where=f"http://127.0.0.1:{port}", manifest=tmp_path / "other.manifest")
    elsewhere.index(qwen_encoder)
    expect_same(place.records(), elsewhere.records(), tolerance=1e-7)


def test_a_row_with_an_id_that_was_there_is_an_error(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """The first position keeps its record, in the same part, in another one, and in a later run."""
    again = [{"_id": f"d{n}", "text": "Another text"} for n in (1, 4, 7)]
    lines = [*rows(3), again[0], *rows(10)[3:], *again[1:], {"_id": "d11", "text": "New"}]
    write_lines(place.corpus, lines)
    report = place.index(qwen_encoder)
    assert (report.rows, report.written, report.errors) == (14, 11, 3)
    assert place.errors() == [
        (4, "d1", "the id is that of position 1, too"),
        (12, "d4", "the id is that of position 5, too"),
        (13, "d7", "the id is that of position 8, too"),
    ]
    assert "Another text" not in {record.text for record in place.records().values()}
    assert place.index(qwen_encoder).errors == 3


def test_what_an_existing_record_had_is_replaced(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Indexed again after a change: text, vector and metadata are the new ones; other records stay, and are counted."""
    place.index(qwen_encoder)
    write_lines(place.corpus, [{"_id": "d1", "text": "Changed", "lang": "en"}])
    with pytest.raises(StoreError, match=r"with corpus .*--restart"):
        place.index(qwen_encoder)
    report = place.index(qwen_encoder, restart=True)
    assert (report.written, report.stored, report.replaced) == (1, 10, 1)
    assert "9 of the records are not of this corpus" in str(report)
    assert "1 records of before were replaced by rows of the same ids" in str(report)
    record = place.records()["d1"]
    assert (record.text, record.metadata) == ("Changed", {"lang": "en", TEXT_HASH_KEY: text_hash("Changed")})


def test_another_models_collection_is_refused(
    request: pytest.FixtureRequest, place: Place, qwen_encoder: E2RankEncoder
) -> None:
    """Before anything is embedded, written or forgotten, with or without a manifest."""
    place.index(qwen_encoder)
    before = place.records()
    other = request.getfixturevalue("other_qwen")
    recording = Recording(other.engine)
    for manifest in (place.manifest, place.manifest.with_name("new")):
        with pytest.raises(StoreMismatchError, match="index again"):
            replace(place, manifest=manifest).index(replace(other, custom_engine=recording), restart=True)
    assert recording.calls == []
    expect_same(before, place.records())
    assert place.index(qwen_encoder).skipped_before == 10, "a restart forgets nothing before it is known to be possible"


def test_what_two_corpora_have_in_common_is_said(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Their rows of the same ids replace each other; the first one's next run, which writes nothing, says it, too."""
    assert place.index(qwen_encoder).replaced == 0
    second = replace(place, corpus=place.corpus.with_name("b.jsonl"), manifest=place.manifest.with_name("b"))
    write_lines(second.corpus, [{"_id": id_, "text": "Another"} for id_ in ("d1", "d10", "e1")])
    report = second.index(qwen_encoder)
    assert (report.written, report.stored, report.replaced) == (3, 11, 2)
    report = second.index(qwen_encoder)
    assert (report.written, report.skipped_before, report.replaced) == (0, 3, 2)
    with second.store() as store:
        store._collection.delete(ids=["e1"])
    assert second.index(qwen_encoder).replaced == 3, "what was deleted since is gone, too"


@pytest.mark.parametrize("deleted", ["the collection", "some records", "all records"])
def test_a_store_that_lost_what_was_written_is_refused(place: Place, qwen_encoder: E2RankEncoder, deleted: str) -> None:
    """The manifest alone would say that all is there."""
    place.index(qwen_encoder)
    with place.store() as store:
        if deleted == "the collection":
            store._collection._client.delete_collection(COLLECTION)
        else:
            store._collection.delete(ids=list(place.records())[: 3 if deleted == "some records" else None])
    with pytest.raises(StoreError, match="--restart"):
        place.index(qwen_encoder)
    with Manifest(place.manifest) as manifest:
        manifest.restart()
    assert place.index(qwen_encoder).stored == 10


def test_an_engine_that_fails_stops_the_job_and_it_goes_on_there(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """With the engine's own error; nothing of that part is written or recorded."""
    recording = Failing(qwen_encoder.engine, NonFiniteError("NaN"))
    recording.fails = lambda _: len(recording.calls) == 3
    encoder = replace(qwen_encoder, custom_engine=recording)
    with pytest.raises(NonFiniteError) as caught:
        place.index(encoder)
    assert caught.value.__notes__ == ["6 rows are indexed; run the same again, and it goes on there"]
    assert set(place.records()) == {f"d{n}" for n in range(1, 7)}
    report = place.index(encoder)
    assert (report.written, report.skipped_before, report.parts) == (4, 6, 2)
    assert len(place.records()) == 10


def test_a_corpus_with_other_fields_stops_at_once(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """With the fields that it has, and the options that name them; the manifest is as if nothing had been."""
    write_lines(place.corpus, [{"id": "a", "content": "x"}, {"id": "b", "content": "y"}])
    with pytest.raises(InputError, match=r"its fields are 'id', 'content'; .*--id-field"):
        place.index(qwen_encoder)
    assert place.errors() == []


@pytest.mark.parametrize(
    "content",
    [b"[\n{},\n]", b"id,text\na,b\n", gzip.compress(b'{"_id": "a", "text": "x"}\n')],
    ids=["an array", "CSV", "packed"],
)
def test_a_corpus_of_another_kind_stops_at_once(place: Place, qwen_encoder: E2RankEncoder, content: bytes) -> None:
    """An array, a table with commas, a packed file: names of fields would not help."""
    place.corpus.write_bytes(content)
    with pytest.raises(InputError, match=r"expected a JSON object on each line.*: unpack or convert it") as caught:
        place.index(qwen_encoder)
    assert "--id-field" not in str(caught.value)


@pytest.mark.parametrize("rows_per_part", [1, 2])
def test_bad_rows_at_the_beginning_stop_nothing(place: Place, qwen_encoder: E2RankEncoder, rows_per_part: int) -> None:
    """However small the parts are: a few of them do not say that the fields are misnamed."""
    write_lines(place.corpus, ["{", "", "[1]", *rows(3)])
    assert replace(place, rows_per_part=rows_per_part).index(qwen_encoder).written == 3


def test_a_thousand_bad_rows_stop_the_job(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Whatever comes after them; and no manifest of it refuses the next run, with the right names."""
    write_lines(place.corpus, [*["{"] * 1000, *rows(100)])
    with pytest.raises(InputError, match=r"position 1: expected a JSON object"):
        replace(place, rows_per_part=100).index(qwen_encoder)
    write_lines(place.corpus, [*["{"] * 999, *rows(1)])
    assert replace(place, rows_per_part=999).index(qwen_encoder).written == 1


def test_an_empty_corpus_is_an_input_error(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """A mistake rather than a job."""
    for nothing, words in ((b"", "no row"), (b"\n \n", "blank")):
        place.corpus.write_bytes(nothing)
        with pytest.raises(InputError, match=words):
            place.index(qwen_encoder)


def test_a_corpus_that_changes_meanwhile_is_an_input_error(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """What was read may be neither the old nor the new one."""

    class Changing(Recording):
        def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
            if len(self.calls) == 3:
                write_lines(place.corpus, [*rows(10), {"_id": "late", "text": "Late"}])
            return super().encode(inputs)

    with pytest.raises(InputError, match="changed while it was read"):
        place.index(replace(qwen_encoder, custom_engine=Changing(qwen_encoder.engine)))


def test_cuts_and_fields_left_out_are_reported(
    place: Place, qwen_encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for the job, and not in the log of each part; the stored text is whole."""
    caps = replace(qwen_encoder.profile.caps, document=16)
    encoder = replace(qwen_encoder, profile=replace(qwen_encoder.profile, caps=caps))
    long = "word " * 99
    write_lines(place.corpus, [{"_id": f"d{n}", "text": long, "tags": ["a"], "n": {}} for n in range(4)])
    with caplog.at_level(logging.WARNING):
        report = place.index(encoder)
    assert (report.cut, report.left_out) == (4, ("tags", "n"))
    assert caplog.records == []
    assert place.records()["d1"].text == long.strip()


def test_an_embedder_must_give_every_part_in_order(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """A part that is left out, or comes too early, is an error and no lost row; what came before it stays."""

    def late(source: Any, parts: Any, encoder: E2RankEncoder) -> Any:
        first, *others = parts
        yield from embed_here(source, [first, *reversed(others)], encoder)

    with pytest.raises(InputError, match="expected part 1, found part 3"):
        place.index(qwen_encoder, embedder=late)
    with pytest.raises(ValueError, match="shorter"):
        place.index(qwen_encoder, embedder=lambda *args: embed_here(args[0], list(args[1])[:-1], args[2]))
    assert place.index(qwen_encoder).skipped_before == 9
    assert len(place.records()) == 10


def test_a_job_starts_before_its_corpus_is_read(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """The first part is written when the source was asked for the next one or two, and not for all of them."""
    source = open_source(place.corpus)
    asked: list[int] = []

    class Lazy:
        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        def parts(self, rows: int) -> Any:
            for part in source.parts(rows):
                asked.append(part.number)
                yield part

    class Counting(Memory):
        def upsert(self, records: Sequence[Candidate]) -> None:
            super().upsert(records)
            written.append(len(asked))

    written: list[int] = []
    lazy: Any = Lazy()
    with Manifest(place.manifest) as manifest:
        index_corpus(lazy, replace(qwen_encoder, custom_engine=Hashing()), Counting(), manifest, rows_per_part=1)
    assert written == [2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


def test_a_stopped_job_ends_within_a_part(
    place: Place, qwen_encoder: E2RankEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing store, or Ctrl-C, does not wait for all rows of the part under way."""
    write_lines(place.corpus, rows(16))
    stop = threading.Event()
    monkeypatch.setattr(embedding, "Event", lambda: stop)
    monkeypatch.setattr(embedding, "_ROWS_ELSEWHERE", 2)

    class Waiting(Hashing):
        calls = 0

        def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
            self.calls += 1
            assert self.calls < 5 or stop.wait(30), "the second part is not told to stop"
            return super().encode(inputs)

    class Full(Memory):
        def upsert(self, records: Sequence[Candidate]) -> None:
            raise StoreError("full")

    engine = Waiting()
    encoder = replace(qwen_encoder, custom_engine=engine)
    with Manifest(place.manifest) as manifest, pytest.raises(StoreError, match="full"):
        index_corpus(open_source(place.corpus), encoder, Full(), manifest, rows_per_part=8)
    assert engine.calls <= 5


def test_a_part_has_at_least_one_row(place: Place, qwen_encoder: E2RankEncoder) -> None:
    """Neither none nor fewer."""
    with pytest.raises(InputError, match="at least 1"):
        place.index(qwen_encoder, rows_per_part=0)


# Any size of corpus and part, and a kill at any step.


class Hashing(Engine):
    """Vectors that are a hash of the ids, unit, of the model's width: fast, and another one for each text."""

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        rows_ = [np.frombuffer(hashlib.shake_256(repr(item.ids).encode()).digest(64), np.uint8) for item in inputs]
        vectors = np.array(rows_, np.float32).reshape(-1, 64) + 1
        return Encoded(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), Usage.of(inputs))


@dataclass
class Interrupted:
    """A manifest whose recording ends the process, before or after it is done."""

    manifest: Manifest
    recordings: int | None
    before: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.manifest, name)

    def record(self, *args: Any) -> None:
        last = self.recordings == 0
        if last and self.before:
            raise Killed
        self.manifest.record(*args)
        if last:
            raise Killed
        self.recordings = None if self.recordings is None else self.recordings - 1


LINES = st.lists(
    st.one_of(
        st.integers(0, 12).map(lambda n: {"_id": f"d{n}", "text": f"text {n}"}),
        st.sampled_from(["{", "", {"_id": "d1"}, {"_id": "d2", "text": "another"}]),
    ),
    max_size=14,
).map(lambda lines: [{"_id": "first", "text": "one that can be used"}, *lines])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=LINES,
    per_part=st.integers(1, 6),
    writes=st.one_of(st.none(), st.integers(0, 14)),
    recordings=st.one_of(st.none(), st.integers(0, 8)),
    before=st.booleans(),
)
def test_a_kill_at_any_step_leaves_no_trace(
    *,
    tmp_path_factory: pytest.TempPathFactory,
    qwen_encoder: E2RankEncoder,
    lines: list[object],
    per_part: int,
    writes: int | None,
    recordings: int | None,
    before: bool,
) -> None:
    """In the midst of a write, or before or after a part is recorded: another run makes what one run would have."""
    folder = tmp_path_factory.mktemp("kill")
    source = open_source(write_lines(folder / "c.jsonl", lines))
    encoder = replace(qwen_encoder, custom_engine=Hashing())

    def indexed(store: Memory, name: str, recordings: int | None = None) -> tuple[Any, list[Any]]:
        with Manifest(folder / name) as manifest:
            watched: Any = Interrupted(manifest, recordings, before)
            report = index_corpus(source, encoder, store, watched, rows_per_part=per_part)
            return report, list(manifest.errors())

    there = {id_: Candidate("of another corpus", id=id_, vector=np.ones(64)) for id_ in ("d1", "other")}
    whole, killed = Memory(dict(there)), Memory(dict(there), fails_after=writes)
    report, errors = indexed(whole, "whole")
    with suppress(Killed):
        indexed(killed, "killed", recordings)
    killed.fails_after = None
    again, errors_again = indexed(killed, "killed")
    expect_same(whole.records, killed.records)
    assert errors_again == errors
    assert (again.rows, again.errors) == (report.rows, report.errors)
    assert again.written + again.skipped_before == report.written
    assert again.replaced == report.replaced == (whole.records["d1"].text != "of another corpus")
    assert len(whole.records) == report.written + 2 - report.replaced
    assert report.rows == sum(1 for line in lines if line != "")
