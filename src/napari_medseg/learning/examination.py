"""The figures of a training: old and new version on the same held-out cases, pinned cases and guard set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

from napari_medseg.learning.correction import content_hash
from napari_medseg.learning.held_out import HeldOut, describe
from napari_medseg.learning.lesson import Lesson
from napari_medseg.learning.mixing import PARTS, PARTS_FROM_ONE_SCAN, SMALLEST_PART, mixed
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
from napari_medseg.models.card import Card
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.segmenter import Segmenter

_SHARE_IN_CLICKS = 0.7
_CLEARLY_BETTER = 0.1


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

    def of_new(self, network: ClickUNet, share: float, guard: float | None = None) -> Figures:
        """Figures of the new version; where its answers to clicks are the old ones, so is what the guard set says."""
        return self._measure(Checkpoint(network, self.card(share)), automatic=True, guard=guard)

    def of_parts(self, network: ClickUNet, before: Figures) -> tuple[float, float, dict[str, Any]]:
        """Choose how clicks are answered from now on, on the held-out cases while these are still apart.

        Returns
        -------
        float
            How much is kept of what clicks have learned: the part that answers best to one click and forgets nothing;
            0 where none is better than nothing of it, and little where no whole case was held out: the other end of
            the scan that taught says little of the next scan.
        float
            The share that labels have in the answer to a click into them; 0 where the click alone does better, or only
            a little worse where no whole case was held out, or labels without a click do worse than a click.
        dict
            What that reaches on the held-out cases: `Figures`, as JSON holds them.
        """
        lesson = self.lesson
        of = (lesson.cases, lesson.held_out, lesson.device, self._stop)
        automatic = automatic_dice(Checkpoint(network, lesson.card), *of)

        def one_click(part: float, share: float) -> float:
            reached = one_click_dice(Checkpoint(self.with_part(network, part), self.card(share)), *of)
            return -1.0 if reached is None else reached

        is_another_scan = all(held.is_whole for held in lesson.held_out)
        reached, share = one_click(0.0, 0.0), 0.0
        if automatic is not None and automatic >= reached:
            with_labels = one_click(0.0, _SHARE_IN_CLICKS)
            if with_labels >= reached + (0.0 if is_another_scan else _CLEARLY_BETTER):
                reached, share = with_labels, _SHARE_IN_CLICKS
        parts, part = PARTS if is_another_scan else PARTS_FROM_ONE_SCAN, 0.0
        for more in parts if reached >= 0 and self._clicks_have_learned(network) else ():
            better = one_click(more, share)
            if better > reached and not self._forgets(self.with_part(network, more), before):
                part, reached = more, better
        figures = Figures(automatic=automatic, one_click=reached if reached >= 0 else None)
        return part, share, figures.model_dump()

    def card(self, share: float) -> Card:
        """The new version's card, with the share that labels have in clicks."""
        automatic = self.lesson.automatic.model_copy(update={"share_in_clicks": share})
        return self.lesson.card.model_copy(update={"automatic": automatic})

    def settled_part(self, network: ClickUNet, part: float, before: Figures) -> float:
        """Return the chosen part for the final weights, or a smaller one where that would forget too much."""
        while part >= SMALLEST_PART:
            if not self._forgets(self.with_part(network, part), before):
                return part
            part /= 2
        return 0.0

    def with_part(self, network: ClickUNet, part: float) -> ClickUNet:
        """Return the network with a part of what its clicks have learned."""
        return mixed(self._old, network, part)

    def with_names(self, sentence: str) -> str:
        """Call pinned cases by their names, for the user alone: no card may hold that sentence."""
        for mark, case in zip(self._marks, self.lesson.pinned, strict=True):
            name = case.correction.name or case.volume.name
            sentence = sentence.replace(mark, f"'{name}'" if name else mark)
        return sentence

    @property
    def _old(self) -> ClickUNet:
        assert isinstance(self.lesson.old.network, ClickUNet)
        return self.lesson.old.network

    def _clicks_have_learned(self, network: ClickUNet) -> bool:
        old = dict(self._old.named_parameters())
        clicks = ((k, p) for k, p in network.named_parameters() if not k.startswith("label_"))
        return any(not torch.equal(p, old[k].to(p.device)) for k, p in clicks)

    def _forgets(self, network: ClickUNet, before: Figures) -> bool:
        """Whether less than half of what may be lost is left."""
        return (before.guard or 0.0) - self._guard_dice(network) > 0.5 * self.lesson.settings.largest_loss

    def _guard_dice(self, network: ClickUNet) -> float:
        return guard_dice(network, self._guard, self.lesson.device, self.lesson.dtype)

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

    def _measure(self, checkpoint: Checkpoint, *, automatic: bool, guard: float | None = None) -> Figures:
        lesson = self.lesson
        of = (lesson.cases, lesson.held_out, lesson.device, self._stop)
        network = checkpoint.network.to(lesson.device)
        is_old = checkpoint is lesson.old
        return Figures(
            automatic=automatic_dice(checkpoint, *of) if automatic else None,
            one_click=one_click_dice(checkpoint, *of),
            guard=self._guard_dice(network) if guard is None else guard,  # type: ignore[arg-type]
            kept=(1.0 if is_old else self._agreement(checkpoint)) if self._has_kept_labels else None,
            pinned=self._pinned(checkpoint, automatic=automatic) if lesson.pinned else None,
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

    def _pinned(self, checkpoint: Checkpoint, *, automatic: bool) -> dict[str, float]:
        """Dice of each pinned case, after one click and, where the old version could do that, without one."""
        pinned, whole, found = self.lesson.pinned, slice(0, None), dict[str, float | None]()
        for k, mark in enumerate(self._marks):
            held = [HeldOut(k, (whole, whole, whole), is_whole=True)]
            of = (pinned, held, self.lesson.device, self._stop)
            found[f"{mark} with one click"] = one_click_dice(checkpoint, *of)
            if automatic and self.lesson.old.card.automatic is not None:
                found[f"{mark} without a click"] = automatic_dice(checkpoint, *of)
        return {name: round(dice, 4) for name, dice in found.items() if dice is not None}

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """What figures call the pinned cases: they end in cards, which leave; a scan's name is often a patient's."""
        return tuple(f"scan {content_hash(case.correction.volume)[:16]}" for case in self.lesson.pinned)

    @cached_property
    def _guard(self) -> list[Sample]:
        return guard_samples()


def _least(a: float | None, b: float | None) -> float | None:
    found = [x for x in (a, b) if x is not None]
    return min(found) if found else None
