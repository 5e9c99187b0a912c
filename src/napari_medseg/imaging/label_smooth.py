"""Put a label map onto another grid without the stairs of nearest neighbour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.orientation import describe_grid
from napari_medseg.imaging.volume import LabelMap, Volume


def resample_label_map_smooth(label_map: LabelMap, like: Volume | LabelMap) -> LabelMap:
    """Put a label map onto another grid; each voxel takes the label with the largest share of its neighbourhood.

    Each label's indicator is interpolated linearly (after a Gaussian as wide as a target voxel where the target
    is coarser), and the largest one wins over the others and over background. Only when asked: nothing in the package
    calls this on its own. Both grids are named in the result's warnings.
    """
    step = np.asarray(np.linalg.solve(label_map.affine, like.affine), np.float64)
    best, rest = np.zeros(like.data.shape, np.float32), np.ones(like.data.shape, np.float32)
    data = np.zeros(like.data.shape, label_map.data.dtype)
    for label in np.unique(label_map.data[label_map.data > 0]):
        found = _share(label_map.data == label, step, data.shape)
        if found is not None:
            box, share = found
            wins = share > best[box]
            best[box][wins], data[box][wins] = share[wins], label
            rest[box] -= share
    data[rest > best + 1e-6] = 0
    note = f"The mask was resampled (label-smooth) from {describe_grid(label_map)} to {describe_grid(like)}."
    return replace(
        label_map, data=data, affine=like.affine.copy(), grid=like.grid, warnings=(*label_map.warnings, note)
    )


def _share(
    mask: NDArray[np.bool_], step: NDArray[np.float64], whole: tuple[int, ...]
) -> tuple[tuple[slice, ...], NDArray[np.float32]] | None:
    """Box of the target grid that a mask reaches, and the mask's share of each voxel there.

    ``step`` maps indices of the target grid to those of the mask. None where the mask lies outside.
    """
    from scipy.ndimage import affine_transform, find_objects, gaussian_filter

    (box,) = find_objects(mask.astype(np.uint8))
    coarser = np.abs(step[:3, :3]).max(axis=1)
    sigma = np.where(coarser > 1.2, 0.3 * coarser, 0.0)  # as wide as a voxel of the target
    room = np.ceil(4 * sigma).astype(int) + 2
    first = np.array([part.start for part in box]) - room
    own = np.pad(mask[box], [(n, n) for n in room]).astype(np.float32)
    own = gaussian_filter(own, sigma) if sigma.any() else own
    target = _target_box(first, own.shape, step, whole)
    if target is None:
        return None
    offset = step[:3, :3] @ [part.start for part in target] + step[:3, 3] - first
    shape = tuple(part.stop - part.start for part in target)
    return target, affine_transform(own, step[:3, :3], offset, output_shape=shape, order=1, mode="constant", cval=0.0)


def _target_box(
    first: NDArray[np.int64], shape: tuple[int, ...], step: NDArray[np.float64], whole: tuple[int, ...]
) -> tuple[slice, ...] | None:
    """Box of the target grid that a box of the source grid reaches; None if it lies outside."""
    ends = [(start, start + n - 1) for start, n in zip(first, shape, strict=True)]
    corners = np.array(np.meshgrid(*ends, indexing="ij"), float).reshape(3, -1)
    there = np.linalg.solve(step[:3, :3], corners - step[:3, 3:])
    low = np.clip(np.floor(there.min(axis=1)).astype(int), 0, whole)
    high = np.clip(np.ceil(there.max(axis=1)).astype(int) + 1, 0, whole)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)) if (high > low).all() else None
