"""What training a classifier says while it runs and when it is done; one line of JSON each between processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from napari_medseg.models.checkpoint import Checkpoint


class ClassScores(BaseModel):
    """How good one version is on cases it has not learned from; None where it was not measured."""

    model_config = ConfigDict(frozen=True)

    balanced_accuracy: float | None = Field(None, title="Balanced accuracy", description="Mean over the classes, 0..1.")
    accuracy: float | None = Field(None, title="Accuracy", description="Share of cases called right.")
    auc: float | None = Field(None, title="AUC", description="Area under the ROC curve; mean of one against the rest.")
    calibration_error: float | None = Field(
        None, title="Calibration error", description="Of probabilities; calibrated on the same cases, so optimistic."
    )


class ClassVerdict(BaseModel):
    """What the gate decided about a classifier and what it compared."""

    model_config = ConfigDict(frozen=True)

    adopted: bool
    sentence: str
    before: ClassScores
    after: ClassScores
    held_out: str = ""
    folder: str = ""


class ClassReport(BaseModel):
    """One moment of training a classifier.

    The last report of a run is of the kind ``done`` and carries the verdict. ``score`` is the balanced accuracy on
    held-out cases, ``score_before`` that of the version in use, or of guessing.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["progress", "validation", "done"] = "progress"
    step: int = 0
    n_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    score: float | None = None
    score_before: float | None = None
    seconds: float = 0.0
    remaining_s: float | None = None
    message: str = ""
    verdict: ClassVerdict | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ClassTrainingResult:
    """What a finished training returns: the trained version, whatever the verdict, and the verdict."""

    checkpoint: Checkpoint
    verdict: ClassVerdict
    folder: Path | None
