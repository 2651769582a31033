"""The machine that a run ran on, and how fast it multiplies matrices."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter

import torch

FLAGS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
ROWS, WIDTH, COLUMNS = 2048, 1024, 3072
"""The product that is timed: a linear layer of the model's own shape."""
PACKAGES = ("torch", "transformers", "sentence-transformers", "langchain-classic", "llama-index-core")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run ran.

    Attributes:
        cpu: Model name.
        flags: Those of `FLAGS` that the CPU has.
        threads: Of torch, the same for all rows.
        versions: Of packages, by name.
    """

    cpu: str
    flags: tuple[str, ...]
    threads: int
    versions: dict[str, str]


def this_machine() -> Machine:
    """Look at this machine."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    flags = tuple(flag for flag in FLAGS if found.get(flag))
    return Machine(_cpu_name(), flags, torch.get_num_threads(), {name: metadata.version(name) for name in PACKAGES})


def computes_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16, rather than by way of float32."""
    return bool({"avx512_bf16", "amx_bf16"} & set(this_machine().flags))


def matmul_rate(dtype: torch.dtype, *, seconds: float = 1.0, rows: int = ROWS) -> float:
    """The most floating point operations per second of one linear layer, in 1e9, over some tries.

    Args:
        dtype: Of both matrices.
        seconds: How long to try at least; there are three tries or more.
        rows: Of the input.
    """
    x, w = torch.randn(rows, WIDTH, dtype=dtype), torch.randn(COLUMNS, WIDTH, dtype=dtype)
    torch.nn.functional.linear(x, w)
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = perf_counter()
        torch.nn.functional.linear(x, w)
        times.append(perf_counter() - started)
    return 2 * rows * WIDTH * COLUMNS / min(times) / 1e9


def matmul_rates(*, seconds: float = 1.0, rows: int = ROWS) -> dict[str, float]:
    """`matmul_rate` in float32 and in bfloat16, by name."""
    return {name: matmul_rate(getattr(torch, name), seconds=seconds, rows=rows) for name in ("float32", "bfloat16")}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
