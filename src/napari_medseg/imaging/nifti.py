"""NIfTI-1 and NIfTI-2, single files and .hdr/.img pairs, gzip or not whatever the name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import first_of_many, label_map_of, surplus_warning, volumes_of
from napari_medseg.imaging.content import Content, gzip_at_once
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.limits import check_claim, check_memory, refusing_damage
from napari_medseg.imaging.nifti_header import NiftiHeader, header_bytes, parse_header
from napari_medseg.imaging.orientation import corner_distance_mm, grid_of, to_disk
from napari_medseg.imaging.suffixes import NIFTI_SUFFIXES, stem_of, suffix_of
from napari_medseg.imaging.volume import DiskGrid, LabelMap, Volume
from napari_medseg.imaging.voxels import as_labels, native, scaled, scaled_dtype, slabs
from napari_medseg.imaging.watch import Tell, part, silent

_LEVEL = 1
_GZIP_WBITS = 31
_HEADER_FILES = (".hdr", ".hdr.gz")
_VOXEL_FILES = (".img", ".img.gz")
# Unpacking at once is faster but cannot be stopped; up to here it takes a fraction of a second.
_AT_ONCE_WATCHED = 128 * 1024 * 1024


def read_nifti(path: Path, *, first_only: bool = False, tell: Tell = silent) -> tuple[Volume, ...]:
    """Read every volume of a NIfTI file, or the first one alone.

    Parameters
    ----------
    path : Path
        The file, or either file of a .hdr/.img pair.
    first_only : bool
        Read one volume of a 4-D file; a warning says that there are more.
    tell : callable
        Called with the share done, 0 to 1.

    Raises
    ------
    ImagingError
        If the header or the voxels cannot be trusted; names the file and what is wrong.
    """
    with refusing_damage(path, "NIfTI"):
        header, stored, warnings = _read_stored(path, first_only=first_only, tell=part(tell, 0.0, 0.9))
        header_path = _header_file(path)
        return volumes_of(
            path,
            stored,
            header.affine,
            slope=header.slope,
            intercept=header.intercept,
            warnings=warnings,
            files=[header_path, _voxel_file(header_path)] if header.is_pair else [path],
            sides_are_known=header.sides_are_known,
            tell=part(tell, 0.9, 1.0),
        )


def read_nifti_label_map(path: Path, *, tell: Tell = silent) -> LabelMap:
    """Read a mask of any numeric type that holds whole numbers from 0 to 65535."""
    with refusing_damage(path, "NIfTI"):
        header, stored, warnings = _read_stored(path, first_only=True, tell=part(tell, 0.0, 0.8))
        data = scaled(stored[0], header.slope, header.intercept, tell=part(tell, 0.8, 0.9))
        return label_map_of(path, data, header.affine, warnings=warnings, tell=part(tell, 0.9, 1.0))


def write_nifti_label_map(path: Path, label_map: LabelMap) -> Path:
    """Save a mask on its scan's on-disk grid, read it back and compare.

    Only geometry is written: no text, no extension, nothing of the source's header.
    """
    grid = grid_of(label_map)
    data = to_disk(as_labels(label_map.data, path.name), grid).T
    header = _minimal_header(grid, data.dtype)
    compress = path.name.lower().endswith(".gz")

    def write(temporary: Path) -> None:
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_WBITS) if compress else None
        with temporary.open("wb") as file:
            file.write(compressor.compress(header) if compressor else header)
            for slab in slabs(data):
                piece = np.ascontiguousarray(data[slab])
                file.write(compressor.compress(piece) if compressor else piece.data)
            if compressor:
                file.write(compressor.flush())

    def verify(temporary: Path) -> None:
        _compare(temporary, path.name, grid, data)

    return write_durably(path, write, verify)


def _read_stored(path: Path, *, first_only: bool, tell: Tell) -> tuple[NiftiHeader, NDArray[Any], tuple[str, ...]]:
    """Header, stored voxels (N, K, J, I) in this machine's byte order, and warnings."""
    header_path, is_watched = _header_file(path), tell is not silent
    with Content(header_path, tell=tell) as content:
        block = content.read(348)
        block += content.read(max(header_bytes(block) - len(block), 0))
        header = parse_header(block, header_path.name)
        if not header.is_pair:
            return _read_voxels(
                content, header, header.offset - len(block), first_only=first_only, is_watched=is_watched
            )
        content.finish()
    voxels = _voxel_file(header_path)
    # Raw voxels may begin with the two bytes that gzip begins with; their number tells.
    is_raw = voxels.stat().st_size == header.offset + header.n_volumes * header.volume_bytes
    with Content(voxels, packing="raw" if is_raw else "auto", tell=tell) as content:
        return _read_voxels(content, header, header.offset, first_only=first_only, is_watched=is_watched)


