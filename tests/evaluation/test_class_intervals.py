"""Intervals of what a classifier calls at a threshold."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.classification import classification_figures
from napari_medseg.evaluation.report import figure_intervals, interval_rows, write_classification_report

CLASSES = ("well", "sick")


def cases(n: int = 60, seed: int = 0) -> tuple[list[str], np.ndarray, list[str]]:
    """Answers and probabilities of two cases a patient."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(CLASSES, size=n).tolist()
    sick = np.clip([0.35 + 0.3 * (each == "sick") + rng.normal(0, 0.15) for each in truth], 0.01, 0.99)
    return truth, np.stack([1 - sick, sick], axis=1), [f"P{k // 2}" for k in range(n)]


def test_sensitivity_specificity_and_precision_have_intervals() -> None:
    truth, probabilities, patients = cases()
    found = figure_intervals(truth, probabilities, CLASSES, patients)
    figures = classification_figures(truth, probabilities, CLASSES).classes[1]
    for name in ("sensitivity", "specificity", "precision"):
        interval = found[f"{name} (sick)"]
        assert interval.value == pytest.approx(getattr(figures, name))
        assert interval.low < interval.value < interval.high
    rows = interval_rows(truth, probabilities, CLASSES, patients)
    assert {"sensitivity (sick)", "specificity (sick)", "precision (sick)"} < {row["figure"] for row in rows}
    assert not [row for row in rows if "(well)" in row["figure"]]


def test_the_threshold_moves_all_that_is_called() -> None:
    truth, probabilities, patients = cases()
    low, high = (figure_intervals(truth, probabilities, CLASSES, patients, threshold=t) for t in (0.3, 0.7))
    assert low["sensitivity (sick)"].value > high["sensitivity (sick)"].value
    assert low["specificity (sick)"].value < high["specificity (sick)"].value
    assert low["auc"] == high["auc"]
    for threshold in (0.3, 0.7):
        figures = classification_figures(truth, probabilities, CLASSES, threshold=threshold)
        well, sick = figures.classes
        called = probabilities[:, 1] >= threshold
        assert figures.accuracy == pytest.approx(np.mean(called == (np.array(truth) == "sick")))
        assert figures.balanced_accuracy == pytest.approx((sick.sensitivity + sick.specificity) / 2)
        assert (well.sensitivity, well.specificity) == (sick.specificity, sick.sensitivity)
        assert figures.confusion[:, 1].sum() == called.sum()


def test_a_share_without_a_miss_is_as_sure_as_its_own_patients_make_it() -> None:
    truth = ["sick"] * 3 + ["well"] * 20
    sick = np.array([0.9] * 3 + [0.1] * 20)
    patients = [f"P{k}" for k in range(23)]
    found = figure_intervals(truth, np.stack([1 - sick, sick], axis=1), CLASSES, patients)
    assert found["sensitivity (sick)"].low == pytest.approx(0.025 ** (1 / 3)), "three patients are sick"
    assert found["specificity (sick)"].low == pytest.approx(0.025 ** (1 / 20))
    assert found["precision (sick)"].low == pytest.approx(0.025 ** (1 / 3))


def test_each_of_three_classes_has_its_own() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice(["a", "b", "c"], size=40).tolist()
    probabilities = rng.dirichlet(np.ones(3), size=40)
    found = figure_intervals(truth, probabilities, ["a", "b", "c"], [str(k) for k in range(40)])
    assert [name for name in found if name.startswith("sens")] == [f"sensitivity ({name})" for name in "abc"]


def test_a_report_says_from_where_on_a_case_is_called(tmp_path) -> None:
    truth, probabilities, patients = cases()
    _, page = write_classification_report(tmp_path, truth, probabilities, CLASSES, patients=patients, threshold=0.3)
    text = page.read_text(encoding="utf-8")
    assert "from a probability of 0.3 on" in text
    assert "sensitivity (sick)" in text


@pytest.mark.parametrize("threshold", [0.0, 1.0, -2.0, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    truth, probabilities, _ = cases()
    with pytest.raises(EvaluationError, match="a threshold lies between 0 and 1, got"):
        classification_figures(truth, probabilities, CLASSES, threshold=threshold)
