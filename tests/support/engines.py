"""Engines around a real one: they count what it is asked, remember, fail where told, or wait for a signal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2rank_integrations.engines.base import Engine
    from e2rank_integrations.values import TokenInput, Vector

PATIENCE = 30.0
"""Seconds after which a wait that nobody ends fails the test instead of hanging it."""


class Recording:
    """Passes calls on and keeps what was asked, call by call."""

    identity = None
    """The engine within runs the files that the encoder names."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.calls: list[tuple[TokenInput, ...]] = []

    @property
    def usage(self) -> Usage:
        """What all calls together asked for."""
        return Usage.of(item for call in self.calls for item in call)

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        self.calls.append(tuple(inputs))
        return self.engine.encode(inputs)

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        return await in_thread(self.encode, inputs)

    def warmup(self) -> None:
        self.engine.warmup()

    def close(self) -> None:
        self.engine.close()


class Remembering(Recording):
    """Answers what it was asked before from memory, as if it were computed: tests ask for the same texts often."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.known: dict[TokenInput, Vector] = {}

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        new = [item for item in dict.fromkeys(inputs) if item not in self.known]
        if new:
            self.known.update(zip(new, self.engine.encode(new).vectors, strict=True))
        return Encoded(np.stack([self.known[item] for item in inputs]), Usage.of(inputs))


class Failing(Recording):
    """Raises an error for each call that holds an input of a certain kind."""

    def __init__(
        self, engine: Engine, error: BaseException, fails: Callable[[TokenInput], bool] = lambda _: True
    ) -> None:
        super().__init__(engine)
        self.error = error
        self.fails = fails

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        encoded = super().encode(inputs)
        if any(map(self.fails, inputs)):
            raise self.error
        return encoded


class Gated(Recording):
    """Lets no call through before `gate` is set."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.gate = threading.Event()

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        assert self.gate.wait(PATIENCE), "nobody opened the gate: the caller's event loop is blocked"
        return super().encode(inputs)
