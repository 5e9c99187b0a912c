"""Classifiers and Siamese networks by name or folder."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.classification.classifier import Classifier
from napari_medseg.classification.matcher import Matcher
from napari_medseg.errors import ModelError
from napari_medseg.models.checkpoint import Checkpoint, load_checkpoint, read_card
from napari_medseg.models.library import Library
from napari_medseg.networks.registry import CLASSIFIERS

SIAMESE = "siamese"


def load_classifier(name_or_path: str | Path, *, version: int | None = None, device: str | None = None) -> Classifier:
    """Load a classifier: a name in the library (its active version by default) or a folder with a card.

    Raises
    ------
    ModelError
        If there is no such model, it is damaged, or it does not classify.
    """
    return Classifier(_checkpoint(name_or_path, version, CLASSIFIERS), device)


def load_matcher(
    name_or_path: str | Path | None = None, *, version: int | None = None, device: str | None = None
) -> Matcher:
    """Load a Siamese network: the active version of ``siamese`` by default, another name, or a folder with a card.

    Raises
    ------
    ModelError
        If there is no such model, it is damaged, or it compares nothing.
    """
    return Matcher(_checkpoint(name_or_path or SIAMESE, version, ("siamese",)), device)


def _checkpoint(name_or_path: str | Path, version: int | None, architectures: tuple[str, ...]) -> Checkpoint:
    folder = Path(name_or_path)
    if not folder.is_dir():
        folder = Library().path(str(name_or_path), version)
    card = read_card(folder)
    if card.architecture not in architectures:
        does = "classify" if "siamese" not in architectures else "compare"
        raise ModelError(f"the model '{card.name}' ({card.architecture}) does not {does}: choose another")
    return load_checkpoint(folder)
