"""Confidence intervals by patient."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.bootstrap import (
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    honest_share,
    mean_interval,
)


def test_interval_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, size=60)
    ours = mean_interval(values.tolist(), n_resamples=4000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    assert ours.n_patients == 60


def test_images_of_one_patient_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(1).normal(size=20)
    people = mean_interval(values.tolist())
    copies = mean_interval(np.repeat(values, 5).tolist(), np.repeat(np.arange(20), 5).tolist())
    naive = mean_interval(np.repeat(values, 5).tolist())
    assert (copies.low, copies.high) == pytest.approx((people.low, people.high))
    assert naive.high - naive.low < 0.6 * (people.high - people.low)


def test_same_seed_same_interval() -> None:
    values = [0.2, 0.5, 0.9, 0.4]
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_one_patient_gives_no_interval() -> None:
    ours = mean_interval([0.5, 0.7], ["a", "a"])
    assert ours.value == pytest.approx(0.6)
    assert math.isnan(ours.low)
    assert str(ours) == "0.600"


def test_undefined_figures_are_left_out() -> None:
    ours = mean_interval([0.5, float("nan"), 0.7, float("inf")], ["a", "b", "c", "d"])
    assert (ours.value, ours.n_patients) == (pytest.approx(0.6), 2)
    assert math.isnan(mean_interval([float("nan")]).value)


def test_undefined_resamples_are_left_out() -> None:
    positive = np.array([True, False, False])
    ours = bootstrap_interval(lambda cases: 1.0 if positive[cases].any() else float("nan"), ["a", "b", "c"])
    assert (ours.value, ours.low, ours.high) == (1.0, 1.0, 1.0)


def test_several_figures_share_their_draws() -> None:
    values = np.array([0.1, 0.4, 0.9])
    both = bootstrap_intervals(lambda cases: {"x": values[cases].mean(), "2x": 2 * values[cases].mean()}, [1, 2, 3])
    assert both["2x"].low == pytest.approx(2 * both["x"].low)


def test_bad_input_is_refused() -> None:
    with pytest.raises(EvaluationError, match="needs cases"):
        bootstrap_interval(lambda cases: 0.0, [])
    with pytest.raises(EvaluationError, match=r"got 2 and 1\.0"):
        bootstrap_interval(lambda cases: 0.0, [1, 2], level=1.0)
    with pytest.raises(EvaluationError, match="2 figures came with 1 patients"):
        mean_interval([0.1, 0.2], ["a"])


@pytest.mark.parametrize("n", [4, 20, 300])
def test_all_right_of_a_few_is_no_certainty(n: int) -> None:
    certain = mean_interval([1.0] * n)
    exact = stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    assert (certain.low, certain.high) == (1.0, 1.0)
    assert (honest_share(certain).low, honest_share(certain).high) == pytest.approx((exact.low, exact.high))
    none = stats.binomtest(0, n).proportion_ci(0.95, method="exact")
    assert honest_share(mean_interval([0.0] * n)).high == pytest.approx(none.high)


def test_an_interval_from_resampling_stays() -> None:
    interval = Interval(0.8, 0.6, 1.0, 0.95, 12)
    assert honest_share(interval) == interval
