"""Volumes and label maps: an array, where it lies in the patient, and the file grid it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError


@dataclass(frozen=True, slots=True, eq=False)
class DiskGrid:
    """The grid of a file as it lies on disk, and how the array in memory was made from it.

    Parameters
    ----------
    shape : tuple of int, (I, J, K)
        Shape on disk, in nibabel's axis order (fastest first).
    affine : ndarray, shape (4, 4)
        Voxel index ``(i, j, k, 1)`` on disk to world millimetres, RAS+.
    axes : tuple of int
        Disk axis that became each of memory's ``(z, y, x)``.
    flips : tuple of bool
        Whether each of memory's ``(z, y, x)`` was reversed.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


def _check_geometry(data: NDArray[Any], affine: NDArray[np.float64]) -> None:
    if data.ndim != 3:
        raise ImagingError(f"expected a volume (Z, Y, X), got shape {data.shape}")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ImagingError(f"expected an invertible 4 x 4 affine, got {affine.tolist()}")


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One scalar image on a regular grid.

    Parameters
    ----------
    data : ndarray, shape (Z, Y, X)
        Intensities in scanner units (HU for CT), in the stored type where scaling allows it.
        Axes point to superior, posterior, left.
    affine : ndarray, shape (4, 4)
        Voxel index ``(z, y, x, 1)`` to world millimetres, RAS+.
    name : str
        What a person calls it: file stem or series description.
    modality : str
        DICOM's two letters (``"CT"``, ``"MR"``, ``"PT"``, ``"US"``, ``"DX"``), or ``""`` where nobody said.
    path : Path, optional
        The file or folder that it was read from.
    grid : DiskGrid, optional
        The grid on disk; exports of masks use it.
    warnings : tuple of str
        What the reader had to assume, one sentence each.
    sides_are_known : bool
        Whether somebody said which side of the array is the patient's left, front and head; False where a reader had to
        assume it, so that letters on the screen would be guesses.
    metadata : mapping
        What later export needs (DICOM references); never shown, logged or put into a checkpoint.

    Raises
    ------
    ImagingError
        If ``data`` is not 3-D or ``affine`` is singular.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    name: str = ""
    modality: str = ""
    path: Path | None = None
    grid: DiskGrid | None = None
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    sides_are_known: bool = True

    def __post_init__(self) -> None:
        _check_geometry(self.data, self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in millimetres along ``(z, y, x)``."""
        return _spacing_mm(self.affine)

    def index_of(self, position_mm: tuple[float, float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Continuous ``(z, y, x)`` index of a world position (RAS+, mm)."""
        return _index_of(self.affine, position_mm)

    def position_of(self, index: tuple[float, float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """World position (RAS+, mm) of a ``(z, y, x)`` index."""
        return _position_of(self.affine, index)


@dataclass(frozen=True, slots=True, eq=False)
class Confidence:
    """How sure a model is of its answer, voxel by voxel, where it looked.

    Parameters
    ----------
    values : ndarray of uint8, shape of the region
        Probability that the answer given for a voxel is right, 0 to 255 for 0 to 1. About 128: it cannot tell.
    region : tuple of slice
        The box of the scan's array that they belong to; elsewhere the model has no doubt.
    """

    values: NDArray[np.uint8]
    region: tuple[slice, slice, slice]

    def whole(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return probabilities (0 to 1) on a scan of this shape, 1 where the model has no doubt."""
        out = np.ones(shape, np.float32)
        out[self.region] = self.values / np.float32(255)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Integer labels on a regular grid; 0 is background.

    Parameters
    ----------
    data : ndarray of uint8 or uint16, shape (Z, Y, X)
        Axes point to superior, posterior, left. uint8 wherever 255 labels suffice.
    affine : ndarray, shape (4, 4)
        Voxel index ``(z, y, x, 1)`` to world millimetres, RAS+.
    names : mapping of int to str
        Names of the labels that have one.
    grid : DiskGrid, optional
        The on-disk grid to save on: that of the scan it belongs to.
    path : Path, optional
        The file that it was read from.
    warnings : tuple of str
        What the reader had to assume, or what to be careful about in a model's answer, one sentence each.
    confidence : Confidence, optional
        How sure a model is of this answer, where one gave it.

    Raises
    ------
    ImagingError
        If ``data`` is not 3-D and unsigned, or ``affine`` is singular.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    names: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    grid: DiskGrid | None = None
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    confidence: Confidence | None = None

    def __post_init__(self) -> None:
        _check_geometry(self.data, self.affine)
        if self.data.dtype not in (np.uint8, np.uint16):
            raise ImagingError(f"a label map is uint8 or uint16, got {self.data.dtype}")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in millimetres along ``(z, y, x)``."""
        return _spacing_mm(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def index_of(self, position_mm: tuple[float, float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Continuous ``(z, y, x)`` index of a world position (RAS+, mm)."""
        return _index_of(self.affine, position_mm)

    def position_of(self, index: tuple[float, float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """World position (RAS+, mm) of a ``(z, y, x)`` index."""
        return _position_of(self.affine, index)


def _spacing_mm(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def _index_of(affine: NDArray[np.float64], position_mm: Any) -> NDArray[np.float64]:
    return np.asarray(np.linalg.solve(affine, np.append(np.asarray(position_mm, float), 1.0))[:3])


def _position_of(affine: NDArray[np.float64], index: Any) -> NDArray[np.float64]:
    return np.asarray((affine @ np.append(np.asarray(index, float), 1.0))[:3])
