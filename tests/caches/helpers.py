"""Engines and caches that are cheap, or that fail where told."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.caches.base import KEY_BYTES
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage
from tests.packaging.examples import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.values import TokenInput, Vector

WIDTH = 8


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def vector(seed: object, width: int = WIDTH) -> Vector:
    """A unit vector that only its seed decides."""
    number = int.from_bytes(sha256(repr(seed).encode()).digest()[:8], "big")
    row = np.random.default_rng(number).standard_normal(width)
    return (row / np.linalg.norm(row)).astype(np.float32)


class Hashing:
    """An engine whose vectors are decided by role and ids, and that keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[TokenInput]] = []

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        self.calls.append(list(inputs))
        return Encoded(np.stack([vector((item.role, item.ids)) for item in inputs]), Usage.of(inputs))

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        return await in_thread(self.encode, inputs)

    def warmup(self) -> None:
        self.calls.clear()

    def close(self) -> None:
        self.calls.clear()


class Failing:
    """A cache that keeps nothing and fails as told."""

    def __init__(self, *, read: Exception | None = None, write: Exception | None = None) -> None:
        self.read = read
        self.write = write

    def get(self, keys: Sequence[bytes]) -> list[Vector | None]:
        if self.read is not None:
            raise self.read
        return [None] * len(keys)

    def put(self, items: Mapping[bytes, Vector]) -> None:
        if self.write is not None:
            raise self.write

    def clear(self) -> None: ...

    def close(self) -> None: ...


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A new interpreter that runs code, with `sys.argv[1:]` as given."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed, once it ended well."""
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, err
    return out
