"""Where the header says that one DICOM image lies, how large its pixels are, and how they become scanner units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.elements import DamagedDicom, Elements

# Positions and sizes beyond this are not those of a person on a scanner's table.
_FARTHEST_MM = 1e5
_SMALLEST_MM = 1e-6
_CENTIMETRES = 3

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of one 2-D image: what is missing or wrong in the header is None.

    Parameters
    ----------
    position : tuple of float
        Centre of the first pixel (mm, LPS+).
    row_direction, column_direction : tuple of float
        Unit vectors in which the column and the row index grow.
    spacing_mm : tuple of float
        Between rows, between columns.
    thickness_mm : float
        Distance to the next slice, or slice thickness.
    """

    position: Vector | None = None
    row_direction: Vector | None = None
    column_direction: Vector | None = None
    spacing_mm: tuple[float, float] | None = None
    thickness_mm: float | None = None

    @property
    def missing(self) -> str:
        """Name of the first element that is missing or wrong; empty where the image can be placed."""
        if self.position is None:
            return "ImagePositionPatient"
        if self.row_direction is None:
            return "ImageOrientationPatient"
        return "PixelSpacing" if self.spacing_mm is None else ""

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector (LPS+) in which slices are counted."""
        return np.asarray(np.cross(np.asarray(self.row_direction), np.asarray(self.column_direction)))

    def moved(self, offset_mm: float) -> Placement:
        """Return the placement of a parallel image, ``offset_mm`` further along the normal."""
        return replace(self, position=_vector(np.asarray(self.position) + offset_mm * self.normal))


def read_placement(
    position: Elements | None, orientation: Elements | None, measures: Elements | None, *, tags: str = "Patient"
) -> Placement:
    """Read a placement from the data sets that hold its parts.

    Parameters
    ----------
    position, orientation, measures : Elements, optional
        Of a classic image all three are the image itself; of an enhanced one they are its functional groups.
    tags : str
        "Patient", or "Volume" for ultrasound volumes that are placed relative to the transducer.
    """
    position_tag, orientation_tag, vr = (0x00200032, 0x00200037, b"DS")
    if tags == "Volume":
        position_tag, orientation_tag, vr = (0x00209301, 0x00209302, b"FD")
    at = _finite(position.numbers(position_tag, vr) if position else (), 3)
    cosines = _finite(orientation.numbers(orientation_tag, vr) if orientation else (), 6)
    row, column = _directions(cosines) if cosines else (None, None)
    return Placement(
        position=(at[0], at[1], at[2]) if at and max(abs(mm) for mm in at) <= _FARTHEST_MM else None,
        row_direction=row,
        column_direction=column,
        spacing_mm=_spacing_mm(measures, 0x00280030) if measures else None,
        thickness_mm=_thickness_mm(measures) if measures else None,
    )


def flat_spacing_mm(elements: Elements) -> tuple[float, float] | None:
    """Pixel spacing of a flat image: at the detector, on the scanned film, or in the ultrasound region."""
    for tag in (0x00280030, 0x00181164, 0x00182010):
        spacing = _spacing_mm(elements, tag)
        if spacing:
            return spacing
    for region in elements.items(0x00186011):
        columns_cm, rows_cm = region.number(0x0018602C, b"FD"), region.number(0x0018602E, b"FD")
        if region.integer(0x00186024) == _CENTIMETRES and columns_cm and rows_cm:
            spacing = (abs(rows_cm) * 10.0, abs(columns_cm) * 10.0)
            return spacing if _is_length(spacing[0]) and _is_length(spacing[1]) else None
    return None


def read_rescale(elements: Elements) -> tuple[float, float]:
    """Slope and intercept; a slope of zero stays zero here and is judged where the series is read.

    Raises
    ------
    DamagedDicom
        If one of them is not a finite number.
    """
    slope, intercept = elements.number(0x00281053, b"DS"), elements.number(0x00281052, b"DS")
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise DamagedDicom("RescaleSlope or RescaleIntercept is not a number")
    return slope, intercept


def _finite(values: tuple[float, ...], count: int) -> tuple[float, ...] | None:
    return values[:count] if len(values) >= count and all(math.isfinite(v) for v in values[:count]) else None


def _is_length(mm: float) -> bool:
    return math.isfinite(mm) and _SMALLEST_MM < mm < _FARTHEST_MM


def _spacing_mm(elements: Elements, tag: int) -> tuple[float, float] | None:
    values = elements.numbers(tag, b"DS")
    return (values[0], values[1]) if len(values) >= 2 and _is_length(values[0]) and _is_length(values[1]) else None


def _thickness_mm(elements: Elements) -> float | None:
    for tag in (0x00180088, 0x00180050):
        value = elements.number(tag, b"DS")
        if value is not None and _is_length(abs(value)):
            return abs(value)
    return None


def _directions(cosines: tuple[float, ...]) -> tuple[Vector, Vector] | tuple[None, None]:
    """Unit row and column directions, or None where they are not perpendicular unit vectors within header rounding."""
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(row @ column)) > 1e-2:
        return None, None
    return _vector(row / lengths[0]), _vector(column / lengths[1])


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z
