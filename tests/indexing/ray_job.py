"""Indexes with Ray and prints how it went, for `test_ray.py`: Ray's threads and signal handlers stay out of pytest.

The first actor that embeds says who it is and waits, until this process has killed it. The last part ends every actor
that embeds it; as if that had happened twice already, so that the job is soon given up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.errors import E2RankError
from e2rank_integrations.indexing import ray as module
from e2rank_integrations.indexing.ray import RayEmbedder, _Attempts, _initialised
from tests.indexing.conftest import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Encoded, TokenInput

PATIENCE = 200.0
KEY = "sk-that-nobody-may-see"
LAST = 4
"""Number of the part with the long text."""
LONG = 100
"""Tokens of a text that ends a worker."""


@dataclass(frozen=True)
class Waiting:
    """The local engine; the first process that uses it waits to be killed, and a long text ends each."""

    engine_key: EngineKey
    victim: Path
    seen: Path
    key: str = field(repr=False)

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        (self.seen / str(os.getpid())).touch()
        if max(len(item.ids) for item in inputs) > LONG:
            with (self.seen.parent / "ended").open("a") as file:
                file.write(f"{os.getpid()}\n")
            os._exit(1)
        try:
            with self.victim.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return local_engine(self.engine_key).encode(inputs)
        time.sleep(PATIENCE)
        raise AssertionError("nobody killed this worker")

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        return await asyncio.to_thread(self.encode, inputs)

    def warmup(self) -> None:
        pass

    def close(self) -> None:
        pass


class EndedTwo(_Attempts):
    """The last part was begun twice before."""

    def __init__(self) -> None:
        super().__init__()
        self._begun[LAST] = 2


def kill_when_it_works(victim: Path, killed: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if victim.exists() and (pid := victim.read_text()):
            os.kill(int(pid), signal.SIGKILL)
            killed.append(int(pid))
            return
        time.sleep(0.02)


def main(folder: Path, model: str) -> None:
    encoder = E2RankEncoder(model, device="cpu", dtype="float32")
    (folder / "seen").mkdir()
    engine = Waiting(encoder.engine_key, folder / "victim", folder / "seen", KEY)
    place = Place(folder / "corpus.jsonl", folder / "by-ray", folder / "by-ray.manifest", rows_per_part=4)
    killed: list[int] = []
    killer = threading.Thread(target=kill_when_it_works, args=(engine.victim, killed))
    killer.start()
    module._Attempts = EndedTwo  # type: ignore[misc]
    with _initialised(RayEmbedder(2)):
        no_gpu = failure(place, replace(encoder, device="cuda"))
        given_up = failure(place, replace(encoder, custom_engine=engine))
    killer.join()
    said = {
        "killed": killed,
        "seen": sorted(int(path.name) for path in engine.seen.iterdir()),
        "ended": (folder / "ended").read_text().split(),
        "no GPU": no_gpu,
        "given up": given_up,
        "running": ray.is_initialized(),
    }
    print(json.dumps(said))


def failure(place: Place, encoder: E2RankEncoder) -> list[str]:
    """The error that a job ends with: its type, its text and its notes."""
    try:
        place.index(encoder, embedder=RayEmbedder(2))
    except E2RankError as error:
        return [type(error).__name__, str(error), *getattr(error, "__notes__", ())]
    raise AssertionError("the job did not fail")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
