"""What held-out cases say about a classifier: its figures, its temperature, and those of the version in use."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from napari_medseg.classification.calibration import fit_temperature
from napari_medseg.classification.classifier import ClassNetwork
from napari_medseg.classification.features import FeatureCache
from napari_medseg.learning.class_gate import guessing, scores_of
from napari_medseg.learning.class_lesson import ClassLesson, unknown_to
from napari_medseg.learning.class_practice import logits_of
from napari_medseg.learning.class_reports import ClassScores

_LEAST_UNKNOWN = 4


@dataclass(eq=False)
class ClassExam:
    """Asks the held-out cases of one training.

    Parameters
    ----------
    lesson : ClassLesson
        The training.
    cache : FeatureCache
        Keeps the features of frozen encoders.
    held : ndarray of int
        Which cases are held out, ascending.
    """

    lesson: ClassLesson
    cache: FeatureCache
    held: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    after: ClassScores = field(default_factory=ClassScores)
    temperature: float = 1.0
    logits: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def ask(self, network: ClassNetwork) -> None:
        """Measure a network on the held-out cases as it is now."""
        # Its features change with every step: they are of no use to a later call.
        self.measure(logits_of(network, [self.lesson.cases.crops[k] for k in self.held], FeatureCache()))

    def measure(self, logits: NDArray[np.floating]) -> None:
        """Temperature and figures from the logits (N, C) of the held-out cases."""
        answers = self.lesson.cases.answers[self.held]
        self.temperature, self.logits = fit_temperature(logits, answers), np.asarray(logits, np.float64)
        self.after = scores_of(_probabilities(self.logits, self.temperature), answers, self.lesson.cases.classes)

    def compared(self) -> tuple[ClassScores, ClassScores]:
        """Figures of the version in use (or of guessing) and of the new one.

        Both are of the held-out cases that the version in use has not learned from; where there are too few, its
        figures are those that its card recorded when it was made.
        """
        lesson = self.lesson
        if lesson.old is None or lesson.is_fresh:
            return guessing(len(lesson.cases.classes)), self.after
        unknown = unknown_to(lesson.old, lesson.marks, lesson.owners, self.held)
        answers = lesson.cases.answers[unknown]
        if len(unknown) < _LEAST_UNKNOWN or len(set(answers.tolist())) < 2:
            recorded = {k: v for k, v in lesson.old.card.figures.items() if k in ClassScores.model_fields}
            return ClassScores(**recorded), self.after
        old = logits_of(lesson.old.network, [lesson.cases.crops[k] for k in unknown], self.cache)
        new = self.logits[np.searchsorted(self.held, unknown)]
        temperature = float(lesson.old.network.temperature)  # type: ignore[arg-type]
        return (
            scores_of(_probabilities(old, temperature), answers, lesson.cases.classes),
            scores_of(_probabilities(new, self.temperature), answers, lesson.cases.classes),
        )


def _probabilities(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    return np.asarray(softmax(np.asarray(logits, np.float64) / temperature, axis=1))
