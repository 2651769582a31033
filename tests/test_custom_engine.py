"""What is believed of an engine of the user's own: what it says of itself, and what it brings."""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from e2rank_integrations import Candidate, DiskCache, E2RankEncoder, MemoryCache
from e2rank_integrations.engines.base import engine_identity
from e2rank_integrations.errors import (
    CheckpointError,
    InputError,
    NonFiniteError,
    ServerMismatchError,
    StoreMismatchError,
)
from e2rank_integrations.langchain import E2RankEmbeddings
from e2rank_integrations.stores import expect_same_embedding
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from e2rank_integrations import DocumentCache
    from e2rank_integrations.values import Matrix, TokenInput

WIDTH = 64
TEXTS = ["Apples fall.", "Tea is hot."]


class Seeded:
    """Other weights for each seed; it does not say which."""

    def __init__(self, seed: int = 0, change: Callable[[Matrix], Matrix] = lambda rows: rows) -> None:
        self.seed = seed
        self.change = change

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        rows = np.stack([np.random.default_rng((self.seed, *item.ids)).normal(size=WIDTH) for item in inputs])
        units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return Encoded(self.change(units), Usage.of(inputs))

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        return self.encode(inputs)

    def warmup(self) -> None:
        pass

    def close(self) -> None:
        pass


class Named(Seeded):
    """It says which weights it runs."""

    @property
    def identity(self) -> str:
        return f"seed {self.seed}"


# Whose vectors they are.


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("engine", [Seeded, Named])
def test_a_document_cache_tells_engines_apart(
    qwen_encoder: E2RankEncoder, tmp_path: Path, kind: str, engine: type[Seeded]
) -> None:
    """Whether they say who they are or not: no vector of one is another's, nor this process's."""
    cache: DocumentCache = MemoryCache() if kind == "memory" else DiskCache(tmp_path)
    for one in (engine(0), engine(1), None):
        encoder = replace(qwen_encoder, custom_engine=one, document_cache=cache)
        expected = replace(encoder, document_cache=None).encode_documents(TEXTS)
        np.testing.assert_array_equal(encoder.encode_documents(TEXTS), expected)
        np.testing.assert_array_equal(replace(encoder).encode_documents(TEXTS), expected)
    cache.close()


def test_an_engine_that_does_not_say_is_known_as_long_as_it_lives() -> None:
    """In this process, by all encoders that have it; a copy of it, and its successor, are others."""
    engine = Seeded()
    mine = engine_identity(engine)
    assert engine_identity(engine) == mine
    assert engine_identity(copy.copy(engine)) != mine
    del engine
    gc.collect()
    assert mine not in {engine_identity(Seeded(number)) for number in range(100)}


def test_an_engine_that_says_so_finds_its_vectors_in_another_process(
    qwen_encoder: E2RankEncoder, tmp_path: Path
) -> None:
    """Which is here another engine of the same name."""
    for engine, forwards in ((Named(), 2), (Named(), 0), (Named(1), 2)):
        encoder = replace(qwen_encoder, custom_engine=engine, document_cache=DiskCache(tmp_path))
        assert encoder.run(encoder.document_inputs(TEXTS)).usage.forwards == forwards
        encoder.close()


class Records:
    """An index that an encoder made, with its fingerprint."""

    def __init__(self, encoder: E2RankEncoder) -> None:
        self.identity = id(self)
        self.fingerprint = encoder.fingerprint.to_json()
        rows = encoder.encode_documents(TEXTS)
        self.records = [Candidate(text, id=text, vector=row) for text, row in zip(TEXTS, rows, strict=True)]

    def sample(self) -> list[Candidate]:
        return self.records


