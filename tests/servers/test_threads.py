"""Many threads on one real server, with requests of all kinds and lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.support.mixed import calls, run_at_once, run_serially

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder


def test_many_threads_get_what_one_gets(remote: E2RankEncoder) -> None:
    """`python -m tests.benchmarks.remote` does it with 32 threads and 100 requests each."""
    wanted = calls(8 * 15)
    expected = run_serially(remote, wanted)
    for found, alone in zip(run_at_once(remote, wanted, threads=8), expected, strict=True):
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-4)
