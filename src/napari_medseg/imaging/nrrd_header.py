"""The text header of an NRRD file: parsed by itself, as every field of it may be a lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.beside import file_beside, names_of_pattern
from napari_medseg.imaging.limits import MAX_DIMENSION
from napari_medseg.imaging.nrrd_geometry import SAMPLES, geometry, numbers, space_is_known
from napari_medseg.imaging.unpack import Source

_MAX_HEADER = 16 * 1024 * 1024
_MAX_LINE = 1024 * 1024
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names}
_PACKINGS = {
    **{"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"},
    **{"txt": "text", "text": "text", "ascii": "text", "hex": "hex"},
}
_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "centers": "centerings"}


@dataclass(frozen=True, slots=True, eq=False)
class NrrdHeader:
    """What an NRRD header says, in the units of this package.

    Parameters
    ----------
    sizes : tuple of int
        Fastest axis first.
    dtype : numpy dtype
        With its byte order.
    spatial : tuple of int
        The two or three axes that lie in space, in their order in ``sizes``.
    affine : ndarray, shape (4, 4)
        Index along the spatial axes to world millimetres, RAS+.
    sources : list of Source
        Where the voxels are.
    pairs : dict
        The ``key:=value`` pairs, unescaped.
    sides_are_known : bool
        Whether the file says how it lies in the patient.
    components : str
        What the values of one voxel are, if they are no samples of their own (``"RGB-color"``); else ``""``.
    warnings : tuple of str
        What had to be assumed.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]
    spatial: tuple[int, ...]
    affine: NDArray[np.float64]
    sources: list[Source]
    pairs: dict[str, str]
    sides_are_known: bool
    components: str
    warnings: tuple[str, ...]


def parse_nrrd_header(path: Path) -> NrrdHeader:
    """Read and check the header of an .nrrd or .nhdr file.

    Raises
    ------
    ImagingError
        If anything the voxels depend on is missing, contradictory or impossible, or a data file lies elsewhere.
    """
    fields, pairs, files, offset = _read_fields(path)
    name, warnings = path.name, list[str]()
    sizes = _sizes(fields, name)
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or [""] * len(sizes)
    if len(kinds) != len(sizes):
        raise ImagingError(f"{name} has {len(sizes)} axes but names the kinds of {len(kinds)}; export it again")
    spatial, affine = geometry(fields, sizes, kinds, name, warnings)
    vectors = [kinds[axis] for axis in range(len(sizes)) if axis not in spatial and sizes[axis] > 1]
    return NrrdHeader(
        sizes=sizes,
        dtype=_dtype(fields, name),
        spatial=spatial,
        affine=affine,
        sources=_sources(path, fields, files, offset),
        pairs=pairs,
        sides_are_known="space directions" in fields and space_is_known(fields),
        components=next((kind[:40] for kind in vectors if kind not in SAMPLES), ""),
        warnings=tuple(warnings),
    )


