"""Servers of other projects as child processes of a test: a free port, patience until they answer, an orderly end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

ATTEMPTS = 3
"""A free port may be taken by someone else between asking for it and using it."""

# This process's own ports, lest the server of another process of the tests answers in the place of one that is still
# starting; and below those that a system gives to who asks for any.
_first = 10_000 + os.getpid() % 1000 * 20
_ports = cycle(range(_first, _first + 20))

PATIENCE = 60.0
"""Seconds within which a server must answer; most take a second or two."""


@contextmanager
def serving(
    command: Callable[[int], Sequence[str | Path]],
    log: Path,
    *,
    ready: str,
    patience: float = PATIENCE,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server until the block ends; gives its port on the loopback interface.

    Args:
        command: The command line for a port.
        log: The file that takes what the server prints; its end is in the error of a server that does not start.
        ready: The path that answers 200 once the server is up.
        patience: Seconds until it must.
        environment: The process's environment variables; None for those of this process.
    """
    for _ in range(ATTEMPTS):
        port = free_port()
        with log.open("wb") as output, _process(command(port), output, environment) as process:
            if _answers(process, port, ready, patience):
                yield port
                return
    raise AssertionError(f"The server did not start: {log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """A port of the loopback interface that nobody listened on just now, and no other process of the tests may use."""
    for port in islice(_ports, 20):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port of this process is taken")


@contextmanager
def _process(
    command: Sequence[str | Path], output: IO[bytes], environment: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):  # a server may leave processes of its own behind
            os.killpg(process.pid, signal.SIGKILL)


def _answers(process: subprocess.Popen[bytes], port: int, ready: str, patience: float) -> bool:
    """Whether the server comes up; False where its process ended."""
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        if _is_ready(port, ready):
            return process.poll() is None
        time.sleep(0.1)
    return False


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
