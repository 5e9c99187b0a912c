"""A reader who knows the truth: clicks in the middle of lesions and redraws the worst slices."""

from __future__ import annotations

from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.prompts import Point


def middle_mm(mask: NDArray[np.bool_], grid: Volume | LabelMap) -> Point:
    """World position (RAS mm) of the voxel deepest inside a mask."""
    depth = edt.edt(np.ascontiguousarray(mask), anisotropy=grid.spacing_mm, black_border=True)
    x, y, z = grid.position_of(np.asarray(np.unravel_index(int(depth.argmax()), depth.shape), dtype=float))
    return float(x), float(y), float(z)


def worst_slices(mask: NDArray[Any], truth: NDArray[np.bool_], n: int) -> tuple[int, ...]:
    """Return the slices (along the first axis) in which most voxels are wrong, in order."""
    errors = ((mask > 0) != truth).sum(axis=(1, 2))
    worst = np.argsort(-errors, kind="stable")[:n]
    return tuple(sorted(int(z) for z in worst if errors[z]))


def corrected_slices(mask: LabelMap, truth: NDArray[np.bool_], slices: tuple[int, ...]) -> LabelMap:
    """Redraw some slices as the truth has them; the others stay as they are."""
    data = mask.data.copy()
    data[list(slices)] = truth[list(slices)]
    return LabelMap(data, mask.affine, mask.names, grid=mask.grid)
