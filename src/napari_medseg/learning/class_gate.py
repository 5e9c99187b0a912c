"""The gate of classifiers: a new version is adopted only when it is better on held-out cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseg.evaluation.classification import classification_figures
from napari_medseg.learning.class_reports import ClassScores, ClassVerdict

_GUESSED_AUC = 0.5


def scores_of(probabilities: NDArray[np.floating], answers: NDArray[np.integer], classes: Sequence[str]) -> ClassScores:
    """Figures of probabilities (N, C) of held-out cases whose classes are `answers` (N,)."""
    figures = classification_figures([classes[k] for k in answers], np.asarray(probabilities, np.float64), classes)
    return ClassScores(
        balanced_accuracy=figures.balanced_accuracy,
        accuracy=figures.accuracy,
        auc=figures.auc if np.isfinite(figures.auc) else None,
        calibration_error=figures.calibration_error,
    )


def guessing(n_classes: int) -> ClassScores:
    """What guessing reaches: the reference of a first version."""
    return ClassScores(balanced_accuracy=1 / n_classes, auc=0.5)


def decide_classes(
    before: ClassScores, after: ClassScores, *, least_gain: float, held_out: str, is_first: bool, version: int
) -> ClassVerdict:
    """Compare the version in use (or guessing) with the new one on the same held-out cases.

    A new version of equal balanced accuracy is adopted if its AUC is higher by the least gain. A first version
    whose AUC is that of guessing is not.
    """
    old, new = before.balanced_accuracy or 0.0, after.balanced_accuracy or 0.0
    gain = new - old
    is_clearer = gain >= 0 and (after.auc or 0.0) - (before.auc or 0.0) >= least_gain
    # A threshold in a lucky place makes guesses look right in a few cases; their order shows that they are guesses.
    is_guess = is_first and after.auc is not None and after.auc <= _GUESSED_AUC
    adopted = (gain >= least_gain or is_clearer) and not is_guess
    reference = f"{old:.2f} by guessing" if is_first else f"{old:.2f}"
    numbers = f"balanced accuracy on held-out cases {reference} -> {new:.2f}"
    if after.auc is not None:
        numbers += f", AUC {after.auc:.2f}"
    if adopted:
        sentence = f"{numbers}: version {version} is active"
    elif is_first:
        sentence = f"{numbers}: no better than guessing, so it is not used; label more cases or other classes"
    else:
        sentence = f"{numbers}, that is no gain: nothing was changed, the old version stays active"
    return ClassVerdict(adopted=adopted, sentence=sentence, before=before, after=after, held_out=held_out)
