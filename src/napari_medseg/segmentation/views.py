"""What a click network sees of a view: the scan, with the prompts drawn in.

Training and inference make their input here, and only here, so that what the network learned is what it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.view import (
    BALL_RADIUS,
    Floats,
    Index,
    View,
    draw_ramp,
    intensity_window,
    narrow_window,
    normalise,
    paste,
    sample,
    valid,
)
from napari_medseg.networks.channels import BOX, IMAGE, N_CHANNELS, NEGATIVE, POSITIVE, PREVIOUS, VALID, WINDOW
from napari_medseg.segmentation.prompts import Box, Click, Prompt, Scribble

FADE = 0.98
FLAT = 1e-3  # voxels: a box drawn on one slice, whose corners were turned there and back

__all__ = [
    "BALL_RADIUS",
    "BOX",
    "FADE",
    "IMAGE",
    "NEGATIVE",
    "N_CHANNELS",
    "POSITIVE",
    "PREVIOUS",
    "VALID",
    "WINDOW",
    "Prompts",
    "View",
    "draw_prompts",
    "intensity_window",
    "normalise",
    "paste",
    "prompts_in_array",
    "render",
    "sample",
    "valid",
]


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompts in array indices, oldest first."""

    points: Index
    signs: NDArray[np.bool_]
    ages: NDArray[np.int64]
    boxes: tuple[tuple[Index, Index, bool], ...] = ()

    @property
    def positive(self) -> Index:
        """The positive points, shape (N, 3)."""
        return self.points[self.signs]


def render(
    array: NDArray[np.generic],
    view: View,
    spacing_mm: Sequence[float],
    prompts: Prompts | None = None,
    previous: NDArray[np.generic] | None = None,
) -> Floats:
    """Make the network's input for one view.

    Parameters
    ----------
    array : ndarray, shape (Z, Y, X)
        The scan.
    view : View
        Where to look.
    spacing_mm : sequence of float
        Voxel size along (z, y, x).
    prompts : Prompts, optional
        What the user said; none for automatic segmentation.
    previous : ndarray, shape (Z, Y, X), optional
        The mask so far.

    Returns
    -------
    ndarray of float32, shape (7, size, size, size)
        Image (clipped to its 0.5 - 99.5 percentiles, z-scored), image in a narrow window round the clicked
        intensity, previous mask, positive and negative points as fading ramps, boxes, and 1 inside the scan. Both
        image channels are 0 outside the scan.
    """
    out = np.zeros((N_CHANNELS, view.size, view.size, view.size), np.float32)
    image = sample(array, view, spacing_mm)
    out[VALID] = valid(array.shape, view, spacing_mm)
    out[IMAGE], scale = normalise(image, out[VALID])
    out[IMAGE] *= out[VALID]
    if previous is not None:
        out[PREVIOUS] = sample(previous, view, spacing_mm)
    if prompts is not None:
        if prompts.signs.any():
            middle, deviation = intensity_window(array, prompts.positive, spacing_mm)
            out[WINDOW] = narrow_window(image, middle, deviation, scale) * out[VALID]
        draw_prompts(out, view, spacing_mm, prompts)
    return out


def draw_prompts(out: Floats, view: View, spacing_mm: Sequence[float], prompts: Prompts) -> None:
    """Draw points as ramps that fade with age, and boxes filled with +1 or -1."""
    for point, sign, age in zip(prompts.points, prompts.signs, prompts.ages, strict=True):
        channel = out[POSITIVE if sign else NEGATIVE]
        draw_ramp(channel, view.point_of(point, spacing_mm), FADE ** float(age))
    for low, high, sign in prompts.boxes:
        a, b = np.sort([view.point_of(low, spacing_mm), view.point_of(high, spacing_mm)], axis=0)
        flat = np.abs(high - low) < FLAT
        a, b = np.where(flat, -np.inf, a), np.where(flat, np.inf, b)
        cut = tuple(
            slice(int(np.clip(np.ceil(p), 0, view.size)), int(np.clip(np.floor(q), -1, view.size - 1)) + 1)
            for p, q in zip(a, b, strict=True)
        )
        out[BOX][cut] = 1.0 if sign else -1.0


def in_box(box: tuple[Index, Index, bool], region: Sequence[slice]) -> tuple[slice, ...]:
    """A box's voxels in the region; the lesion in a box drawn on one slice may reach beyond that slice."""
    low, high, positive = box
    return tuple(
        slice(None)
        if positive and b - a < FLAT
        else slice(max(0, round(a) - part.start), max(0, round(b) + 1 - part.start))
        for a, b, part in zip(low, high, region, strict=True)
    )


def prompts_in_array(prompts: Sequence[Prompt], affine: NDArray[np.float64]) -> Prompts:
    """Prompts from world millimetres (RAS+) to array indices; scribbles become points a step apart."""
    to_index = np.linalg.inv(affine)
    points: list[Index] = []
    signs: list[bool] = []
    ages: list[int] = []
    boxes: list[tuple[Index, Index, bool]] = []
    for age, prompt in enumerate(reversed(prompts)):
        if isinstance(prompt, Click):
            found = _indices([prompt.position_mm], to_index)
        elif isinstance(prompt, Scribble):
            found = _thinned(_indices(prompt.points_mm, to_index))
        elif isinstance(prompt, Box):
            low, high = np.sort(_indices([prompt.corner_mm, prompt.opposite_mm], to_index), axis=0)
            boxes.append((low, high, prompt.positive))
            continue
        points.extend(found)
        signs.extend([prompt.positive] * len(found))
        ages.extend([age] * len(found))
    return Prompts(
        np.array(points, float).reshape(-1, 3), np.array(signs, bool), np.array(ages, np.int64), tuple(boxes[::-1])
    )


def _indices(positions_mm: Sequence[tuple[float, float, float]], to_index: NDArray[np.floating]) -> Index:
    homogeneous = np.c_[np.asarray(positions_mm, float).reshape(-1, 3), np.ones(len(positions_mm))]
    return np.asarray((homogeneous @ to_index.T)[:, :3])


def _thinned(points: Index) -> Index:
    """Points of a line about one voxel apart, both ends kept."""
    if len(points) < 2:
        return points
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.r_[0.0, np.cumsum(lengths)]
    wanted = np.linspace(0.0, along[-1], max(2, min(64, int(along[-1]) + 1)))
    return np.stack([np.interp(wanted, along, points[:, k]) for k in range(3)], 1)
