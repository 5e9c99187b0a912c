"""Where a stack of DICOM slices lies: order, spacing, gaps and tilt, from positions alone. No gap is ever closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.headers import Plane

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Slice positions may differ from an even spacing by this share of it: silently, and with a warning.
_SILENT_JITTER = 0.01
_WARNED_JITTER = 0.05
# More missing slices than this share of those present: too little of the scan is there.
_MOST_MISSING = 0.25
_TILT_DEGREES = 0.5
_MOST_TILT_DEGREES = 60.0


class NoGrid(Exception):
    """The planes do not lie on a regular grid; the text says why and names the files."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceGrid:
    """Planes in order along their normal, None where a slice is missing, and the affine of the whole.

    Parameters
    ----------
    planes : tuple
        Sorted; ``planes[k]`` is slice ``k``.
    affine_ijk : ndarray, shape (4, 4)
        Index ``(column, row, slice, 1)`` to world millimetres, RAS+.
    warnings : tuple of str
        What had to be assumed.
    """

    planes: tuple[Plane | None, ...]
    affine_ijk: NDArray[np.float64]
    warnings: tuple[str, ...]


def distance_along_normal(plane: Plane) -> float:
    """Position of a plane along its own normal, in mm."""
    return float(np.dot(plane.placement.normal, np.asarray(plane.placement.position)))


def slice_grid(planes: list[Plane]) -> SliceGrid:
    """Put planes of one orientation, size and spacing, at different positions, onto a regular grid.

    Raises
    ------
    NoGrid
        If they are unevenly spaced, too many are missing, or they do not lie on a straight line.
    """
    first = planes[0]
    normal = first.placement.normal
    positions = np.array([plane.placement.position for plane in planes], dtype=np.float64)
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    planes, positions, distances = [planes[n] for n in order], positions[order], distances[order]
    warnings: list[str] = []
    index = _slice_indices(planes, distances, warnings)
    _warn_of_skipping(planes, distances, warnings)
    step = _step(planes, positions, index, normal, warnings)
    slots: list[Plane | None] = [None] * (int(index[-1]) + 1)
    for plane, k in zip(planes, index, strict=True):
        slots[int(k)] = plane
    rows_mm, columns_mm = first.placement.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(first.placement.row_direction) * columns_mm
    affine[:3, 1] = np.asarray(first.placement.column_direction) * rows_mm
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return SliceGrid(tuple(slots), LPS_TO_RAS @ affine + 0.0, tuple(warnings))


def flat_grid(plane: Plane) -> SliceGrid:
    """Grid of an image that has no place in the patient: shown as stored, its first pixel at the origin."""
    warnings = ["This image has no position in the patient: it is shown as stored, and only distances in it are real."]
    spacing = plane.placement.spacing_mm
    if spacing is None:
        spacing = (1.0, 1.0)
        warnings = [
            "This image has neither a position in the patient nor a pixel spacing: it is shown as stored with 1 mm"
            " pixels, and millimetres in it are not real."
        ]
    affine = np.diag([spacing[1], spacing[0], plane.placement.thickness_mm or 1.0, 1.0])
    return SliceGrid((plane,), LPS_TO_RAS @ affine + 0.0, tuple(warnings))


def _slice_indices(planes: list[Plane], distances: NDArray[np.float64], warnings: list[str]) -> NDArray[np.int64]:
    """Slot of every plane; gaps leave slots empty."""
    n = len(planes)
    if n == 1:
        return np.zeros(1, np.int64)
    spacing = (distances[-1] - distances[0]) / (n - 1)
    jitter = float(np.abs(distances - distances[0] - spacing * np.arange(n)).max() / spacing)
    if jitter <= _WARNED_JITTER:
        if jitter > _SILENT_JITTER:
            warnings.append(
                f"Slice positions differ by up to {jitter * spacing:.3g} mm from an even spacing of {spacing:.4g} mm."
            )
        return np.arange(n)
    return _indices_with_gaps(planes, distances, warnings)


def _warn_of_skipping(planes: list[Plane], distances: NDArray[np.float64], warnings: list[str]) -> None:
    """Every second slice alone lies as evenly as all of them; the instance numbers and the thickness still tell."""
    thickness = planes[0].placement.thickness_mm
    counts = set(np.diff([plane.instance for plane in planes]).tolist())
    if len(planes) < 3 or thickness is None or len(counts) != 1:
        return
    step = abs(int(counts.pop()))
    if step >= 2 and abs((distances[1] - distances[0]) / thickness - step) < _WARNED_JITTER * step:
        warnings.append(
            f"Instance numbers count in steps of {step} and slices are {step} times as far apart as they are thick:"
            " slices may be missing between them."
        )


