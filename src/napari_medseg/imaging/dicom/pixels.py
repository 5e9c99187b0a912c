"""Read the pixels of a stack into one array, in scanner units: every slice with its own slope and intercept."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging.dicom.elements import DamagedDicom
from napari_medseg.imaging.dicom.frames import FrameReader
from napari_medseg.imaging.dicom.geometry import name_of
from napari_medseg.imaging.dicom.headers import Plane
from napari_medseg.imaging.dicom.layout import PixelLayout
from napari_medseg.imaging.dicom.series import Stack
from napari_medseg.imaging.limits import check_memory

Progress = Callable[[float], None]
ShouldStop = Callable[[], bool]

_N_THREADS = min(4, os.cpu_count() or 1)
_INTEGER_TYPES = (np.int16, np.uint16, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class StackPixels:
    """Array of shape ``(slices, rows, columns)`` in scanner units, and what had to be assumed."""

    data: NDArray[Any]
    warnings: tuple[str, ...]


def read_stack(stack: Stack, *, progress: Progress | None = None, should_stop: ShouldStop | None = None) -> StackPixels:
    """Read all planes of a stack.

    Raises
    ------
    ImagingError
        If a file is cut off or damaged, or the volume does not fit into memory; the file is named.
    Cancelled
        If ``should_stop`` said so.
    """
    planes = [(k, plane) for k, plane in enumerate(stack.planes) if plane is not None]
    frame_readers = _FrameReaders()
    warnings = _pixel_warnings([plane for _, plane in planes])
    target = _type_before_reading([plane for _, plane in planes])
    layout = stack.first.file.layout
    shape = (len(stack.planes), layout.rows, layout.columns)
    check_memory(stack.first.file.path.name, shape, int(np.prod(shape, dtype=np.int64)) * target.itemsize)
    data = np.empty(shape, target)
    as_scanner_units = target == np.float32
    ranges: dict[int, tuple[int, int]] = {}

    def read(slot: tuple[int, Plane]) -> int:
        k, plane = slot
        with _naming(plane):
            _read_plane(plane, frame_readers, data[k], as_scanner_units=as_scanner_units)
        if not as_scanner_units:
            ranges[k] = (int(data[k].min()), int(data[k].max()))
        return k

    with closing(_in_threads(read, planes)) as finished:
        for done, _ in enumerate(finished):
            if should_stop is not None and should_stop():
                raise Cancelled("Reading was cancelled.")
            if progress is not None:
                progress((done + 1) / len(planes))
    if not as_scanner_units:
        data = _rescaled_integers(data, planes, ranges)
    if len(planes) < len(stack.planes):
        _fill_missing(data, planes)
    return StackPixels(data, warnings)


def same_pixels(a: Plane, b: Plane) -> bool:
    """Whether two planes store the same pixels with the same rescale."""
    if (a.slope, a.intercept, a.file.layout) != (b.slope, b.intercept, b.file.layout):
        return False
    readers = _FrameReaders()
    try:
        return bool(np.array_equal(readers.of(a).frame(a.frame), readers.of(b).frame(b.frame)))
    except (DamagedDicom, OSError):
        return False


def thumbnail(stack: Stack | None, size: int = 96) -> NDArray[np.uint8]:
    """Small picture of a stack's middle slice as stored, dark to bright; black where it cannot be read."""
    planes = [plane for plane in stack.planes if plane is not None] if stack else []
    if not planes:
        return np.zeros((size, size), np.uint8)
    plane = planes[len(planes) // 2]
    try:
        frame = _cleaned(_FrameReaders().of(plane).frame(plane.frame), plane.file.layout)
    except (DamagedDicom, OSError):
        return np.zeros((size, size), np.uint8)
    step = max(1, -(-max(frame.shape) // size))
    small = frame[::step, ::step].astype(np.float32)
    low, high = np.percentile(small, (1.0, 99.0))
    return np.asarray((np.clip((small - low) / max(high - low, 1e-6), 0.0, 1.0) * 255).astype(np.uint8))


class _FrameReaders:
    """One reader a file, kept while its frames are read one after the other."""

    def __init__(self) -> None:
        self._readers: dict[Any, FrameReader] = {}

    def of(self, plane: Plane) -> FrameReader:
        file = plane.file
        if file.place.n_frames == 1:
            return FrameReader(file)
        reader = self._readers.get(file.path)
        if reader is None:
            reader = self._readers[file.path] = FrameReader(file)
        return reader


@contextmanager
def _naming(plane: Plane) -> Iterator[None]:
    """Turn a failure into one sentence that names the file."""
    try:
        yield
    except DamagedDicom as error:
        raise ImagingError(f"Cannot read '{plane.file.path}': {error}; export or copy it again.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImagingError(f"Cannot read '{plane.file.path}': {reason}.") from error


def _in_threads(
    read: Callable[[tuple[int, Plane]], int], planes: list[tuple[int, Plane]]
) -> Generator[int, None, None]:
    """Read planes in a few threads; reading and decoding release the interpreter's lock."""
    if len(planes) == 1 or _N_THREADS == 1:
        yield from map(read, planes)
        return
    pool = ThreadPoolExecutor(_N_THREADS)
    try:
        yield from pool.map(read, planes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _type_before_reading(planes: list[Plane]) -> np.dtype[Any]:
    """Type to read into: the stored integer type where rescaling keeps integers, else float32."""
    needs_float = any(
        plane.file.layout.is_float or not (plane.slope.is_integer() and plane.intercept.is_integer())
        for plane in planes
    )
    if needs_float:
        return np.dtype(np.float32)
    stored = {_sample_type(plane) for plane in planes}
    return stored.pop() if len(stored) == 1 else np.result_type(*stored)


def _sample_type(plane: Plane) -> np.dtype[Any]:
    """Integer type of a decoded plane; colour becomes one luminance byte."""
    layout, place = plane.file.layout, plane.file.place
    if layout.n_samples == 3:
        return np.dtype(np.uint8) if layout.bits_allocated <= 8 else np.dtype(np.uint16)
    if place.palette is not None:
        return np.dtype(np.uint8)
    if place.modality_lut is not None:
        return np.dtype(np.uint16)
    return layout.dtype


def _read_plane(plane: Plane, readers: _FrameReaders, out: NDArray[Any], *, as_scanner_units: bool) -> None:
    layout = plane.file.layout
    reader = readers.of(plane)
    if reader.can_read_into(out):
        reader.read_into(plane.frame, out)
    else:
        frame = reader.frame(plane.frame)
        if not as_scanner_units:
            out[...] = frame
        else:
            out[...] = _cleaned(frame, layout)
            _apply_rescale(out, plane)
            return
    if _needs_cleaning(plane):
        out[...] = _cleaned(out, layout)


def _needs_cleaning(plane: Plane) -> bool:
    layout = plane.file.layout
    return layout.photometric == "MONOCHROME1" or layout.bits_stored < layout.bits_allocated


def _cleaned(frame: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Drop what is stored outside the used bits (old overlays), and invert MONOCHROME1."""
    if layout.n_samples != 1 or layout.photometric == "PALETTE COLOR":
        return frame
    if not layout.is_float and frame.dtype.kind in "iu":
        frame = _used_bits(frame, layout)
    if layout.photometric != "MONOCHROME1":
        return frame
    if layout.is_float:
        return np.asarray(frame.max() + frame.min() - frame)
    top = -1 if layout.is_signed else (1 << layout.bits_stored) - 1
    return np.asarray(frame.dtype.type(top) - frame)


def _used_bits(frame: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    bits = layout.bits_stored
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if layout.is_signed else (0, (1 << bits) - 1)
    shift = layout.high_bit + 1 - bits
    if shift == 0 and (bits >= layout.bits_allocated or (int(frame.min()) >= low and int(frame.max()) <= high)):
        return frame
    unused_above = frame.dtype.itemsize * 8 - layout.high_bit - 1
    # Left then right: the right shift of a signed type repeats the sign bit.
    used = np.asarray((frame << unused_above) >> (unused_above + shift))
    if layout.padding is not None and shift == 0:
        used[frame.view(f"u{frame.dtype.itemsize}") == layout.padding] = low
    return used


def _apply_rescale(out: NDArray[Any], plane: Plane) -> None:
    slope = plane.slope or 1.0
    if slope != 1.0:
        out *= np.float32(slope)
    if plane.intercept:
        out += np.float32(plane.intercept)


def _rescaled_integers(
    data: NDArray[Any], planes: list[tuple[int, Plane]], ranges: dict[int, tuple[int, int]]
) -> NDArray[Any]:
    """Apply integer slopes and intercepts, in place where the stored type has as many bits as the result needs."""
    rescales = {(int(plane.slope) or 1, int(plane.intercept)) for _, plane in planes}
    if rescales == {(1, 0)} and data.dtype in (np.uint8, np.int16, np.uint16):
        return data
    ends = [end * (int(plane.slope) or 1) + int(plane.intercept) for k, plane in planes for end in ranges[k]]
    fitting = [t for t in _INTEGER_TYPES if np.iinfo(t).min <= min(ends) and max(ends) <= np.iinfo(t).max]
    if not fitting:
        out = data.astype(np.float32)
        for k, plane in planes:
            _apply_rescale(out[k], plane)
        return out
    target = np.dtype(fitting[0])
    out = data.view(target) if data.dtype.itemsize == target.itemsize else data.astype(target)
    bits = 8 * target.itemsize
    words = out.view(f"u{target.itemsize}")
    for k, plane in planes:
        slope, intercept = int(plane.slope) or 1, int(plane.intercept)
        # Unsigned arithmetic wraps, so the result is right whichever sign the stored type had.
        if slope != 1:
            words[k] *= words.dtype.type(slope % (1 << bits))
        if intercept:
            words[k] += words.dtype.type(intercept % (1 << bits))
    return out


def _fill_missing(data: NDArray[Any], planes: list[tuple[int, Plane]]) -> None:
    present = [k for k, _ in planes]
    lowest = min(data[k].min() for k in present)
    for k in set(range(len(data))) - set(present):
        data[k] = lowest


def _pixel_warnings(planes: list[Plane]) -> tuple[str, ...]:
    warnings: dict[str, None] = {}
    for plane in planes:
        layout = plane.file.layout
        if layout.photometric == "MONOCHROME1":
            warnings["Stored inverted (MONOCHROME1): the values were inverted so that dense tissue is bright."] = None
        if layout.n_samples == 3 or layout.photometric == "PALETTE COLOR":
            warnings["This is a colour image: its brightness (luminance) is shown."] = None
        if plane.slope == 0:
            warnings[f"RescaleSlope is 0 in '{name_of(plane)}': 1 was used."] = None
        if plane.file.place.modality_lut is not None:
            warnings["A modality lookup table was applied."] = None
        warnings.update(dict.fromkeys(plane.file.warnings))
    return tuple(warnings)
