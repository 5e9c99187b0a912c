"""Settings of training a classifier: one description for the dock's form, the command line's help and the card."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_medseg.classification.heads import Head


class ClassTraining(BaseModel):
    """How a classifier learns. The defaults need no choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Head = Field(
        Head.LOGISTIC, title="Last layer", description="What 'features' fits to the features of the frozen encoder."
    )
    start: Literal["pretrained", "scratch"] = Field(
        "pretrained", title="Start", description="From the click model's encoder, or from random weights."
    )
    steps: int | None = Field(None, gt=0, title="Steps", description="Length; by the number of cases if not given.")
    learning_rate: float | None = Field(
        None, gt=0, title="Learning rate", description="The largest one; by the strategy if not given."
    )
    batch: int = Field(16, ge=2, title="Cases a step", description="Cases in one step.")
    size: int | None = Field(
        None,
        ge=16,
        multiple_of=16,
        title="Size",
        description="Points along each side of a view; by the task if not given.",
    )
    extent_mm: float | None = Field(
        None, gt=0, title="Extent (mm)", description="Side of the cube round a lesion; by the lesions if not given."
    )
    strength: float = Field(
        0.01, gt=0, title="Strength", description="Inverse of the regularisation of a last layer (scikit-learn's C)."
    )
    n_words: int = Field(64, ge=2, title="Visual words", description="Size of the vocabulary of a bag of visual words.")
    pull: float = Field(
        0.1, ge=0, title="Pull to the old weights", description="Lambda of the L2-SP term, as in segmentation."
    )
    average: float = Field(
        0.98,
        ge=0,
        lt=1,
        title="Averaging",
        description="Decay of the running mean of the weights, which is what is kept.",
    )
    validations: int = Field(5, ge=1, title="Validations", description="How often held-out cases are asked on the way.")
    held_out_part: float = Field(
        0.7, gt=0, lt=1, title="Held-out part", description="Part of the steps before the held-out cases join."
    )
    least_gain: float = Field(
        0.01, ge=0, title="Least gain", description="Balanced accuracy that a new version must gain to be adopted."
    )
    device: str | None = Field(None, title="Device", description="cpu, cuda or cuda:1; a GPU if there is one.")


SHOWN_CLASS_SETTINGS = ("head", "start", "steps", "learning_rate", "extent_mm", "least_gain", "device")
"""What the dock's form and the command line offer; the rest is for Python."""
