"""The encoder: one model for queries, documents and prompts, which copies, pickles, and reports what it cut."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder, Fingerprint
from e2rank_integrations.engines import local, registry
from e2rank_integrations.engines.forward import Forward
from e2rank_integrations.errors import E2RankError, InputError
from e2rank_integrations.profiles import E2RANK, E2RANK_SMALL, EMBEDDED, Caps
from tests.support.engines import Gated, Recording
from tests.support.models import save_qwen3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from sentence_transformers import SentenceTransformer

SECRET = "xyzzy-plugh"


def encoder(folder: Path, **options: Any) -> E2RankEncoder:
    return E2RankEncoder(str(folder), **{"device": "cpu", "dtype": "float32", **options})


# The embedded model


MIXED = [
    "A cat sat on the mat.",
    "What is the capital of China?",
    "",
    "重力は引力です。",
    "Ünïcödé, naïve café; emoji 🙂🙃!",
    "tabs\tand\r\nnew lines\n\n",
    "x",
    "supercalifragilisticexpialidocious " * 20,
    "a b c d e " * 25,
]
LONG = ["word " * 400, "gravity attracts two bodies. " * 200, "antidisestablishmentarianism " * 300, "重力" * 500]


@pytest.fixture(scope="module")
def minilm(embedded_encoder: E2RankEncoder) -> SentenceTransformer:
    """The same files in the library that published them."""
    library = pytest.importorskip("sentence_transformers", reason="the embedded extra brings it")
    return library.SentenceTransformer(str(embedded_encoder.checkpoint.folder), device="cpu", local_files_only=True)


def test_the_embedded_model_equals_sentence_transformers(
    embedded_encoder: E2RankEncoder, minilm: SentenceTransformer
) -> None:
    """Texts of every kind get that library's vectors to 1e-5, in their own order, below its limit and above."""
    expected = minilm.encode([*MIXED, *LONG], normalize_embeddings=True)
    np.testing.assert_allclose(embedded_encoder.encode_documents([*MIXED, *LONG]), expected, rtol=0, atol=1e-5)


