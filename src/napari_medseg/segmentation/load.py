"""Models by name or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.models.library import CLICK, Library

if TYPE_CHECKING:
    from napari_medseg.segmentation.classical import GeodesicSegmenter
    from napari_medseg.segmentation.segmenter import Segmenter


def load_model(
    name_or_path: str | Path | None = None, *, version: int | None = None, device: str | None = None
) -> Segmenter | GeodesicSegmenter:
    """Load a model.

    Parameters
    ----------
    name_or_path : str or Path, optional
        A name in the library, a folder with a card, or ``"geodesic"`` for the classical method that needs no weights.
        The active version of the click model by default.
    version : int, optional
        A version of that name; the active one by default.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; the GPU where there is one.

    Raises
    ------
    ModelError
        If there is no such model, or it is damaged.
    """
    if name_or_path == "geodesic":
        from napari_medseg.segmentation.classical import GeodesicSegmenter

        return GeodesicSegmenter()
    from napari_medseg.errors import ModelError
    from napari_medseg.models.checkpoint import load_checkpoint, read_card
    from napari_medseg.segmentation.segmenter import Segmenter

    folder = Path(name_or_path) if name_or_path is not None else None
    if folder is None or not folder.is_dir():
        folder = Library().path(str(name_or_path or CLICK), version)
    if (card := read_card(folder)).looks_at is not None:
        raise ModelError(f"the model '{card.name}' classifies and cannot segment: choose another, or classify with it")
    return Segmenter(load_checkpoint(folder), device)
