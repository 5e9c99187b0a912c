"""Which file a scan came from, and whether that file has changed since."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.volume import Volume

_CHUNK = 1024 * 1024


@dataclass(slots=True, eq=False)
class Fingerprint:
    """Size and time of a file (or of every file in a folder) when it was opened; its SHA-256 when first asked for.

    Parameters
    ----------
    path : Path
        The file or folder.
    size : int
        Bytes in all.
    modified : tuple
        Name, size and modification time in ns of each file.
    """

    path: Path
    size: int
    modified: tuple[tuple[str, int, int], ...]
    _sha256: str = field(default="", repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, hex.

        Raises
        ------
        ImagingError
            If the file is no longer the one that was opened, so that the sum would be of something else.
        """
        if not self._sha256:
            before = _state(self.path)
            digest = _digest(self.path)
            if before != self.modified or _state(self.path) != before:
                raise ImagingError(f"{self.path.name} has changed on disk since it was opened; open it again")
            self._sha256 = digest
        return self._sha256

    def has_changed(self) -> bool:
        """Whether the path now holds something else. A new time alone counts only if the content cannot be compared."""
        state = _state(self.path)
        if state == self.modified:
            return False
        sizes = [(name, size) for name, size, _ in state]
        if not self._sha256 or sizes != [(name, size) for name, size, _ in self.modified]:
            return True
        return _digest(self.path) != self._sha256


def fingerprint(path: str | Path) -> Fingerprint:
    """Take the fingerprint of a file or folder as it is now."""
    path = Path(path).absolute()
    state = _state(path)
    if not state:
        raise ImagingError(f"{path.name} does not exist or holds nothing")
    return Fingerprint(path, sum(size for _, size, _ in state), state)


def has_changed(volume: Volume) -> bool:
    """Whether the file that a scan was read from has changed or gone since; False for a scan that came from no file."""
    mark = volume.metadata.get("fingerprint")
    return isinstance(mark, Fingerprint) and mark.has_changed()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [path] if path.exists() else []


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    state = []
    for file in _files(path):
        status = file.stat()
        state.append((str(file.relative_to(path)), status.st_size, status.st_mtime_ns))
    return tuple(state)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(path):
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while piece := stream.read(_CHUNK):
                digest.update(piece)
    return digest.hexdigest()
