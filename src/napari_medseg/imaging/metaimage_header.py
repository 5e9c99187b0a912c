"""The text header of a MetaImage, checked before one voxel is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.beside import file_beside, names_of_pattern
from napari_medseg.imaging.lengths import mm_of_unit
from napari_medseg.imaging.limits import MAX_DIMENSION
from napari_medseg.imaging.unpack import Source

_MAX_HEADER = 1024 * 1024
_MAX_LINES = 10_000
_TYPES = {
    **{"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4"},
    **{"ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8"},
}
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_TRUE, _FALSE = ("true", "t", "1", "yes"), ("false", "f", "0", "no", "")


@dataclass(frozen=True, slots=True, eq=False)
class MetaHeader:
    """What a MetaImage header says, in the units of this package.

    Parameters
    ----------
    shape : tuple of int, (N, K, J, I)
        Volumes, then slowest axis first.
    dtype : numpy dtype
        With its byte order.
    affine : ndarray, shape (4, 4)
        Voxel index ``(i, j, k, 1)`` to world millimetres, RAS+.
    slope, intercept : float
        Stored value to intensity.
    sources : list of Source
        Where the voxels are.
    sides_are_known : bool
        Whether the file says how it lies in the patient.
    warnings : tuple of str
        What had to be assumed.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    slope: float
    intercept: float
    sources: list[Source]
    sides_are_known: bool
    warnings: tuple[str, ...]


def parse_meta_header(path: Path) -> MetaHeader:
    """Read and check the header of an .mha or .mhd file.

    Raises
    ------
    ImagingError
        If anything the voxels depend on is missing, contradictory or impossible, or a data file lies elsewhere.
    """
    fields, listed, end = _read_fields(path)
    name, warnings = path.name, list[str]()
    if fields.get("ObjectType", "Image").lower() != "image":
        raise ImagingError(f"{name} holds a {fields['ObjectType'][:40]!r}, not an image")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        channels = fields["ElementNumberOfChannels"][:20]
        raise ImagingError(f"{name} holds {channels} components in each voxel; choose a scalar image")
    sizes = _sizes(fields, name)
    slope, intercept = (
        _one(fields, f"ElementToIntensityFunction{part}", default, name)
        for part, default in (("Slope", 1.0), ("Offset", 0.0))
    )
    dtype = _dtype(fields, name)
    shape = (sizes[3], sizes[2], sizes[1], sizes[0])
    return MetaHeader(
        shape=shape,
        dtype=dtype,
        affine=_affine(fields, name, warnings),
        slope=slope,
        intercept=intercept,
        sources=_sources(path, fields, listed, end),
        sides_are_known=fields["NDims"].strip() != "2" and any(key in fields for key in _DIRECTIONS),
        warnings=tuple(warnings),
    )


