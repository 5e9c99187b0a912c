"""Patches of corrected cases: where they are cut, and how they are turned, stretched and lit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from napari_medseg.segmentation.views import IMAGE, N_CHANNELS, VALID

if TYPE_CHECKING:
    from napari_medseg.learning.cases import Case

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """One batch.

    Parameters
    ----------
    inputs : Tensor, shape (B, 7, D, H, W)
        Views without prompts.
    labels : Tensor of int, shape (B, D, H, W)
        0 background, k + 1 for output k.
    weight : Tensor, shape (B, D, H, W)
        How much each voxel counts.
    taught : Tensor of bool, shape (B, K)
        Which outputs mean something in each patch.
    """

    inputs: Tensor
    labels: Tensor
    weight: Tensor
    taught: Tensor


def draw_patches(
    rng: Generator,
    cases: Sequence[Case],
    *,
    n: int,
    shape: Shape,
    augment: bool = True,
    weights: Sequence[Tensor],
    share: slice = slice(None),
) -> Patches:
    """Draw a batch of patches from cases, each as often as the others.

    Parameters
    ----------
    rng : Generator
        Source of chance; the same one draws the same batch.
    cases : sequence of Case
        Where to draw from.
    n, shape : int, tuple of int
        How many patches, and their size in voxels.
    augment : bool
        Whether to turn, stretch, bend and light them at random. They are never mirrored: anatomy has sides.
    weights : sequence of Tensor
        The cases' voxel weights, shape (z, y, x); held-out parts are 0 in them.
    share : slice
        Which patches of the batch to cut: each has a chance of its own, so that processes can share a batch.
    """
    order = rng.integers(len(cases), size=n)[share]
    seeds = rng.integers(2**63, size=n)[share]
    chances = [np.random.default_rng(seed) for seed in seeds]
    drawn = [_draw(own, cases[k], weights[k], shape, augment) for own, k in zip(chances, order, strict=True)]
    inputs, labels, weight = (torch.stack(t) for t in zip(*drawn, strict=True))
    return Patches(inputs, labels, weight, torch.stack([cases[k].taught | cases[k].kept for k in order]))


def _draw(rng: Generator, case: Case, weights: Tensor, shape: Shape, augment: bool) -> tuple[Tensor, Tensor, Tensor]:
    size = torch.tensor(case.image.shape, dtype=torch.float32)
    points = _points(rng, shape, augment) + _centre(rng, case, weights, shape)
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(-1).float()
    cut, at = _part_round(points, case.image.shape)
    image = F.grid_sample(case.image[cut][None, None], at, padding_mode="border", align_corners=False)[0, 0]
    marks = torch.stack([case.labels[cut].float(), weights[cut]])
    taken = F.grid_sample(marks[None], at, mode="nearest", padding_mode="border", align_corners=False)[0] * inside
    inputs = torch.zeros((N_CHANNELS, *shape))
    inputs[IMAGE] = (_lit(rng, image) if augment else image) * inside
    inputs[VALID] = inside
    return inputs, taken[0].round().long(), taken[1]


def _part_round(points: Tensor, shape: Sequence[int]) -> tuple[tuple[slice, ...], Tensor]:
    """Part of a scan that holds some points, and where they lie in it as `grid_sample` wants it: x, y, z in -1..1."""
    flat = points.reshape(-1, 3)
    low, high = flat.amin(0).floor().long() - 1, flat.amax(0).ceil().long() + 2
    starts = [min(max(0, int(a)), n - 1) for a, n in zip(low, shape, strict=True)]
    stops = [max(min(n, int(b)), a + 1) for a, b, n in zip(starts, high, shape, strict=True)]
    start, size = torch.tensor(starts, dtype=torch.float32), torch.tensor(stops) - torch.tensor(starts)
    at = (2 * (points - start + 0.5) / size - 1).flip(-1)[None]
    return tuple(slice(a, b) for a, b in zip(starts, stops, strict=True)), at


def _centre(rng: Generator, case: Case, weights: Tensor, shape: Shape) -> Tensor:
    """Two thirds of the patches round a labelled or corrected voxel, the others anywhere that counts."""
    size, half = np.array(case.image.shape), np.array(shape) / 2
    low, high = np.minimum(half, size / 2), np.maximum(size - half, size / 2)
    anchor = case.anchor(rng) if rng.random() < 2 / 3 else None
    if anchor is None:
        anchor = rng.uniform(low, np.maximum(high, low + 1e-6))
    jitter = rng.uniform(-0.25, 0.25, 3) * np.array(shape)
    centre = np.clip(anchor + jitter, low, high) + rng.uniform(-2, 2, 3)
    return torch.tensor(centre - 0.5, dtype=torch.float32)


def _points(rng: Generator, shape: Shape, augment: bool) -> Tensor:
    """Offsets (D, H, W, 3) in voxels of a patch's points from its centre, turned, stretched and bent."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    if not augment or rng.random() < 0.1:
        return points
    turn = _rotation(rng, flat=shape[0] <= 16)
    stretch = np.diag(np.exp(rng.normal(0, 0.1, 3)) * np.exp(rng.normal(0, 0.05)))
    points = points @ torch.tensor((turn @ stretch).T, dtype=torch.float32)
    if rng.random() < 0.5:
        coarse = torch.tensor(rng.normal(0, 1, (1, 3, 4, 4, 4)) * rng.uniform(0.5, 3.0), dtype=torch.float32)
        bend = F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]
        points = points + bend.movedim(0, -1)
    return points


def _rotation(rng: Generator, *, flat: bool) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Turn by up to about 30 degrees; within the slice alone where there is only one."""
    turn = np.eye(3)
    for axis in range(3):
        angle = rng.normal(0, 0.17) if not flat or axis == 0 else 0.0
        a, b = [k for k in range(3) if k != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    return turn


def _lit(rng: Generator, image: Tensor) -> Tensor:
    """Change contrast, brightness, curve, sharpness and noise."""
    image = image * float(np.exp(rng.normal(0, 0.15))) + float(rng.normal(0, 0.15))
    if rng.random() < 0.3:
        low, high = image.min(), image.max()
        span = (high - low).clamp_min(1e-3)
        image = ((image - low) / span) ** float(np.exp(rng.normal(0, 0.25))) * span + low
    if rng.random() < 0.15:
        image = F.avg_pool3d(image[None], 3, 1, 1, count_include_pad=False)[0]
    if rng.random() < 0.3:
        image = image + torch.from_numpy(rng.standard_normal(image.shape, np.float32)) * float(rng.uniform(0.02, 0.2))
    return image
