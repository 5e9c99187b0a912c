"""Where the voxels of an NRRD file lie: its space, directions, origin, spacings and units."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.lengths import mm_of_units

SAMPLES = ("domain", "space", "time", "list", "scalar", "stub", "none", "???", "point", "")
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
}
_VECTOR = re.compile(r"\s*(none|\(([^()]*)\))\s*", re.IGNORECASE)


def geometry(
    fields: dict[str, str], sizes: tuple[int, ...], kinds: list[str], name: str, warnings: list[str]
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return the axes that lie in space, and the affine along them (RAS+, mm).

    Raises
    ------
    ImagingError
        If fields are missing or contradict each other; what is merely assumed is appended to ``warnings``.
    """
    if "space directions" in fields:
        spatial, columns, origin = _directions(fields, sizes, name, warnings)
    else:
        spatial, columns, origin = _spacings(fields, sizes, kinds, name, warnings)
    if len(spatial) == 2:
        normal = np.cross(columns[:, 0], columns[:, 1])
        length = np.linalg.norm(normal)
        columns = np.column_stack([columns, normal / length if length else normal])
        warnings.append(f"{name} does not say how thick its single slice is; 1 mm is assumed.")
    affine = np.eye(4)
    signs = np.array(_signs(fields, name, warnings))
    affine[:3, :3] = signs[:, None] * columns
    affine[:3, 3] = signs * origin
    return spatial, affine


def _directions(
    fields: dict[str, str], sizes: tuple[int, ...], name: str, warnings: list[str]
) -> tuple[tuple[int, ...], NDArray[np.float64], NDArray[np.float64]]:
    vectors = _vectors(fields["space directions"], "space directions", name)
    if len(vectors) != len(sizes):
        raise ImagingError(f"{name} has {len(sizes)} axes but {len(vectors)} space directions; export it again")
    has_time = fields.get("space", "").lower().endswith(("-time", "t")) and _space_dimension(fields) == 4
    n = 4 if has_time else _space_dimension(fields) or max((len(v) for v in vectors if v is not None), default=0)
    if not 2 <= n <= 4 or any(v is not None and len(v) != n for v in vectors):
        raise ImagingError(f"{name} has space directions of other lengths than its space; export it again")
    spatial = tuple(axis for axis, v in enumerate(vectors) if v is not None and (not has_time or any(v[:3])))
    if len(spatial) not in (2, 3):
        raise ImagingError(f"{name} has {len(spatial)} axes in space; an image has 2 or 3")
    width = min(n, 3)
    columns = np.zeros((3, len(spatial)))
    for column, axis in enumerate(spatial):
        columns[:width, column] = (vectors[axis] or [])[:width]
    origin = np.zeros(3)
    found = _vectors(fields.get("space origin", ""), "space origin", name)
    if len(found) == 1 and found[0] is not None and len(found[0]) == n:
        origin[:width] = found[0][:width]
    elif found:
        raise ImagingError(
            f"{name} has the space origin {fields['space origin'][:60]!r}, which is no point; export it again"
        )
    else:
        warnings.append(f"{name} does not say where it lies (no space origin); 0, 0, 0 is assumed.")
    factors = _unit_factors(fields.get("space units", ""), tuple(range(width)), name, warnings)
    factors = np.pad(factors, (0, 3 - width), constant_values=1.0)
    return spatial, columns * factors[:, None], origin * factors


def _spacings(
    fields: dict[str, str], sizes: tuple[int, ...], kinds: list[str], name: str, warnings: list[str]
) -> tuple[tuple[int, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Return the geometry of a file without directions: spacing where it is given, and the usual axial order."""
    spatial = tuple(axis for axis, kind in enumerate(kinds) if kind in ("domain", "space"))
    if len(spatial) not in (2, 3):
        free = [axis for axis, kind in enumerate(kinds) if kind in SAMPLES and kind not in ("time", "list")]
        spatial = tuple(free[:3])
    if len(spatial) not in (2, 3):
        raise ImagingError(f"{name} has {len(spatial)} axes in space; an image has 2 or 3")
    warnings.append(f"{name} does not say how it lies in the patient; the order of an axial scan is assumed.")
    spacing = np.ones(len(sizes))
    if "spacings" in fields:
        given = numbers(fields["spacings"], "spacings", name)
        if len(given) != len(sizes):
            raise ImagingError(f"{name} has {len(sizes)} axes but {len(given)} spacings; export it again")
        spacing = np.array(given)
    if "spacings" not in fields or np.isnan(spacing[list(spatial)]).any():
        warnings.append(f"{name} does not give its voxel size; 1 mm is assumed.")
        spacing = np.where(np.isnan(spacing), 1.0, spacing)
    steps = spacing[list(spatial)] * _unit_factors(fields.get("units", ""), spatial, name, warnings)
    if not (steps > 0).all() or not np.isfinite(steps).all():
        raise ImagingError(f"{name} has the voxel size {steps.tolist()}; every one must be above 0; export it again")
    return spatial, np.eye(3)[:, : len(spatial)] * steps, np.zeros(3)


def _vectors(text: str, field: str, name: str) -> list[list[float] | None]:
    vectors: list[list[float] | None] = []
    at = 0
    while at < len(text):
        match = _VECTOR.match(text, at)
        if not match:
            raise ImagingError(f"{name} gives {field!r} as {text[:60]!r}, which are no vectors; export it again")
        vector = None if match.group(2) is None else numbers(match.group(2), field, name)
        is_none = vector is None or (len(vector) > 0 and all(math.isnan(number) for number in vector))
        vectors.append(None if is_none else vector)
        at = match.end()
    return vectors


def _space_dimension(fields: dict[str, str]) -> int:
    space = fields.get("space", "").lower()
    if space:
        return 4 if space.endswith("-time") or space in ("rast", "last", "lpst") else 3
    given = fields.get("space dimension", "")
    return int(given) if re.fullmatch(r"\d{1,2}", given) else 0


def space_is_known(fields: dict[str, str]) -> bool:
    """Whether the header names a space whose axes run along the patient's."""
    return _base_of_space(fields) in _SPACES


def _base_of_space(fields: dict[str, str]) -> str:
    """Name of the space without its axis of time."""
    space = fields.get("space", "").lower()
    return space.removesuffix("-time") if space.endswith("-time") else space[:3] if len(space) == 4 else space


def _signs(fields: dict[str, str], name: str, warnings: list[str]) -> tuple[float, float, float]:
    """Return the factors that turn the file's space into RAS+."""
    space = fields.get("space", "").lower()
    if space_is_known(fields):
        return _SPACES[_base_of_space(fields)]
    if "space directions" in fields:
        called = f"calls its space {space!r}" if space else "does not name its space"
        warnings.append(f"{name} {called}; left-posterior-superior is assumed, so sides may be swapped.")
    return _SPACES["lps"]


def _unit_factors(text: str, axes: tuple[int, ...], name: str, warnings: list[str]) -> NDArray[np.float64]:
    units = re.findall(r'"([^"]*)"', text) or text.split()
    return np.array(mm_of_units([units[axis] if axis < len(units) else "" for axis in axes], name, warnings))


def numbers(text: str, field: str, name: str) -> list[float]:
    """Return the numbers in a field, or refuse it."""
    try:
        return [float(number) for number in text.replace(",", " ").split()]
    except ValueError as error:
        raise ImagingError(f"{name} gives {field!r} as {text[:60]!r}, which are no numbers; export it again") from error
