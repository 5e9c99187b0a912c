"""How a DICOM file stores its pixels, and whether it can hold what it claims: checked before decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.elements import UNDEFINED_LENGTH, DamagedDicom, Elements
from napari_medseg.imaging.dicom.file import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DicomFile,
)

# Native frames in fragments.
ENCAPSULATED_NATIVE = "1.2.840.10008.1.2.1.98"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
RLE = "1.2.840.10008.1.2.5"
_JPEG_PREFIX = "1.2.840.10008.1.2.4."
_VIDEO_NUMBERS = range(100, 110)
_FLOAT_PIXELS = 0x7FE00008
_DOUBLE_PIXELS = 0x7FE00009
# A compressed file may hold much more than its size, but not thousands of times as much.
_ALWAYS_DECODED = 64 * 1024 * 1024
_MOST_COMPRESSION = 1000
_MOST_PADDING = 16


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """Shape and type of one frame as stored; ``padding`` are the bits of a padding value outside of those in use."""

    rows: int
    columns: int
    n_samples: int
    is_planar: bool
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_float: bool
    photometric: str
    padding: int | None = None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        n_pixels = self.rows * self.columns
        if self.photometric == "YBR_FULL_422" and self.n_samples == 3:
            return 2 * n_pixels
        return (n_pixels * self.n_samples * self.bits_allocated + 7) // 8

    def bytes_of(self, n_frames: int) -> int:
        """Bytes of uncompressed frames together; single bits run on from frame to frame without padding."""
        if self.bits_allocated == 1:
            return (self.rows * self.columns * self.n_samples * n_frames + 7) // 8
        return self.frame_bytes * n_frames

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one stored sample."""
        kind = "f" if self.is_float else "i" if self.is_signed else "u"
        return np.dtype(f"{kind}{max(1, self.bits_allocated // 8)}")


@dataclass(frozen=True, slots=True, eq=False)
class PixelPlace:
    """Where a file keeps its pixels.

    Parameters
    ----------
    offset, length : int
        Of the pixel data's value in the file (in the inflated data set of a deflated file).
    vr : bytes
        As named in the file, or empty.
    transfer_syntax : str
        Empty where the declared one is not to be believed and the fragments must say what they are.
    n_frames : int
        Number of frames that were checked to be possible.
    modality_lut, palette : ndarray, optional
        Tables that turn stored values into intensities, with the stored value of their first entry.
    """

    offset: int
    length: int
    vr: bytes
    transfer_syntax: str
    n_frames: int
    modality_lut: tuple[int, NDArray[np.uint16]] | None = None
    palette: tuple[int, NDArray[np.float32]] | None = None

    @property
    def is_encapsulated(self) -> bool:
        """Whether the pixels lie in fragments."""
        return self.length == UNDEFINED_LENGTH


def read_layout(elements: Elements) -> PixelLayout:
    """Read and check the pixel description.

    Raises
    ------
    DamagedDicom
        If a needed element is missing or impossible.
    """
    rows, columns = elements.integer(0x00280010), elements.integer(0x00280011)
    if not rows or not columns or rows < 0 or columns < 0:
        raise DamagedDicom(f"it has {rows or 'no'} Rows and {columns or 'no'} Columns")
    tag = elements.pixels.tag if elements.pixels else 0
    is_float = tag in (_FLOAT_PIXELS, _DOUBLE_PIXELS)
    allocated = {_FLOAT_PIXELS: 32, _DOUBLE_PIXELS: 64}.get(tag) or elements.integer(0x00280100) or 0
    if allocated not in (1, 8, 16, 32) and not is_float:
        raise DamagedDicom(f"BitsAllocated is {allocated or 'missing'} (1, 8, 16 and 32 can be read)")
    n_samples = elements.integer(0x00280002) or 1
    if n_samples not in (1, 3):
        raise DamagedDicom(f"SamplesPerPixel is {n_samples} (1 and 3 can be read)")
    stored = elements.integer(0x00280101) or allocated
    stored = stored if 0 < stored <= allocated else allocated
    high_bit = elements.integer(0x00280102)
    if high_bit is None or not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return PixelLayout(
        rows=rows,
        columns=columns,
        n_samples=n_samples,
        is_planar=elements.integer(0x00280006) == 1,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        is_signed=elements.integer(0x00280103) == 1,
        is_float=is_float,
        photometric=elements.word(0x00280004) or ("RGB" if n_samples == 3 else "MONOCHROME2"),
        padding=_padding(elements, allocated, stored),
    )


def _padding(elements: Elements, allocated: int, stored: int) -> int | None:
    """Bits of the value that marks pixels outside of the image, where it lies outside of the bits in use; else None."""
    raw = elements.raw(0x00280120)
    if stored >= allocated or len(raw) < 2:
        return None
    value = int.from_bytes(raw[:2], "little" if elements.encoding.is_little_endian else "big")
    if elements.integer(0x00280103) == 1:
        signed = value - 65536 if value >= 32768 else value
        return None if -(1 << stored - 1) <= signed < 1 << stored - 1 else value
    return value if value >> stored else None


