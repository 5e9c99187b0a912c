"""What training a classifier says while it runs and when it is done; one line of JSON each between processes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from napari_medseg.learning.reports import GateVerdict, Moment, TrainingResult


class ClassScores(BaseModel):
    """How good one version is on cases it has not learned from; None where it was not measured."""

    model_config = ConfigDict(frozen=True)

    balanced_accuracy: float | None = Field(None, title="Balanced accuracy", description="Mean over the classes, 0..1.")
    accuracy: float | None = Field(None, title="Accuracy", description="Share of cases called right.")
    auc: float | None = Field(None, title="AUC", description="Area under the ROC curve; mean of one against the rest.")
    calibration_error: float | None = Field(
        None, title="Calibration error", description="Of probabilities; calibrated on the same cases, so optimistic."
    )


class ClassVerdict(GateVerdict):
    """What the gate decided about a classifier and what it compared."""

    before: ClassScores
    after: ClassScores


class ClassReport(Moment):
    """One moment of training a classifier. The last report of a run carries the verdict.

    ``score`` is the balanced accuracy on held-out cases, ``score_before`` that of the version in use, or of guessing.
    """

    score: float | None = None
    score_before: float | None = None
    verdict: ClassVerdict | None = None

    @property
    def figure(self) -> float | None:
        """What was measured on held-out cases."""
        return self.score

    @property
    def figure_before(self) -> float | None:
        """The same of the version in use."""
        return self.score_before


class ClassTrainingResult(TrainingResult[ClassVerdict]):
    """What finished training of a classifier returns."""
