"""What is asked of a model, and what comes back: cut down to one box for each label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from napari_medseg.errors import ModelError
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.volume import Confidence, LabelMap
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.session.labels import values_in
from napari_medseg.session.lesions import Proposal
from napari_medseg.session.session import Segments
from napari_medseg.session.work import ScanWork


@dataclass(frozen=True, eq=False)
class Request:
    """What one answer was asked for."""

    work: ScanWork
    label: int
    prompts: tuple[Prompt, ...]
    previous: LabelMap | None
    model: Segments | None
    model_name: str


@dataclass(frozen=True, eq=False)
class Answer:
    """What came back: one mask in a box for each label the model answered."""

    model: Segments
    proposals: dict[int, Proposal]
    names: dict[int, str]
    warnings: tuple[str, ...] = ()


def load(name: str) -> Segments:
    """Load the active version of a model of the library (this imports torch)."""
    from napari_medseg.segmentation.load import load_model

    model: Segments = load_model(name)
    return model


def answer_of(model: Segments, request: Request, label_map: LabelMap) -> Answer:
    """Cut the model's answer down to one box for each label.

    Raises
    ------
    ModelError
        If the answer is not on the scan's grid.
    """
    shape = request.work.volume.data.shape
    if label_map.data.shape != shape:
        raise ModelError(
            f"The model answered on a {label_map.data.shape} grid, the scan has {shape}: choose another model."
        )
    by = full_name(model)
    if request.prompts:
        proposals = _proposals(label_map.data, request.label, label_map.confidence, by)
        return Answer(model, proposals, {}, label_map.warnings)
    found: dict[int, Proposal] = {}
    for value in values_in(label_map.data):
        found.update(_proposals(label_map.data == value, value, label_map.confidence, by))
    return Answer(model, found, dict(model.labels), label_map.warnings)


def full_name(model: Segments) -> str:
    """Name and version."""
    return f"{model.name} {model.version}"


def _proposals(mask: NDArray[Any], label: int, confidence: Confidence | None, by: str) -> dict[int, Proposal]:
    region = filled_box(mask)
    return {} if region is None else {label: Proposal(region, mask[region] > 0, confidence, by)}


def needs_click(model: Segments) -> str:
    """Say that a model has no answer without a prompt, and what to do."""
    return f"The model '{model.name}' needs a click: choose the click tool and click inside the lesion."
