"""NRRD, NHDR with its data beside it, and the .seg.nrrd files of 3D Slicer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import check_read_back, first_of_many, label_map_of, surplus_warning, volumes_of
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.limits import refusing_damage
from napari_medseg.imaging.nrrd_header import NrrdHeader, parse_nrrd_header
from napari_medseg.imaging.nrrd_segments import merged, segment_lines, segments_of
from napari_medseg.imaging.orientation import grid_of, to_disk
from napari_medseg.imaging.unpack import read_voxels
from napari_medseg.imaging.volume import DiskGrid, LabelMap, Volume
from napari_medseg.imaging.voxels import as_labels, slabs
from napari_medseg.imaging.watch import Tell, part, silent

_LEVEL = 1
_GZIP_WBITS = 31


def read_nrrd(path: Path, *, first_only: bool = False, tell: Tell = silent) -> tuple[Volume, ...]:
    """Read every volume of an NRRD file, or the first one alone.

    Raises
    ------
    ImagingError
        If the header or the voxels cannot be trusted, or a voxel holds a colour or a vector.
    """
    with refusing_damage(path, "NRRD"):
        header = parse_nrrd_header(path)
        if header.components:
            raise ImagingError(f"{path.name} holds a {header.components} in each voxel; choose a scalar image")
        stored, warnings = _read_layers(path, header, part(tell, 0.0, 0.9))
        if first_only and len(stored) > 1:
            warnings = (*warnings, first_of_many(path.name, len(stored)))
            stored = stored[:1].copy()
        files = [source.path for source in header.sources]
        return volumes_of(
            path,
            stored,
            header.affine,
            warnings=warnings,
            files=files,
            sides_are_known=header.sides_are_known,
            tell=part(tell, 0.9, 1.0),
        )


def read_nrrd_label_map(path: Path, *, tell: Tell = silent) -> LabelMap:
    """Read a mask; segment names become ``names``, segment colours ``metadata["colours"]`` (label to RGB, 0 to 1)."""
    with refusing_damage(path, "NRRD"):
        header = parse_nrrd_header(path)
        stored, warnings = _read_layers(path, header, part(tell, 0.0, 0.9))
        segments = segments_of(header.pairs, len(stored), path.name)
        if segments:
            data, names, colours, overlap = merged(stored, segments, path.name)
            return label_map_of(
                path,
                data,
                header.affine,
                names=names,
                warnings=(*warnings, *overlap),
                metadata={"colours": colours} if colours else None,
            )
        if len(stored) > 1:
            warnings = (*warnings, first_of_many(path.name, len(stored)))
        return label_map_of(path, stored[0], header.affine, warnings=warnings, tell=part(tell, 0.9, 1.0))


def write_nrrd_label_map(path: Path, label_map: LabelMap) -> Path:
    """Save a mask on its scan's on-disk grid, read it back and compare.

    A file that ends in .seg.nrrd holds names and colours (``metadata["colours"]``) too; a plain .nrrd cannot.
    """
    grid = grid_of(label_map)
    data = to_disk(as_labels(label_map.data, path.name), grid)
    is_segmentation = path.name.lower().endswith(".seg.nrrd")
    lines = _header_lines(grid, data.dtype)
    if is_segmentation:
        lines += segment_lines(data, label_map.names, label_map.metadata.get("colours", {}))

    def write(temporary: Path) -> None:
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_WBITS)
        stored = data.T
        with temporary.open("wb") as file:
            file.write(("\n".join(lines) + "\n\n").encode())
            for slab in slabs(stored):
                file.write(compressor.compress(np.ascontiguousarray(stored[slab])))
            file.write(compressor.flush())

    def verify(temporary: Path) -> None:
        read = read_nrrd_label_map(temporary)
        check_read_back(read, grid, data, path.name)
        kept = {label: name for label, name in label_map.names.items() if label > 0}
        if is_segmentation and any(_one_line(read.names[label]) != _one_line(kept[label]) for label in kept):
            raise ImagingError(f"{path.name} did not keep the names of its labels; save elsewhere")

    return write_durably(path, write, verify)


def _one_line(name: str) -> str:
    return " ".join(name.split())


def _read_layers(path: Path, header: NrrdHeader, tell: Tell) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Stored voxels as (N, K, J, I) and warnings: every axis that is not in space goes to the front."""
    shape = header.sizes[::-1]
    last = len(shape) - 1
    others = [axis for axis in range(len(shape)) if axis not in header.spatial]
    n_layers = math.prod(header.sizes[axis] for axis in others)
    is_interleaved = n_layers > 1 and any(axis < header.spatial[-1] for axis in others)
    copies = 2 if is_interleaved else 1
    array, surplus = read_voxels(path.name, header.sources, shape, header.dtype, copies=copies, tell=tell)
    order = [last - axis for axis in (*reversed(others), *reversed(header.spatial))]
    layers = array.transpose(order)
    spatial_shape = layers.shape[len(others) :]
    if len(spatial_shape) == 2:
        spatial_shape = (1, *spatial_shape)
    return layers.reshape(n_layers, *spatial_shape), (*header.warnings, *surplus_warning(path.name, surplus))


def _header_lines(grid: DiskGrid, dtype: np.dtype[Any]) -> list[str]:
    """Geometry and type alone, in the space that NRRD readers know best (LPS)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine + 0.0
    vectors = [f"({','.join(repr(float(number)) for number in column)})" for column in lps[:3].T]
    return [
        "NRRD0004",
        f"type: {'unsigned char' if dtype == np.uint8 else 'unsigned short'}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in grid.shape)}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        f"endian: {'little' if dtype.newbyteorder('<') == dtype else 'big'}",
        "encoding: gzip",
        f"space origin: {vectors[3]}",
    ]
