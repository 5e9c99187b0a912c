"""The figures of a training: old and new version on the same held-out cases, pinned cases and guard set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from napari_medseg.learning.lesson import Lesson
from napari_medseg.learning.reports import Figures
from napari_medseg.learning.samples import Sample
from napari_medseg.learning.validation import (
    HeldOut,
    automatic_dice,
    describe,
    dice,
    guard_dice,
    guard_samples,
    one_click_dice,
)
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.segmenter import Segmenter


class Examination:
    """Measures versions of one lesson's network.

    Parameters
    ----------
    lesson : Lesson
        What was learned, and from what.
    stop : callable
        Asked now and then whether to give up.
    """

    def __init__(self, lesson: Lesson, stop: Callable[[], bool]) -> None:
        self.lesson, self._stop = lesson, stop

    @property
    def held_out(self) -> str:
        """What the figures are measured on, for a person."""
        return describe(self.lesson.held_out, len(self.lesson.cases))

    def of_old(self) -> Figures:
        """Figures of the version that learns."""
        old = self.lesson.old
        taught = np.any([case.taught.numpy() for case in self.lesson.cases], axis=0)
        knows_all = not taught[len(old.card.labels) :].any() and old.card.automatic is not None
        return self._measure(old, automatic=knows_all)

    def of_new(self, network: ClickUNet, *, quick: bool = False) -> Figures:
        """Figures of the version as it is now; on the way only those of the held-out cases, from fewer clicks."""
        return self._measure(Checkpoint(network, self.lesson.card), automatic=True, quick=quick)

    def combined(self, apart: Figures, final: Figures) -> Figures:
        """Figures to judge by: the held-out cases before they joined, and no better than the final weights are."""
        return final.model_copy(
            update={
                "automatic": _least(apart.automatic, final.automatic),
                "one_click": _least(apart.one_click, final.one_click),
            }
        )

    def _measure(self, checkpoint: Checkpoint, *, automatic: bool, quick: bool = False) -> Figures:
        lesson = self.lesson
        of = (lesson.cases, lesson.held_out, lesson.device, self._stop)
        network = checkpoint.network.to(lesson.device)
        is_old = checkpoint is lesson.old
        return Figures(
            automatic=automatic_dice(checkpoint, *of) if automatic else None,
            one_click=one_click_dice(checkpoint, *of, n_clicks=1 if quick else 3),
            guard=None if quick else guard_dice(network, self._guard, lesson.device, lesson.dtype),  # type: ignore[arg-type]
            kept=(1.0 if is_old else self._agreement(checkpoint)) if not quick and self._has_kept_labels else None,
            pinned=self._pinned(checkpoint, automatic=automatic) if not quick and lesson.pinned else None,
        )

    @property
    def _has_kept_labels(self) -> bool:
        return any(bool(self.lesson.cases[held.index].kept.any()) for held in self.lesson.held_out)

    def _agreement(self, checkpoint: Checkpoint) -> float | None:
        """Mean Dice between old and new answers, of labels that the held-out masks do not speak of."""
        found = []
        for held in self.lesson.held_out:
            case = self.lesson.cases[held.index]
            answers = [
                Segmenter(c, str(self.lesson.device)).segment(case.volume, should_stop=self._stop).data
                for c in (self.lesson.old, checkpoint)
            ]
            for k in np.flatnonzero(case.kept.numpy()):
                value = list(checkpoint.card.labels)[k]
                found.append(dice(answers[0] == value, answers[1] == value))
        measured = [d for d in found if d is not None]
        return float(np.mean(measured)) if measured else None

    def _pinned(self, checkpoint: Checkpoint, *, automatic: bool) -> float | None:
        pinned = self.lesson.pinned
        whole = slice(0, None)
        every = [HeldOut(k, (whole, whole, whole), is_whole=True) for k in range(len(pinned))]
        measure = automatic_dice if automatic and self.lesson.old.card.automatic is not None else one_click_dice
        return measure(checkpoint, pinned, every, self.lesson.device, self._stop)

    @cached_property
    def _guard(self) -> list[Sample]:
        return guard_samples()


def _least(a: float | None, b: float | None) -> float | None:
    found = [x for x in (a, b) if x is not None]
    return min(found) if found else None