@pytest.mark.parametrize("engine", [Seeded, Named])
def test_files_at_hand_do_not_vouch_for_an_engine(qwen_encoder: E2RankEncoder, engine: type[Seeded]) -> None:
    """An index is compared by its vectors with what each engine makes, whatever was found of another."""
    one, other = (replace(qwen_encoder, custom_engine=engine(seed)) for seed in (0, 1))
    store = Records(one)
    assert one.fingerprint.weights is None
    expect_same_embedding(store, one)
    for encoder in (other, qwen_encoder):
        with pytest.raises(StoreMismatchError, match="cosine"):
            expect_same_embedding(store, encoder)


def test_an_engine_may_vouch_for_the_files(qwen_encoder: E2RankEncoder, qwen_folder: Path, tmp_path: Path) -> None:
    """One around the engine in this process says so by None; the files must then be here."""
    engine = Seeded()
    engine.identity = None
    assert replace(qwen_encoder, custom_engine=engine).fingerprint == qwen_encoder.fingerprint
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((qwen_folder / name).read_bytes())
    assert E2RankEncoder(str(tmp_path), custom_engine=Seeded()).fingerprint.weights is None
    with pytest.raises(CheckpointError, match="safetensors"):
        _ = E2RankEncoder(str(tmp_path), custom_engine=engine).fingerprint


def test_an_engine_that_cannot_be_told_from_others_must_say(qwen_encoder: E2RankEncoder) -> None:
    """A dataclass that can be changed has no hash; with an identity it needs none."""

    @dataclass
    class Changing(Seeded):
        seed: int = 0

    with pytest.raises(InputError, match=r"custom_engine: Changing .*`identity`"):
        _ = replace(qwen_encoder, custom_engine=Changing()).fingerprint
    named = Changing()
    named.identity = "mine"
    assert replace(qwen_encoder, custom_engine=named).fingerprint.weights is None


def test_an_engine_that_counts_as_false_is_one_all_the_same(qwen_encoder: E2RankEncoder) -> None:
    """Such as one that tells how many calls wait, by `len`: the model is not loaded here in its place."""

    class Idle(Seeded):
        def __len__(self) -> int:
            return 0

    found = replace(qwen_encoder, custom_engine=Idle()).encode_documents(TEXTS)
    np.testing.assert_array_equal(found, replace(qwen_encoder, custom_engine=Seeded()).encode_documents(TEXTS))


# What it brings.


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda rows: rows[:1], ServerMismatchError, "each of 2 inputs, found 1"),
        (lambda rows: rows[[0, 1, 1]], ServerMismatchError, "each of 2 inputs, found 3"),
        (lambda rows: rows[:, :32], ServerMismatchError, "width 64, found 32"),
        (lambda rows: rows[0], ServerMismatchError, "found one of 1 dimensions"),
        (lambda rows: rows * np.nan, NonFiniteError, "the engine returned NaN or infinity"),
        (lambda rows: rows * np.inf, NonFiniteError, "the engine returned NaN or infinity"),
    ],
)
async def test_what_is_not_a_row_for_each_input_is_refused(
    qwen_encoder: E2RankEncoder, change: Callable[[Matrix], Matrix], error: type[Exception], says: str
) -> None:
    """Sync and async, before it is kept, or taken for a vector of another text."""
    for cache in (None, MemoryCache()):
        encoder = replace(qwen_encoder, custom_engine=Seeded(change=change), document_cache=cache)
        with pytest.raises(error, match=says):
            encoder.encode_documents(TEXTS)
        with pytest.raises(error, match=says):
            await encoder.aencode_documents(TEXTS)


# What it is.


@pytest.mark.parametrize("wrong", ["http://gpu:8000", object(), np.tanh])
def test_what_is_no_engine_is_refused_when_the_encoder_is_made(wrong: Any) -> None:
    """With what to give for a server; an address in it, which may hold a key, is not repeated."""
    for make in (E2RankEncoder, E2RankEmbeddings):
        with pytest.raises((InputError, ValidationError), match=r"custom_engine: .*RemoteEngine\('http") as caught:
            make(model="embedded", custom_engine=wrong)
        assert "gpu" not in str(caught.value)
