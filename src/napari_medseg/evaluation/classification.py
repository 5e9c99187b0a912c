"""How good class probabilities are: accuracy, AUC, sensitivity and specificity at a threshold, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import EvaluationError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against the rest.

    Ratios without a denominator are not a number: sensitivity without a case of the class, specificity without a case
    of another, AUC without both, precision without a case called so.
    """

    name: str
    n: int
    sensitivity: float
    specificity: float
    precision: float
    auc: float
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationFigures:
    """Figures of a classifier over a set of cases.

    Parameters
    ----------
    n : int
        Number of cases.
    accuracy : float
        Share of cases whose called class is the true one: of two classes the second from its threshold on, of more the
        most probable one.
    balanced_accuracy : float
        Mean over the classes that occur of the share of their cases called right.
    auc : float
        Area under the ROC curve; with more than two classes the mean of one against the rest over classes that occur.
    brier : float
        Mean squared distance of the probabilities from the truth, summed over classes (Brier 1950): 0 best, 2 worst.
    calibration_error : float
        Expected calibration error of the most probable class, ten equal bins (Guo et al. 2017,
        arXiv:1706.04599, eq. 3).
    confusion : ndarray of int, shape (C, C)
        Cases by true class (row) and called class (column).
    classes : tuple of ClassFigures
        Each class against the rest.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    auc: float
    brier: float
    calibration_error: float
    confusion: NDArray[np.int64]
    classes: tuple[ClassFigures, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Bins of predicted probability: their mean prediction, the share that came true, and how many cases they hold."""

    predicted: Floats
    observed: Floats
    counts: NDArray[np.int64]


def classification_figures(
    truth: Sequence[str], probabilities: Floats, classes: Sequence[str], *, threshold: float = 0.5
) -> ClassificationFigures:
    """Compare class probabilities with the true classes.

    Parameters
    ----------
    truth : sequence of str
        The true class of each case.
    probabilities : ndarray, shape (N, C)
        Probability of each class for each case; rows sum to 1.
    classes : sequence of str
        Names of the C classes, at least two, in the order of the columns.
    threshold : float
        Of two classes a case is called the second from this probability on, and otherwise the first. Of more than two
        it is called a class, one against the rest, from this probability on.

    Raises
    ------
    EvaluationError
        If shapes do not fit, rows are no probabilities, a true class has no column, or the threshold is not between
        0 and 1.
    """
    answers = _indices(truth, classes)
    scores = _checked(probabilities, len(answers), len(classes))
    if not 0.0 < threshold < 1.0:
        raise EvaluationError(f"a threshold lies between 0 and 1, got {threshold:g}")
    is_binary = len(classes) == 2
    called = (scores[:, 1] >= threshold).astype(int) if is_binary else scores.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (answers, called), 1)
    chosen = np.eye(2, dtype=bool)[called] if is_binary else scores >= threshold
    cuts = (1.0 - threshold, threshold) if is_binary else (threshold,) * len(classes)
    per_class = tuple(
        _one_against_rest(name, answers == k, scores[:, k], chosen[:, k], cuts[k]) for k, name in enumerate(classes)
    )
    occurring = confusion.sum(axis=1) > 0
    areas = [figures.auc for figures in per_class if np.isfinite(figures.auc)]
    return ClassificationFigures(
        n=len(answers),
        accuracy=float(np.mean(called == answers)),
        balanced_accuracy=float(np.mean(confusion.diagonal()[occurring] / confusion.sum(axis=1)[occurring])),
        auc=float(np.mean(areas)) if areas else float("nan"),
        brier=float(np.mean(np.sum((scores - np.eye(len(classes))[answers]) ** 2, axis=1))),
        calibration_error=calibration_error(scores.max(axis=1), scores.argmax(axis=1) == answers),
        confusion=confusion,
        classes=per_class,
    )


def auc(positive: NDArray[np.bool_], scores: Floats) -> float:
    """Area under the ROC curve, ties counted half; not a number where one class is missing."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, scores))


def roc(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats, Floats]:
    """False positive rates, true positive rates and the thresholds of the ROC curve.

    Raises
    ------
    EvaluationError
        If all cases are of one class.
    """
    from sklearn.metrics import roc_curve

    if positive.all() or not positive.any():
        raise EvaluationError("a ROC curve needs cases of both classes, and all of these are of one")
    false_positive, true_positive, thresholds = roc_curve(positive, scores)
    return np.asarray(false_positive), np.asarray(true_positive), np.asarray(thresholds)


def calibration(probabilities: Floats, came_true: NDArray[np.bool_], *, n_bins: int = 10) -> Calibration:
    """Predicted against observed frequency in equal bins of probability; empty bins are left out.

    Parameters
    ----------
    probabilities : ndarray, shape (N,)
        Of an event, 0..1.
    came_true : ndarray of bool, shape (N,)
        Whether it happened.
    n_bins : int
        Number of equal bins over 0..1; the last one includes 1.
    """
    bins = np.clip((np.asarray(probabilities) * n_bins).astype(int), 0, n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    kept = counts > 0
    predicted = np.bincount(bins, weights=probabilities, minlength=n_bins)[kept] / counts[kept]
    observed = np.bincount(bins, weights=came_true, minlength=n_bins)[kept] / counts[kept]
    return Calibration(predicted, observed, counts[kept])


def calibration_error(probabilities: Floats, came_true: NDArray[np.bool_], *, n_bins: int = 10) -> float:
    """Mean distance of predicted from observed frequency, weighted by cases, 0..1."""
    bins = calibration(probabilities, came_true, n_bins=n_bins)
    return float(np.sum(bins.counts * np.abs(bins.predicted - bins.observed)) / np.sum(bins.counts))


def _indices(truth: Sequence[str], classes: Sequence[str]) -> NDArray[np.intp]:
    column = {name: k for k, name in enumerate(classes)}
    if len(column) < 2 or len(column) != len(classes):
        raise EvaluationError(f"a classifier has two or more classes of different names, got {list(classes)}")
    if not len(truth):
        raise EvaluationError("there is no case to evaluate")
    unknown = sorted({str(name) for name in truth} - set(column))
    if unknown:
        raise EvaluationError(f"no probability is given for the class {unknown[0]!r}; known are {list(classes)}")
    return np.asarray([column[name] for name in truth])


def _checked(probabilities: Floats, n_cases: int, n_classes: int) -> Floats:
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.shape != (n_cases, n_classes):
        raise EvaluationError(
            f"expected probabilities of {n_cases} cases and {n_classes} classes, got shape {scores.shape}"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or np.abs(scores.sum(axis=1) - 1).max() > 1e-3:
        raise EvaluationError("probabilities must lie in 0..1 and sum to 1 in each row")
    return scores


def _one_against_rest(
    name: str, positive: NDArray[np.bool_], scores: Floats, called: NDArray[np.bool_], threshold: float
) -> ClassFigures:
    return ClassFigures(
        name=name,
        n=int(positive.sum()),
        sensitivity=_share(called[positive]),
        specificity=_share(~called[~positive]),
        precision=_share(positive[called]),
        auc=auc(positive, scores),
        threshold=threshold,
    )


def _share(statements: NDArray[np.bool_]) -> float:
    return float(statements.mean()) if statements.size else float("nan")
