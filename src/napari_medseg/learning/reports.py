"""What a training says while it runs and when it is done; one line of JSON each between processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from napari_medseg.models.checkpoint import Checkpoint


class GateVerdict(BaseModel):
    """What the gate decided about a new version of any model."""

    model_config = ConfigDict(frozen=True)

    adopted: bool
    sentence: str
    held_out: str = ""
    folder: str = ""


class Moment(BaseModel):
    """One moment of a training, whatever learns. The last one is of the kind ``done``."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["progress", "validation", "done"] = "progress"
    step: int = 0
    n_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    seconds: float = 0.0
    remaining_s: float | None = None
    message: str = ""


AnyVerdict = TypeVar("AnyVerdict", bound=GateVerdict)


@dataclass(frozen=True, eq=False)
class TrainingResult(Generic[AnyVerdict]):
    """What a finished training returns: the trained version, whatever the verdict, and the verdict."""

    checkpoint: Checkpoint
    verdict: AnyVerdict
    folder: Path | None


class Figures(BaseModel):
    """Mean Dice of one version on cases it has not learned from; None where it was not measured."""

    model_config = ConfigDict(frozen=True)

    automatic: float | None = Field(None, title="Without a click", description="Mean over labels and cases.")
    one_click: float | None = Field(None, title="After one click", description="One click a case, in its middle.")
    guard: float | None = Field(None, title="Guard", description="One view and prompt each of fixed synthetic lesions.")
    kept: float | None = Field(
        None, title="Old labels", description="How well labels that nobody corrected agree with the old version's."
    )
    pinned: dict[str, float] | None = Field(
        None, title="Pinned cases", description="Each case that must never get worse, and how it is used."
    )

    @property
    def best(self) -> float:
        """Dice of the better way to use the model on the corrected cases."""
        return max(self.automatic or 0.0, self.one_click or 0.0)


class Verdict(GateVerdict):
    """What the gate decided about a fine-tuned version and what it compared."""

    dice_before: float
    dice_after: float
    guard_before: float
    guard_after: float
    before: Figures
    after: Figures


class Report(Moment):
    """One moment of fine-tuning. The last report of a run carries the verdict."""

    dice: float | None = None
    dice_before: float | None = None
    verdict: Verdict | None = None

    @property
    def figure(self) -> float | None:
        """What was measured on held-out cases."""
        return self.dice

    @property
    def figure_before(self) -> float | None:
        """The same of the version that learns."""
        return self.dice_before


class FineTuneResult(TrainingResult[Verdict]):
    """What finished fine-tuning returns."""
