"""Whether the pages of a TIFF file lie in it as its tags say, checked before memory is taken for them."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPageSeries

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.content import Content
from napari_medseg.imaging.limits import check_claim, check_memory
from napari_medseg.imaging.voxels import native
from napari_medseg.imaging.watch import Tell, silent

_MAX_PAGES = 65_536
_UNCOMPRESSED = 1
# The most bytes that one byte can become, for the packings that have a bound.
_MOST_FROM_A_BYTE = {_UNCOMPRESSED: 1, 5: 4096, 8: 1032, 32773: 64, 32946: 1032}
_UNBOUNDED = 100_000
# Some writers pad each strip to a multiple of this.
_PADDING = 8
# Below this a stack is read in a fraction of a second, and nobody need be told how far it is.
_LEAST_WATCHED = 32 * 1024 * 1024


def check_chain(path: Path) -> None:
    """Follow the pages of a file from one to the next, to the end.

    A stack that was cut off has its last pages missing, and readers show the rest as if it were all.

    Raises
    ------
    ImagingError
        If a page lies beyond the end of the file, or the pages run in a circle.
    """
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        is_big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        start, count, tag_bytes, link = (8, "Q", 20, "Q") if is_big else (4, "H", 12, "I")
        seen: set[int] = set()
        offset = _number(file, start, f"{order}{link}", path.name)
        while offset:
            if offset in seen or len(seen) >= _MAX_PAGES:
                raise ImagingError(
                    f"{path.name} has pages that run in a circle or are over {_MAX_PAGES}; export it again"
                )
            seen.add(offset)
            n_tags = _number(file, offset, f"{order}{count}", path.name)
            after = offset + struct.calcsize(f"{order}{count}") + n_tags * tag_bytes
            offset = _number(file, after, f"{order}{link}", path.name)
    if not seen:
        raise ImagingError(f"{path.name} has no page; copy or export it again")


def check_series(path: Path, series: TiffPageSeries, *, is_imagej: bool) -> None:
    """Refuse a stack whose pages do not lie in the file in full.

    Raises
    ------
    ImagingError
        Names the file and what of it is missing or contradicts itself.
    """
    name, size = path.name, path.stat().st_size
    if series.dtype is None or series.dtype.kind not in "iufb":
        raise ImagingError(f"{name} holds {series.dtype} in each voxel; convert it to integers or floats first")
    if math.prod(series.shape) == 0:
        raise ImagingError(f"{name} says that its size is {series.shape}; every size must be 1 or more")
    check_memory(name, series.shape, series.nbytes)
    if series.dataoffset is not None:
        _check_start(series.dataoffset, name)
        check_claim(name, series.dataoffset + series.nbytes, size)
    # ImageJ writes large stacks behind a single page, whose counts then cannot be right.
    if not (is_imagej and series.dataoffset is not None):
        _check_parts(name, size, series)


def read_pages(path: Path, series: TiffPageSeries, tell: Tell) -> NDArray[Any]:
    """Read a checked stack; a large one page by page where somebody watches."""
    pages = series.pages
    if tell is silent or series.nbytes < _LEAST_WATCHED or series.dtype is None or series.transform is not None:
        return np.asarray(series.asarray(maxworkers=1))
    if series.dataoffset is not None and series.dtype.kind in "iuf":
        order: Any = series.keyframe.parent.byteorder
        stored = np.empty(series.shape, series.dtype.newbyteorder(order))
        with Content(path, series.dataoffset, "raw", tell=tell) as content:
            content.fill(stored)
        return native(stored)
    if len(pages) < 2:
        return np.asarray(series.asarray(maxworkers=1))
    data = np.empty((len(pages), *series.keyframe.shape), series.dtype)
    for index, page in enumerate(pages):
        assert page is not None  # `check_series` refuses those
        tell(index / len(pages))
        page.asarray(out=data[index], maxworkers=1)
    return data.reshape(series.shape)


def _check_parts(name: str, size: int, series: TiffPageSeries) -> None:
    page: Any = series.keyframe
    expected = _page_bytes(page)
    n_stored = 0
    for part in series.pages:
        if part is None:
            raise ImagingError(f"{name} is one file of several that belong together; export them as one file")
        places = list(zip(part.dataoffsets, part.databytecounts, strict=False))
        if len(places) < math.prod(page.chunked) or any(count == 0 for _, count in places):
            raise ImagingError(f"{name} lacks parts of a page; copy or export it again")
        for offset, count in places:
            _check_start(offset, name)
            check_claim(name, offset + count, size)
        stored = sum(part.databytecounts)
        if page.compression == _UNCOMPRESSED and not 0 <= stored - expected <= _PADDING * len(places):
            raise ImagingError(
                f"{name} stores {stored} bytes for a page of {expected}, so a tag is wrong; export it again"
            )
        n_stored += stored
    check_claim(name, expected * len(series.pages), n_stored * _MOST_FROM_A_BYTE.get(int(page.compression), _UNBOUNDED))


def _page_bytes(page: Any) -> int:
    """Bytes of one page before packing: whole tiles, or rows that each fill whole bytes."""
    bits = int(page.bitspersample)
    if page.is_tiled:
        return int(math.prod(page.chunked) * math.prod(page.chunks) * bits // 8)
    separate, depth, length, width, samples = page.shaped
    return int(separate * depth * length * ((width * samples * bits + 7) // 8))


def _check_start(offset: int, name: str) -> None:
    if offset < 8:
        raise ImagingError(f"{name} says that its voxels begin at byte {offset}, inside the header; export it again")


def _number(file: Any, offset: int, form: str, name: str) -> int:
    file.seek(offset)
    raw = file.read(struct.calcsize(form))
    if len(raw) < struct.calcsize(form):
        raise ImagingError(f"{name} ends too early: a page lies beyond its end; copy or export it again")
    return int(struct.unpack(form, raw)[0])
