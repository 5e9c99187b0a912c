"""Clicks on corrected cases: views of a lesion with simulated prompts, of sizes as in use, among its surroundings.

Only voxels that somebody reviewed count in the loss. What lies between reviewed slices is guessed from them, so that a
lesion keeps its size and shape: it decides how views are framed and what a damaged mask looks like, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from napari_medseg.learning.click_simulation import correcting_click, damaged, place_click
from napari_medseg.segmentation.views import VALID, Prompts, View, render, sample

Floats = NDArray[np.float32]
Box = tuple[slice, ...]

_CORRECTING = 0.35
_NARROW, _WIDE = 0.4, 5.0
_MOST_CLICKS = 3


@dataclass(frozen=True, slots=True, eq=False)
class ClickLesson:
    """One lesion that clicks ask for, with the scan round it.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        The scan round the lesion.
    mask : ndarray of bool, shape (Z, Y, X)
        The lesion; between reviewed slices it is a guess.
    counted : ndarray of bool, shape (Z, Y, X)
        Voxels that somebody reviewed and that are not held out.
    spacing_mm : tuple of float
        Voxel size along (z, y, x).
    """

    image: NDArray[np.generic]
    mask: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]

    def box(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last (exclusive) index of the lesion along each axis."""
        where = np.argwhere(self.mask)
        return where.min(0), where.max(0) + 1


@dataclass(frozen=True, slots=True, eq=False)
class ClickViews:
    """A batch of views.

    Parameters
    ----------
    inputs : Tensor, shape (B, 7, N, N, N)
        As `segmentation.views.render` makes them.
    truth : Tensor, shape (B, 1, N, N, N)
        Share of each point that belongs to the lesion.
    counted : Tensor, shape (B, 1, N, N, N)
        1 where the truth is known.
    total : Tensor, shape (B,)
        Size of the whole lesion in the view's points, where it is known.
    """

    inputs: Tensor
    truth: Tensor
    counted: Tensor
    total: Tensor

    def with_others(self, *others: ClickViews) -> ClickViews:
        """All batches as one, which a processor is through with sooner than with one after the other."""
        parts = [(each.inputs, each.truth, each.counted, each.total) for each in (self, *others)]
        return ClickViews(*(torch.cat(alike) for alike in zip(*parts, strict=True)))


def draw_click_views(rng: Generator, lessons: Sequence[ClickLesson], *, n: int, size: int) -> ClickViews:
    """Draw views of lesions with simulated prompts: first clicks, and corrections of damaged masks."""
    drawn = [_turned(rng, *_view(rng, lessons[int(rng.integers(len(lessons)))], size)) for _ in range(n)]
    inputs, truth, counted, total = zip(*drawn, strict=True)
    return ClickViews(
        torch.from_numpy(np.stack(inputs)),
        torch.from_numpy(np.stack(truth))[:, None],
        torch.from_numpy(np.stack(counted))[:, None],
        torch.tensor(total, dtype=torch.float32),
    )


def _view(rng: Generator, lesson: ClickLesson, size: int) -> tuple[Floats, Floats, Floats, float]:
    spacing = np.asarray(lesson.spacing_mm, float)
    low, high = lesson.box()
    diameter = float(((high - low) * spacing).max())
    near = tuple(slice(max(0, int(a) - 3), int(b) + 3) for a, b in zip(low, high, strict=True))
    previous = None
    if rng.random() < _CORRECTING:
        previous = np.zeros_like(lesson.mask)
        previous[near] = damaged(lesson.mask[near], rng)
    prompts = _prompts(rng, lesson, near, previous)
    if previous is None:
        centre = prompts.points[0]
        extent = diameter * float(np.exp(rng.uniform(np.log(_NARROW), np.log(_WIDE))))
    else:
        centre = (low + high - 1) / 2 + rng.normal(0, 0.08, 3) * diameter / spacing
        extent = diameter * float(rng.uniform(1.1, 2.6))
    widest = 1.6 * float((spacing * lesson.mask.shape).max())
    view = View(np.asarray(centre, float), float(np.clip(extent, 10.0 * spacing.min(), widest)), size)
    inputs = render(lesson.image, view, lesson.spacing_mm, prompts, previous)
    counted = (sample(lesson.counted, view, lesson.spacing_mm) > 0.5).astype(np.float32) * inputs[VALID]
    known = lesson.mask & lesson.counted
    truth = sample(lesson.mask, view, lesson.spacing_mm) * counted
    total = float(known.sum() * spacing.prod() / (view.extent_mm / size) ** 3)
    return inputs, truth, counted, total


def _prompts(rng: Generator, lesson: ClickLesson, near: Box, previous: NDArray[np.bool_] | None) -> Prompts:
    """A click where the lesson counts; then, on a damaged mask, clicks into its largest errors."""
    mask, counted, spacing = lesson.mask[near], lesson.counted[near], lesson.spacing_mm
    first = place_click(mask & counted, rng, spacing, centred=0.6)
    assert first is not None
    clicks = [(first, True)]
    for _ in range(int(rng.integers(1, _MOST_CLICKS + 1)) if previous is not None else 0):
        found = correcting_click(mask & counted, previous[near] & counted, rng, spacing)  # type: ignore[index]
        if found is not None:
            clicks.append(found)
    corner = np.array([s.start for s in near], float)
    points = np.array([p for p, _ in clicks]) + corner + rng.uniform(-0.5, 0.5, (len(clicks), 3))
    ages = np.arange(len(clicks), dtype=np.int64)[::-1].copy()
    return Prompts(points, np.array([positive for _, positive in clicks]), ages)


def _turned(
    rng: Generator, inputs: Floats, truth: Floats, counted: Floats, total: float
) -> tuple[Floats, Floats, Floats, float]:
    """Mirror and turn a view at random, and change its contrast: clicks know no sides."""
    axes = tuple(int(k) for k in np.flatnonzero(rng.random(3) < 0.5))
    order = rng.permutation(3)

    def turn(array: Floats) -> Floats:
        return np.ascontiguousarray(np.flip(array, axes).transpose(*order))

    turned = np.stack([turn(channel) for channel in inputs])
    if rng.random() < 0.5:
        turned[0] = turned[0] * rng.uniform(0.8, 1.2) + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.15:
        turned[0] += rng.normal(0, rng.uniform(0.02, 0.2), turned[0].shape).astype(np.float32)
    return turned, turn(truth), turn(counted), total