def _read_fields(path: Path) -> tuple[dict[str, str], dict[str, str], list[str], int]:
    """Fields, key/value pairs, names after ``data file: LIST``, and where the header ends (0: nothing follows)."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    files: list[str] = []
    with path.open("rb") as file:
        if not re.match(rb"NRRD000[1-6]", file.readline(_MAX_LINE)):
            raise ImagingError(f"{path.name} is not an NRRD file of version 1 to 6")
        while line := file.readline(_MAX_LINE):
            if file.tell() > _MAX_HEADER or (len(line) == _MAX_LINE and not line.endswith(b"\n")):
                raise ImagingError(f"{path.name} has a header without an end; export it again")
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                return fields, pairs, files, file.tell()
            if fields.get("data file", "").upper().startswith("LIST") and ":" not in text:
                files.append(text)
            elif not text.startswith("#"):
                _add(text, fields, pairs, path.name)
    return fields, pairs, files, 0


def _add(text: str, fields: dict[str, str], pairs: dict[str, str], name: str) -> None:
    key, found, value = text.partition(":=")
    field = re.match(r"([^:=]+):\s+(.*)$|([^:=]+):$", text)
    if found and not (field and ":=" not in text.split(": ", 1)[0]):
        pairs[_unescaped(key)] = _unescaped(value)
        return
    if not field:
        raise ImagingError(f"{name} has a line in its header that is none: {text[:60]!r}; export it again")
    key = (field.group(1) or field.group(3)).strip().lower()
    key = _ALIASES.get(key, key)
    value = (field.group(2) or "").strip()
    if fields.get(key, value) != value:
        raise ImagingError(f"{name} contradicts itself: it gives {key!r} twice; export it again")
    fields[key] = value


def _unescaped(text: str) -> str:
    return re.sub(r"\\([n\\])", lambda match: "\n" if match.group(1) == "n" else "\\", text)


def _needed(fields: dict[str, str], field: str, name: str) -> str:
    if field not in fields:
        raise ImagingError(f"{name} does not give its {field!r}; export it again")
    return fields[field]


def _sizes(fields: dict[str, str], name: str) -> tuple[int, ...]:
    dimension = numbers(_needed(fields, "dimension", name), "dimension", name)
    sizes = numbers(_needed(fields, "sizes", name), "sizes", name)
    if len(dimension) != 1 or dimension[0] != len(sizes) or not 2 <= len(sizes) <= 16:
        raise ImagingError(f"{name} has the dimension {dimension} but the sizes {sizes}; an image has 2 axes or more")
    if not all(1 <= size <= MAX_DIMENSION and size == int(size) for size in sizes):
        raise ImagingError(f"{name} says that its size is {sizes}; every size must be a whole number from 1 on")
    return tuple(int(size) for size in sizes)


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    kind = " ".join(_needed(fields, "type", name).lower().split())
    if kind not in _DTYPES:
        raise ImagingError(f"{name} has the data type {kind[:40]!r}, which is not read; convert it to short or float")
    dtype = np.dtype(_DTYPES[kind])
    endian = fields.get("endian", "").lower()
    if dtype.itemsize == 1 or _PACKINGS.get(fields.get("encoding", "").lower()) == "text":
        return dtype
    if endian not in ("little", "big"):
        raise ImagingError(
            f"{name} does not say in which order the bytes of its numbers are ('endian'); export it again"
        )
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _sources(path: Path, fields: dict[str, str], listed: list[str], offset: int) -> list[Source]:
    encoding = _needed(fields, "encoding", path.name).lower()
    if encoding not in _PACKINGS:
        raise ImagingError(f"{path.name} is packed as {encoding[:40]!r}, which is not read; export it as gzip or raw")
    lines, skip = (numbers(fields.get(key, "0"), key, path.name) for key in ("line skip", "byte skip"))
    if len(lines) != 1 or len(skip) != 1 or lines[0] < 0 or skip[0] < -1 or max(lines[0], skip[0]) > 2**53:
        raise ImagingError(f"{path.name} skips {lines} lines and {skip} bytes, which makes no sense; export it again")
    packing = _PACKINGS[encoding]
    if skip[0] == -1 and packing != "raw":
        raise ImagingError(f"{path.name} skips to the end of packed data, which makes no sense; export it again")
    if "data file" in fields:
        files = [(file_beside(path, name), 0) for name in _data_files(path, fields["data file"], listed)]
    elif offset:
        files = [(path, offset)]
    else:
        raise ImagingError(f"{path.name} ends inside its header; copy or export it again")
    return [_source(file, start, int(lines[0]), packing, int(skip[0])) for file, start in files]


def _source(file: Path, start: int, n_lines: int, packing: str, skip: int) -> Source:
    if skip == -1:
        return Source(file, -1, packing)
    if n_lines:
        with file.open("rb") as stream:
            stream.seek(start)
            for _ in range(n_lines):
                if not stream.readline():
                    raise ImagingError(f"{file.name} ends before its voxels begin; copy or export it again")
            start = stream.tell()
    return Source(file, start, packing, skip)


def _data_files(path: Path, value: str, listed: list[str]) -> list[str]:
    if re.match(r"LIST(\s|$)", value, re.IGNORECASE):
        return listed
    pattern = re.fullmatch(r"(\S*%\S*)\s+(-?\d{1,9})\s+(-?\d{1,9})\s+(-?\d{1,9})(\s+\d+)?", value)
    if pattern:
        first, last, step = (int(number) for number in pattern.group(2, 3, 4))
        return names_of_pattern(path, pattern.group(1), (first, last, step))
    return [value]