def _read_voxels(
    content: Content, header: NiftiHeader, skip: int, *, first_only: bool, is_watched: bool
) -> tuple[NiftiHeader, NDArray[Any], tuple[str, ...]]:
    n_volumes = 1 if first_only else header.n_volumes
    warnings = list(header.warnings)
    if header.n_volumes > n_volumes:
        warnings.append(first_of_many(content.name, header.n_volumes))
    shape = (*header.shape, header.n_volumes) if n_volumes > 1 else header.shape
    check_memory(content.name, shape, n_volumes * _needed_bytes(header))
    check_claim(content.name, header.offset + header.n_volumes * header.volume_bytes, content.most_bytes)
    shape_kji = (n_volumes, *reversed(header.shape))
    n_bytes = header.offset + n_volumes * header.volume_bytes
    is_quick = n_bytes <= _AT_ONCE_WATCHED or not is_watched
    is_whole = n_volumes == header.n_volumes and header.offset % header.dtype.itemsize == 0
    if content.packing == "gzip" and is_quick and is_whole:
        whole = gzip_at_once(content.path, n_bytes)
        if whole is not None:
            return header, native(whole[header.offset :].view(header.dtype).reshape(shape_kji)), tuple(warnings)
    stored = np.empty(shape_kji, header.dtype)
    content.skip(skip)
    content.fill(stored)
    content.skip((header.n_volumes - n_volumes) * header.volume_bytes)
    warnings += surplus_warning(content.name, content.finish())
    return header, native(stored), tuple(warnings)


def _needed_bytes(header: NiftiHeader) -> int:
    result = scaled_dtype(header.dtype, header.slope, header.intercept)
    if result == header.dtype.newbyteorder("="):
        return header.volume_bytes
    return header.volume_bytes + header.volume_bytes // header.dtype.itemsize * result.itemsize


def _header_file(path: Path) -> Path:
    if suffix_of(path, NIFTI_SUFFIXES) not in _VOXEL_FILES:
        return path
    found = _beside(path, _HEADER_FILES)
    if found is None:
        with Content(path) as content:
            if header_bytes(content.read(348)):
                return path
        raise ImagingError(f"{path.name} holds voxels without a header; put its .hdr file into the same folder")
    return found


def _voxel_file(header_path: Path) -> Path:
    found = _beside(header_path, _VOXEL_FILES)
    if found is None:
        raise ImagingError(
            f"{header_path.name} says that its voxels are in an .img file, which is missing; put it into the same "
            "folder"
        )
    return found


def _beside(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    stem = stem_of(path)
    candidates = (path.with_name(stem + form) for suffix in suffixes for form in (suffix, suffix.upper()))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _minimal_header(grid: DiskGrid, dtype: np.dtype[Any]) -> bytes:
    """Geometry and type alone: sform, and qform where a quaternion can say the same."""
    header: Any = Nifti1Header() if max(grid.shape) < 32768 else Nifti2Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.shape)
    header["vox_offset"] = header.sizeof_hdr + 4
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header.set_xyzt_units("mm")
    header.set_qform(grid.affine, code=1)
    if corner_distance_mm(header.get_qform(), grid.affine, grid.shape) > 1e-3:
        header["qform_code"] = 0
    header.set_sform(grid.affine, code=1)
    return bytes(header.binaryblock) + bytes(4)


def _same_bytes(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays of one type hold the same, eight bytes at a time where they can be seen so."""
    if a.shape == b.shape and a.flags.c_contiguous and b.flags.c_contiguous and a.nbytes % 8 == 0:
        a, b = (x.reshape(-1).view(np.uint8).view(np.uint64) for x in (a, b))
    return bool(np.array_equal(a, b))


def _compare(temporary: Path, name: str, grid: DiskGrid, data: NDArray[Any]) -> None:
    """Raise unless the file just written reads back as this grid with these voxels."""
    with Content(temporary) as content:
        block = content.read(348)
        block += content.read(max(header_bytes(block) - len(block), 0))
        header = parse_header(block, name)
        content.skip(header.offset - len(block))
        same = header.shape == grid.shape and header.dtype.newbyteorder("=") == data.dtype
        same = same and corner_distance_mm(header.affine, grid.affine, grid.shape) < 1e-2
        buffer = np.empty_like(data[next(slabs(data))], order="C")
        for slab in slabs(data):
            piece = buffer[: slab.stop - slab.start]
            if same:
                content.fill(piece)
                same = _same_bytes(piece, data[slab])
        if not same or content.finish():
            raise ImagingError(f"{name} did not read back as it was written; the disk may be failing, save elsewhere")
