"""A lock on a file that ends with the process, however that ends."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from napari_medseg.errors import ImagingError, MedSegError

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class FileLock:
    """A lock that says 'somebody is at work here'; the system releases it when the process is gone.

    Parameters
    ----------
    path : Path
        The file to lock; made when the lock is held.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def hold(self, *, wait_s: float = 0.0) -> bool:
        """Take the lock until `release` or the end of the process; False if somebody has it and keeps it that long.

        A file system without locks keeps nobody out: True.
        """
        file, until = self._path.open("ab"), time.monotonic() + wait_s
        while _lock(file) is False:
            if time.monotonic() >= until:
                file.close()
                return False
            time.sleep(0.02)
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_held_by_somebody(self) -> bool:
        """Whether a process (this one too) holds the lock, or may: a file system without locks does not tell."""
        if not self._path.exists():
            return False
        with self._path.open("ab") as file:
            return not _lock(file)


@contextmanager
def holding(path: Path, *, otherwise: MedSegError, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock meanwhile. The file stays: were it removed, two could hold a lock on it.

    Raises
    ------
    MedSegError
        `otherwise`, if somebody else holds it and keeps it for `wait_s`.
    ImagingError
        If the file cannot be made.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_held = lock.hold(wait_s=wait_s)
    except OSError as error:
        raise ImagingError(
            f"{path.parent} cannot be changed ({error.strerror or error}): make it writable or choose another folder"
        ) from error
    if not is_held:
        raise otherwise
    try:
        yield
    finally:
        lock.release()


def _lock(file: IO[bytes]) -> bool | None:
    """Take the lock; False if somebody has it, None where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _TAKEN else None
    return True
