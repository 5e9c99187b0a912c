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
from napari_medseg.segmentation.areas import Area, area_of
from napari_medseg.segmentation.prompts import Box, Click, Prompt, Scribble

FADE = 0.98

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
    "Area",
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
    areas: tuple[Area, ...] = ()

    @property
    def positive(self) -> Index:
        """The positive points, shape (N, 3)."""
        return self.points[self.signs]

    def reach(self, *, boxes: bool = True) -> Index:
        """All points, and the corners of the lassos (and boxes) round the lesion."""
        held = [area for area in self.areas if area.positive and (boxes or area.outline is not None)]
        corners = [corner for area in held for corner in (area.low, area.high)]
        return np.concatenate([self.points, np.array(corners, float).reshape(-1, 3)])


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
        intensity, previous mask, positive and negative points as fading ramps, areas, and 1 inside the scan. Both
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
    """Draw points as ramps that fade with age, and areas filled with +1 or -1."""
    for point, sign, age in zip(prompts.points, prompts.signs, prompts.ages, strict=True):
        channel = out[POSITIVE if sign else NEGATIVE]
        draw_ramp(channel, view.point_of(point, spacing_mm), FADE ** float(age))
    for area in prompts.areas:
        area.draw(out[BOX], view, spacing_mm)


def prompts_in_array(prompts: Sequence[Prompt], affine: NDArray[np.float64]) -> Prompts:
    """Prompts from world millimetres (RAS+) to array indices; scribbles become points a step apart."""
    to_index = np.linalg.inv(affine)
    points: list[Index] = []
    signs: list[bool] = []
    ages: list[int] = []
    areas: list[Area] = []
    for age, prompt in enumerate(reversed(prompts)):
        if isinstance(prompt, Click):
            found = _indices([prompt.position_mm], to_index)
        elif isinstance(prompt, Scribble):
            found = _thinned(_indices(prompt.points_mm, to_index))
        else:
            is_lasso = not isinstance(prompt, Box)
            marked = (prompt.corner_mm, prompt.opposite_mm) if isinstance(prompt, Box) else prompt.points_mm
            areas.append(area_of(_indices(marked, to_index), prompt.positive, age, is_lasso=is_lasso))
            continue
        points.extend(found)
        signs.extend([prompt.positive] * len(found))
        ages.extend([age] * len(found))
    return Prompts(
        np.array(points, float).reshape(-1, 3), np.array(signs, bool), np.array(ages, np.int64), tuple(areas[::-1])
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
