"""Classify lesions, images and studies, show why, and find similar ones. Names are imported on first use.

>>> from napari_medseg.classification import Subject, load_classifier, saliency
>>> classifier = load_classifier("nodules")
>>> answer = classifier.classify(Subject.lesion(volume, mask, label=1))
>>> answer.best, answer.probabilities
>>> heat = saliency(classifier, Subject.lesion(volume, mask, label=1))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_medseg.classification.cases import CaseLibrary, StoredCase
    from napari_medseg.classification.classifier import Answer, Attention, Classifier
    from napari_medseg.classification.grad_cam import saliency
    from napari_medseg.classification.heads import Head
    from napari_medseg.classification.load import load_classifier, load_matcher
    from napari_medseg.classification.matcher import Matcher
    from napari_medseg.classification.similar import Similar, find_similar
    from napari_medseg.classification.subject import Subject

_HOMES = {
    "Answer": "classifier",
    "Attention": "classifier",
    "CaseLibrary": "cases",
    "Classifier": "classifier",
    "Head": "heads",
    "Matcher": "matcher",
    "Similar": "similar",
    "StoredCase": "cases",
    "Subject": "subject",
    "find_similar": "similar",
    "load_classifier": "load",
    "load_matcher": "load",
    "saliency": "grad_cam",
}

__all__ = [
    "Answer",
    "Attention",
    "CaseLibrary",
    "Classifier",
    "Head",
    "Matcher",
    "Similar",
    "StoredCase",
    "Subject",
    "find_similar",
    "load_classifier",
    "load_matcher",
    "saliency",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
