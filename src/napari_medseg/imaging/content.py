"""The bytes inside a file, decompressed where they are gzip, whatever the file's name says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.limits import DEFLATE_RATIO, in_words

_GZIP_MAGIC = b"\x1f\x8b"
_INVALID_DEFLATE: type[Exception] = isal_zlib.error  # type: ignore[assignment]
_CHUNK = 256 * 1024
_MAX_SURPLUS = 64 * 1024 * 1024


class Content:
    """A file's content as one stream of bytes.

    Use as a context manager. `finish` must be called after the last wanted byte: it is what notices a wrong checksum.

    Parameters
    ----------
    path : Path
        The file; gzip is recognised by its first two bytes.
    offset : int
        Where in the file the stream begins.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.name = path.name
        self._file = path.open("rb")
        self._file.seek(offset)
        self.is_gzip = self._file.peek(2)[:2] == _GZIP_MAGIC
        self._stream: Any = igzip.open(self._file, "rb") if self.is_gzip else self._file  # type: ignore[no-untyped-call]
        size = max(path.stat().st_size - offset, 0)
        self.most_bytes = size * DEFLATE_RATIO if self.is_gzip else size

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
        if not self.is_gzip:
            self._file.seek(n_bytes, 1)
            return
        while n_bytes > 0:
            piece = len(self.read(min(_CHUNK, n_bytes)))
            if piece == 0:
                raise self._ends_early(n_bytes)
            n_bytes -= piece

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
                if self.is_gzip:
                    piece = self._stream.read(min(_CHUNK, len(target) - at))
                    target[at : at + len(piece)] = piece
                    n_read = len(piece)
                else:
                    n_read = self._file.readinto(target[at:])
                if n_read == 0:
                    raise self._ends_early(len(target) - at)
                at += n_read

    def finish(self) -> int:
        """Read on to the end, which checks the checksum of gzip; return how many unexpected bytes were there.

        Raises
        ------
        ImagingError
            If the checksum is wrong, or far more follows than a file of that kind can mean.
        """
        if not self.is_gzip:
            at = self._file.tell()
            return max(self._file.seek(0, 2) - at, 0)
        surplus = 0
        while piece := len(self.read(_CHUNK)):
            surplus += piece
            if surplus > _MAX_SURPLUS:
                raise ImagingError(
                    f"{self.name} holds over {in_words(_MAX_SURPLUS)} more than its header says, so the header is "
                    "wrong; export it again"
                )
        return surplus

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
