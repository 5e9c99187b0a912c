"""The figures of a training: old and new version on the same held-out cases, pinned cases and guard set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from napari_medseg.learning.held_out import HeldOut, describe
from napari_medseg.learning.lesson import Lesson
from napari_medseg.learning.reports import Figures
from napari_medseg.learning.samples import Sample
from napari_medseg.learning.validation import (
    automatic_dice,
    dice,
    guard_dice,
    guard_samples,
    one_click_dice,
    quick_dice,
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

    def of_new(self, network: ClickUNet, *, final: bool = True) -> Figures:
        """Figures of the new version; those of the held-out cases alone while others are still to join."""
        return self._measure(Checkpoint(network, self.lesson.card), automatic=True, final=final)

    def on_the_way(self, network: ClickUNet) -> float | None:
        """Dice on the held-out cases without a click, as quickly as it can be had."""
        lesson = self.lesson
        return quick_dice(network, lesson.automatic, lesson.cases, lesson.held_out, lesson.dtype)

    def combined(self, apart: Figures, final: Figures) -> Figures:
        """Figures to judge by: the held-out cases before they joined, and no better than the final weights are."""
        return final.model_copy(
            update={
                "automatic": _least(apart.automatic, final.automatic),
                "one_click": _least(apart.one_click, final.one_click),
            }
        )

    def _measure(self, checkpoint: Checkpoint, *, automatic: bool, final: bool = True) -> Figures:
        lesson = self.lesson
        of = (lesson.cases, lesson.held_out, lesson.device, self._stop)
        network = checkpoint.network.to(lesson.device)
        is_old = checkpoint is lesson.old
        return Figures(
            automatic=automatic_dice(checkpoint, *of) if automatic else None,
            one_click=one_click_dice(checkpoint, *of),
            guard=guard_dice(network, self._guard, lesson.device, lesson.dtype) if final else None,  # type: ignore[arg-type]
            kept=(1.0 if is_old else self._agreement(checkpoint)) if final and self._has_kept_labels else None,
            pinned=self._pinned(checkpoint, automatic=automatic) if final and lesson.pinned else None,
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
