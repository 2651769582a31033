"""Streaming: any number of documents, one chunk in memory, every row in its place, nothing cut in silence."""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder, MemoryCache
from e2rank_integrations.errors import InputError
from tests.support.engines import Recording
from tests.support.passages import LONG_PASSAGE, TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "xyzzy-plugh"


@pytest.fixture
def recording(embedded_encoder: E2RankEncoder) -> Recording:
    return Recording(embedded_encoder.engine)


@pytest.fixture
def encoder(embedded_encoder: E2RankEncoder, recording: Recording) -> E2RankEncoder:
    """The embedded model, counted."""
    return replace(embedded_encoder, custom_engine=recording)


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_chunks_come_in_order(encoder: E2RankEncoder, chunk: int, sizes: list[int]) -> None:
    """Together they are the rows of one call, to rounding, whatever the lengths within a chunk."""
    texts = [text * (1 + place % 3) for place, text in enumerate(TEXTS[:7])]
    parts = list(encoder.stream_documents(iter(texts), chunk=chunk))
    assert [len(part) for part in parts] == sizes
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.concatenate(parts), encoder.encode_documents(texts), rtol=0, atol=1e-6)


def test_every_document_is_embedded_once_a_chunk_at_a_time(encoder: E2RankEncoder, recording: Recording) -> None:
    """So the work grows as the documents do."""
    list(encoder.stream_documents((f"text {number}" for number in range(50)), chunk=8))
    assert [len(call) for call in recording.calls] == [8] * 6 + [2]
    assert recording.usage.documents == 50


def test_no_more_is_taken_than_is_embedded(encoder: E2RankEncoder) -> None:
    """A source without an end will do: nothing is read ahead."""
    numbers = count()
    stream = encoder.stream_documents((f"text {number}" for number in numbers), chunk=4)
    assert [part.shape for part in islice(stream, 3)] == [(4, encoder.width)] * 3
    assert next(numbers) == 12


def test_what_is_done_is_let_go(encoder: E2RankEncoder) -> None:
    """At no time are there more texts in memory than those of two chunks, the one that is read and the last one."""

    class Text(str):
        """A text that can be watched."""

        __slots__ = ("__weakref__",)

    alive: weakref.WeakSet[Text] = weakref.WeakSet()
    most = 0

    def texts() -> Iterator[Text]:
        nonlocal most
        for number in range(60):
            text = Text(f"text {number}")
            alive.add(text)
            most = max(most, len(alive))
            yield text

    encoder = replace(encoder, custom_engine=encoder.custom_engine.engine)  # the counter keeps its inputs
    for _ in encoder.stream_documents(texts(), chunk=5):
        pass
    assert 5 <= most <= 2 * 5 + 1


def test_nothing_gives_nothing(encoder: E2RankEncoder, recording: Recording) -> None:
    """No documents, no matrices, and the model is not asked."""
    assert list(encoder.stream_documents([])) == []
    assert list(encoder.stream_documents(iter(()), progress=True)) == []
    assert recording.calls == []


@pytest.mark.parametrize("bad", [None, 3, b"bytes", f"{SECRET} \ud800"], ids=ascii)
def test_a_bad_document_is_named_by_its_place_in_the_stream(
    encoder: E2RankEncoder, recording: Recording, bad: object
) -> None:
    """What came before its chunk is there; of its chunk nothing is embedded; the message does not hold the text."""
    stream = encoder.stream_documents([*TEXTS[:9], bad, *TEXTS], chunk=4)
    assert len(next(stream)) == len(next(stream)) == 4
    with pytest.raises(InputError, match="document 9: ") as caught:
        next(stream)
    assert SECRET not in str(caught.value)
    assert recording.usage.documents == 8


@pytest.mark.parametrize("documents", ["one text", None, 5])
def test_what_is_no_list_of_texts_is_refused_at_once(encoder: E2RankEncoder, documents: object) -> None:
    """By the call itself, before anything is asked of the stream."""
    with pytest.raises(InputError):
        encoder.stream_documents(documents)


@pytest.mark.parametrize("chunk", [0, -1, 1.5, "8", None, True])
def test_a_chunk_that_is_none_is_refused_at_once(encoder: E2RankEncoder, chunk: object) -> None:
    """As above."""
    with pytest.raises(InputError, match="chunk"):
        encoder.stream_documents(["a"], chunk=chunk)


def test_cuts_are_reported_once_for_the_whole_stream(encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture) -> None:
    """Not with each chunk: how many of all, and the longest of all."""
    texts = [LONG_PASSAGE, "short", LONG_PASSAGE * 2, "short", LONG_PASSAGE, "short"]
    list(encoder.stream_documents(texts, chunk=2))
    (record,) = caplog.records
    longest = len(encoder.writer.document(LONG_PASSAGE * 2))
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("3 of 6 documents were cut to 256 tokens")
    assert str(longest) in record.getMessage()
    assert LONG_PASSAGE[:20] not in record.getMessage()


@pytest.mark.parametrize("left", ["closed", "failed"])
def test_cuts_are_reported_where_a_stream_is_left(
    encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture, left: str
) -> None:
    """What was embedded until then was cut, whatever became of the rest."""
    stream = encoder.stream_documents([LONG_PASSAGE, "short", None, "short"], chunk=2)
    next(stream)
    assert caplog.records == []
    if left == "closed":
        stream.close()
    else:
        with pytest.raises(InputError):
            next(stream)
    (record,) = caplog.records
    assert record.getMessage().startswith("1 of 2 documents were cut")


# The bar


def test_the_bar_tells_documents_and_tokens_per_second(
    encoder: E2RankEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the whole number, where the documents have a length."""
    list(encoder.stream_documents(TEXTS[:10], chunk=4, progress=True))
    shown = capsys.readouterr().err
    last = shown.replace("\r", "\n").strip().splitlines()[-1]
    assert "10/10" in last
    assert "documents/s" in last
    assert "tokens/s" in last
    assert " 0 tokens/s" not in last
    assert TEXTS[0][:15] not in shown


def test_the_bar_of_a_generator_has_no_end(encoder: E2RankEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts."""
    list(encoder.stream_documents(iter(TEXTS[:10]), chunk=4, progress=True))
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "10 documents" in last
    assert "%" not in last


def test_without_being_asked_nothing_is_shown(encoder: E2RankEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither on stderr nor on stdout."""
    list(encoder.stream_documents(TEXTS[:4]))
    assert capsys.readouterr() == ("", "")


def test_the_bar_counts_the_tokens_that_the_model_read(
    encoder: E2RankEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a cache answers is done, but no work."""
    kept = replace(encoder, document_cache=MemoryCache())
    list(kept.stream_documents(TEXTS[:10], chunk=4))
    list(kept.stream_documents(TEXTS[:10], chunk=4, progress=True))
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "10/10" in last
    assert " 0 tokens/s" in last


def test_a_stream_that_broke_goes_on_from_the_cache(encoder: E2RankEncoder, recording: Recording) -> None:
    """Each chunk is kept when it is done, so a second run computes only the rest."""
    kept = replace(encoder, document_cache=MemoryCache())
    with pytest.raises(InputError):
        list(kept.stream_documents([*TEXTS[:8], None], chunk=4))
    list(kept.stream_documents(TEXTS[:12], chunk=4))
    assert recording.usage.documents == 12
