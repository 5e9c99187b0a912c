"""Stored voxels and a grid into the package's own objects, the same way for every format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.modality import guess_modality
from napari_medseg.imaging.orientation import check_affine, corner_distance_mm, to_disk, to_memory
from napari_medseg.imaging.suffixes import stem_of
from napari_medseg.imaging.volume import DiskGrid, LabelMap, Volume
from napari_medseg.imaging.voxels import as_labels, not_finite_warning, scaled
from napari_medseg.imaging.watch import Tell, part, silent

# Positions beyond a kilometre are damage; a patient on a table lies within a few metres.
_FARTHEST_MM = 1e6
_SHEAR_DEGREES = 0.5


def file_affine(affine: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return a file's affine, checked.

    Raises
    ------
    ImagingError
        If it does not span three dimensions; names the file.
    """
    try:
        checked = check_affine(affine)
        if np.abs(checked[:3, 3]).max() > _FARTHEST_MM:
            raise ImagingError(f"its first voxel lies at {checked[:3, 3].tolist()} mm, which is no place in a scanner")
    except ImagingError as error:
        raise ImagingError(f"{name} has an unusable orientation: {error}; export it again") from error
    return checked


def shear_warning(affine: NDArray[np.float64], name: str) -> tuple[str, ...]:
    """Say that the axes of an array are not perpendicular, which the screen cannot show."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs((directions.T @ directions)[np.triu_indices(3, 1)])
    degrees = float(np.degrees(np.arcsin(np.clip(cosines.max(), 0.0, 1.0))))
    if degrees <= _SHEAR_DEGREES:
        return ()
    return (
        f"{name} has axes that are not perpendicular (sheared by {degrees:.1f} degrees): every voxel lies where the "
        "file says, but the screen shows them as if they were.",
    )


def volumes_of(
    path: Path,
    stored: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
    warnings: Iterable[str] = (),
    files: Iterable[Path] = (),
    sides_are_known: bool = True,
    tell: Tell = silent,
) -> tuple[Volume, ...]:
    """Make a volume of each of the stored ones.

    Parameters
    ----------
    path : Path
        The file they come from; names them.
    stored : ndarray, shape (N, K, J, I)
        Voxels as they lie on disk, slowest axis first.
    affine : ndarray, shape (4, 4)
        Voxel index ``(i, j, k, 1)`` to world millimetres, RAS+.
    slope, intercept : float
        Stored value to intensity.
    warnings : iterable of str
        What the reader had to assume.
    files : iterable of Path
        Every file that was read, where that is not ``path`` alone.
    sides_are_known : bool
        Whether the file says how the voxels lie in the patient.
    tell : callable
        Called with the share done, 0 to 1.
    """
    affine = file_affine(affine, path.name)
    warnings = (*warnings, *shear_warning(affine, path.name))
    metadata = MappingProxyType({"files": (path, *(file for file in dict.fromkeys(files) if file != path))})
    volumes = []
    for index, voxels in enumerate(stored):
        own = part(tell, index / len(stored), (index + 1) / len(stored))
        own(0.0)
        data = scaled(voxels, slope, intercept, tell=part(own, 0.0, 0.7))
        memory, memory_affine, grid = to_memory(data.T, affine)
        number = f" [{index + 1} of {len(stored)}]" if len(stored) > 1 else ""
        volumes.append(
            Volume(
                data=memory,
                affine=memory_affine,
                name=stem_of(path) + number,
                modality=guess_modality(memory),
                path=path,
                grid=grid,
                warnings=(*warnings, *not_finite_warning(data, path.name, tell=part(own, 0.7, 1.0))),
                metadata=metadata,
                sides_are_known=sides_are_known,
            )
        )
    return tuple(volumes)


def label_map_of(
    path: Path,
    stored: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    names: Mapping[int, str] | None = None,
    warnings: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    tell: Tell = silent,
) -> LabelMap:
    """Make a label map of stored voxels, shape (K, J, I), slowest axis first; refuses what are no labels."""
    memory, memory_affine, grid = to_memory(as_labels(stored, path.name, tell=tell).T, file_affine(affine, path.name))
    return LabelMap(
        data=memory,
        affine=memory_affine,
        names=MappingProxyType(dict(names or {})),
        grid=grid,
        path=path,
        warnings=tuple(warnings),
        metadata=MappingProxyType(dict(metadata or {})),
    )


def first_of_many(name: str, n_volumes: int) -> str:
    """Say that a file holds more than what was read of it."""
    return f"{name} holds {n_volumes} volumes; this is the first of them."


def surplus_warning(name: str, surplus: int) -> tuple[str, ...]:
    """Say that a file holds more bytes than its header accounts for."""
    return (f"{name} holds {surplus} bytes more than its header says; they were ignored.",) if surplus else ()


def check_read_back(read: LabelMap, grid: DiskGrid, data_ijk: NDArray[Any], name: str) -> None:
    """Compare what a file just written reads back as with the voxels and the grid that were meant.

    Raises
    ------
    ImagingError
        If a voxel or the grid differs.
    """
    found = read.grid
    if (
        found is None
        or found.shape != grid.shape
        or corner_distance_mm(found.affine, grid.affine, grid.shape) > 1e-2
        or not np.array_equal(to_disk(read.data, found), data_ijk)
    ):
        raise ImagingError(f"{name} did not read back as it was written; the disk may be failing, save elsewhere")
