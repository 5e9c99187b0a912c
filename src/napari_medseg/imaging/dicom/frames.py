"""Single frames of one DICOM file: native ones straight from the file, compressed ones through their decoder."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.codecs import decode_frame, luminance
from napari_medseg.imaging.dicom.elements import DamagedDicom
from napari_medseg.imaging.dicom.file import DEFLATED, EXPLICIT_BIG, inflated_data_set
from napari_medseg.imaging.dicom.headers import ImageFile

_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0"
_FRAME_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")

Fragment = tuple[int, int]


class FrameReader:
    """Reads frames of one file as stored (colour as luminance), whatever the transfer syntax."""

    def __init__(self, file: ImageFile) -> None:
        self._file = file
        self._layout = file.layout
        self._place = file.place
        self._inflated = inflated_data_set(file.path) if file.place.transfer_syntax == DEFLATED else None
        self._fragments: list[list[Fragment]] | None = None
        if file.place.is_encapsulated:
            with file.path.open("rb") as opened:
                self._fragments = _frame_fragments(opened, file.path, file.place.offset, file.place.n_frames)

    def can_read_into(self, out: NDArray[Any]) -> bool:
        """Whether `read_into` can put a frame into this array without a copy."""
        layout, place = self._layout, self._place
        is_plain = layout.n_samples == 1 and layout.bits_allocated >= 8 and place.palette is None
        is_plain = is_plain and place.modality_lut is None and not place.is_encapsulated and self._inflated is None
        is_swapped_bytes = place.transfer_syntax == EXPLICIT_BIG and layout.bits_allocated == 8
        return is_plain and not is_swapped_bytes and out.dtype == layout.dtype and out.flags.c_contiguous

    def read_into(self, frame: int, out: NDArray[Any]) -> None:
        """Read one native frame into a contiguous array of the stored type."""
        view = out.data.cast("B")
        with self._file.path.open("rb", buffering=0) as opened:
            opened.seek(self._place.offset + frame * self._layout.frame_bytes)
            n_read = 0
            while n_read < len(view):
                n = opened.readinto(view[n_read:])
                if not n:
                    raise DamagedDicom(f"it is cut off: {n_read} of {len(view)} bytes of a frame are there")
                n_read += n
        if self._place.transfer_syntax == EXPLICIT_BIG and out.dtype.itemsize > 1:
            out.byteswap(inplace=True)

    def frame(self, number: int) -> NDArray[Any]:
        """One frame of shape ``(rows, columns)``, tables applied, colour turned into luminance."""
        if self._fragments is not None:
            samples = decode_frame(self._compressed(number), self._place.transfer_syntax, self._layout)
        else:
            samples = self._native(number)
        if samples.ndim == 3:
            return luminance(samples, self._layout)
        if self._place.palette is not None:
            first, brightness = self._place.palette
            return np.asarray(np.rint(_looked_up(samples, first, brightness)).astype(np.uint8))
        if self._place.modality_lut is not None:
            return _looked_up(samples, *self._place.modality_lut)
        return samples

    def _compressed(self, number: int) -> bytes:
        assert self._fragments is not None
        with self._file.path.open("rb") as opened:
            parts = []
            for offset, length in self._fragments[number]:
                opened.seek(offset)
                parts.append(opened.read(length))
        return b"".join(parts)

    def _native(self, number: int) -> NDArray[Any]:
        layout, n_bytes = self._layout, self._layout.frame_bytes
        if layout.bits_allocated == 1:
            return self._native_bits(number)
        raw = self._bytes(self._place.offset + number * n_bytes, n_bytes)
        if self._place.transfer_syntax == EXPLICIT_BIG and layout.bits_allocated == 8 and self._place.vr == b"OW":
            raw = np.frombuffer(raw, "u2").byteswap().tobytes() if len(raw) % 2 == 0 else raw
        order: Literal[">", "<"] = ">" if self._place.transfer_syntax == EXPLICIT_BIG else "<"
        flat = np.frombuffer(raw, layout.dtype.newbyteorder(order)).astype(layout.dtype, copy=False)
        if layout.n_samples == 1:
            return flat.reshape(layout.rows, layout.columns)
        if layout.photometric == "YBR_FULL_422":
            # Two luminances, then the two colour differences that they share.
            return flat.reshape(-1, 4)[:, :2].reshape(layout.rows, layout.columns)
        if layout.is_planar:
            return np.moveaxis(flat.reshape(3, layout.rows, layout.columns), 0, -1)
        return flat.reshape(layout.rows, layout.columns, 3)

    def _native_bits(self, number: int) -> NDArray[np.uint8]:
        """Single bits run on from frame to frame without padding."""
        n_pixels = self._layout.rows * self._layout.columns
        start, stop = number * n_pixels, (number + 1) * n_pixels
        raw = self._bytes(self._place.offset + start // 8, (stop + 7) // 8 - start // 8)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[start % 8 :][:n_pixels]
        return bits.reshape(self._layout.rows, self._layout.columns)

    def _bytes(self, offset: int, n_bytes: int) -> bytes:
        if self._inflated is not None:
            raw = self._inflated[offset : offset + n_bytes]
        else:
            with self._file.path.open("rb") as opened:
                opened.seek(offset)
                raw = opened.read(n_bytes)
        if len(raw) < n_bytes:
            raise DamagedDicom(f"it is cut off: {len(raw)} of {n_bytes} bytes of a frame are there")
        return raw


def _looked_up(samples: NDArray[Any], first: int, table: NDArray[Any]) -> NDArray[Any]:
    index = np.clip(samples.astype(np.int64) - first, 0, len(table) - 1)
    return np.asarray(table[index])


def _frame_fragments(opened: BinaryIO, path: Path, offset: int, n_frames: int) -> list[list[Fragment]]:
    """Fragments of every frame, as (offset, length) in the file."""
    size = path.stat().st_size
    items = _items(opened, offset, size)
    table, fragments = items[0], items[1:]
    if n_frames == 1:
        return [fragments]
    if len(fragments) == n_frames:
        return [[fragment] for fragment in fragments]
    starts = _starts_from_table(opened, table, fragments) or _starts_from_content(opened, fragments)
    if len(starts) != n_frames or starts[0] != 0:
        raise DamagedDicom(
            f"NumberOfFrames is {n_frames}, but its {len(fragments)} fragments do not make as many frames"
        )
    return [fragments[a:b] for a, b in zip(starts, [*starts[1:], len(fragments)], strict=True)]


def _items(opened: BinaryIO, offset: int, size: int) -> list[Fragment]:
    items: list[Fragment] = []
    while True:
        opened.seek(offset)
        head = opened.read(8)
        if head[:4] != _ITEM:
            # The closing delimiter is sometimes forgotten; a fragment that is cut off is not.
            if (head[:4] == _SEQUENCE_END or not head) and len(items) > 1:
                return items
            raise DamagedDicom("its compressed pixel data are damaged or cut off")
        (length,) = struct.unpack("<I", head[4:].ljust(4, b"\xff"))
        if offset + 8 + length > size:
            raise DamagedDicom("it is cut off in its compressed pixel data")
        items.append((offset + 8, length))
        offset += 8 + length


def _starts_from_table(opened: BinaryIO, table: Fragment, fragments: list[Fragment]) -> list[int]:
    """Index of each frame's first fragment by the basic offset table; empty where that does not fit."""
    opened.seek(table[0])
    offsets = np.frombuffer(opened.read(table[1] // 4 * 4), "<u4").tolist()
    origin = fragments[0][0] - 8
    index_of = {fragment[0] - 8 - origin: index for index, fragment in enumerate(fragments)}
    return [index_of[o] for o in offsets] if offsets and all(o in index_of for o in offsets) else []


def _starts_from_content(opened: BinaryIO, fragments: list[Fragment]) -> list[int]:
    starts = []
    for index, (offset, _) in enumerate(fragments):
        opened.seek(offset)
        if opened.read(6).startswith(_FRAME_STARTS):
            starts.append(index)
    return starts
