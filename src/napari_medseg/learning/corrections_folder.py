"""Where the user's corrections are kept: in a folder of their choice, else beside the models."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from napari_medseg.errors import LearningError
from napari_medseg.home import home_folder
from napari_medseg.imaging.durable import write_bytes_durably

FILE = "corrections_folder.txt"


def corrections_folder() -> Path:
    """Return the chosen folder, or ``corrections`` in the user's own."""
    return _chosen() or _own()


def is_chosen() -> bool:
    """Whether the user chose the folder."""
    return _chosen() is not None


def choose_corrections_folder(folder: Path) -> None:
    """Keep corrections in this folder from now on; those in the old one stay there.

    Raises
    ------
    LearningError
        If nothing can be written there.
    """
    folder = folder.resolve()
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = f"nothing can be written to {in_words(folder)} ({error.strerror})"
        raise LearningError(f"{why}: choose another folder") from error
    home_folder().mkdir(parents=True, exist_ok=True)
    write_bytes_durably(home_folder() / FILE, os.fsencode(folder) + b"\n")


def why_gone(folder: Path) -> str:
    """Say that a folder for corrections is not there; empty where it is, or may be made.

    The user's own is made where it is not there; one that was chosen never is, nor the one that is to hold a folder: a
    drive may have been unplugged.
    """
    if os.access(folder, os.R_OK | os.X_OK) or folder == _own():
        return ""
    if folder != _chosen() and os.access(folder.parent, os.X_OK):
        return ""
    return (
        f"the folder for corrections, {in_words(folder)}, is not there or cannot be read: bring it back, or choose "
        "another under 'Corrections and what they bought'"
    )


def in_words(path: Path) -> str:
    """A path as a person reads it and as any stream can print it: its name may be no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _own() -> Path:
    return home_folder() / "corrections"


def _chosen() -> Path | None:
    try:
        name = (home_folder() / FILE).read_bytes().removesuffix(b"\n")
    except OSError:
        return None
    return Path(os.fsdecode(name)) if name else None
