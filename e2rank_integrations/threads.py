"""The package's own threads and event loop.

Blocking work of async calls runs in a few threads, never in the event loop's default executor. Network calls run on one
event loop in a thread of its own, whoever makes them: connections belong to the loop that opened them.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

P = ParamSpec("P")
R = TypeVar("R")

MAX_THREADS = 4


def _new_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="e2rank")


_executor = _new_executor()


_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def _after_fork() -> None:
    global _executor, _loop, _loop_lock
    _executor, _loop, _loop_lock = _new_executor(), None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def in_thread(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a blocking call in one of a few threads, with the caller's context variables."""
    call = partial(contextvars.copy_context().run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_executor, call)


def on_loop(call: Coroutine[Any, Any, R]) -> Future[R]:
    """Start a coroutine on the package's event loop, from any thread; cancelling the future cancels it."""
    return asyncio.run_coroutine_threadsafe(call, _running_loop())


def wait_on_loop(call: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on the package's event loop and wait for it; an interrupt cancels it."""
    future = on_loop(call)
    try:
        return future.result()
    finally:
        future.cancel()  # nothing, once it is done


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603 - made on first use
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="e2rank-network", daemon=True).start()
        return _loop
