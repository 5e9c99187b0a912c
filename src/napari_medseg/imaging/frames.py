"""Several scans in one picture: where each lies along the axes of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled
from napari_medseg.imaging.volume import LabelMap, Volume

# A scan that lies this little beside its place, in parts of its smallest voxel, counts as lying there.
_SAME_PLACE = 0.1
_MOST_VOXELS = 256 * 1024 * 1024
_SLAB = 8


def frame_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of a scan's axes ``(z, y, x)`` in RAS+, one a column, of length 1."""
    return np.asarray(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def place_in(
    volume: Volume | LabelMap, frame: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Scale and translation that put a scan where it lies along the axes of a frame.

    Parameters
    ----------
    volume : Volume
        The scan.
    frame : ndarray, shape (3, 3)
        What `frame_of` returned for the scan that gives the picture its axes.

    Returns
    -------
    (scale, translate) or None
        In millimetres along the frame's axes. None where the scan is turned against them, so that no scale and
        translation puts all of its voxels where they belong.
    """
    inside = np.linalg.solve(frame, volume.affine[:3])
    scale: NDArray[np.float64] = np.diag(inside[:, :3]).astype(np.float64)
    off = np.abs(inside[:, :3] - np.diag(scale)) @ (np.array(volume.data.shape) - 1)
    if (scale <= 0).any() or np.linalg.norm(off) > _SAME_PLACE * min(volume.spacing_mm):
        return None
    return scale, np.asarray(inside[:, 3] + 0.0, np.float64)


def turned_into(
    volume: Volume, frame: NDArray[np.float64], *, should_stop: Callable[[], bool] = lambda: False
) -> Volume:
    """Resample a scan along the axes of a frame (linear), to look at it over another scan; never for measuring.

    The result covers the whole scan at its own spacing (coarser only where it would not fit into memory); outside of
    the scan stands its smallest value.

    Raises
    ------
    Cancelled
        If ``should_stop`` said so.
    """
    from scipy.ndimage import affine_transform

    shape, affine = _grid_round(volume, frame)
    step = np.linalg.solve(volume.affine, affine)
    low = volume.data.min()
    data = np.empty(shape, volume.data.dtype)
    for start in range(0, shape[0], _SLAB):
        if should_stop():
            raise Cancelled("Stopped.")
        slab = data[start : start + _SLAB]
        offset = step[:3, 3] + step[:3, 0] * start
        affine_transform(volume.data, step[:3, :3], offset, output=slab, order=1, mode="constant", cval=float(low))
    return replace(volume, data=data, affine=affine, grid=None)


def _grid_round(volume: Volume, frame: NDArray[np.float64]) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of the smallest grid along a frame's axes that holds the whole scan."""
    ends = [(0, n - 1) for n in volume.data.shape]
    corners = np.array(np.meshgrid(*ends, indexing="ij"), float).reshape(3, -1)
    there = np.linalg.solve(frame, volume.affine[:3, :3] @ corners + volume.affine[:3, 3:])
    low, high = there.min(axis=1), there.max(axis=1)
    spacing = np.array(volume.spacing_mm)
    n_voxels = float(np.prod((high - low) / spacing + 1))
    spacing *= max(1.0, n_voxels / max(_MOST_VOXELS, 2 * volume.data.size)) ** (1 / 3)
    z, y, x = (int(n) for n in np.ceil((high - low) / spacing - 1e-6) + 1)
    affine = np.eye(4)
    affine[:3, :3] = frame * spacing
    affine[:3, 3] = frame @ low
    return (z, y, x), affine