def _indices_with_gaps(planes: list[Plane], distances: NDArray[np.float64], warnings: list[str]) -> NDArray[np.int64]:
    steps = np.diff(distances)
    counts = np.rint(steps / steps.min())
    n_slots = int(min(counts.sum(), 1e9)) + 1
    index = np.concatenate([[0.0], np.cumsum(counts)])
    spacing = (distances[-1] - distances[0]) / index[-1]
    is_even = np.abs(distances - distances[0] - spacing * index).max() <= _WARNED_JITTER * spacing
    widest = int(np.argmax(steps))
    between = f"between '{name_of(planes[widest])}' and '{name_of(planes[widest + 1])}'"
    if not is_even or steps.min() < 0.25 * np.median(steps):
        raise NoGrid(
            f"its slices are unevenly spaced ({steps.min():.4g} to {steps.max():.4g} mm apart, the widest {between}):"
            " export it again with every slice, or resample it to an even spacing"
        )
    n_missing = n_slots - len(planes)
    if n_missing > _MOST_MISSING * len(planes):
        raise NoGrid(
            f"{n_missing} of {n_slots} slices are missing (the widest gap of {steps.max():.4g} mm is {between}):"
            " export the complete series"
        )
    warnings.append(
        f"{n_missing} of {n_slots} slices are missing ({between} and wherever slices are more than {spacing:.4g} mm"
        " apart): they are shown empty, so measurements across them are not real. Export the complete series."
    )
    return index.astype(np.int64)


def _step(
    planes: list[Plane],
    positions: NDArray[np.float64],
    index: NDArray[np.int64],
    normal: NDArray[np.float64],
    warnings: list[str],
) -> NDArray[np.float64]:
    """Vector from one slice to the next (LPS+ mm)."""
    if len(planes) == 1:
        return normal * _single_thickness_mm(planes[0], warnings)
    step = np.asarray((positions[-1] - positions[0]) / index[-1])
    height = float(step @ normal)
    off_line = np.linalg.norm(positions - positions[0] - index[:, None] * step, axis=1)
    worst = int(np.argmax(off_line))
    if off_line[worst] > _WARNED_JITTER * height + 0.05 * min(planes[0].placement.spacing_mm or (1.0, 1.0)):
        raise NoGrid(
            f"its slices do not lie on a straight line ('{name_of(planes[worst])}' is {off_line[worst]:.3g} mm off):"
            " open the parts as separate series"
        )
    drift = float(np.linalg.norm(step - height * normal)) * float(index[-1])
    tilt = float(np.degrees(np.arccos(np.clip(height / np.linalg.norm(step), -1.0, 1.0))))
    if tilt > _MOST_TILT_DEGREES:
        raise NoGrid(f"its slices lie {tilt:.0f} degrees beside each other rather than behind each other")
    if tilt > _TILT_DEGREES:
        warnings.append(
            f"The gantry was tilted by {tilt:.1f} degrees: every voxel lies where it was scanned, but the screen shows"
            " the slices straight behind each other, so sagittal and coronal views are sheared."
        )
    elif abs(planes[0].file.gantry_tilt_degrees) > _TILT_DEGREES and np.argmax(np.abs(normal)) == 2:
        _warn_of_declared_tilt(planes[0], normal, warnings)
    return height * normal if drift < 0.01 else step


def _warn_of_declared_tilt(plane: Plane, normal: NDArray[np.float64], warnings: list[str]) -> None:
    if abs(normal[2]) > np.cos(np.radians(_TILT_DEGREES)):
        warnings.append(
            f"The header says that the gantry was tilted by {plane.file.gantry_tilt_degrees:.1f} degrees, but the slice"
            " positions show no tilt; the positions were used."
        )


def _single_thickness_mm(plane: Plane, warnings: list[str]) -> float:
    if plane.placement.thickness_mm is None:
        warnings.append("This single slice has no thickness: 1 mm is assumed.")
        return 1.0
    return plane.placement.thickness_mm


def name_of(plane: Plane) -> str:
    """File name of a plane, with the frame where there are several."""
    path: Path = plane.file.path
    return f"{path.name} frame {plane.frame + 1}" if plane.file.place.n_frames > 1 else path.name
