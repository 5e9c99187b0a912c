"""Which file a scan came from, and whether that file has changed since."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.volume import Volume

_CHUNK = 1024 * 1024


@dataclass(slots=True, eq=False)
class Fingerprint:
    """Size and time of a file (or of several that make one scan) when it was opened; its SHA-256 when first asked for.

    Parameters
    ----------
    path : Path
        The file or folder.
    files : tuple of Path
        The files that make it up.
    state : tuple
        Size and modification time in ns of each file; (-1, -1) of one that is not there.
    """

    path: Path
    files: tuple[Path, ...]
    state: tuple[tuple[int, int], ...]
    _sha256: str = field(default="", repr=False)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(max(size, 0) for size, _ in self.state)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, hex: of a file its own, of several that of their sums one after the other.

        Raises
        ------
        ImagingError
            If a file is no longer the one that was opened, so that the sum would be of something else.
        """
        if not self._sha256:
            if _state(self.files) == self.state:
                self._sha256 = _digest(self.files)
            if _state(self.files) != self.state:
                self._sha256 = ""
                raise ImagingError(f"{self.path.name} has changed on disk since it was opened; open it again")
        return self._sha256

    def has_changed(self) -> bool:
        """Whether the files now hold something else; a new time alone does not count where the content is known."""
        state = _state(self.files)
        if state == self.state:
            return False
        if not self._sha256 or [size for size, _ in state] != [size for size, _ in self.state]:
            return True
        return _digest(self.files) != self._sha256


def fingerprint(path: str | Path, files: tuple[Path, ...] = ()) -> Fingerprint:
    """Take the fingerprint of a file, a folder, or the given files, as they are now.

    Raises
    ------
    ImagingError
        If nothing is there.
    """
    path = Path(path).absolute()
    if not files:
        files = (path,) if not path.is_dir() else tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    files = tuple(file.absolute() for file in files)
    state = _state(files)
    if not any(size >= 0 for size, _ in state):
        raise ImagingError(f"{path.name} does not exist or holds nothing; check the path")
    return Fingerprint(path, files, state)


def has_changed(volume: Volume) -> bool:
    """Whether a file that a scan was read from has changed or gone since; False for a scan that came from no file."""
    mark = volume.metadata.get("fingerprint")
    return isinstance(mark, Fingerprint) and mark.has_changed()


def refuse_scan_itself(path: str | Path, *sources: Any) -> None:
    """Never let a result take the place of the scan it was made from.

    Parameters
    ----------
    path : str or Path
        Where something is to be saved.
    *sources : Volume, LabelMap, str or Path
        Scans, masks that carry their scan's fingerprint, or files.

    Raises
    ------
    ImagingError
        If the path is one of their files.
    """
    path = Path(path)
    if not path.exists():
        return
    for source in sources:
        mark = None if isinstance(source, str | Path) else source.metadata.get("fingerprint")
        files = (Path(source),) if mark is None and isinstance(source, str | Path) else getattr(mark, "files", ())
        if any(file.exists() and file.samefile(path) for file in files):
            raise ImagingError(f"{path.name} is the scan itself and stays as it is: choose another name")


def _state(files: tuple[Path, ...]) -> tuple[tuple[int, int], ...]:
    state = []
    for file in files:
        try:
            status = file.stat()
            state.append((status.st_size, status.st_mtime_ns))
        except OSError:
            state.append((-1, -1))
    return tuple(state)


def _digest(files: tuple[Path, ...]) -> str:
    sums = []
    for file in files:
        digest = hashlib.sha256()
        try:
            with file.open("rb") as stream:
                while piece := stream.read(_CHUNK):
                    digest.update(piece)
        except OSError:
            digest.update(b"gone")
        sums.append(digest.hexdigest())
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
