"""Indexes with Ray and prints how it went, for `test_ray.py`: Ray's threads and signal handlers stay out of pytest.

The first actor that embeds says who it is and waits, until this process has killed it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.indexing.ray import RayEmbedder
from tests.indexing.conftest import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Encoded, TokenInput

PATIENCE = 60.0
KEY = "sk-that-nobody-may-see"


@dataclass(frozen=True)
class Waiting:
    """The local engine; the first process that uses it waits to be killed."""

    engine_key: EngineKey
    victim: Path
    seen: Path
    key: str = field(repr=False)

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        (self.seen / str(os.getpid())).touch()
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
    report = place.index(replace(encoder, custom_engine=engine), embedder=RayEmbedder(2))
    killer.join()
    seen = sorted(int(path.name) for path in engine.seen.iterdir())
    print(json.dumps({"report": asdict(report), "killed": killed, "seen": seen, "running": ray.is_initialized()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
