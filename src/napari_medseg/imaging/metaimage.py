"""MetaImage: .mha with its voxels inside, .mhd with them beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import check_read_back, first_of_many, label_map_of, surplus_warning, volumes_of
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.limits import refusing_damage
from napari_medseg.imaging.metaimage_header import MetaHeader, parse_meta_header
from napari_medseg.imaging.orientation import grid_of, to_disk
from napari_medseg.imaging.unpack import read_voxels
from napari_medseg.imaging.volume import DiskGrid, LabelMap, Volume
from napari_medseg.imaging.voxels import as_labels, scaled, slabs
from napari_medseg.imaging.watch import Tell, part, silent

_LEVEL = 1


def read_metaimage(path: Path, *, first_only: bool = False, tell: Tell = silent) -> tuple[Volume, ...]:
    """Read every volume of a MetaImage, or the first one alone.

    Raises
    ------
    ImagingError
        If the header or the voxels cannot be trusted, or a voxel has several components.
    """
    with refusing_damage(path, "MetaImage"):
        header, stored, warnings = _read_stored(path, part(tell, 0.0, 0.9))
        if first_only and len(stored) > 1:
            warnings = (*warnings, first_of_many(path.name, len(stored)))
            stored = stored[:1].copy()
        return volumes_of(
            path,
            stored,
            header.affine,
            slope=header.slope,
            intercept=header.intercept,
            warnings=warnings,
            files=[source.path for source in header.sources],
            sides_are_known=header.sides_are_known,
            tell=part(tell, 0.9, 1.0),
        )


def read_metaimage_label_map(path: Path, *, tell: Tell = silent) -> LabelMap:
    """Read a mask of any numeric type that holds whole numbers from 0 to 65535."""
    with refusing_damage(path, "MetaImage"):
        header, stored, warnings = _read_stored(path, part(tell, 0.0, 0.9))
        if len(stored) > 1:
            warnings = (*warnings, first_of_many(path.name, len(stored)))
        data = scaled(stored[0], header.slope, header.intercept, tell=part(tell, 0.9, 0.95))
        return label_map_of(path, data, header.affine, warnings=warnings, tell=part(tell, 0.95, 1.0))


def write_metaimage_label_map(path: Path, label_map: LabelMap) -> Path:
    """Save a mask as .mha on its scan's on-disk grid, read it back and compare."""
    grid = grid_of(label_map)
    data = to_disk(as_labels(label_map.data, path.name), grid).T
    compressor = isal_zlib.compressobj(_LEVEL)
    pieces = [compressor.compress(np.ascontiguousarray(data[slab])) for slab in slabs(data)]
    pieces.append(compressor.flush())
    header = _header(grid, data.dtype, sum(len(piece) for piece in pieces))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(header)
            file.writelines(pieces)

    def verify(temporary: Path) -> None:
        check_read_back(read_metaimage_label_map(temporary), grid, data.T, path.name)

    if path.suffix.lower() == ".mhd":
        raise ImagingError(f"{path.name} would need a second file for its voxels; save as .mha, which holds both")
    return write_durably(path, write, verify)


def _read_stored(path: Path, tell: Tell) -> tuple[MetaHeader, NDArray[Any], tuple[str, ...]]:
    header = parse_meta_header(path)
    stored, surplus = read_voxels(path.name, header.sources, header.shape, header.dtype, tell=tell)
    return header, stored, (*header.warnings, *surplus_warning(path.name, surplus))


def _header(grid: DiskGrid, dtype: np.dtype[Any], packed_bytes: int) -> bytes:
    """Geometry and type alone, in LPS as the format has it."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine + 0.0
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = (lps[:3, :3] / spacing).T.ravel() + 0.0
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(dtype.newbyteorder(">") == dtype and dtype.itemsize > 1),
        "CompressedData": "True",
        "CompressedDataSize": str(packed_bytes),
        "TransformMatrix": _line(directions),
        "Offset": _line(lps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _line(spacing),
        "DimSize": " ".join(str(n) for n in grid.shape),
        "ElementType": "MET_UCHAR" if dtype == np.uint8 else "MET_USHORT",
        "ElementDataFile": "LOCAL",
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items()).encode()


def _line(numbers: NDArray[np.float64]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
