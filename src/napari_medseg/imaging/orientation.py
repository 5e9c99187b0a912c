"""The only place where axes are reordered: disk to memory and back, memory to napari's world, one grid to another.

Memory axes are ``(z, y, x)`` and point to superior, posterior, left. A disk array reaches that order by a permutation
and flips alone, so no voxel is ever interpolated on the way in or out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.volume import DiskGrid, LabelMap, Volume

# For each of memory's (z, y, x): the RAS+ world axis that it follows, and the sign in which it follows it.
_MEMORY_WORLD_AXES = (2, 1, 0)
_MEMORY_SIGNS = (1, -1, -1)
_MAX_VOXEL_MM = 1e5
_RAS_TO_SPL = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]], dtype=np.float64)


def to_memory(
    data_ijk: NDArray[Any], affine_ijk: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], DiskGrid]:
    """Turn a disk array into memory order.

    Parameters
    ----------
    data_ijk : ndarray, shape (I, J, K)
        The array as nibabel shows it (fastest axis first).
    affine_ijk : ndarray, shape (4, 4)
        Voxel index ``(i, j, k, 1)`` to world millimetres, RAS+.

    Returns
    -------
    data_zyx : ndarray, shape (Z, Y, X)
        A view of ``data_ijk`` whose axes point to superior, posterior, left.
    affine_zyx : ndarray, shape (4, 4)
        Voxel index ``(z, y, x, 1)`` to world millimetres, RAS+.
    grid : DiskGrid
        What `to_disk` needs to go back.

    Raises
    ------
    ImagingError
        If the array is not 3-D or the affine does not span three dimensions.
    """
    if data_ijk.ndim != 3:
        raise ImagingError(f"expected a volume (I, J, K), got shape {data_ijk.shape}")
    affine = check_affine(affine_ijk)
    from nibabel.orientations import io_orientation  # here: the viewer needs this module at once, nibabel later

    orientation = io_orientation(affine)  # type: ignore[no-untyped-call]
    axes = [int(np.flatnonzero(orientation[:, 0] == world)[0]) for world in _MEMORY_WORLD_AXES]
    flips = [bool(orientation[axis, 1] != sign) for axis, sign in zip(axes, _MEMORY_SIGNS, strict=True)]
    i, j, k = (int(n) for n in data_ijk.shape)
    grid = DiskGrid((i, j, k), affine, (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
    return _flipped(data_ijk.transpose(grid.axes), grid.flips), grid_affine(grid), grid


def to_disk(data_zyx: NDArray[Any], grid: DiskGrid) -> NDArray[Any]:
    """Return a view of a memory array in the axis order of the file: the exact inverse of `to_memory`."""
    shape = memory_shape(grid)
    if data_zyx.shape != shape:
        raise ImagingError(
            f"the mask has shape {data_zyx.shape} but its scan has shape {shape}; resample the mask onto the scan first"
        )
    return _flipped(data_zyx, grid.flips).transpose(np.argsort(grid.axes))


def memory_shape(grid: DiskGrid) -> tuple[int, int, int]:
    """Shape ``(Z, Y, X)`` in memory of an array on this grid."""
    z, y, x = (grid.shape[axis] for axis in grid.axes)
    return z, y, x


def grid_affine(grid: DiskGrid) -> NDArray[np.float64]:
    """Affine of the memory array that `to_memory` makes of a file on this grid: ``(z, y, x, 1)`` to RAS+ mm."""
    memory_to_disk = np.zeros((4, 4))
    memory_to_disk[3, 3] = 1.0
    for memory_axis, (disk_axis, flip) in enumerate(zip(grid.axes, grid.flips, strict=True)):
        memory_to_disk[disk_axis, memory_axis] = -1.0 if flip else 1.0
        memory_to_disk[disk_axis, 3] = grid.shape[disk_axis] - 1 if flip else 0.0
    # Adding 0.0 turns -0.0 into 0.0.
    return np.asarray(grid.affine @ memory_to_disk) + 0.0


def memory_grid(shape_zyx: tuple[int, ...], affine_zyx: NDArray[np.float64]) -> DiskGrid:
    """Return the grid to write a memory array on when no scan file dictates one: axes reversed, nothing flipped."""
    z, y, x = shape_zyx
    reverse = np.eye(4)[[2, 1, 0, 3]]
    return DiskGrid((x, y, z), np.asarray(affine_zyx @ reverse), (2, 1, 0), (False, False, False))


def grid_of(label_map: LabelMap) -> DiskGrid:
    """Return the grid to save a label map on: its scan's on-disk grid where it has one, else its own.

    Raises
    ------
    ImagingError
        If the label map does not lie on the grid that it carries.
    """
    grid = label_map.grid
    if grid is None:
        return memory_grid(label_map.data.shape, label_map.affine)
    if memory_shape(grid) != label_map.data.shape:
        raise ImagingError(
            f"the mask has shape {label_map.data.shape} but its scan has shape {memory_shape(grid)}; resample the mask "
            "onto the scan first"
        )
    distance = corner_distance_mm(grid_affine(grid), label_map.affine, label_map.data.shape)
    if distance > 1e-2:
        raise ImagingError(f"the mask lies {distance:.3g} mm away from its scan; resample it onto the scan first")
    return grid


def same_grid(a: Volume | LabelMap, b: Volume | LabelMap, tol_mm: float = 1e-3) -> bool:
    """Whether two arrays have the same shape and every voxel of both lies at the same place, within ``tol_mm``."""
    if a.data.shape != b.data.shape:
        return False
    return corner_distance_mm(a.affine, b.affine, a.data.shape) <= tol_mm


def corner_distance_mm(a: NDArray[np.float64], b: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the corner voxels of one array under two affines."""
    corners = np.array(np.meshgrid(*([0, n - 1] for n in shape), indexing="ij"), dtype=float).reshape(3, -1)
    moved = (a - b)[:3, :3] @ corners + (a - b)[:3, 3:]
    return float(np.linalg.norm(moved, axis=0).max())


