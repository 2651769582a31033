"""One load per process for the same weights in the same form, however many components and threads ask."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines import local, registry
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.errors import CheckpointError
from e2rank_integrations.profiles import E2RANK, E2RANK_SMALL
from e2rank_integrations.values import TokenInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations.engines.local import LocalEngine

ONE = [TokenInput((1, 2, 3), "document")]


def encoder(model: object, **options: object) -> E2RankEncoder:
    return E2RankEncoder(str(model), **{"device": "cpu", "dtype": "float32", **options})


@pytest.mark.usefixtures("no_engines")
def test_64_threads_cause_one_load(qwen_folder: Path, loads: list[EngineKey]) -> None:
    """64 encoders of one model, first used by 64 threads at once, load it once and agree on the vector."""
    start = threading.Barrier(64)

    def first_use(_: int) -> np.ndarray:
        mine = encoder(qwen_folder)
        start.wait(timeout=30)
        return mine.encode_queries(["Explain gravity"])

    with ThreadPoolExecutor(64) as pool:
        vectors = list(pool.map(first_use, range(64)))
    assert len(loads) == 1
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)


def test_spellings_of_one_folder_share_the_engine(
    qwen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbolic link, a relative path and a trailing slash name the same weights."""
    (tmp_path / "link").symlink_to(qwen_folder)
    monkeypatch.chdir(qwen_folder.parent)
    spellings = [qwen_folder, f"{qwen_folder}/", f"./{qwen_folder.name}", tmp_path / "link", tmp_path / "." / "link"]
    assert len({id(encoder(spelling).engine) for spelling in spellings}) == 1


def test_auto_and_the_explicit_choice_share_the_engine(qwen_folder: Path) -> None:
    """Asking for `auto` and asking by name for what it means find the same weights."""
    by_default = encoder(qwen_folder, device="auto", dtype="auto").engine
    assert encoder(qwen_folder, device=by_default.key.device, dtype=by_default.key.dtype).engine is by_default
    assert by_default.key.device != "auto"
    assert by_default.key.dtype != "auto"


def test_the_cpu_by_number_is_the_cpu(qwen_folder: Path) -> None:
    """`cpu:0` is no second device; it must not load the weights twice, nor be batched as a GPU."""
    assert encoder(qwen_folder, device="cpu:0").engine is encoder(qwen_folder, device="cpu").engine


def test_profiles_that_differ_above_the_engine_share_it(qwen_folder: Path) -> None:
    """Caps, templates and weights of the query are no reason to load a model twice."""
    profiles = [E2RANK, E2RANK_SMALL, E2RANK.with_template("readme"), replace(E2RANK, query_weight=0.5)]
    assert len({id(encoder(qwen_folder, profile=profile).engine) for profile in profiles}) == 1


@pytest.mark.parametrize("other", [{"dtype": "bfloat16"}, {"profile": replace(E2RANK, pooling="mean")}])
def test_what_changes_a_vector_makes_another_engine(qwen_folder: Path, other: dict) -> None:
    """A dtype or a pooling of its own is an engine of its own."""
    assert encoder(qwen_folder, **other).engine is not encoder(qwen_folder).engine


def test_concurrent_loads_leave_the_default_dtype_alone(make_engine: Callable[..., LocalEngine]) -> None:
    """Loads of three dtypes at once yield those dtypes, and the process's default stays what it was."""
    dtypes = ["float32", "bfloat16", "float16"] * 4
    engines = [make_engine(dtype=dtype) for dtype in dtypes]
    default = torch.get_default_dtype()
    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(lambda engine: engine.warmup(), engines))
    assert torch.get_default_dtype() == default
    assert [str(engine._forward.model.dtype) for engine in engines] == [f"torch.{dtype}" for dtype in dtypes]


def test_making_an_engine_loads_nothing_and_warmup_loads_once(
    make_engine: Callable[..., LocalEngine], loads: list[EngineKey]
) -> None:
    """Weights are read at the first use or by `warmup`, whichever is first, and then kept."""
    engine = make_engine()
    assert not engine.loaded
    assert loads == []
    engine.warmup()
    engine.warmup()
    engine.encode(ONE)
    assert engine.loaded
    assert len(loads) == 1