def read_place(opened: DicomFile, layout: PixelLayout) -> tuple[PixelPlace, tuple[str, ...]]:
    """Find the pixels and check that the file can hold them; also the warnings that this gave.

    Raises
    ------
    DamagedDicom
        If the pixel data are cut off or too small, or if the file claims more than it can hold.
    """
    pixels = opened.elements.pixels
    assert pixels is not None
    n_frames = _n_frames(opened.elements)
    syntax, warnings = opened.transfer_syntax, []
    needed = layout.bytes_of(n_frames)
    if pixels.length == UNDEFINED_LENGTH:
        _check_compressed(layout, n_frames, opened.pixel_bytes)
        if syntax in NATIVE:
            warnings.append(
                "The file is declared uncompressed but is compressed; its frames were decoded by their content."
            )
            syntax = ""
        _refuse_video(syntax)
    else:
        if syntax not in NATIVE:
            if pixels.length < needed:
                raise DamagedDicom(f"transfer syntax {syntax} needs fragments, but its pixel data are not in fragments")
            warnings.append("The file is declared compressed but is not; its pixels were read as they are.")
            syntax = EXPLICIT_LITTLE
        _check_native(needed, pixels.length, opened.pixel_bytes)
        # Writers pad to whole words; a row more than there should be means that one of the numbers is wrong.
        if pixels.length - needed >= max(layout.frame_bytes // layout.rows, _MOST_PADDING):
            warnings.append(
                "The pixel data are longer than rows, columns and frames need; the rest was ignored, so check that the "
                "images show what they should."
            )
    place = PixelPlace(
        offset=pixels.offset,
        length=pixels.length,
        vr=pixels.vr,
        transfer_syntax=syntax,
        n_frames=n_frames,
        modality_lut=_modality_lut(opened.elements),
        palette=_palette(opened.elements) if layout.photometric == "PALETTE COLOR" else None,
    )
    return place, tuple(warnings)


def _n_frames(elements: Elements) -> int:
    written = elements.number(0x00280008, b"IS")
    if written is None:
        return 1
    if not (written == written and 1 <= written < 2**31):
        raise DamagedDicom(f"NumberOfFrames is {written:.15g}")
    return int(written)


def _check_native(needed: int, length: int, present: int) -> None:
    if length < needed:
        raise DamagedDicom(f"its pixel data have {length} bytes where rows, columns and frames need {needed}")
    if present < needed:
        raise DamagedDicom(f"it is cut off: {present} of {needed} bytes of pixel data are there")


def _check_compressed(layout: PixelLayout, n_frames: int, present: int) -> None:
    if n_frames * 8 > present:
        raise DamagedDicom(f"NumberOfFrames is {n_frames}, more than {present} bytes of compressed data can hold")
    needed = layout.bytes_of(n_frames)
    if needed > _ALWAYS_DECODED and needed > _MOST_COMPRESSION * present:
        raise DamagedDicom(f"it claims {needed} bytes of pixels in {present} bytes of compressed data")


def _refuse_video(syntax: str) -> None:
    if not syntax.startswith(_JPEG_PREFIX):
        return
    number = syntax[len(_JPEG_PREFIX) :].split(".")[0]
    if number.isdigit() and int(number) in _VIDEO_NUMBERS:
        raise DamagedDicom("it is a video (MPEG); export single frames or an uncompressed cine instead")


def _modality_lut(elements: Elements) -> tuple[int, NDArray[np.uint16]] | None:
    item = elements.first_item(0x00283000)
    if item is None:
        return None
    first, table = _table(item, 0x00283002, 0x00283006)
    return first, table


def _palette(elements: Elements) -> tuple[int, NDArray[np.float32]]:
    """Luminance (0..255) of every entry of a colour palette."""
    if any(tag in elements for tag in (0x00281221, 0x00281222, 0x00281223)):
        raise DamagedDicom("its colour palette is segmented, which is not supported")
    weights = (0.299, 0.587, 0.114)
    tables = [_table(elements, 0x00281101 + n, 0x00281201 + n) for n in range(3)]
    n_entries = min(len(table) for _, table in tables)
    luminance = np.zeros(n_entries, np.float32)
    for weight, (_, table) in zip(weights, tables, strict=True):
        bright = 255.0 / 65535.0 if table.max() > 255 else 1.0
        luminance += np.float32(weight * bright) * table[:n_entries]
    return tables[0][0], luminance


def _table(elements: Elements, descriptor_tag: int, data_tag: int) -> tuple[int, NDArray[np.uint16]]:
    descriptor = elements.numbers(descriptor_tag, b"US")
    if len(descriptor) < 3:
        raise DamagedDicom("a lookup table has no descriptor")
    n_entries = int(descriptor[0]) or 65536
    raw = elements.raw(data_tag)
    table = elements.array(data_tag, "u2") if len(raw) >= 2 * n_entries else elements.array(data_tag, "u1")
    if len(table) < n_entries:
        raise DamagedDicom(f"a lookup table has {len(table)} of {n_entries} entries")
    first = int(descriptor[1])
    return (first - 65536 if first >= 32768 else first), table[:n_entries].astype(np.uint16)
