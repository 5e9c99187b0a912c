"""Pairs of views for the Siamese network: the same lesion turned, noisier, of other contrast, coarser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F

from napari_medseg.classification.crops import view_extent_mm
from napari_medseg.classification.subject import bounding_box
from napari_medseg.imaging.view import View, draw_ramp, normalise, sample, valid
from napari_medseg.learning.class_augment import turned
from napari_medseg.networks.channels import IMAGE, N_CHANNELS, POSITIVE, PREVIOUS, VALID, WINDOW

# A stored view reaches further than what the network sees, so that it can be turned without showing its border.
_REACH = 1.5
_MOST = 10.0
# A patient may lie turned in the next scan, but not mirrored: which way a lesion lies helps to know it again.
_MOST_DEGREES = 40.0
_IMAGE, _MASK, _VALID = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class StoredLesion:
    """A lesion's surroundings, from which views are drawn.

    Parameters
    ----------
    channels : Tensor of float16, shape (3, M, M, M)
        Image (z-scored), share of the lesion, 1 inside the scan.
    patient : str
        Lesions of one patient are never told apart in training: they may be the same in two modalities.
    """

    channels: Tensor
    patient: str


def store_lesion(
    image: NDArray[np.generic],
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    *,
    patient: str,
    size: int,
) -> StoredLesion:
    """Cut a lesion's surroundings out of a scan, for views of `size` points a side."""
    box = bounding_box(mask)
    centre = np.array([(part.start + part.stop - 1) / 2 for part in box])
    diameter = max((part.stop - part.start) * s for part, s in zip(box, spacing_mm, strict=True))
    view = View(centre, _REACH * view_extent_mm(float(diameter)), int(_REACH * size))
    inside = valid(image.shape, view, spacing_mm)
    # A scan that is almost flat has no deviation to divide by: its rounding errors would not fit 16 bits.
    pixels = np.clip(normalise(sample(image, view, spacing_mm), inside)[0], -_MOST, _MOST) * inside
    channels = np.stack([pixels, sample(mask, view, spacing_mm), inside])
    return StoredLesion(torch.from_numpy(channels).half(), patient)


def draw_views(lesions: Sequence[StoredLesion], size: int, rng: Generator) -> Tensor:
    """Draw one view (7, N, N, N) of each lesion, as `Matcher` would see it in another scan."""
    x = torch.stack([lesion.channels for lesion in lesions]).float()
    x = _coarser(x, rng)
    x = turned(x, rng, is_lesion=True, strength=1.0, most_degrees=_MOST_DEGREES, size=size)
    image, mask, inside = x[:, _IMAGE], x[:, _MASK].clamp(0, 1), (x[:, _VALID] > 0.5).float()
    return _as_input(_recoloured(image, rng), mask, inside, rng)


def _as_input(image: Tensor, mask: Tensor, inside: Tensor, rng: Generator) -> Tensor:
    """Channels of the network's input; half of the views come without a mask, as from a click."""
    n, size = len(image), image.shape[-1]
    out = torch.zeros(n, N_CHANNELS, *image.shape[1:])
    middle, deviation = _moments(image, inside)
    scored = ((image - middle) / deviation).clamp(-4, 4)
    weight = mask + 1e-4 * inside
    own, spread = _moments(scored, weight)
    window = torch.tanh((scored - own) / (3.0 * spread.clamp_min(0.03)))
    ramp = np.zeros((size,) * 3, np.float32)
    draw_ramp(ramp, np.full(3, (size - 1) / 2))
    out[:, IMAGE], out[:, WINDOW], out[:, VALID] = scored * inside, window * inside, inside
    out[:, PREVIOUS] = mask * (torch.rand((n, 1, 1, 1), generator=rng) < 0.5)
    out[:, POSITIVE] = torch.from_numpy(ramp)
    return out


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum((1, 2, 3), keepdim=True).clamp_min(1e-3)
    mean = (x * weight).sum((1, 2, 3), keepdim=True) / total
    return mean, (((x - mean) ** 2 * weight).sum((1, 2, 3), keepdim=True) / total).sqrt().clamp_min(1e-3)


def _recoloured(image: Tensor, rng: Generator) -> Tensor:
    """Other contrast (gain, gamma of the rank order's ends) and noise."""
    n = len(image)
    bend = 0.4 * (2 * torch.rand((n, 1, 1, 1), generator=rng) - 1)
    level = 0.25 * torch.rand((n, 1, 1, 1), generator=rng)
    bent = image + bend * torch.tanh(image / 2) ** 2
    return bent + level * torch.randn(image.shape, generator=rng)


def _coarser(x: Tensor, rng: Generator) -> Tensor:
    """Half of the views as from a scan of thicker slices or larger voxels."""
    n_coarse = len(x) // 2
    step = [1, 1, 1]
    step[int(torch.randint(3, (1,), generator=rng))] = int(torch.randint(2, 4, (1,), generator=rng))
    pooled = F.avg_pool3d(x[:n_coarse], tuple(step), ceil_mode=True)
    back = F.interpolate(pooled, size=x.shape[2:], mode="trilinear", align_corners=False)
    mixed = torch.cat([back, x[n_coarse:]])
    return mixed