def check_affine(affine: NDArray[Any]) -> NDArray[np.float64]:
    """Return the affine as float64 if it spans three dimensions.

    Raises
    ------
    ImagingError
        If it is not 4 x 4, not finite, or its axes are zero or (nearly) in one plane.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ImagingError(f"expected a finite 4 x 4 affine, got {matrix.tolist()}")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (lengths > 0).all() or not np.isfinite(lengths).all():
        raise ImagingError(f"the voxel size {lengths.tolist()} mm is zero or not finite, so the voxels have no place")
    # 1 for perpendicular axes; 0.5 for a gantry tilt of 60 degrees; 0 where two axes coincide.
    if abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
        raise ImagingError("the voxel axes lie in one plane (the affine is singular), so the voxels have no place")
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise ImagingError(f"the voxel size {lengths.tolist()} mm is too small to be real")
    if lengths.max() > _MAX_VOXEL_MM:
        raise ImagingError(f"the voxel size {lengths.tolist()} mm is too large to be real")
    return matrix


def is_axis_aligned(affine_zyx: NDArray[np.float64], tol_degrees: float = 0.05) -> bool:
    """Whether the memory axes run along the patient's axes, so that napari shows the array where it really lies."""
    directions = _RAS_TO_SPL @ affine_zyx[:3, :3] / np.linalg.norm(affine_zyx[:3, :3], axis=0)
    return bool((np.diag(directions) >= np.cos(np.radians(tol_degrees))).all())


