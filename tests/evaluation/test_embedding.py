from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.embedding import embed_documents
from tests.support.engines import Failing, Recording


def recorded(encoder: E2RankEncoder) -> tuple[E2RankEncoder, Recording]:
    engine = Recording(encoder.engine)
    return replace(encoder, custom_engine=engine), engine


def renamed(collection: Collection, documents: dict[str, str]) -> Collection:
    return replace(collection, documents=documents)


def test_rows_are_the_documents_in_the_corpus_order(collection: Collection, qwen_encoder: E2RankEncoder):
    """Embedding by length, for speed, leaves no trace in the order."""
    index = embed_documents(collection, qwen_encoder)
    assert index.ids == tuple(collection.documents)
    expected = qwen_encoder.encode_documents(list(collection.documents.values()))
    assert index.vectors == pytest.approx(expected, abs=1e-5)


def test_more_documents_than_a_chunk_holds_are_all_embedded_once(collection: Collection, qwen_encoder: E2RankEncoder):
    """No row is left out or left as it happened to be in memory."""
    encoder, engine = recorded(qwen_encoder)
    many = {str(number): "word " * (number % 7) for number in range(130)}
    index = embed_documents(renamed(collection, many), encoder)
    assert engine.usage.documents == 130
    assert np.linalg.norm(index.vectors, axis=1) == pytest.approx(np.ones(130), abs=1e-5)
    assert index.vectors[3] == pytest.approx(qwen_encoder.encode_documents(["word " * 3])[0], abs=1e-5)


def test_a_cache_is_filled_once_and_read_after(collection: Collection, qwen_encoder: E2RankEncoder, tmp_path: Path):
    """The second time no forward pass is made, and the vectors are the same to the bit."""
    first = embed_documents(collection, qwen_encoder, cache=tmp_path / "new" / "folder")
    encoder, engine = recorded(qwen_encoder)
    again = embed_documents(collection, encoder, cache=tmp_path / "new" / "folder")
    assert engine.calls == []
    assert np.array_equal(first.vectors, again.vectors)


def test_other_texts_models_or_caps_are_not_taken_from_the_cache(
    collection: Collection, qwen_encoder: E2RankEncoder, tmp_path: Path
):
    """Whatever changes a vector changes the file's name; texts that merely join to the same characters do, too."""
    profile = replace(qwen_encoder.profile, caps=replace(qwen_encoder.profile.caps, document=16))
    for documents, encoder in [
        ({"a": "xy", "b": "z"}, qwen_encoder),
        ({"a": "x", "b": "yz"}, qwen_encoder),
        ({"a": "xy", "b": "z"}, replace(qwen_encoder, profile=profile)),
        ({"a": "xy", "b": "z"}, replace(qwen_encoder, dtype="bfloat16")),
    ]:
        embed_documents(renamed(collection, documents), encoder, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_failure_leaves_no_file(collection: Collection, qwen_encoder: E2RankEncoder, tmp_path: Path):
    """Half a file would be read as a whole one the next time."""
    encoder = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        embed_documents(collection, encoder, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cuts_are_reported_once_and_nothing_is_drawn_without_a_terminal(
    collection: Collection,
    qwen_encoder: E2RankEncoder,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
):
    """One record for the whole collection, however many chunks it takes; a log file gets no bars."""
    profile = replace(qwen_encoder.profile, caps=replace(qwen_encoder.profile.caps, document=8))
    many = {str(number): "word " * 40 for number in range(130)}
    with caplog.at_level(logging.WARNING, "e2rank_integrations"):
        embed_documents(renamed(collection, many), replace(qwen_encoder, profile=profile), progress=True)
    assert [record.getMessage().split(" documents")[0] for record in caplog.records] == ["130 of 130"]
    assert capsys.readouterr() == ("", "")
