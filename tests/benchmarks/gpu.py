"""The figures that only a GPU can give: `python -m tests.benchmarks.gpu`; a minute where there is one.

Reranks 100 stored candidates of 350 tokens with 20 in the prompt, embeds those documents, and compares with the card's
own rate of matrix products; random weights of the 0.6B, bfloat16. The outputs are compared with the CPU's in float32.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from e2rank_integrations import Candidate, E2RankEncoder, PrefixCache, Reranker
from e2rank_integrations.profiles import E2RANK
from tests.benchmarks.flops import forward_flops
from tests.benchmarks.models import config_of, qwen3
from tests.benchmarks.options import Options
from tests.benchmarks.rows import CAPS
from tests.benchmarks.workload import Workload, texts, workload

if TYPE_CHECKING:
    from collections.abc import Callable

CANDIDATES, TOKENS, TRIES = 100, 350, 20
MOST_MILLISECONDS, LEAST_SHARE, LEAST_COSINE = 40.0, 0.5, 0.9998
LAYERS = 28


def main() -> None:
    """Measure and print, each figure beside what was set out to be reached."""
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device, and these figures are a GPU's; `make bench` is for CPUs")
    options = Options(layers=LAYERS)
    work = replace(workload(CANDIDATES), documents=tuple(texts([TOKENS] * CANDIDATES, 0)))
    encoder = E2RankEncoder(str(qwen3(options)), replace(E2RANK, caps=CAPS), device="cuda", dtype="bfloat16")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16, {LAYERS} layers, random weights")
    rate = _matmul_rate()
    print(f"matrix products: {rate / 1e12:.0f} TFLOP/s")
    _documents(encoder, work, rate)
    _reranks(encoder, work)
    _same(encoder, work)


def _documents(encoder: E2RankEncoder, work: Workload, rate: float) -> None:
    inputs = encoder.document_inputs(work.documents)
    seconds = _seconds(lambda: encoder.run(inputs))
    work_done = forward_flops(config_of(Options(layers=LAYERS)), [len(item.ids) for item in inputs])
    share = work_done / seconds / rate
    print(f"documents: {1000 * seconds:.1f} ms, {share:.0%} of that rate (wanted: {LEAST_SHARE:.0%} or more)")


def _reranks(encoder: E2RankEncoder, work: Workload) -> None:
    vectors = encoder.encode_documents(work.documents)
    candidates = [Candidate(text, vector=row) for text, row in zip(work.documents, vectors, strict=True)]
    plain = _seconds(lambda: Reranker(encoder).rank(work.query, candidates))
    print(f"rerank of stored vectors: {1000 * plain:.1f} ms (wanted: {MOST_MILLISECONDS:g} or less on an H100)")
    cached = Reranker(replace(encoder, prefix_cache=PrefixCache(8 * 2**30)))
    follow_up = _seconds(lambda: cached.rank(work.query, candidates))
    print(f"follow-up query: {1000 * follow_up:.1f} ms, {follow_up / plain:.3f} of it")


def _same(encoder: E2RankEncoder, work: Workload) -> None:
    inputs = encoder.document_inputs(work.documents[:4])
    exact = replace(encoder, device="cpu", dtype="float32").run(inputs).vectors
    cosine = float(np.min((encoder.run(inputs).vectors * exact).sum(axis=1)))
    print(f"lowest cosine to the CPU's float32: {cosine:.6f} (wanted: {LEAST_COSINE} or more)")


def _matmul_rate() -> float:
    """Floating point operations per second of one large product."""
    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / _seconds(lambda: torch.mm(one, other))


def _seconds(call: Callable[[], object]) -> float:
    """The median of some tries, each to the end of the device's work, after one that warms up."""
    times = []
    for _ in range(TRIES + 1):
        torch.cuda.synchronize()
        started = perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(perf_counter() - started)
    return median(times[1:])


if __name__ == "__main__":
    main()
