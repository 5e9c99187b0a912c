"""Files that a header names: they must lie in the header's own folder."""

from __future__ import annotations

import re
from pathlib import Path

from napari_medseg.errors import ImagingError

_MAX_FILES = 65_536
_PATTERN = re.compile(r"[^%]*%0?\d{0,2}d[^%]*")


def file_beside(header: Path, name: str) -> Path:
    """Return the file that a header names.

    Raises
    ------
    ImagingError
        If it is missing, or if the name leads out of the header's folder: such a header could make this program read
        (and show, and export) any file of the user.
    """
    folder = header.parent.resolve()
    wanted = name.strip().replace("\\", "/")
    path = (folder / wanted.replace("\0", "?")).resolve()
    if not wanted or not path.is_relative_to(folder) or re.match(r"[A-Za-z]:", wanted):
        raise ImagingError(
            f"{header.name} names a file outside its own folder ({name.strip()[:80]!r}); put both into one folder and "
            "edit the name"
        )
    if not path.is_file():
        raise ImagingError(f"{header.name} needs the file {wanted[:80]!r} beside it, which is missing")
    return path


def names_of_pattern(header: Path, pattern: str, numbers: tuple[int, int, int]) -> list[str]:
    """Return the names that ``slice%03d.raw`` stands for, from a first number to a last one by a step."""
    first, last, step = numbers
    if not _PATTERN.fullmatch(pattern) or step == 0 or abs((last - first) // step) >= _MAX_FILES:
        raise ImagingError(f"{header.name} names its files by a pattern that makes no sense: {pattern[:80]!r}")
    return [pattern % number for number in range(first, last + (1 if step > 0 else -1), step)]