def layer_transform(affine_zyx: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and translation that place an array in napari's world.

    The world has axes ``(z, y, x)`` in millimetres pointing to superior, posterior, left. napari does not slice rotated
    layers faithfully, so an oblique or sheared array is shown along its own axes: true voxel sizes, the whole patient
    turned about the world's origin until those axes are S, P, L. Scans of one orientation, whatever their field of view
    and spacing, overlay exactly; scans turned against each other do not, until one is resampled onto the other
    (`resample_volume`).

    Parameters
    ----------
    affine_zyx : ndarray, shape (4, 4)
        Voxel index ``(z, y, x, 1)`` of a memory array to world millimetres, RAS+.

    Returns
    -------
    scale, translate : ndarray, shape (3,)
        In millimetres, along S, P, L.
    """
    scale = np.linalg.norm(affine_zyx[:3, :3], axis=0)
    directions = affine_zyx[:3, :3] / scale
    return scale, np.linalg.solve(directions, affine_zyx[:3, 3]) + 0.0


def acquisition_axis(volume: Volume | LabelMap) -> int:
    """Memory axis across which the scan was acquired: 0 axial, 1 coronal, 2 sagittal.

    The single-slice axis of a 2-D image; else the axis of largest spacing if it is clearly (1.2 times) larger than
    both others; else 0.
    """
    single = [axis for axis, n in enumerate(volume.data.shape) if n == 1]
    if len(single) == 1:
        return single[0]
    spacing = volume.spacing_mm
    largest, second = sorted(range(3), key=lambda axis: spacing[axis], reverse=True)[:2]
    return largest if spacing[largest] > 1.2 * spacing[second] else 0


def resample_label_map(label_map: LabelMap, like: Volume | LabelMap) -> LabelMap:
    """Put a label map onto another grid, each voxel taking the label at its centre (nearest neighbour).

    Only when asked: nothing in the package calls this on its own. Both grids are named in the result's warnings.
    """
    data = _sampled_nearest(label_map.data, label_map.affine, like.data.shape, like.affine)
    note = f"The mask was resampled (nearest neighbour) from {describe_grid(label_map)} to {describe_grid(like)}."
    return replace(
        label_map, data=data, affine=like.affine.copy(), grid=like.grid, warnings=(*label_map.warnings, note)
    )


def resample_volume(volume: Volume, like: Volume | LabelMap, *, outside: float | None = None) -> Volume:
    """Put a scan onto another grid (linear interpolation), to overlay two scans that lie differently.

    For looking at: outside the scan stands its smallest value, or ``outside``. Both grids are named in the result's
    warnings.
    """
    from scipy.ndimage import affine_transform

    step = np.linalg.solve(volume.affine, like.affine)
    data = affine_transform(
        volume.data,
        step[:3, :3],
        step[:3, 3],
        output_shape=like.data.shape,
        output=np.float32,
        order=1,
        mode="constant",
        cval=float(volume.data.min()) if outside is None else outside,
    )
    note = f"The scan was resampled (linear) from {describe_grid(volume)} to {describe_grid(like)}."
    return replace(volume, data=data, affine=like.affine.copy(), grid=like.grid, warnings=(*volume.warnings, note))


def describe_grid(volume: Volume | LabelMap) -> str:
    """Shape and spacing of a grid in words, ``(z, y, x)``, and how it lies in the patient."""
    shape = " x ".join(str(n) for n in volume.data.shape)
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing_mm)
    return f"a grid of {shape} voxels of {spacing} mm, {describe_orientation(volume)}"


def describe_orientation(volume: Volume | LabelMap) -> str:
    """Plane of acquisition, and by how many degrees an oblique grid is turned against the patient's axes."""
    plane = ("axial", "coronal", "sagittal")[acquisition_axis(volume)]
    directions = _RAS_TO_SPL @ volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    degrees = float(np.degrees(np.arccos(np.clip(np.diag(directions), -1.0, 1.0))).max())
    return f"oblique {plane} by {degrees:.1f}°" if degrees > 0.05 else plane


def _flipped(data: NDArray[Any], flips: tuple[bool, bool, bool]) -> NDArray[Any]:
    return data[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def _sampled_nearest(
    data: NDArray[Any], affine: NDArray[np.float64], shape: tuple[int, ...], onto: NDArray[np.float64]
) -> NDArray[Any]:
    """Nearest value of ``data`` at every voxel centre of the grid ``(shape, onto)``; 0 outside. One slab at a time."""
    step = np.linalg.solve(affine, onto)
    out = np.zeros(shape, dtype=data.dtype)
    y, x = (np.arange(n, dtype=np.float64) for n in shape[1:])
    for z in range(shape[0]):
        inside = np.ones(shape[1:], dtype=bool)
        index = []
        for axis in range(3):
            row = step[axis]
            at = np.floor(row[0] * z + row[3] + 0.5 + 1e-6 + row[1] * y[:, None] + row[2] * x).astype(np.int64)
            inside &= (at >= 0) & (at < data.shape[axis])
            index.append(np.clip(at, 0, data.shape[axis] - 1))
        out[z] = np.where(inside, data[tuple(index)], 0)
    return out
