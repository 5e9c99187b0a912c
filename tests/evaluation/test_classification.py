"""Classification figures against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.classification import calibration, calibration_error, classification_figures, roc

CLASSES = ("normal", "benign", "malignant")


def _cases(seed: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=80)
    logits = rng.normal(size=(80, n_classes)) + 1.2 * np.eye(n_classes)[truth]
    probabilities = np.exp(logits)
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_classes", [2, 3])
def test_figures_agree_with_scikit_learn(seed: int, n_classes: int) -> None:
    truth, probabilities = _cases(seed, n_classes)
    classes = CLASSES[:n_classes]
    names = [classes[k] for k in truth]
    ours = classification_figures(names, probabilities, classes)
    called = probabilities.argmax(axis=1)
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(truth, called))
    assert ours.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, called))
    assert np.array_equal(ours.confusion, metrics.confusion_matrix(truth, called))
    scores = probabilities[:, 1] if n_classes == 2 else probabilities
    assert ours.auc == pytest.approx(metrics.roc_auc_score(truth, scores, multi_class="ovr"))
    if n_classes == 2:
        assert ours.brier == pytest.approx(2 * metrics.brier_score_loss(truth, scores))


def test_sensitivity_and_specificity_at_a_threshold() -> None:
    truth = ["sick", "sick", "sick", "well", "well"]
    sick = np.array([0.9, 0.4, 0.2, 0.35, 0.1])
    figures = classification_figures(truth, np.stack([1 - sick, sick], axis=1), ["well", "sick"], threshold=0.3)
    called_sick = figures.classes[1]
    assert (called_sick.name, called_sick.n, called_sick.threshold) == ("sick", 3, 0.3)
    assert called_sick.sensitivity == pytest.approx(2 / 3)
    assert called_sick.specificity == pytest.approx(1 / 2)
    assert called_sick.precision == pytest.approx(2 / 3)
    assert called_sick.auc == pytest.approx(5 / 6)


def test_a_class_that_never_occurs_has_no_figures() -> None:
    figures = classification_figures(["a", "a"], np.array([[0.8, 0.2], [0.6, 0.4]]), ["a", "b"])
    assert (figures.accuracy, figures.balanced_accuracy) == (1.0, 1.0)
    assert math.isnan(figures.auc)
    assert math.isnan(figures.classes[1].sensitivity)
    assert math.isnan(figures.classes[0].specificity)


def test_calibration_by_hand() -> None:
    probabilities = np.array([0.05, 0.15, 0.15, 0.95, 1.0])
    came_true = np.array([False, True, False, True, True])
    bins = calibration(probabilities, came_true)
    assert bins.counts.tolist() == [1, 2, 2]
    assert bins.predicted == pytest.approx([0.05, 0.15, 0.975])
    assert bins.observed == pytest.approx([0.0, 0.5, 1.0])
    assert calibration_error(probabilities, came_true) == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.025) / 5)


def test_calibration_agrees_with_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    truth, probabilities = _cases(0, 2)
    observed, predicted = calibration_curve(truth, probabilities[:, 1], n_bins=10)
    ours = calibration(probabilities[:, 1], truth == 1)
    assert ours.observed == pytest.approx(observed)
    assert ours.predicted == pytest.approx(predicted)


def test_roc_needs_both_classes() -> None:
    false_positive, true_positive, _ = roc(np.array([True, False, True]), np.array([0.9, 0.2, 0.6]))
    assert (false_positive[-1], true_positive[-1]) == (1.0, 1.0)
    with pytest.raises(EvaluationError, match="both classes"):
        roc(np.array([True, True]), np.array([0.9, 0.2]))


@pytest.mark.parametrize(
    ("truth", "probabilities", "classes", "said"),
    [
        (["a", "c"], [[1.0, 0.0], [0.0, 1.0]], ["a", "b"], "no probability is given for the class 'c'"),
        (["a"], [[1.0, 0.0], [0.0, 1.0]], ["a", "b"], r"1 cases and 2 classes, got shape \(2, 2\)"),
        (["a"], [[1.0]], ["a"], "two or more classes"),
        (["a"], [[0.9, 0.9]], ["a", "b"], "sum to 1"),
        (["a"], [[float("nan"), 1.0]], ["a", "b"], r"lie in 0\.\.1"),
        ([], np.empty((0, 2)), ["a", "b"], "no case"),
    ],
)
def test_bad_input_is_refused(truth: list[str], probabilities: object, classes: list[str], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        classification_figures(truth, np.asarray(probabilities), classes)
