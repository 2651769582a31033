"""Follow-up queries on the same candidates: the document block's keys and values are kept, and nothing else changes."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.engines.forward import Forward
from e2rank_integrations.engines.prefixes import PrefixCache, PrefixedEngine
from e2rank_integrations.errors import InputError
from e2rank_integrations.values import TokenInput, Usage
from tests.engines.layouts import laid_out
from tests.support.models import save_bare_qwen3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.engines.local import LocalEngine

BLOCK = 200
TOKEN_BYTES = 2 * 2 * 2 * 16 * 4
"""Keys and values of the bare model: two layers, two heads of 16, float32."""


def block(seed: int, tokens: int = BLOCK) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 512, tokens).tolist())


def prompt(documents: tuple[int, ...], query: tuple[int, ...]) -> TokenInput:
    return TokenInput((*documents, *query), "listwise", shared=len(documents))


@pytest.fixture
def tokens_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens of each prompt went through the model."""
    counts: list[int] = []
    row_after = Forward.row_after

    def counted(forward: Forward, ids, past, keep):
        counts.append(len(ids) - (past[0][0].shape[-2] if past else 0))
        return row_after(forward, ids, past, keep)

    monkeypatch.setattr(Forward, "row_after", counted)
    return counts


def test_a_follow_up_costs_its_own_tokens_and_gets_the_same_vector(
    bare_engine: LocalEngine, tokens_run: list[int]
) -> None:
    """Another query on the same candidates runs its own tokens alone, and its vector is that of a whole run."""
    engine = PrefixedEngine(bare_engine, PrefixCache(10_000_000))
    prompts = [prompt(block(1), query) for query in ((3, 4, 5), (9,), (3, 4, 5), (8, 8, 1, 2))]
    found = np.concatenate([engine.encode([item]).vectors for item in prompts])
    np.testing.assert_allclose(found, bare_engine.encode(prompts).vectors, rtol=0, atol=1e-5)
    assert tokens_run == [BLOCK + 3, 1, 3, 4]
    assert (engine.prefixes.hits, engine.prefixes.misses, len(engine.prefixes)) == (3, 1, 1)
    assert engine.prefixes.nbytes == BLOCK * TOKEN_BYTES


def test_the_bill_is_that_of_whole_prompts(bare_engine: LocalEngine) -> None:
    """`Usage` counts what was asked for, as it does for a server that keeps prefixes."""
    engine = PrefixedEngine(bare_engine, PrefixCache(10_000_000))
    items = [prompt(block(1), (3, 4)), prompt(block(1), (5,)), TokenInput((1, 2), "document")]
    assert engine.encode(items).usage == Usage(documents=1, prompts=2, tokens=2 * BLOCK + 5)


@pytest.mark.parametrize("packed", [False, True], ids=["as on a GPU", "as on a CPU"])
@given(common=st.integers(0, 300), kept=st.integers(1, 300), rest=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_any_common_beginning_gives_the_same_vector(
    bare_engine: LocalEngine, packed: bool, common: int, kept: int, rest: int
) -> None:
    """However much of a kept block a prompt shares, in part or beyond its end, its vector is that of a whole run."""
    engine = PrefixedEngine(bare_engine, PrefixCache(10_000_000))
    first = block(1, 400)
    follow_up = prompt((*first[:common], *block(2, rest)), (7,))
    with laid_out(bare_engine, packed=packed):
        engine.encode([prompt(first[:kept], (1, 2, 3))])
        found = engine.encode([follow_up]).vectors
    np.testing.assert_allclose(found, bare_engine.encode([follow_up]).vectors, rtol=0, atol=1e-5)


def test_the_same_prompt_again_runs_its_last_token(bare_engine: LocalEngine, tokens_run: list[int]) -> None:
    """The token that is pooled is always computed, also where a kept block reaches to the prompt's end."""
    engine = PrefixedEngine(bare_engine, PrefixCache(10_000_000))
    item = TokenInput(block(1), "listwise", shared=BLOCK)
    vectors = [engine.encode([item]).vectors for _ in range(2)]
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=0, atol=1e-5)
    assert tokens_run == [BLOCK, 1]


def test_a_short_common_beginning_is_not_fetched(bare_engine: LocalEngine, tokens_run: list[int]) -> None:
    """The instruction that all prompts share is no reason to copy keys and values."""
    engine = PrefixedEngine(bare_engine, PrefixCache(10_000_000))
    head = block(7, 40)
    engine.encode([prompt((*head, *block(1)), (1,))])
    engine.encode([prompt((*head, *block(2)), (1,))])
    assert tokens_run == [BLOCK + 41, BLOCK + 41]
    assert len(engine.prefixes) == 2


