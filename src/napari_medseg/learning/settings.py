"""Settings of fine-tuning: one description for the dock's form, the command line's help and the card of the result."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field


class Strategy(str, Enum):
    """Which layers learn, by the names of the transfer-learning literature."""

    AUTO = "auto"
    HEAD = "head"
    GRADUAL = "gradual"
    FULL = "full"
    FEATURES = "features"

    @property
    def caption(self) -> str:
        """What a person reads."""
        return _TITLES[self][0]

    @property
    def description(self) -> str:
        """When to choose it, in one sentence."""
        return _TITLES[self][1]


_TITLES = {
    Strategy.AUTO: (
        "Automatic",
        "Every layer learns at a rate that was measured best; the more corrected cases, the longer.",
    ),
    Strategy.HEAD: (
        "Last layer only",
        "Quick: all features stay as they are. Enough for classes, and for labels that the model nearly knows.",
    ),
    Strategy.GRADUAL: ("Layer by layer", "Starts with the last layer; deeper ones join one by one."),
    Strategy.FULL: ("All layers", "Every layer learns, at a smaller learning rate than by Automatic."),
    Strategy.FEATURES: (
        "Features only",
        "Fits a small classifier to the model's features in seconds: for classes, and labels it nearly knows.",
    ),
}


class FineTuneSettings(BaseModel):
    """How a model learns from corrections. The defaults need no choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(
        None, gt=0, title="Steps", description="Length of the training; by the number of corrected cases if not given."
    )
    learning_rate: float | None = Field(
        None, gt=0, title="Learning rate", description="The largest one; by the strategy if not given."
    )
    batch: int = Field(2, ge=1, title="Patches a step", description="Patches of the corrected cases in one step.")
    patch: tuple[int, int, int] | None = Field(
        None, title="Patch", description="Size (z, y, x) in voxels, multiples of 16; by the cases if not given."
    )
    spacing_mm: tuple[float, float, float] | None = Field(
        None, title="Spacing (mm)", description="Voxel size (z, y, x) to learn on; by the cases if not given."
    )
    pull: float = Field(
        0.3,
        ge=0,
        title="Pull to the old weights",
        description="Lambda of the L2-SP term: how strongly weights are held near those of the old version.",
    )
    corrected_weight: float = Field(
        2.0, ge=1, title="Weight of corrected voxels", description="How much more a voxel counts that a person changed."
    )
    click_share: float = Field(
        0.25, ge=0, le=1, title="Clicks", description="Part of the steps that also learn from clicks on the new cases."
    )
    replay_share: float = Field(
        1.0,
        ge=0,
        le=1,
        title="Replay",
        description="Part of the click lessons that also repeat clicks on synthetic scans.",
    )
    average: float = Field(
        0.99,
        ge=0,
        lt=1,
        title="Averaging",
        description="Decay of the running mean of the weights, which is what is kept.",
    )
    validations: int = Field(
        8, ge=1, title="Validations", description="How often held-out Dice is measured on the way."
    )
    held_out_part: float = Field(
        0.6, gt=0, lt=1, title="Held-out part", description="Part of the steps before the held-out cases join."
    )
    least_gain: float = Field(
        0.01,
        ge=0,
        title="Least gain",
        description="Dice that the corrected cases must gain for a version to be adopted.",
    )
    largest_loss: float = Field(
        0.02, ge=0, title="Largest loss", description="Dice that nothing else may lose for a version to be adopted."
    )
    save_every_s: float = Field(
        20.0, gt=0, title="Seconds between checkpoints", description="A run that was killed goes on from the last one."
    )
    device: str | None = Field(None, title="Device", description="cpu, cuda or cuda:1; a GPU if there is one.")
    precision: str | None = Field(
        None,
        pattern="^(float32|bfloat16)$",
        title="Precision",
        description="float32 or bfloat16; the faster one that is right on this machine if not given.",
    )


SHOWN_SETTINGS = ("steps", "learning_rate", "pull", "least_gain", "largest_loss", "device")
"""What the dock's form and the command line offer; the rest is for Python."""
