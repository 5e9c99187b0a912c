"""Voxel size of a TIFF file from what ImageJ or OME wrote into it."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

from tifffile import TiffFile

from napari_medseg.imaging.lengths import mm_of_unit

_MAX_XML = 16 * 1024 * 1024


def spacing_zyx_mm(tiff: TiffFile, name: str, warnings: list[str]) -> tuple[float, float, float]:
    """Voxel size along ``(z, y, x)``; 1 mm with a warning where the file does not give it."""
    read = _ome if tiff.is_ome else _imagej if tiff.is_imagej else _resolution
    found = read(tiff, name, warnings)
    sizes = {axis: size for axis, size in found.items() if size > 0 and math.isfinite(size)}
    missing = [axis for axis in "zyx" if axis not in sizes]
    if len(missing) == 3:
        warnings.append(f"{name} does not give its voxel size; 1 mm is assumed.")
    elif missing:
        warnings.append(f"{name} does not give its voxel size along {', '.join(missing)}; 1 mm is assumed there.")
    warnings.append(f"{name} does not say how it lies in the patient; the order of an axial scan is assumed.")
    return sizes.get("z", 1.0), sizes.get("y", 1.0), sizes.get("x", 1.0)


def _imagej(tiff: TiffFile, name: str, warnings: list[str]) -> dict[str, float]:
    metadata: dict[str, Any] = tiff.imagej_metadata or {}
    unit = str(metadata.get("unit", "")).strip()
    if unit.lower() in ("", "pixel", "pixels", "null"):
        return {}
    before = len(warnings)
    factor = mm_of_unit([unit], name, warnings)
    if len(warnings) > before and "assumed" in warnings[-1]:
        return {}
    sizes = {"z": float(metadata.get("spacing", 0)) * factor}
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        found = tiff.pages.first.tags.get(tag)
        if found is not None and found.value[0] > 0:
            sizes[axis] = found.value[1] / found.value[0] * factor
    return sizes


def _resolution(tiff: TiffFile, name: str, warnings: list[str]) -> dict[str, float]:
    """Pixel size of a plain TIFF by its resolution, which may be that of a printer or screen."""
    tags = tiff.pages.first.tags
    unit_mm = {2: 25.4, 3: 10.0}.get(tags.valueof("ResolutionUnit", 0))
    sizes = {}
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        numerator, denominator = tags.valueof(tag, (0, 1))
        if unit_mm and numerator > 0 and denominator > 0:
            sizes[axis] = unit_mm * denominator / numerator
    if sizes:
        warnings.append(
            f"{name} gives its pixel size only as a resolution for printing; check lengths before you rely on them."
        )
    return sizes


def _ome(tiff: TiffFile, name: str, warnings: list[str]) -> dict[str, float]:
    text = tiff.ome_metadata or ""
    if len(text) > _MAX_XML or "<!ENTITY" in text:
        return {}
    root = ElementTree.fromstring(text)  # noqa: S314 - entities are refused above, the size is bounded
    pixels = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return {}
    sizes = {}
    for axis in "zyx":
        value = pixels.get(f"PhysicalSize{axis.upper()}")
        if value is not None:
            sizes[axis] = float(value) * mm_of_unit([pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")], name, [])
    if sizes:
        unit = pixels.get("PhysicalSizeXUnit", "µm")
        mm_of_unit([unit], name, warnings)
    return sizes
