"""The package's own threads: few, with the caller's context, and alive after a fork."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading

import pytest

from e2rank_integrations.threads import MAX_THREADS, in_thread

request_id = contextvars.ContextVar("request_id", default="none")


async def test_a_call_runs_in_a_thread_of_the_package() -> None:
    """Neither the loop's own thread nor its default executor, which others may have filled."""
    name = await in_thread(lambda: threading.current_thread().name)
    assert name.startswith("e2rank")


async def test_arguments_and_result_pass_through() -> None:
    """Positional and by keyword."""
    assert await in_thread(divmod, 7, 3) == (2, 1)
    assert await in_thread(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]


async def test_an_exception_passes_through() -> None:
    """As it was raised."""

    def fail() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError, match="k"):
        await in_thread(fail)


async def test_the_callers_context_is_seen_and_not_changed() -> None:
    """Tracing and request ids live in context variables; what the call sets stays in the call."""
    request_id.set("r-1")
    assert await in_thread(request_id.get) == "r-1"
    await in_thread(request_id.set, "r-2")
    assert request_id.get() == "r-1"


async def test_concurrent_calls_keep_their_own_context() -> None:
    """Threads are reused, contexts are not."""

    async def one(name: str) -> str:
        request_id.set(name)
        return await in_thread(request_id.get)

    names = [f"r-{i}" for i in range(20)]
    assert await asyncio.gather(*map(one, names)) == names


async def test_the_threads_are_few() -> None:
    """However many calls wait, no more than `MAX_THREADS` run."""
    running, most, lock, gate = 0, 0, threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == MAX_THREADS:
                gate.set()
        gate.wait(30)
        with lock:
            running -= 1

    await asyncio.gather(*(in_thread(work) for _ in range(5 * MAX_THREADS)))
    assert most == MAX_THREADS


FORK = """
import asyncio, os, signal
from e2rank_integrations.threads import in_thread
asyncio.run(in_thread(len, "abc"))
child = os.fork()
if child == 0:
    signal.alarm(10)
    os._exit(0 if asyncio.run(in_thread(len, "abc")) == 3 else 2)
os._exit(0 if os.waitpid(child, 0)[1] == 0 else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    """A child whose parent used the threads is not left waiting for them."""
    assert subprocess.run([sys.executable, "-c", FORK], check=False).returncode == 0