def test_close_frees_the_weights_and_the_next_call_loads_them_again(
    make_engine: Callable[..., LocalEngine], loads: list[EngineKey]
) -> None:
    """After `close` nothing holds the model; the engine stays usable and gives the same vectors."""
    engine = make_engine()
    before = engine.encode(ONE).vectors
    model = weakref.ref(engine._forward.model)
    engine.close()
    gc.collect()
    assert model() is None
    assert not engine.loaded
    np.testing.assert_array_equal(engine.encode(ONE).vectors, before)
    assert len(loads) == 2


@pytest.mark.usefixtures("no_engines")
def test_closing_one_encoder_closes_the_shared_weights(qwen_folder: Path, loads: list[EngineKey]) -> None:
    """Encoders of one model share one fate: closed through either, both load again, once."""
    one, two = encoder(qwen_folder), encoder(qwen_folder)
    one.warmup()
    two.close()
    assert not one.engine.loaded
    one.encode_queries(["a"])
    two.encode_queries(["a"])
    assert len(loads) == 2


def test_a_failed_load_is_tried_again(make_engine: Callable[..., LocalEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose weights could not be read is neither broken for good nor locked."""
    load_model, failures = local.load_model, [CheckpointError("once")]

    def once_failing(key: EngineKey) -> object:
        if failures:
            raise failures.pop()
        return load_model(key)

    monkeypatch.setattr(local, "load_model", once_failing)
    engine = make_engine()
    with pytest.raises(CheckpointError):
        engine.encode(ONE)
    assert engine.encode(ONE).vectors.shape == (1, 32)


def test_a_forked_child_is_told_that_cuda_did_not_survive(
    make_engine: Callable[..., LocalEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process than the one that made it, a CUDA engine refuses with the way out, and loads nothing."""
    engine = make_engine(device="cuda:0")
    monkeypatch.setattr(local.os, "getpid", lambda: -1)
    with pytest.raises(CheckpointError, match="spawn"):
        engine.encode(ONE)
    with pytest.raises(CheckpointError, match="spawn"):
        engine.warmup()
    assert not engine.loaded


FORK = """
import os, signal, sys, threading
from pathlib import Path
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.errors import E2RankError
from e2rank_integrations.values import TokenInput

inputs = [TokenInput(tuple(range(300)), "document")]
key = EngineKey(Path(sys.argv[1]), "qwen3", "last", dtype="float32", device="cpu")
local_engine(key).encode(inputs)
if sys.argv[2] == "busy":  # another thread is in the engine while the process forks
    inside, leave = threading.Event(), threading.Event()
    def stay():
        with local_engine(key)._lock:
            inside.set()
            leave.wait()
    threading.Thread(target=stay, daemon=True).start()
    inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)  # a child that waits for threads it does not have would wait for ever
    try:
        local_engine(key).encode(inputs)
    except E2RankError:
        pass
    os._exit(0)
os._exit(0 if os.waitpid(child, 0)[1] == 0 else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_a_forked_child_answers_or_raises_but_never_hangs(bare_folder: Path, parent: str) -> None:
    """A worker forked from a process that used the model on the CPU (gunicorn's preload) is not left waiting."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, bare_folder, parent],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "2"},  # with one thread torch starts none that a fork could lose
    )
    assert done.returncode == 0, "the child hung"


def test_the_registry_keeps_one_engine_per_settled_key(bare_folder: Path) -> None:
    """The registry resolves `auto` before it looks a key up."""
    key = EngineKey(bare_folder, "qwen3", "last")
    engine = local_engine(key)
    assert local_engine(engine.key) is engine
    assert registry._engines[engine.key] is engine
    assert key not in registry._engines


def test_an_engine_is_not_pickled(make_engine: Callable[..., LocalEngine]) -> None:
    """Weights do not travel by accident; the message says what does."""
    with pytest.raises(TypeError, match=r"cannot pickle an engine.*pickle an encoder"):
        pickle.dumps(make_engine())
