"""The bytes inside a file, decompressed where they are gzip, whatever the file's name says."""

from __future__ import annotations

import bz2
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.limits import DEFLATE_RATIO, in_words
from napari_medseg.imaging.watch import Tell, silent

Packing = Literal["auto", "raw", "gzip", "bzip2", "zlib"]

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FRAME = 18
_INVALID_DEFLATE: type[Exception] = isal_zlib.error  # type: ignore[assignment]
_MOST_FROM_A_BYTE = {"raw": 1, "gzip": DEFLATE_RATIO, "zlib": DEFLATE_RATIO, "bzip2": 50_000}
_CHUNK = 256 * 1024
_RAW_CHUNK = 8 * 1024 * 1024
_MAX_SURPLUS = 64 * 1024 * 1024


class Content:
    """A file's content as one stream of bytes.

    Use as a context manager. `finish` must be called after the last wanted byte: it is what notices a wrong checksum.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Where in the file the stream begins.
    packing : str
        ``"raw"``, ``"gzip"``, ``"bzip2"`` or ``"zlib"``; ``"auto"`` tells gzip from raw by the first two bytes.
    tell : callable
        Called with the share of the file that has been read, 0 to 1; what it raises ends the reading.
    """

    def __init__(self, path: Path, offset: int = 0, packing: Packing = "auto", *, tell: Tell = silent) -> None:
        self.path, self.name = path, path.name
        self._file = path.open("rb")
        self._file.seek(offset)
        begins_as_gzip = self._file.peek(2)[:2] == _GZIP_MAGIC
        if packing == "auto":
            packing = "gzip" if begins_as_gzip else "raw"
        self.packing = packing
        self._stream = _unpacked(self._file, packing)
        self._size, self._tell = path.stat().st_size, tell
        self.most_bytes = max(self._size - offset, 0) * _MOST_FROM_A_BYTE[packing]

    @property
    def is_raw(self) -> bool:
        """Whether the bytes lie in the file as they are."""
        return self.packing == "raw"

    def __enter__(self) -> Content:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing a broken gzip stream can fail a second time; the first failure is the one worth telling.
        with contextlib.suppress(Exception):
            self._stream.close()
        self._file.close()

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes; fewer only where the content ends."""
        with self._naming_damage():
            return bytes(self._stream.read(n_bytes))

    def skip(self, n_bytes: int) -> None:
        """Move on, without keeping anything."""
        if self.is_raw:
            self._file.seek(n_bytes, 1)
            return
        while n_bytes > 0:
            piece = len(self.read(min(_CHUNK, n_bytes)))
            if piece == 0:
                raise self._ends_early(n_bytes)
            n_bytes -= piece
            self._tell_share()

    def fill(self, array: NDArray[Any]) -> None:
        """Read straight into a C-contiguous array, without a second copy of it.

        Raises
        ------
        ImagingError
            If the content ends before the array is full.
        """
        target = array.reshape(-1).view(np.uint8).data
        at = 0
        with self._naming_damage():
            while at < len(target):
                if not self.is_raw:
                    piece = self._stream.read(min(_CHUNK, len(target) - at))
                    target[at : at + len(piece)] = piece
                    n_read = len(piece)
                else:
                    n_read = self._file.readinto(target[at : at + _RAW_CHUNK])
                if n_read == 0:
                    raise self._ends_early(len(target) - at)
                at += n_read
                self._tell_share()

    def finish(self) -> int:
        """Read on to the end, which checks the checksum of gzip; return how many unexpected bytes were there.

        Raises
        ------
        ImagingError
            If the checksum is wrong, or far more follows than a file of that kind can mean.
        """
        if self.is_raw:
            at = self._file.tell()
            return max(self._file.seek(0, 2) - at, 0)
        surplus = 0
        while piece := len(self.read(_CHUNK)):
            surplus += piece
            self._tell_share()
            if surplus > _MAX_SURPLUS:
                raise ImagingError(
                    f"{self.name} holds over {in_words(_MAX_SURPLUS)} more than its header says, so the header is "
                    "wrong; export it again"
                )
        return surplus

    def _tell_share(self) -> None:
        if self._tell is not silent:
            self._tell(min(self._file.tell() / max(self._size, 1), 1.0))

    def _ends_early(self, missing: int) -> ImagingError:
        return ImagingError(f"{self.name} ends too early: {in_words(missing)} are missing; copy or export it again")

    @contextlib.contextmanager
    def _naming_damage(self) -> Any:
        try:
            yield
        except EOFError as error:
            raise ImagingError(f"{self.name} ends too early (its compression is cut off); copy it again") from error
        except igzip.BadGzipFile as error:
            raise ImagingError(
                f"{self.name} is damaged: its gzip checksum or structure is wrong; copy it again"
            ) from error
        except _INVALID_DEFLATE as error:
            raise ImagingError(f"{self.name} is damaged: its compressed data is invalid; copy it again") from error


def gzip_at_once(path: Path, n_bytes: int) -> NDArray[np.uint8] | None:
    """Unpack a whole gzip file of one member, a quarter faster than piece by piece.

    Parameters
    ----------
    path : Path
        The file; it is held in memory, packed, beside the result.
    n_bytes : int
        What it must hold, unpacked.

    Returns
    -------
    ndarray of uint8, shape (n_bytes,), or None
        None where it holds anything else, or its checksum is wrong: reading it as `Content` then tells what is.
    """
    import imagecodecs

    packed: Any = _whole(path)
    if len(packed) < _GZIP_FRAME or int.from_bytes(packed[-4:].tobytes(), "little") != n_bytes % 2**32:
        return None
    out = np.empty(n_bytes, np.uint8)
    target: Any = out
    try:
        found: Any = imagecodecs.gzip_decode(packed, out=target)
    except (RuntimeError, ValueError):
        return None
    # The last bytes hold the checksum of all: nothing follows that was not unpacked.
    is_whole = len(found) == n_bytes and isal_zlib.crc32(out) == int.from_bytes(packed[-8:-4].tobytes(), "little")
    return out if is_whole else None


def _whole(path: Path) -> NDArray[np.uint8]:
    """Every byte of a file; numpy's large pages are there sooner than those of a bytes object."""
    with path.open("rb", buffering=0) as file:
        content = np.empty(path.stat().st_size, np.uint8)
        at = 0
        while at < len(content) and (n_read := file.readinto(content[at:].data)):
            at += n_read
    return content[:at]


def _unpacked(file: BinaryIO, packing: str) -> Any:
    if packing == "gzip":
        return igzip.open(file, "rb")  # type: ignore[no-untyped-call]
    if packing == "bzip2":
        return bz2.BZ2File(file)
    return _ZlibStream(file) if packing == "zlib" else file


class _ZlibStream:
    """A zlib stream (gzip's content without its frame) read piece by piece; its checksum is checked at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacker = isal_zlib.decompressobj()
        self._packed = b""

    def read(self, n_bytes: int) -> bytes:
        while not self._unpacker.eof:
            if not self._packed:
                self._packed = self._file.read(_CHUNK)
            at_end = not self._packed
            piece = self._unpacker.decompress(self._packed, n_bytes)
            self._packed = self._unpacker.unconsumed_tail
            if piece:
                return piece
            if at_end:
                raise EOFError
        return b""

    def close(self) -> None:
        self._packed = b""