def test_an_embedded_query_is_embedded_as_a_document(
    embedded_encoder: E2RankEncoder, minilm: SentenceTransformer
) -> None:
    """The model knows no instruction: a query's vector is that of its bare text."""
    expected = minilm.encode(MIXED[:2], normalize_embeddings=True)
    np.testing.assert_allclose(embedded_encoder.encode_queries(MIXED[:2]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", [254, 255])
def test_the_embedded_model_cuts_where_sentence_transformers_does(
    embedded_encoder: E2RankEncoder, minilm: SentenceTransformer, tokens: int
) -> None:
    """254 word pieces fit with their two control tokens; of more, the same 254 are kept."""
    text = "a " * tokens + "gravity"
    expected = minilm.encode([text], normalize_embeddings=True)
    np.testing.assert_allclose(embedded_encoder.encode_documents([text]), expected, rtol=0, atol=1e-5)
    assert len(embedded_encoder.document_inputs([text])[0].ids) == 256


# Value semantics


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_copies_are_equal_and_share_the_weights(qwen_folder: Path, clone: Callable, used: bool) -> None:
    """Pickled, copied or deep-copied, before or after use: the same value, the same engine, the same vectors."""
    original = encoder(qwen_folder)
    if used:
        original.encode_queries(["a"])
        _ = original.fingerprint
    cloned = clone(original)
    assert cloned == original
    assert hash(cloned) == hash(original)
    assert cloned.engine is original.engine
    np.testing.assert_array_equal(cloned.encode_queries(["a"]), original.encode_queries(["a"]))


def test_a_pickle_holds_no_weights(qwen_folder: Path) -> None:
    """What travels to another process are settings: a few kilobytes, loaded model or not."""
    used = encoder(qwen_folder)
    used.warmup()
    assert len(pickle.dumps(used)) < 5_000


@pytest.mark.parametrize(
    "other",
    [
        {"profile": E2RANK_SMALL},
        {"dtype": "bfloat16"},
        {"device": "auto"},
        {"adapter": "/adapter"},
        {"revision": "main"},
        {"model": "/another"},
    ],
)
def test_encoders_of_other_settings_differ(qwen_folder: Path, other: dict[str, Any]) -> None:
    """Each setting counts for equality."""
    assert encoder(qwen_folder) != replace(encoder(qwen_folder), **other)


def test_equal_settings_make_equal_encoders(qwen_folder: Path) -> None:
    """The default profile is the one that it stands for, and encoders may be keys of a dictionary."""
    assert encoder(qwen_folder) == encoder(qwen_folder, profile=E2RANK)
    assert E2RankEncoder.embedded() == E2RankEncoder("embedded", profile=EMBEDDED)
    assert len({encoder(qwen_folder), encoder(qwen_folder), E2RankEncoder.embedded()}) == 2


def test_making_an_encoder_looks_nothing_up() -> None:
    """An encoder of a model that does not exist can be made, printed, hashed, copied and pickled."""
    made = E2RankEncoder("no/such-model", device="cpu")
    assert "no/such-model" in repr(made)
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(copy.deepcopy(made))


# Input


def test_no_texts_give_no_rows_and_load_nothing(qwen_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list is answered with shape (0, width) by an engine that was never asked."""
    monkeypatch.setattr(registry, "_engines", {})
    monkeypatch.setattr(local, "load_model", lambda _: pytest.fail("the weights were loaded"))
    fresh = encoder(qwen_folder)
    for rows in (fresh.encode_documents([]), fresh.encode_queries([])):
        assert rows.shape == (0, 64)
        assert rows.dtype == np.float32


async def test_no_texts_give_no_rows_in_the_async_forms(qwen_encoder: E2RankEncoder) -> None:
    """As in the sync forms."""
    assert (await qwen_encoder.aencode_documents([])).shape == (0, 64)
    assert (await qwen_encoder.aencode_queries([])).shape == (0, 64)


@pytest.mark.parametrize("texts", ["one text", None, 7, b"bytes", object()])
@pytest.mark.parametrize("method", ["encode_queries", "encode_documents"])
def test_what_is_not_a_list_of_texts_is_refused(qwen_encoder: E2RankEncoder, method: str, texts: object) -> None:
    """A lone string above all, whose characters would pass as texts."""
    with pytest.raises(InputError):
        getattr(qwen_encoder, method)(texts)


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["nested"], f"{SECRET} \ud800"])
@pytest.mark.parametrize("what", ["query", "document"])
def test_a_text_that_is_none_is_named_by_its_position(qwen_encoder: E2RankEncoder, what: str, text: object) -> None:
    """The message says which one, and never what it says."""
    method = qwen_encoder.encode_queries if what == "query" else qwen_encoder.encode_documents
    with pytest.raises(InputError, match=f"{what} 1") as caught:
        method(["fine", text, "fine"])
    assert SECRET not in str(caught.value)


def test_a_query_that_is_too_long_is_refused(qwen_folder: Path) -> None:
    """A query is never cut; the message has both numbers and not the text."""
    small = encoder(qwen_folder, profile=E2RANK_SMALL)
    with pytest.raises(InputError, match=r"takes \d+ tokens of 512") as caught:
        small.encode_queries([f"{SECRET} " * 400])
    assert SECRET not in str(caught.value)


def test_any_iterable_of_texts_will_do(qwen_encoder: E2RankEncoder) -> None:
    """Tuples and generators are lists to an encoder."""
    expected = qwen_encoder.encode_documents(["a", "b"])
    np.testing.assert_array_equal(qwen_encoder.encode_documents(("a", "b")), expected)
    np.testing.assert_array_equal(qwen_encoder.encode_documents(text for text in "ab"), expected)


def test_equal_texts_get_equal_vectors(qwen_encoder: E2RankEncoder) -> None:
    """A duplicate is embedded like its twin, each in its place."""
    rows = qwen_encoder.encode_documents(["same", "other", "same"])
    np.testing.assert_allclose(rows[0], rows[2], rtol=0, atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


# What was cut


def cut_reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "cut" in record.getMessage()]


def test_cuts_are_reported_in_one_record_without_text(qwen_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many documents were cut, a call says so once: how many, to what, and the longest's length."""
    small = encoder(qwen_folder, profile=E2RANK_SMALL)
    with caplog.at_level(logging.DEBUG):
        inputs = small.document_inputs(["short", f"{SECRET} " * 300, f"{SECRET} " * 900])
        small.run(inputs)
    (report,) = cut_reports(caplog)
    assert report.startswith("2 of 3 documents were cut to 512 tokens")
    assert SECRET not in caplog.text
    assert [len(item.ids) for item in inputs][1:] == [512, 512]


def test_nothing_is_reported_where_nothing_was_cut(
    qwen_encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """A document of exactly the cap is whole."""
    at_cap = replace(qwen_encoder.profile, caps=Caps(document=len(qwen_encoder.document_inputs(["a b c"])[0].ids)))
    with caplog.at_level(logging.DEBUG):
        replace(qwen_encoder, profile=at_cap).encode_documents(["a b c", ""])
    assert cut_reports(caplog) == []


# Async


async def test_the_async_forms_give_the_same_vectors(qwen_encoder: E2RankEncoder) -> None:
    """`aencode_*` are `encode_*` elsewhere."""
    texts = ["a", "b c", "d"]
    np.testing.assert_array_equal(await qwen_encoder.aencode_documents(texts), qwen_encoder.encode_documents(texts))
    np.testing.assert_array_equal(await qwen_encoder.aencode_queries(texts), qwen_encoder.encode_queries(texts))


@pytest.mark.parametrize("method", ["aencode_documents", "aencode_queries"])
async def test_the_event_loop_runs_on_while_the_engine_works(qwen_encoder: E2RankEncoder, method: str) -> None:
    """The engine waits in a thread for a signal that only a running event loop can give."""
    gated = Gated(qwen_encoder.engine)
    waiting = asyncio.create_task(getattr(replace(qwen_encoder, custom_engine=gated), method)(["a"]))
    for _ in range(20):
        await asyncio.sleep(0)
        assert not waiting.done()
    gated.gate.set()
    assert (await waiting).shape == (1, 64)


async def test_tokenising_and_the_model_run_in_the_packages_own_threads(
    qwen_encoder: E2RankEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the loop's thread nor its default executor does the work; a slow tokeniser blocks nobody."""
    threads: set[str] = set()
    rows, document = Forward.rows, type(qwen_encoder.writer).document

    def noting(function: Callable) -> Callable:
        def noted(*args: Any) -> Any:
            threads.add(threading.current_thread().name.rpartition("_")[0])
            return function(*args)

        return noted

    monkeypatch.setattr(Forward, "rows", noting(rows))
    monkeypatch.setattr(type(qwen_encoder.writer), "document", noting(document))
    await qwen_encoder.aencode_documents(["a"])
    assert threads == {"e2rank"}


async def test_the_first_load_does_not_block_the_event_loop(qwen_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of reading weights are spent in a thread, too."""
    gate, load_model = threading.Event(), local.load_model
    monkeypatch.setattr(registry, "_engines", {})
    monkeypatch.setattr(local, "load_model", lambda key: (gate.wait(30), load_model(key))[1])
    waiting = asyncio.create_task(encoder(qwen_folder).aencode_queries(["a"]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    assert (await waiting).shape == (1, 64)


# Life cycle and engine of one's own


def test_warmup_and_close_pass_to_the_engine(qwen_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`warmup` loads, `close` frees, and the next call loads again."""
    monkeypatch.setattr(registry, "_engines", {})
    fresh = encoder(qwen_folder)
    fresh.warmup()
    assert fresh.engine.loaded
    fresh.close()
    assert not fresh.engine.loaded
    assert fresh.encode_queries(["a"]).shape == (1, 64)


def test_an_engine_of_ones_own_is_asked_instead(qwen_encoder: E2RankEncoder) -> None:
    """The inputs are written by this package all the same: the engine sees ids and roles."""
    recording = Recording(qwen_encoder.engine)
    mine = replace(qwen_encoder, custom_engine=recording)
    np.testing.assert_array_equal(mine.encode_documents(["a", "b"]), qwen_encoder.encode_documents(["a", "b"]))
    assert [tuple(item.role for item in call) for call in recording.calls] == [("document", "document")]


# Fingerprint


def test_a_fingerprint_survives_json(qwen_encoder: E2RankEncoder) -> None:
    """What is kept beside an index is one line, and reads back equal."""
    text = qwen_encoder.fingerprint.to_json()
    assert "\n" not in text
    assert Fingerprint.from_json(text) == qwen_encoder.fingerprint
    assert Fingerprint.from_json(text).differences(qwen_encoder.fingerprint) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "3", '"a"', "{nope", '{"model": "a"}'])
def test_what_is_no_fingerprint_is_a_value_error(text: str, qwen_encoder: E2RankEncoder) -> None:
    """A foreign or future entry is told apart by one exception type."""
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own message, or ours
        Fingerprint.from_json(text)


def test_a_fingerprint_with_more_attributes_is_a_value_error(qwen_encoder: E2RankEncoder) -> None:
    """A later version's entry is not half understood."""
    entry = {**json.loads(qwen_encoder.fingerprint.to_json()), "new": 1}
    with pytest.raises(ValueError, match="not a fingerprint"):
        Fingerprint.from_json(json.dumps(entry))


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (replace(E2RANK, pooling="mean"), ["pooling"]),
        (replace(E2RANK, caps=Caps(document=100)), ["document_cap"]),
        (replace(E2RANK, document_format="passage: {document}<|endoftext|>"), ["document_format"]),
        (E2RANK.for_reproduction(), ["document_words"]),
        (E2RANK.with_template("readme"), []),
        (replace(E2RANK, query_weight=0.5, num_input_docs=5), []),
        (replace(E2RANK, name="renamed"), []),
    ],
)
def test_a_fingerprint_tells_what_changes_a_documents_vector(
    qwen_encoder: E2RankEncoder, profile: object, expected: list[str]
) -> None:
    """Pooling, cap, format and rewriting do; what concerns queries and prompts alone does not."""
    other = replace(qwen_encoder, profile=profile)
    assert qwen_encoder.fingerprint.differences(other.fingerprint) == expected
    documents = ["a", "two  words " * 80]
    moved = np.abs(qwen_encoder.encode_documents(documents) - other.encode_documents(documents)).max() > 1e-4
    assert moved == bool(expected)


def test_a_fingerprint_knows_the_weights_and_not_the_name(
    qwen_folder: Path, tmp_path: Path, qwen_encoder: E2RankEncoder
) -> None:
    """A copy under another name is the same model, another seed of the same width is not."""
    (tmp_path / "link").symlink_to(qwen_folder)
    reseeded = save_qwen3(tmp_path / "other", seed=5)
    assert encoder(tmp_path / "link").fingerprint.differences(qwen_encoder.fingerprint) == []
    assert encoder(reseeded).fingerprint.differences(qwen_encoder.fingerprint) == ["weights"]


def test_a_cap_above_the_window_is_the_window_in_the_fingerprint(embedded_encoder: E2RankEncoder) -> None:
    """What counts is where documents are really cut."""
    wide = replace(EMBEDDED, caps=replace(EMBEDDED.caps, document=9_999))
    assert replace(embedded_encoder, profile=wide).fingerprint.document_cap == 512


def test_errors_of_an_encoder_are_of_the_family(tmp_path: Path) -> None:
    """An empty folder is no checkpoint, whatever is asked first."""
    empty = encoder(tmp_path)
    for ask in (lambda: empty.width, lambda: empty.fingerprint, lambda: empty.encode_queries(["a"]), empty.warmup):
        with pytest.raises(E2RankError):
            ask()
