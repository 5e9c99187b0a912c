"""Where the user's corrections are kept: in a folder of their choice, else beside the models."""

from __future__ import annotations

import tempfile
from pathlib import Path

from napari_medseg.errors import LearningError
from napari_medseg.home import home_folder
from napari_medseg.imaging.durable import write_durably

FILE = "corrections_folder.txt"


def corrections_folder() -> Path:
    """Return the chosen folder, or ``corrections`` in the user's own."""
    chosen = _chosen()
    return Path(chosen) if chosen else home_folder() / "corrections"


def is_chosen() -> bool:
    """Whether the user chose the folder."""
    return bool(_chosen())


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
        raise LearningError(f"nothing can be written to {folder} ({error.strerror}): choose another folder") from error
    path, text = home_folder() / FILE, f"{folder}\n"
    path.parent.mkdir(parents=True, exist_ok=True)

    def verify(written: Path) -> None:
        if written.read_text(encoding="utf-8") != text:
            raise LearningError(f"{path} was not written completely: is the disk full?")

    write_durably(path, lambda written: _write(written, text), verify)


def _chosen() -> str:
    try:
        return (home_folder() / FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
