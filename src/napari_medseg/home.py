"""Where the package keeps what belongs to the user."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home_folder() -> Path:
    """The user's own folder for models, corrections and journals; ``NAPARI_MEDSEG_HOME`` moves it."""
    chosen = os.environ.get("NAPARI_MEDSEG_HOME")
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("napari-medseg", appauthor=False))
