"""Decoders for compressed DICOM frames: RLE, JPEG, JPEG-LS, JPEG 2000. Sizes are checked before decoding."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.elements import DamagedDicom
from napari_medseg.imaging.dicom.layout import ENCAPSULATED_NATIVE, RLE, PixelLayout

_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def decode_frame(data: bytes, transfer_syntax: str, layout: PixelLayout) -> NDArray[Any]:
    """Decode one frame to ``(rows, columns)``, or ``(rows, columns, 3)`` in RGB.

    Parameters
    ----------
    data : bytes
        All fragments of the frame.
    transfer_syntax : str
        Declares RLE; the JPEG family names itself in its first bytes.
    layout : PixelLayout
        What the header says; a stream of another size is refused.

    Raises
    ------
    DamagedDicom
        If the stream is damaged, of another size than the header says, or of an unsupported kind.
    """
    if transfer_syntax == ENCAPSULATED_NATIVE:
        samples = _native_frame(data, layout)
    elif transfer_syntax == RLE:
        samples = _decode_rle(data, layout)
    elif data.startswith(b"\xff\xd8"):
        samples = _decode_jpeg(data, layout)
    else:
        samples = _decode_jpeg2000(data, transfer_syntax, layout)
    if samples.shape[:2] != (layout.rows, layout.columns) or samples.dtype.itemsize > layout.dtype.itemsize:
        raise DamagedDicom(
            f"its compressed frame decoded to {samples.shape} {samples.dtype}, not to what its header says"
        )
    return samples.astype(layout.dtype, copy=False)


def luminance(samples: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Brightness of a colour frame: Rec. 601, or the first sample where that is luminance already."""
    if layout.photometric.startswith("YBR_FULL"):
        return np.ascontiguousarray(samples[..., 0])
    return np.asarray(np.rint(samples.astype(np.float32) @ _LUMINANCE).astype(layout.dtype))


def _native_frame(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    n_samples = layout.rows * layout.columns * layout.n_samples
    if layout.bits_allocated < 8 or layout.photometric == "YBR_FULL_422" or len(data) < layout.frame_bytes:
        raise DamagedDicom(f"its uncompressed fragment has {len(data)} of {layout.frame_bytes} bytes")
    samples = np.frombuffer(data, layout.dtype.newbyteorder("<"), n_samples).astype(layout.dtype)
    if layout.n_samples == 1:
        return samples.reshape(layout.rows, layout.columns)
    if layout.is_planar:
        return np.moveaxis(samples.reshape(layout.n_samples, layout.rows, layout.columns), 0, -1)
    return samples.reshape(layout.rows, layout.columns, layout.n_samples)


def _decode_rle(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    n_bytes = layout.bits_allocated // 8
    n_segments, n_pixels = n_bytes * layout.n_samples, layout.rows * layout.columns
    if len(data) < 64 or struct.unpack_from("<I", data)[0] != n_segments or n_segments > 15:
        raise DamagedDicom(f"its RLE frame does not have the {n_segments} segments that its header asks for")
    starts = [*struct.unpack_from(f"<{n_segments}I", data, 4), len(data)]
    planes = np.empty((n_segments, n_pixels), np.uint8)
    for n, (start, stop) in enumerate(pairwise(starts)):
        # Two bytes make at most 128 pixels: a shorter segment cannot hold the frame, a longer one is not decoded whole.
        if not 64 <= start < stop <= len(data) or (stop - start) * 64 < n_pixels:
            raise DamagedDicom("its RLE frame is damaged or cut off")
        segment = np.frombuffer(
            _decoded(imagecodecs.packbits_decode, data[start : min(stop, start + 2 * n_pixels + 2)]), "u1"
        )
        if len(segment) < n_pixels:
            raise DamagedDicom(f"its RLE frame is cut off: {len(segment)} of {n_pixels} pixels are there")
        planes[n] = segment[:n_pixels]
    # The most significant byte comes first.
    samples = planes.reshape(layout.n_samples, n_bytes, n_pixels)[:, ::-1].transpose(2, 0, 1)
    samples = np.ascontiguousarray(samples).view(f"<u{n_bytes}").reshape(layout.rows, layout.columns, layout.n_samples)
    return samples[..., 0] if layout.n_samples == 1 else samples


def _decode_jpeg(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    marker, size = _jpeg_size(data)
    _check_size(size, layout)
    # Without the end marker libjpeg paints what is missing grey, and CharLS searches for seconds.
    end = data.rfind(b"\xff\xd9")
    if end < len(data) - 64:
        raise DamagedDicom("its compressed frame is cut off")
    data = data[: end + 2]
    if marker == 0xF7:
        return np.asarray(_decoded(imagecodecs.jpegls_decode, data))
    options: dict[str, Any] = {}
    if layout.n_samples == 3:
        # libjpeg takes three components without an Adobe marker for YCbCr.
        if layout.photometric == "RGB" and b"Adobe" not in data[:1024]:
            options = {"colorspace": "RGB", "outcolorspace": "RGB"}
        elif layout.photometric.startswith("YBR_FULL"):
            options = {"outcolorspace": "GRAYSCALE"}
    return np.asarray(_decoded(imagecodecs.jpeg8_decode, data, **options))


def _decode_jpeg2000(data: bytes, transfer_syntax: str, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        raise DamagedDicom(f"its pixels are compressed in an unknown way (transfer syntax {transfer_syntax})")
    if len(data) < start + 42:
        raise DamagedDicom("its JPEG 2000 frame is cut off")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (n_components,) = struct.unpack_from(">H", data, start + 40)
    _check_size((bottom - top, right - left, n_components), layout)
    return np.asarray(_decoded(imagecodecs.jpeg2k_decode, data[start:], numthreads=1))


def _decoded(decode: Callable[..., Any], data: bytes, **options: Any) -> Any:
    """Call a decoder; whatever it raises on a damaged stream is damage."""
    try:
        return decode(data, **options)
    except MemoryError:
        raise
    except Exception as error:
        raise DamagedDicom(f"its compressed frame is damaged ({type(error).__name__})") from error


def _check_size(size: tuple[int, int, int], layout: PixelLayout) -> None:
    expected = (layout.rows, layout.columns, layout.n_samples)
    if size != expected:
        raise DamagedDicom(
            f"its compressed frame is {size[0]} x {size[1]} with {size[2]} samples, but its header says"
            f" {expected[0]} x {expected[1]} with {expected[2]}"
        )


def _jpeg_size(data: bytes) -> tuple[int, tuple[int, int, int]]:
    """Marker of the frame header (which kind of JPEG it is), and rows, columns, components."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _BARE_MARKERS:
            position += 2
            continue
        if marker in _JPEG_SIZE_MARKERS and position + 10 <= len(data):
            rows, columns, n_components = struct.unpack_from(">HHB", data, position + 5)
            return marker, (rows, columns, n_components)
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise DamagedDicom("its JPEG frame has no header")
