"""Voxels that a text header describes (NRRD, MetaImage): raw, packed or written out as text, in one file or many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.content import Content, Packing
from napari_medseg.imaging.limits import check_claim, check_memory, in_words
from napari_medseg.imaging.voxels import native
from napari_medseg.imaging.watch import Tell, part, silent

_MAX_TEXT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Where the voxels of a header are.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        First byte to look at, before unpacking; -1 takes the last bytes of the file.
    packing : str
        As in `Content`; ``"text"`` and ``"hex"`` are numbers written out.
    skip : int
        Bytes to skip after unpacking.
    """

    path: Path
    offset: int = 0
    packing: str = "raw"
    skip: int = 0


def read_voxels(
    name: str,
    sources: list[Source],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    copies: int = 1,
    tell: Tell = silent,
) -> tuple[NDArray[Any], int]:
    """Read an array from one file, or from several that each hold an equal part of it.

    Parameters
    ----------
    name : str
        The header's file name, for messages.
    sources : list of Source
        In the order of the slowest axis.
    shape : tuple of int
        Slowest axis first.
    dtype : numpy dtype
        With the byte order on disk.
    copies : int
        How many such arrays the caller will hold, for the check of memory.
    tell : callable
        Called with the share done, 0 to 1.

    Returns
    -------
    array : ndarray
        In this machine's byte order.
    surplus : int
        Bytes found beyond it.

    Raises
    ------
    ImagingError
        If the files do not hold that much, or the machine cannot.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    check_memory(name, shape[::-1], n_bytes * copies)
    if not sources or math.prod(shape) % len(sources):
        raise ImagingError(
            f"{name} spreads {shape[::-1]} voxels over {len(sources)} files, which does not come out even"
        )
    if sources[0].packing in ("text", "hex"):
        return _read_text(name, sources, shape, dtype), 0
    check_claim(name, n_bytes, sum(_most_bytes(source) for source in sources))
    array = np.empty(shape, dtype)
    surplus = 0
    n = len(sources)
    for index, (source, piece) in enumerate(zip(sources, array.reshape(n, -1), strict=True)):
        surplus += _fill(source, piece, n_bytes // n, part(tell, index / n, (index + 1) / n))
    return native(array), surplus


def _fill(source: Source, piece: NDArray[Any], n_bytes: int, tell: Tell) -> int:
    offset = source.offset
    if offset < 0:
        offset = source.path.stat().st_size - n_bytes
        if offset < 0:
            raise ImagingError(f"{source.path.name} ends too early; copy or export it again")
    with Content(source.path, offset, _packing(source), tell=tell) as content:
        content.skip(source.skip)
        content.fill(piece)
        return content.finish()


def _packing(source: Source) -> Packing:
    if source.packing == "gzip":
        return "gzip"
    if source.packing == "bzip2":
        return "bzip2"
    return "zlib" if source.packing == "zlib" else "raw"


def _most_bytes(source: Source) -> int:
    with Content(source.path, max(source.offset, 0), _packing(source)) as content:
        return content.most_bytes


def _read_text(name: str, sources: list[Source], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(sources) != 1:
        raise ImagingError(f"{name} writes its numbers out over several files, which is not read; export it as raw")
    source = sources[0]
    with Content(source.path, max(source.offset, 0), "raw") as content:
        if content.most_bytes > _MAX_TEXT:
            raise ImagingError(f"{name} writes {in_words(content.most_bytes)} of numbers out as text; export it as raw")
        text = content.read(content.most_bytes)
    try:
        if source.packing == "hex":
            values = native(np.frombuffer(bytearray.fromhex(text.decode("ascii")), dtype))
        else:
            values = np.array(text.replace(b",", b" ").split(), dtype=dtype.newbyteorder("="))
    except (ValueError, OverflowError) as error:
        raise ImagingError(f"{name} holds something else than numbers written out as text; export it as raw") from error
    if values.size != math.prod(shape):
        raise ImagingError(f"{name} promises {math.prod(shape)} numbers but holds {values.size}; export it again")
    return values.reshape(shape)
