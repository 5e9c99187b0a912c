"""Confidence intervals that respect patients: resample people, not images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its confidence interval; the ends are not a number where fewer than two patients gave it."""

    value: float
    low: float
    high: float
    level: float
    n_patients: int

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap_intervals(
    statistics: Callable[[NDArray[np.intp]], Mapping[str, float]],
    patients: Sequence[Hashable],
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap over patients (Efron 1979), of several figures at once.

    Parameters
    ----------
    statistics : callable
        Takes indices into the cases (with repeats) and returns each figure by name, or not a number where these cases
        do not give one (an AUC of one class): such resamples are left out.
    patients : sequence
        The patient of each case. All cases of a drawn patient enter together.
    n_resamples : int
        How many times patients are drawn.
    level : float
        Coverage of the interval, between 0 and 1.
    seed : int
        Of the random draws.

    Raises
    ------
    EvaluationError
        If there is no case, or `level` is out of range.
    """
    if not len(patients) or not 0.0 < level < 1.0:
        raise EvaluationError(f"a confidence interval needs cases and a level in 0..1, got {len(patients)} and {level}")
    groups = _indices_by_patient(patients)
    values = statistics(np.arange(len(patients)))
    rng = np.random.default_rng(seed)
    draws = [
        statistics(np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))]))
        for _ in range(n_resamples if len(groups) > 1 else 0)
    ]
    ends = {name: _ends([draw[name] for draw in draws], level) for name in values}
    return {name: Interval(float(value), *ends[name], level, len(groups)) for name, value in values.items()}


def bootstrap_interval(
    statistic: Callable[[NDArray[np.intp]], float], patients: Sequence[Hashable], **options: Any
) -> Interval:
    """One figure's interval; parameters as for `bootstrap_intervals`."""
    return bootstrap_intervals(lambda cases: {"": statistic(cases)}, patients, **options)[""]


def mean_intervals(
    figures: Mapping[str, Sequence[float]], patients: Sequence[Hashable] | None = None, **options: Any
) -> dict[str, Interval]:
    """Means of several figures a case, with their intervals; values that are not finite are left out.

    `patients` names the patient of each case; without it every case is a patient of its own. Other options are those of
    `bootstrap_intervals`.
    """
    table = np.asarray(list(figures.values()), dtype=float).T
    people = list(range(len(table))) if patients is None else list(patients)
    if len(people) != len(table):
        raise EvaluationError(f"{len(table)} figures came with {len(people)} patients")
    known = np.isfinite(table)
    filled = np.where(known, table, 0.0)

    def means(cases: NDArray[np.intp]) -> dict[str, float]:
        counts = known[cases].sum(axis=0)
        sums = filled[cases].sum(axis=0)
        values = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return dict(zip(figures, values.tolist(), strict=True))

    intervals = bootstrap_intervals(means, people, **options)
    n_patients = [len({people[k] for k in np.flatnonzero(column)}) for column in known.T]
    return {
        name: replace(interval, n_patients=n) for (name, interval), n in zip(intervals.items(), n_patients, strict=True)
    }


def mean_interval(values: Sequence[float], patients: Sequence[Hashable] | None = None, **options: Any) -> Interval:
    """One figure's mean with its interval; parameters as for `mean_intervals`."""
    return mean_intervals({"": values}, patients, **options)[""]


def honest_share(interval: Interval) -> Interval:
    """A share of right answers that is 0 or 1, with what that many patients can say of it.

    Resampling patients of whom all were right finds that all are right, be they three or three hundred. The exact
    interval (Clopper and Pearson, Biometrika 1934) does not; for an AUC it is on the safe side.
    """
    tail = 0.5 * (1 - interval.level)
    if interval.low == interval.high == 1.0:
        return replace(interval, low=tail ** (1 / interval.n_patients))
    if interval.low == interval.high == 0.0:
        return replace(interval, high=1 - tail ** (1 / interval.n_patients))
    return interval


def _ends(draws: Sequence[float], level: float) -> tuple[float, float]:
    finite = [draw for draw in draws if np.isfinite(draw)]
    if not finite:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _indices_by_patient(patients: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    groups: dict[Hashable, list[int]] = {}
    for index, patient in enumerate(patients):
        groups.setdefault(patient, []).append(index)
    return [np.asarray(indices, dtype=np.intp) for indices in groups.values()]
