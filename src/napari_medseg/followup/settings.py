"""When lesions of two visits are the same one, when they changed, and what counts as change voxel by voxel."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CompareSettings(BaseModel):
    """How lesions are matched and judged. The defaults need no choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    criterion: Literal["volume", "diameter"] = Field(
        "volume",
        title="Judge by",
        description="What decides between grown, shrunk and stable: volume, or diameter (long axis, as in RECIST 1.1).",
    )
    volume_percent: float = Field(
        25.0, gt=0, title="Volume (%)", description="Change of volume from which a lesion has grown or shrunk, %."
    )
    least_ml: float = Field(
        0.02, ge=0, title="Least change (ml)", description="A smaller change of volume counts as stable, ml."
    )
    growth_percent: float = Field(
        20.0, gt=0, title="Growth (%)", description="Change of the long axis from which a lesion has grown, %."
    )
    growth_mm: float = Field(
        5.0, ge=0, title="Growth (mm)", description="And by how much the long axis must have grown besides, mm."
    )
    shrinkage_percent: float = Field(
        30.0, gt=0, title="Shrinkage (%)", description="Change of the long axis from which a lesion has shrunk, %."
    )
    common_share: float = Field(
        0.1,
        gt=0,
        le=1,
        title="Common share",
        description="Lesions that share this part of the smaller one are one, 0-1.",
    )
    tolerance_mm: float = Field(
        8.0, ge=0, title="Tolerance (mm)", description="Lesions without a common part are one if this near, mm."
    )


class ChangeSettings(BaseModel):
    """What counts as a changed voxel. `for_scan` chooses by what a scan says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        3.5, gt=0, title="Threshold", description="Least difference, in standard deviations of what nothing changed."
    )
    smoothing_mm: float = Field(1.0, ge=0, title="Smoothing (mm)", description="Sigma of the blur of both visits, mm.")
    misplacement_mm: float = Field(
        0.5, ge=0, title="Misplacement (mm)", description="Edges that lie this much apart are no change, mm."
    )
    least_mm3: float = Field(
        10.0, ge=0, title="Least size (mm³)", description="Smaller regions of change are left out, mm³."
    )
    bright_only: bool = Field(
        False,
        title="Bright only",
        description="Only what is brighter than its surroundings at one of the visits (FLAIR).",
    )
    rim_mm: float = Field(
        0.0, ge=0, title="Rim (mm)", description="Depth under the skin in which nothing is marked: scalp and skull, mm."
    )

    @classmethod
    def for_scan(cls, name: str) -> ChangeSettings:
        """FLAIR scans of heads have names that say so: bright changes, under the skull."""
        return cls(bright_only=True, rim_mm=12.0) if "flair" in name.lower() else cls()
