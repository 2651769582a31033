"""Whether two methods differ on the same queries, beyond what these queries happen to be.

A paired sign-flip permutation test of the mean difference, and a paired bootstrap interval of it; both with a fixed
seed, so that a report is the same each time. Several methods against one baseline are corrected by Holm's method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

DRAWS = 10_000
SEED = 0
LEVEL = 0.95
_CELLS = 4_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A method minus the baseline, query by query.

    Attributes:
        mean: Mean difference.
        low: Lower end of the mean's 95 % interval (paired bootstrap, percentiles).
        high: Its upper end.
        p: Two-sided p of the sign-flip test of "the mean difference is 0", in (0, 1].
        p_holm: The same, corrected for the number of methods compared (Holm), in (0, 1].
    """

    mean: float
    low: float
    high: float
    p: float
    p_holm: float


def differences(
    scores: Mapping[str, Mapping[str, float]], baseline: Mapping[str, float], *, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Difference]:
    """Compare methods with one baseline.

    Args:
        scores: By the method's name, each query's score; the queries are the baseline's.
        baseline: Each query's score.
        draws: Of signs and of samples of queries; where there are fewer sign patterns in all, each is tried once.
        seed: Of the draws; every method sees the same ones.

    Returns:
        By the method's name.
    """
    rows = {name: np.array([found[key] - baseline[key] for key in baseline]) for name, found in scores.items()}
    tests = [sign_flip_p(row, draws=draws, seed=seed) for row in rows.values()]
    corrected = holm(tests)
    return {
        name: Difference(mean=float(row.mean()), low=low, high=high, p=p, p_holm=p_holm)
        for (name, row), p, p_holm in zip(rows.items(), tests, corrected, strict=True)
        for low, high in [bootstrap_interval(row, draws=draws, seed=seed)]
    }


def sign_flip_p(values: Values, *, draws: int = DRAWS, seed: int = SEED) -> float:
    """Two-sided p of "the sign of each value is a coin's", with the mean as the statistic.

    Exact where the sign patterns number at most `draws`; otherwise (1 + as extreme) / (1 + draws).
    """
    count = len(values)
    exact = 2**count <= draws
    limit = abs(values.sum()) - _ROUNDING
    patterns = _all_signs(count) if exact else _drawn_signs(count, draws, seed)
    extreme = sum(int((np.abs(signs @ values) >= limit).sum()) for signs in patterns)
    return extreme / 2**count if exact else (1 + extreme) / (1 + draws)


def bootstrap_interval(
    values: Values, *, draws: int = DRAWS, seed: int = SEED, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval of the mean over samples drawn with replacement."""
    random = np.random.default_rng(seed)
    means = [
        values[random.integers(0, len(values), (rows, len(values)))].mean(axis=1)
        for rows in _chunks(draws, len(values))
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction, in the order given: the least p times their number, the next times one fewer."""
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _all_signs(count: int) -> Iterator[Values]:
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    yield np.where(bits, -1.0, 1.0)


def _drawn_signs(count: int, draws: int, seed: int) -> Iterator[Values]:
    random = np.random.default_rng(seed)
    for rows in _chunks(draws, count):
        yield np.where(random.integers(0, 2, (rows, count)), -1.0, 1.0)


def _chunks(draws: int, count: int) -> Iterator[int]:
    """Numbers of draws that together make `draws`, each of a bounded matrix."""
    size = max(1, _CELLS // count)
    for start in range(0, draws, size):
        yield min(size, draws - start)
