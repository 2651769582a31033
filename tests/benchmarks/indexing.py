"""How time and memory grow with the number of documents indexed: a process of its own for each number.

The model is narrow and has one layer: what is measured is the stream around it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from e2rank_integrations import E2RankEncoder
from tests.benchmarks.workload import workload
from tests.support.models import save_qwen3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WORDS = range(6, 21)


def indexed(sizes: Sequence[int], root: Path, threads: int) -> tuple[dict[str, float], ...]:
    """Documents, seconds and peak resident bytes, of each size."""
    folder = root / "qwen3-indexing"
    if not folder.is_dir():
        save_qwen3(folder.with_suffix(".part"), layers=1).rename(folder)
    return tuple(_in_process(size, folder, threads) for size in sizes)


def _in_process(size: int, folder: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.indexing", str(size), str(folder), str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def short_documents(count: int) -> Iterator[str]:
    """Short texts of real words, made as they are asked for."""
    words = " ".join(workload(100).documents).split()
    random = np.random.RandomState(0)
    for _ in range(count):
        start, length = random.randint(len(words) - _WORDS.stop), random.randint(_WORDS.start, _WORDS.stop)
        yield " ".join(words[start : start + length])


def main(arguments: Sequence[str] | None = None) -> None:
    """Index so many documents and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("threads", type=int)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    encoder = E2RankEncoder(str(options.folder), device="cpu", dtype="float32")
    encoder.encode_documents(list(short_documents(100)))
    started = perf_counter()
    count = sum(len(vectors) for vectors in encoder.stream_documents(short_documents(options.size)))
    assert count == options.size
    print(json.dumps({"documents": count, "seconds": perf_counter() - started, "peak_bytes": _peak_bytes()}))


def _peak_bytes() -> int:
    """This process's own peak; Linux's `ru_maxrss` remembers the parent that was forked to make it."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
