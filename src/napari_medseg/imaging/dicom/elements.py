"""A small DICOM parser that only finds elements: it neither recurses nor allocates beyond the bytes given.

Pixel data stay where they are: parsing stops at them and remembers their place. Writing is left to pydicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
MAX_DEPTH = 64
MAX_ELEMENTS = 20_000
MAX_ITEMS = 200_000
MAX_NESTED = 3_000_000
_LONGEST_TEXT, _LONGEST_WORD = 4096, 16

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_BINARY_TYPES = {b"US": "u2", b"SS": "i2", b"UL": "u4", b"SL": "i4", b"FL": "f4", b"FD": "f8", b"OF": "f4", b"OD": "f8"}
_BINARY_TYPES |= {b"OW": "u2", b"OL": "u4"}
_TEXT_NUMBERS = frozenset({b"DS", b"IS"})


class DamagedDicom(Exception):
    """The bytes do not follow DICOM's structure; the text says where."""


class NeedsMoreBytes(Exception):
    """An element reaches beyond the bytes given although the file goes on."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written: VR named or not, byte order."""

    is_implicit: bool
    is_little_endian: bool


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixel data lie: ``offset`` counts bytes from the start of what was parsed."""

    tag: int
    vr: bytes
    offset: int
    length: int


class Elements:
    """The elements of one data set or sequence item, found but not decoded.

    Parameters
    ----------
    data : bytes
        The bytes that were parsed.
    encoding : Encoding
        Of this data set; a nested one may differ.
    """

    __slots__ = ("_charset", "_data", "_found", "encoding", "is_complete", "pixels")

    def __init__(self, data: bytes, encoding: Encoding) -> None:
        self._data = data
        self._found: dict[int, tuple[bytes, int, int, bool]] = {}
        self._charset: bytes | None = None
        self.encoding = encoding
        self.pixels: PixelElement | None = None
        self.is_complete = True

    def __contains__(self, tag: int) -> bool:
        return tag in self._found

    def raw(self, tag: int) -> bytes:
        """Bytes of a value; empty where it is absent."""
        found = self._found.get(tag)
        if found is None or found[2] == UNDEFINED_LENGTH:
            return b""
        return self._data[found[1] : found[1] + found[2]]

    def text(self, tag: int) -> str:
        """A text value without padding and control characters, decoded by the data set's character set."""
        raw = self.raw(tag)[:_LONGEST_TEXT].strip(b" \0\r\n\t")
        if self._charset is None and not raw.isascii():
            self._charset = self.raw(0x00080005)
        text = raw.decode("ascii" if raw.isascii() else _python_codec(self._charset or b""), errors="replace")
        return text if text.isprintable() else "".join(letter for letter in text if letter.isprintable())

    def word(self, tag: int) -> str:
        """A text value that should be one short word (a modality); whatever else stands there is cut."""
        return self.text(tag)[:_LONGEST_WORD]

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values of a text element, split at the backslash."""
        text = self.text(tag)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def numbers(self, tag: int, vr: bytes) -> tuple[float, ...]:
        """Numeric values; ``vr`` says how they are written where the file does not. Unreadable ones become NaN."""
        found = self._found.get(tag)
        if found is None:
            return ()
        raw = self.raw(tag)
        written = found[0] if found[0] in _BINARY_TYPES or found[0] in _TEXT_NUMBERS else vr
        if written in _TEXT_NUMBERS:
            return tuple(_number(part) for part in raw.split(b"\\")) if raw.strip(b" \0") else ()
        size = int(_BINARY_TYPES[written][1])
        array = np.frombuffer(raw, self._order() + _BINARY_TYPES[written], count=len(raw) // size)
        return tuple(float(value) for value in array[:65536])

    def number(self, tag: int, vr: bytes) -> float | None:
        """The first value, or None where there is none."""
        values = self.numbers(tag, vr)
        return values[0] if values else None

    def integer(self, tag: int, vr: bytes = b"US") -> int | None:
        """The first value as an integer, or None where there is none or it is not a number."""
        value = self.number(tag, vr)
        return int(value) if value is not None and abs(value) < 2**53 else None

    def array(self, tag: int, dtype: str) -> NDArray[Any]:
        """A binary value as an array of ``dtype`` ("u2") in the data set's byte order."""
        raw = self.raw(tag)
        size = int(dtype[1:])
        return np.frombuffer(raw, self._order() + dtype, count=len(raw) // size)

    def items(self, tag: int) -> tuple[Elements, ...]:
        """The items of a sequence; empty where it is absent or is no sequence."""
        found = self._found.get(tag)
        if found is None:
            return ()
        vr, start, length, is_implicit = found
        end = len(self._data) if length == UNDEFINED_LENGTH else start + length
        encoding = Encoding(is_implicit or vr == b"UN", self.encoding.is_little_endian)
        bounds = list(islice(_item_bounds(self._data, start, end, encoding), MAX_ITEMS + 1))
        if len(bounds) > MAX_ITEMS:
            raise DamagedDicom(f"a sequence has more than {MAX_ITEMS} items")
        return tuple(self._nested(pair, encoding) for pair in bounds)

    def first_item(self, tag: int) -> Elements | None:
        """The first item of a sequence, or None."""
        items = self.items(tag)
        return items[0] if items else None

    def _nested(self, bounds: tuple[int, int], encoding: Encoding) -> Elements:
        child = find_elements(self._data, encoding, start=bounds[0], end=bounds[1])
        if self._charset is None:
            self._charset = self.raw(0x00080005)
        child._charset = child.raw(0x00080005) or self._charset
        return child

    def _order(self) -> str:
        return "<" if self.encoding.is_little_endian else ">"


def find_elements(
    data: bytes, encoding: Encoding, *, start: int = 0, end: int | None = None, is_prefix: bool = False
) -> Elements:
    """Find the elements of the data set that starts at ``start``, up to pixel data, ``end`` or a delimiter.

    Parameters
    ----------
    data : bytes
        The file, an inflated data set, or the beginning of a file (``is_prefix``).
    encoding : Encoding
        How elements are written.
    start, end : int
        Where the data set begins and must stop.
    is_prefix : bool
        Whether the file goes on after ``data``.

    Raises
    ------
    NeedsMoreBytes
        If ``is_prefix`` and pixel data were not reached.
    DamagedDicom
        If sequences are nested deeper than 64 levels, or there are absurdly many elements.
    """
    end = len(data) if end is None else end
    elements = Elements(data, encoding)
    position = start
    while position + 8 <= end:
        tag, vr, length, value, is_implicit = _read_header(data, position, encoding)
        if tag in (_ITEM_END, _SEQUENCE_END):
            return elements
        if tag in PIXEL_TAGS:
            elements.pixels = PixelElement(tag, vr, value, length)
            return elements
        position = value + length if length != UNDEFINED_LENGTH else _end_of_undefined(data, value, end, vr, encoding)
        if position > end or position < 0:
            elements.is_complete = False
            break
        elements._found[tag] = (vr, value, length, is_implicit)
        if len(elements._found) > MAX_ELEMENTS:
            raise DamagedDicom(f"a data set has more than {MAX_ELEMENTS} elements")
    elements.is_complete = elements.is_complete and position == end
    if is_prefix:
        raise NeedsMoreBytes
    return elements


def find_file_meta(data: bytes, start: int) -> tuple[Elements, int]:
    """Find the elements of group 0002, always explicit little endian, and where the data set after them begins."""
    encoding = Encoding(is_implicit=False, is_little_endian=True)
    elements = Elements(data, encoding)
    position = start
    while position + 8 <= len(data) and data[position : position + 2] == b"\2\0":
        tag, vr, length, value, is_implicit = _read_header(data, position, encoding)
        if length == UNDEFINED_LENGTH or value + length > len(data):
            raise DamagedDicom("the file meta information is cut off")
        elements._found[tag] = (vr, value, length, is_implicit)
        position = value + length
    return elements, position


def _read_header(data: bytes, position: int, encoding: Encoding) -> tuple[int, bytes, int, int, bool]:
    """Tag, VR (empty if not named), length, where the value begins, and whether this element was written implicitly."""
    order = "<" if encoding.is_little_endian else ">"
    group, number = struct.unpack_from(order + "HH", data, position)
    tag = group << 16 | number
    vr = data[position + 4 : position + 6]
    # Some writers switch to implicit VR inside sequences of explicit files; items and delimiters never name a VR.
    if encoding.is_implicit or group == 0xFFFE or not (vr in _LONG_VRS or vr in _SHORT_VRS or _looks_like_vr(vr)):
        (length,) = struct.unpack_from(order + "I", data, position + 4)
        return tag, b"", length, position + 8, True
    if vr not in _LONG_VRS:
        (length,) = struct.unpack_from(order + "H", data, position + 6)
        return tag, vr, length, position + 8, False
    if position + 12 > len(data):
        return tag, vr, 0, len(data) + 1, False
    (length,) = struct.unpack_from(order + "I", data, position + 8)
    return tag, vr, length, position + 12, False


def _looks_like_vr(vr: bytes) -> bool:
    return b"AA" <= vr <= b"ZZ" and vr.isalpha() and vr.isupper()


def _end_of_undefined(data: bytes, position: int, end: int, vr: bytes, encoding: Encoding) -> int:
    """Position after a value of undefined length, or -1 where it does not end."""
    encodings = [Encoding(True, encoding.is_little_endian) if vr == b"UN" else encoding]
    inside_item = [False]
    n_read = 0
    while position + 8 <= end:
        tag, vr, length, value, _ = _read_header(data, position, encodings[-1])
        n_read += 1
        if n_read > MAX_NESTED:
            raise DamagedDicom(f"a sequence holds more than {MAX_NESTED} elements")
        if tag in (_ITEM_END, _SEQUENCE_END):
            inside_item.pop()
            encodings.pop()
            position = value
            if not inside_item:
                return position
            continue
        if not inside_item[-1] and tag != _ITEM:
            return -1
        if length != UNDEFINED_LENGTH:
            position = value + length
            continue
        if len(inside_item) > MAX_DEPTH:
            raise DamagedDicom(f"sequences are nested deeper than {MAX_DEPTH} levels")
        inside_item.append(tag == _ITEM)
        encodings.append(Encoding(True, encoding.is_little_endian) if vr == b"UN" else encodings[-1])
        position = value
    return -1


def _item_bounds(data: bytes, position: int, end: int, encoding: Encoding) -> Iterator[tuple[int, int]]:
    while position + 8 <= end:
        tag, _, length, value, _ = _read_header(data, position, encoding)
        if tag != _ITEM:
            return
        position = _end_of_item(data, value, end, encoding) if length == UNDEFINED_LENGTH else value + length
        if position > end or position < 0:
            return
        yield value, position


def _end_of_item(data: bytes, position: int, end: int, encoding: Encoding) -> int:
    while position + 8 <= end:
        tag, vr, length, value, _ = _read_header(data, position, encoding)
        if tag == _ITEM_END:
            return value
        position = value + length if length != UNDEFINED_LENGTH else _end_of_undefined(data, value, end, vr, encoding)
        if position < 0:
            return -1
    return -1


def _number(text: bytes) -> float:
    try:
        return float(text.strip(b" \0"))
    except ValueError:
        return float("nan")


def _python_codec(charset: bytes) -> str:
    from pydicom.charset import python_encoding

    names = [name.strip() for name in charset.decode("ascii", "replace").split("\\")]
    known = [python_encoding[name] for name in names if name in python_encoding]
    # With code extensions the escape sequences of the last set cover the ASCII of the first.
    return known[-1] if known else "latin_1"