def _read_fields(path: Path) -> tuple[dict[str, str], list[str], int]:
    """Fields, the names after ``ElementDataFile = LIST``, and the byte where local voxels begin."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            line = file.readline(_MAX_HEADER)
            if not line or file.tell() > _MAX_HEADER:
                break
            key, found, value = line.decode("utf-8", "replace").partition("=")
            key, value = key.strip(), value.strip()
            if not key and not found:
                continue
            if not found or not re.fullmatch(r"[A-Za-z]\w{0,60}", key):
                raise ImagingError(f"{path.name} has a line in its header that is none: {key[:60]!r}; export it again")
            if fields.get(key, value) != value:
                raise ImagingError(f"{path.name} contradicts itself: it gives {key} twice; export it again")
            fields[key] = value
            if key == "ElementDataFile":
                end = file.tell()
                is_list = value.upper().startswith("LIST")
                listed = file.read(_MAX_HEADER).decode("utf-8", "replace").split("\n") if is_list else []
                return fields, [entry.strip() for entry in listed if entry.strip()], end
    raise ImagingError(f"{path.name} ends inside its header (it names no ElementDataFile); copy or export it again")


def _numbers(fields: dict[str, str], keys: tuple[str, ...], count: int, name: str) -> NDArray[np.float64] | None:
    """Numbers of the first of these fields that is there; None where none is."""
    key = next((key for key in keys if key in fields), None)
    if key is None:
        return None
    try:
        numbers = np.array([float(number) for number in fields[key].split()])
    except ValueError as error:
        raise ImagingError(
            f"{name} gives {key} as {fields[key][:60]!r}, which are no numbers; export it again"
        ) from error
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ImagingError(f"{name} gives {key} as {fields[key][:60]!r}; {count} finite numbers are needed")
    return numbers


def _one(fields: dict[str, str], key: str, default: float, name: str) -> float:
    numbers = _numbers(fields, (key,), 1, name)
    return default if numbers is None else float(numbers[0])


def _is_true(fields: dict[str, str], key: str, name: str, default: str = "False") -> bool:
    value = fields.get(key, default).lower()
    if value not in (*_TRUE, *_FALSE):
        raise ImagingError(f"{name} gives {key} as {value[:40]!r}, neither True nor False; export it again")
    return value in _TRUE


def _sizes(fields: dict[str, str], name: str) -> tuple[int, int, int, int]:
    n = _one(fields, "NDims", 0, name)
    if n not in (2, 3, 4):
        raise ImagingError(f"{name} has {n:g} axes; an image has 2, 3 or (over time) 4")
    sizes = _numbers(fields, ("DimSize",), int(n), name)
    if sizes is None:
        raise ImagingError(f"{name} does not give its DimSize; export it again")
    if not all(1 <= size <= MAX_DIMENSION and size == int(size) for size in sizes):
        raise ImagingError(
            f"{name} says that its size is {sizes.tolist()}; every size must be a whole number from 1 on"
        )
    i, j, k, t = (int(size) for size in (*sizes, 1, 1)[:4])
    return i, j, k, t


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    kind = fields.get("ElementType", "").upper().removeprefix("MET_")
    if kind not in _TYPES:
        raise ImagingError(f"{name} has the data type {kind[:40]!r}, which is not read; convert it to short or float")
    is_big = any(_is_true(fields, key, name) for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return np.dtype(_TYPES[kind]).newbyteorder(">" if is_big else "<")


def _affine(fields: dict[str, str], name: str, warnings: list[str]) -> NDArray[np.float64]:
    n = int(float(fields["NDims"]))
    spacing = _numbers(fields, ("ElementSpacing", "ElementSize"), n, name)
    if spacing is None:
        warnings.append(f"{name} does not give its voxel size; 1 mm is assumed.")
        spacing = np.ones(n)
    if not (spacing > 0).all():
        raise ImagingError(f"{name} has the voxel size {spacing.tolist()}; every one must be above 0; export it again")
    directions = _numbers(fields, _DIRECTIONS, n * n, name)
    if directions is None or n == 2:
        warnings.append(f"{name} does not say how it lies in the patient; the order of an axial scan is assumed.")
    offset = _numbers(fields, ("Offset", "Position", "Origin"), n, name)
    if offset is None:
        warnings.append(f"{name} does not say where it lies (no Offset); 0, 0, 0 is assumed.")
    if n == 2:
        warnings.append(f"{name} does not say how thick its single slice is; 1 mm is assumed.")
    lps = np.eye(4)
    width = min(n, 3)
    matrix = np.eye(n) if directions is None else directions.reshape(n, n).T
    lps[:width, :width] = (matrix * spacing)[:width, :width]
    lps[:width, 3] = (np.zeros(n) if offset is None else offset)[:width]
    factor = mm_of_unit([unit for unit in (fields.get("DistanceUnits", ""),) if unit.strip(" ?")], name, warnings)
    return np.diag([-factor, -factor, factor, 1.0]) @ lps


def _sources(path: Path, fields: dict[str, str], listed: list[str], end: int) -> list[Source]:
    name, value = path.name, fields["ElementDataFile"]
    is_packed = _is_true(fields, "CompressedData", name)
    packing = "zlib" if is_packed else "raw" if _is_true(fields, "BinaryData", name, "True") else "text"
    header_size = _one(fields, "HeaderSize", 0, name)
    if header_size != int(header_size) or not -1 <= header_size < 2**53 or (is_packed and header_size < 0):
        raise ImagingError(f"{name} has the HeaderSize {header_size:g}, which makes no sense; export it again")
    if value.upper() in ("LOCAL", "LOCALFILE"):
        # Where the voxels are said to begin by themselves, that counts from the beginning of the file.
        if 0 < header_size < end:
            raise ImagingError(
                f"{name} has the HeaderSize {header_size:g}, but its header ends at byte {end}; export it again"
            )
        return [Source(path, int(header_size) or end, packing)]
    return [Source(file_beside(path, file), int(header_size), packing) for file in _data_files(path, value, listed)]


def _data_files(path: Path, value: str, listed: list[str]) -> list[str]:
    if re.match(r"LIST(\s|$)", value, re.IGNORECASE):
        return listed
    pattern = re.fullmatch(r"(\S*%\S*)\s+(-?\d{1,9})\s+(-?\d{1,9})(?:\s+(-?\d{1,9}))?", value)
    if pattern:
        numbers = int(pattern.group(2)), int(pattern.group(3)), int(pattern.group(4) or 1)
        return names_of_pattern(path, pattern.group(1), numbers)
    return [value]
