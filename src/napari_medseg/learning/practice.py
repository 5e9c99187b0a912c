"""One step's losses: patches of the corrected cases, clicks on them, and clicks on synthetic scans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from napari_medseg.errors import JobFailed
from napari_medseg.learning.click_lessons import ClickViews, draw_click_views
from napari_medseg.learning.lesson import Lesson, Material
from napari_medseg.learning.losses import label_loss
from napari_medseg.learning.patches import Patches, draw_patches
from napari_medseg.learning.samples import draw_samples
from napari_medseg.learning.settings import Strategy
from napari_medseg.learning.team import present_team
from napari_medseg.learning.train_click_model import click_loss, collate
from napari_medseg.learning.trainer import Trainer
from napari_medseg.segmentation.memory import is_out_of_memory
from napari_medseg.segmentation.precision import computing_in
from napari_medseg.segmentation.views import VALID

_CLICK_VIEWS, _CLICK_SIZE = 2, 48
_REPLAYS = 16
_SMALLEST = 16
_CACHED_A_CASE = 8


class Practice:
    """Gives a trainer gradients, one step after the other; each step's chance depends on seed and step alone.

    Parameters
    ----------
    lesson : Lesson
        What is learned.
    trainer : Trainer
        Who learns it.
    """

    def __init__(self, lesson: Lesson, trainer: Trainer) -> None:
        self.lesson, self.trainer = lesson, trainer
        self._materials: dict[bool, Material] = {}
        self._replays: dict[int, ClickViews] = {}
        self._is_short_of_memory = False
        self._features: dict[tuple[bool, int], tuple[Tensor, Patches]] = {}
        self._team = present_team()

    def step(self, *, with_held_out: bool) -> float:
        """Take one step and return the loss on the corrected cases.

        Raises
        ------
        JobFailed
            If the loss is not a number, or memory does not suffice for the smallest patch.
        """
        if with_held_out not in self._materials:
            self._materials[with_held_out] = self.lesson.material(with_held_out=with_held_out)
        while True:
            try:
                loss = self._gradients(self._materials[with_held_out], with_held_out)
                self.trainer.step()
            except JobFailed:
                if self._is_exact:
                    raise
                # Low precision overflows now and then: the same step, and all later ones, in 32 bits.
                self.trainer.progress.is_exact = True
                self.trainer.optimiser.forget_gradients()
                self._features.clear()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._team.size > 1:  # the others wait for this process
                    raise
                self._make_smaller(error)
            else:
                return loss

    @property
    def _is_exact(self) -> bool:
        return self.lesson.dtype is torch.float32 or self.trainer.progress.is_exact

    def _gradients(self, material: Material, with_held_out: bool) -> float:
        settings, step = self.lesson.settings, self.trainer.progress.step
        rng = np.random.default_rng((self.lesson.seed, step))
        if self.lesson.plan.strategy is Strategy.FEATURES:
            return self._backward(lambda: self._cached_loss(material, with_held_out, step))
        patches = self._draw(rng, material)
        loss = self._backward(lambda: self._label_loss(patches))
        if material.lessons and rng.random() < settings.click_share:
            replays = rng.random() < settings.replay_share
            own, n = np.random.default_rng((self.lesson.seed, step, 1 + self._team.rank)), self._n_views
            views = draw_click_views(own, material.lessons, n=n, size=_CLICK_SIZE)
            others = [self._replay(own)] if replays else []
            batches = [views, *others] if self._is_short_of_memory else [views.with_others(*others)]
            for batch in batches:
                self._backward(lambda: len(batch.total) / n * self._click_loss(batch))  # noqa: B023 - called at once
        return loss

    @property
    def _n_views(self) -> int:
        return max(1, _CLICK_VIEWS // self._team.size)

    def _draw(self, rng: np.random.Generator, material: Material) -> Patches:
        n = self._team.batch(self.lesson.settings.batch)
        return draw_patches(
            rng,
            material.cases,
            n=n,
            share=self._team.share(n),
            shape=self.trainer.progress.patch,
            augment=self.lesson.plan.augments,
            weights=material.weights,
        )

    def _backward(self, make: Callable[[], Tensor]) -> float:
        loss = make()
        value = float(loss.detach())
        if self._team.any(not np.isfinite(value), loss.device):  # one that stopped alone would leave the others waiting
            self.trainer.refuse_nan()
        loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _label_loss(self, patches: Patches) -> Tensor:
        device = self.lesson.device
        with self._autocast():
            logits = self.trainer.network.segment_labels(patches.inputs.to(device))
        return self._loss_of(logits, patches)

    def _replay(self, rng: np.random.Generator) -> ClickViews:
        """Clicks on one of a stock of synthetic scans, each of which is made when it is first drawn."""
        number = int(rng.integers(_REPLAYS))
        if number not in self._replays:
            own = np.random.default_rng((self.lesson.seed, number, _REPLAYS, self._team.rank))
            inputs, truth, total = collate(draw_samples(own, [], n=self._n_views, size=_CLICK_SIZE))
            self._replays[number] = ClickViews(inputs, truth, inputs[:, VALID : VALID + 1], total)
        return self._replays[number]

    def _click_loss(self, views: ClickViews) -> Tensor:
        """Loss of the prompted mask where the truth is known; the estimate of its quality stays as it was fitted."""
        device = self.lesson.device
        inputs, truth, counted, total = (t.to(device) for t in (views.inputs, views.truth, views.counted, views.total))
        with self._autocast():
            logits, quality = self.trainer.network(inputs)
        known = inputs.clone()
        known[:, VALID : VALID + 1] = counted
        loss, _ = click_loss(logits, quality.detach(), known, truth, total)
        return loss

    def _cached_loss(self, material: Material, with_held_out: bool, step: int) -> Tensor:
        """Loss on patches whose features were computed once: only the last layer learns, and nothing is augmented."""
        number = step % (_CACHED_A_CASE * len(material.cases))
        key, network = (with_held_out, number), self.trainer.network
        if key not in self._features:
            patches = self._draw(np.random.default_rng((self.lesson.seed, number)), material)
            with torch.no_grad(), self._autocast():
                self._features[key] = (network.label_features(patches.inputs.to(self.lesson.device)).float(), patches)
        fine, patches = self._features[key]
        return self._loss_of(network.label_logits(fine), patches)

    def _loss_of(self, logits: Tensor, patches: Patches) -> Tensor:
        labels, weight, taught = (t.to(logits.device) for t in (patches.labels, patches.weight, patches.taught))
        return label_loss(logits.float(), labels, weight, taught, total=self._team.total)

    def _autocast(self) -> torch.autocast:
        return computing_in(torch.float32 if self._is_exact else self.lesson.dtype, self.lesson.device)

    def _make_smaller(self, error: BaseException) -> None:
        """Halve the longest side of the patch and forget what the failed step had begun."""
        self.trainer.optimiser.forget_gradients()
        self._features.clear()
        self._replays.clear()
        self._is_short_of_memory = True
        if self.lesson.device.type == "cuda":
            torch.cuda.empty_cache()
        patch = list(self.trainer.progress.patch)
        longest = int(np.argmax(patch))
        if patch[longest] <= _SMALLEST:
            raise JobFailed(
                "there is not enough memory to learn, not even from the smallest patch: close other programs or choose "
                "the CPU, then try again; nothing was changed"
            ) from error
        patch[longest] = max(_SMALLEST, patch[longest] // 2 // 16 * 16)
        self.trainer.progress.patch = (patch[0], patch[1], patch[2])
