"""A lock on a file that ends with the process, however that ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO


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

    def hold(self) -> bool:
        """Take the lock until `release` or the end of the process; whether that worked."""
        file = self._path.open("ab")
        if not _lock(file):
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_held_by_somebody(self) -> bool:
        """Whether a process (this one too) holds the lock."""
        if not self._path.exists():
            return False
        with self._path.open("ab") as file:
            return not _lock(file)


def _lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
