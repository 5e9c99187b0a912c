"""Segment, correct, fine-tune and export medical scans, in napari, Python and on the command line.

Importing this package loads neither torch nor Qt: the public names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_medseg.errors import MedSegError
    from napari_medseg.imaging.files import read_label_map, read_volume, read_volumes, write_label_map
    from napari_medseg.imaging.volume import LabelMap, Volume
    from napari_medseg.learning.fine_tune import fine_tune
    from napari_medseg.segmentation.load import load_model
    from napari_medseg.segmentation.prompts import Box, Click, Lasso, Scribble

_HOMES = {
    "MedSegError": "errors",
    "read_volume": "imaging.files",
    "read_volumes": "imaging.files",
    "read_label_map": "imaging.files",
    "write_label_map": "imaging.files",
    "Volume": "imaging.volume",
    "LabelMap": "imaging.volume",
    "load_model": "segmentation.load",
    "fine_tune": "learning.fine_tune",
    "Click": "segmentation.prompts",
    "Box": "segmentation.prompts",
    "Scribble": "segmentation.prompts",
    "Lasso": "segmentation.prompts",
}

__version__ = "0.1.0"
__all__ = [
    "Box",
    "Click",
    "LabelMap",
    "Lasso",
    "MedSegError",
    "Scribble",
    "Volume",
    "fine_tune",
    "load_model",
    "read_label_map",
    "read_volume",
    "read_volumes",
    "write_label_map",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