def test_documents_and_queries_are_not_kept(bare_engine: LocalEngine) -> None:
    """Only listwise prompts have a block that another query shares."""
    cache = PrefixCache(10_000_000)
    items = [TokenInput(block(1), "document"), TokenInput(block(2), "query")]
    PrefixedEngine(bare_engine, cache).encode(items)
    assert (len(cache), cache.hits, cache.misses) == (0, 0, 0)


def test_a_prompt_that_names_no_block_is_not_kept(bare_engine: LocalEngine) -> None:
    """A user's own input of role listwise is embedded as ever."""
    cache, item = PrefixCache(10_000_000), TokenInput(block(1), "listwise")
    found = PrefixedEngine(bare_engine, cache).encode([item]).vectors
    np.testing.assert_allclose(found, bare_engine.encode([item]).vectors, rtol=0, atol=1e-5)
    assert len(cache) == 0


def test_memory_is_bounded_and_the_least_recently_used_goes_first(
    bare_engine: LocalEngine, tokens_run: list[int]
) -> None:
    """Room for two blocks: a third pushes out the one that was not asked for since."""
    cache = PrefixCache(2 * BLOCK * TOKEN_BYTES)
    engine = PrefixedEngine(bare_engine, cache)
    for seed in (1, 2, 1, 3, 1, 2):
        engine.encode([prompt(block(seed), (seed,))])
        assert cache.nbytes <= cache.max_bytes
    assert tokens_run == [BLOCK + 1, BLOCK + 1, 1, BLOCK + 1, 1, BLOCK + 1]


@given(sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=30), bound=st.integers(1, 100))
def test_the_bound_holds_whatever_comes(sizes: list[tuple[int, int]], bound: int) -> None:
    """No order of entries of any size makes the cache hold more than it may."""
    cache = PrefixCache(bound)
    for owner, nbytes in sizes:
        cache.keep(owner, block(nbytes), None, nbytes)
        assert cache.nbytes <= bound


def test_a_block_beyond_the_bound_is_said(bare_engine: LocalEngine, caplog: pytest.LogCaptureFixture) -> None:
    """A cache too small for one block would never help, and says so with both numbers."""
    cache = PrefixCache(1000)
    with caplog.at_level(logging.WARNING):
        PrefixedEngine(bare_engine, cache).encode([prompt(block(1), (1,))])
    assert len(cache) == 0
    assert f"{BLOCK} tokens takes {BLOCK * TOKEN_BYTES} bytes, beyond the prefix cache's bound of 1000" in caplog.text


def test_engines_do_not_read_each_other_s_entries(
    bare_engine: LocalEngine, make_engine: Callable[..., LocalEngine], tmp_path: Path
) -> None:
    """One cache serves engines of other weights and dtypes, and each finds only what it made."""
    other = make_engine(save_bare_qwen3(tmp_path / "other", seed=1))
    cache, item = PrefixCache(10_000_000), prompt(block(1), (1, 2))
    for engine in (bare_engine, other, make_engine(dtype="bfloat16")):
        np.testing.assert_allclose(
            PrefixedEngine(engine, cache).encode([item]).vectors, engine.encode([item]).vectors, rtol=0, atol=0.02
        )
    assert (cache.hits, cache.misses, len(cache)) == (0, 3, 3)


def test_a_longer_block_takes_the_place_of_its_beginning(bare_engine: LocalEngine, tokens_run: list[int]) -> None:
    """A chat that adds documents holds the last list, not each list on the way."""
    cache, documents = PrefixCache(10_000_000), block(1, 600)
    engine = PrefixedEngine(bare_engine, cache)
    for tokens in (200, 400, 600):
        engine.encode([prompt(documents[:tokens], (1,))])
    assert (len(cache), cache.nbytes) == (1, 600 * TOKEN_BYTES)
    assert tokens_run == [201, 201, 201]


def test_a_reload_finds_nothing_of_the_weights_before(make_engine: Callable[..., LocalEngine]) -> None:
    """Whoever closes the engine, with the cache or without: other weights may stand in the folder by now."""
    engine, cache = make_engine(), PrefixCache(10_000_000)
    PrefixedEngine(engine, cache).encode([prompt(block(1), (1,))])
    engine.close()
    assert len(cache) == 0
    PrefixedEngine(engine, cache).encode([prompt(block(1), (2,))])
    assert (cache.hits, cache.misses) == (0, 2)


def test_close_lets_go_of_what_the_weights_made(make_engine: Callable[..., LocalEngine]) -> None:
    """After `close` other weights may stand in the folder; entries of other engines stay."""
    cache = PrefixCache(10_000_000)
    engine = PrefixedEngine(make_engine(), cache)
    engine.encode([prompt(block(1), (1,))])
    cache.keep("another", block(2), None, 10)
    engine.close()
    assert len(cache) == 1
    assert engine.encode([prompt(block(1), (1,))]).vectors.shape == (1, 32)


