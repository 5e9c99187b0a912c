"""Open one DICOM file: where its elements and pixel data lie, read no further than needed."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from napari_medseg.imaging.dicom.elements import (
    DamagedDicom,
    Elements,
    Encoding,
    NeedsMoreBytes,
    find_elements,
    find_file_meta,
)

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_FIRST_BYTES = 16 * 1024
_MOST_HEADER_BYTES = 256 * 1024 * 1024
_MOST_INFLATION = 100
_ALWAYS_INFLATED = 64 * 1024 * 1024


class NotDicom(Exception):
    """The file is something else."""


@dataclass(frozen=True, slots=True)
class DicomFile:
    """One opened file.

    Parameters
    ----------
    path : Path
        Where it lies.
    size, mtime_ns : int
        Of the file when it was opened, so that a later change is noticed.
    elements : Elements
        Its data set up to the pixel data.
    transfer_syntax : str
        As declared, or as guessed from the bytes where nothing is declared.
    sop_class_uid, sop_instance_uid : str
        From the data set, else from the file meta information.
    pixel_bytes : int
        How many bytes there are from the start of the pixel data's value on; 0 without pixel data.
    """

    path: Path
    size: int
    mtime_ns: int
    elements: Elements
    transfer_syntax: str
    sop_class_uid: str
    sop_instance_uid: str
    pixel_bytes: int


def open_dicom(path: Path) -> DicomFile:
    """Find the elements of a file.

    Raises
    ------
    NotDicom
        If neither the DICM prefix nor a plausible first element is there.
    DamagedDicom
        If it begins like DICOM but cannot be followed.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(min(_FIRST_BYTES, status.st_size))
        start = _start_of_meta(data)
        while True:
            is_prefix = len(data) < status.st_size
            try:
                elements, meta, syntax, n_bytes = _parse(data, start, file, is_prefix, status.st_size)
                break
            except NeedsMoreBytes:
                data += _read_more(file, len(data), status.st_size)
    text = meta.text
    return DicomFile(
        path=path,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        elements=elements,
        transfer_syntax=syntax,
        sop_class_uid=elements.text(0x00080016) or text(0x00020002),
        sop_instance_uid=elements.text(0x00080018) or text(0x00020003),
        pixel_bytes=n_bytes - elements.pixels.offset if elements.pixels else 0,
    )


def is_dicom(path: Path) -> bool:
    """Whether a file begins like DICOM."""
    try:
        with path.open("rb") as file:
            _start_of_meta(file.read(256))
    except (NotDicom, OSError):
        return False
    return True


def modality_of(path: Path) -> str:
    """Modality of a file ("CT", "SEG", "RTSTRUCT", ...); empty where it is not DICOM or does not say."""
    try:
        return open_dicom(path).elements.word(0x00080060)
    except (NotDicom, DamagedDicom, OSError):
        return ""


def inflated_data_set(path: Path) -> bytes:
    """Data set of a deflated file, in which the offset of its pixel data counts."""
    data = path.read_bytes()
    _, position = find_file_meta(data, _start_of_meta(data))
    return _inflated(data[position:])


def _start_of_meta(data: bytes) -> int:
    if data[128:132] == b"DICM":
        return 132
    # Old files begin with the data set itself; its first group is 0002 or 0008 and its first element is short.
    group, number = data[:2], data[2:4]
    is_little = group in (b"\2\0", b"\x08\0") and data[3:4] == b"\0"
    is_big = group == b"\0\x08" and number[:1] == b"\0"
    vr_or_length = data[4:8]
    if len(data) < 16 or not (is_little or is_big):
        raise NotDicom
    is_explicit = vr_or_length[:2] in (b"UL", b"CS", b"UI", b"SH", b"LO", b"DA", b"OB")
    if not is_explicit and int.from_bytes(vr_or_length, "little") > 256:
        raise NotDicom
    return 0


def _parse(
    data: bytes, start: int, file: BinaryIO, is_prefix: bool, file_size: int
) -> tuple[Elements, Elements, str, int]:
    """Elements, file meta, transfer syntax, and the number of bytes that offsets count in."""
    try:
        meta, position = find_file_meta(data, start)
    except DamagedDicom:
        if is_prefix and len(data) < _MOST_HEADER_BYTES:
            raise NeedsMoreBytes from None
        raise
    syntax = meta.text(0x00020010)[:64]
    if position + 8 > len(data):
        raise DamagedDicom("it ends after the file meta information")
    if syntax == DEFLATED:
        data, position, is_prefix = _inflated(data[position:] + file.read()), 0, False
        file_size = len(data)
    encoding = _encoding(data, position, syntax)
    if not syntax:
        syntax = IMPLICIT_LITTLE if encoding.is_implicit else EXPLICIT_LITTLE
        syntax = syntax if encoding.is_little_endian else EXPLICIT_BIG
    return find_elements(data, encoding, start=position, is_prefix=is_prefix), meta, syntax, file_size


def _encoding(data: bytes, position: int, syntax: str) -> Encoding:
    """How the data set is really written: its first bytes are believed more than the declared syntax."""
    head = data[position : position + 6]
    names_vr = head[4:6].isalpha() and head[4:6].isupper()
    is_big = syntax == EXPLICIT_BIG or (not syntax and names_vr and head[0] == 0 and head[1] != 0)
    if is_big and head[1] == 0 and head[0] != 0:
        is_big = False
    return Encoding(is_implicit=not names_vr, is_little_endian=not is_big)


def _read_more(file: BinaryIO, n_have: int, file_size: int) -> bytes:
    if n_have >= _MOST_HEADER_BYTES:
        raise DamagedDicom("its header is larger than 256 MiB")
    return file.read(min(n_have * 7, file_size - n_have))


def _inflated(data: bytes) -> bytes:
    """Inflate a deflated data set; a small file that would fill the memory is refused."""
    most = max(_ALWAYS_INFLATED, _MOST_INFLATION * len(data))
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = inflate.decompress(data, most)
    except zlib.error as error:
        raise DamagedDicom("its deflated data set is damaged") from error
    if not inflate.eof:
        grows = "it would inflate to more than a hundred times its size"
        raise DamagedDicom(grows if len(out) >= most else "its deflated data set is cut off")
    return out
