"""Architectures by name: what a checkpoint's card may ask for."""

from __future__ import annotations

from typing import Any

from torch import nn

from napari_medseg.errors import ModelError
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.image_classifier import ImageClassifier
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier
from napari_medseg.networks.siamese import SiameseNetwork
from napari_medseg.networks.study_classifier import StudyClassifier

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "click_unet": ClickUNet,
    "image_classifier": ImageClassifier,
    "study_classifier": StudyClassifier,
    "neighbour_classifier": NeighbourClassifier,
    "siamese": SiameseNetwork,
}


CLASSIFIERS = ("image_classifier", "study_classifier", "neighbour_classifier")


def architecture_of(network: nn.Module) -> str:
    """Return the name by which `build` knows a network's kind."""
    return next(name for name, kind in ARCHITECTURES.items() if type(network) is kind)


def build(architecture: str, config: dict[str, Any]) -> nn.Module:
    """Make an untrained network of a known architecture.

    Raises
    ------
    ModelError
        If the architecture is unknown, or does not take this configuration.
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(f"unknown architecture '{architecture}': this version knows {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[architecture](**config)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the architecture '{architecture}' cannot be built from {config}: {error}") from error