def test_bfloat16_stays_within_its_rounding(make_engine: Callable[..., LocalEngine]) -> None:
    """In bfloat16 a follow-up's vector is the whole run's to a cosine of .9998."""
    plain = make_engine(dtype="bfloat16")
    engine = PrefixedEngine(plain, PrefixCache(10_000_000))
    engine.encode([prompt(block(1), (1, 2, 3))])
    follow_up = [prompt(block(1), (7, 7))]
    cosine = float((engine.encode(follow_up).vectors * plain.encode(follow_up).vectors).sum())
    assert engine.prefixes.hits == 1
    assert cosine >= 0.9998


def test_a_model_that_reads_both_ways_is_refused(embedded_encoder: E2RankEncoder) -> None:
    """In BERT a document's keys depend on the query after it: keeping them would give wrong vectors."""
    engine = PrefixedEngine(embedded_encoder.engine, PrefixCache(1000))
    with pytest.raises(InputError, match="documents see the query"):
        engine.encode([TokenInput((101, 102), "query")])


def test_out_of_memory_lets_go_of_what_is_kept_first(bare_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is embedded without the cache rather than not at all."""
    engine = PrefixedEngine(bare_engine, PrefixCache(10_000_000))
    engine.encode([prompt(block(1), (1,))])

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Forward, "row_after", full)
    item = prompt(block(1), (2,))
    found = engine.encode([item]).vectors
    assert len(engine.prefixes) == 0
    np.testing.assert_allclose(found, bare_engine.encode([item]).vectors, rtol=0, atol=1e-5)


def test_threads_share_one_cache(bare_engine: LocalEngine, make_engine: Callable[..., LocalEngine]) -> None:
    """Two engines and eight threads on one small cache: every vector is right, and the bound holds."""
    cache = PrefixCache(3 * BLOCK * TOKEN_BYTES)
    engines = [PrefixedEngine(bare_engine, cache), PrefixedEngine(make_engine(), cache)]
    items = [prompt(block(seed), (query,)) for seed in range(4) for query in range(3)]
    expected = bare_engine.encode(items).vectors
    wrong: list[int] = []

    def work(number: int) -> None:
        for position in np.random.default_rng(number).permutation(len(items)):
            row = engines[number % 2].encode([items[position]]).vectors[0]
            if np.abs(row - expected[position]).max() > 1e-5 or cache.nbytes > cache.max_bytes:
                wrong.append(int(position))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_the_same_cache(copied: Callable[[PrefixCache], PrefixCache]) -> None:
    """Components that are copied go on sharing what they share."""
    cache = PrefixCache(500)
    assert copied(cache) is cache


def test_a_pickled_cache_is_empty_with_the_same_bound() -> None:
    """Gigabytes of tensors never travel to another process."""
    cache = PrefixCache(500)
    cache.keep("me", block(1), object(), 10)
    other = pickle.loads(pickle.dumps(cache))
    assert (other.max_bytes, len(other), len(cache)) == (500, 0, 1)


@pytest.mark.parametrize("bound", [0, -1, True, 1.5, "1GB", None])
def test_a_bound_that_is_none_is_refused(bound: object) -> None:
    """The message names the argument and what was found."""
    with pytest.raises(InputError, match="max_bytes: expected an integer of at least 1"):
        PrefixCache(bound)


def test_the_writer_says_where_the_document_block_ends(qwen_encoder: E2RankEncoder) -> None:
    """Queries of any length on the same documents share exactly the block that the prompt names."""
    documents = ["Beijing is the capital of China.", "Gravity attracts. " * 40, "重力は引力です。" * 9]
    queries = ["What?", "Why do apples fall from trees in autumn, and why not upwards?", "为什么?"]
    prompts = [qwen_encoder.listwise_input(query, documents)[0] for query in queries]
    shortest = min(prompts, key=lambda item: len(item.ids))
    assert {item.ids[: item.shared] for item in prompts} == {shortest.ids[: shortest.shared]}
    assert len({item.ids[item.shared] for item in prompts}) == 1, "all tails begin alike: with the template's words"
    assert all(len(item.ids) > item.shared > 100 for item in prompts)


def test_a_hint_is_no_part_of_what_an_input_is() -> None:
    """Inputs of the same ids and role are one input, whatever is known of their beginning."""
    item = TokenInput((1, 2), "listwise", shared=1)
    assert item == replace(item, shared=0)
    assert hash(item) == hash(replace(item, shared=0))
    assert repr(item) == "TokenInput(ids=(1, 2), role='listwise')"
