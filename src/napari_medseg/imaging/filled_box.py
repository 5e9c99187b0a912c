"""The box round what is there: nearly all of a large mask is background, and need not be looked at twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, slice, slice]


def filled_box(mask: NDArray[Any]) -> Region | None:
    """The smallest box that holds all of a mask's voxels, shape (Z, Y, X) and not 0; None where it has none.

    Reads a mask of 8 bits once, at the speed of memory.
    """
    slices = np.flatnonzero(_is_there(mask, (1, 2)))
    if not len(slices):
        return None
    z = slice(int(slices[0]), int(slices[-1]) + 1)
    plane = _is_there(mask[z], 0)
    y, x = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    return z, slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def _is_there(mask: NDArray[Any], axis: int | tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether anything is not 0 along the axes; by the largest value where none is negative, which is faster."""
    if not mask.size:
        return np.asarray(mask.any(axis))
    return np.asarray(mask.max(axis) > 0 if mask.dtype.kind in "bu" else mask.any(axis))
