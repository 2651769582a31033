"""Many threads on one real server, with requests of all kinds and lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations import RemoteEngine
from tests.support.mixed import calls, run_at_once, run_serially

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder


def test_many_threads_get_what_one_gets(local: E2RankEncoder, llama: str) -> None:
    """`python -m tests.benchmarks.remote` does it with 32 threads and 100 requests each."""
    wanted = calls(8 * 15)
    remote = replace(local, custom_engine=RemoteEngine(llama))
    for found, alone in zip(run_at_once(remote, wanted, threads=8), run_serially(local, wanted), strict=True):
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-4)
