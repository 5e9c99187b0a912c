"""The card beside a model's weights: what it is, where it came from and what it can do."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Does = Literal["segment", "classify", "compare"]
PATIENT_MARK = "patient sha256 "
"""How a line of a card's data begins that stands for a patient."""


def now_iso() -> str:
    """Return the present moment in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()


class AutomaticSettings(BaseModel):
    """How a whole scan is segmented without prompts: the grid the network saw while it learned, and its windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spacing_mm: tuple[float, float, float] = Field(
        title="Spacing (mm)", description="Voxel size (z, y, x) that a scan is resampled to before it is segmented."
    )
    patch: tuple[int, int, int] = Field(
        (64, 64, 64), title="Window", description="Size of one window in voxels (z, y, x); multiples of 16."
    )
    overlap: float = Field(
        0.5, ge=0, lt=1, title="Overlap", description="How far neighbouring windows overlap, as a part of their size."
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, title="Threshold", description="Probability from which a voxel belongs to a label."
    )
    share_in_clicks: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Share in clicks",
        description="How much a label counts in the answer to a first click into it, beside the click itself.",
    )


class ClassifierInput(BaseModel):
    """What a classifier looks at, and on which grid it saw it while it learned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["lesion", "image", "study"] = Field(
        "lesion",
        title="Looks at",
        description="A lesion (round its mask or a click), a single 2-D image, or a study (all slices of its scans).",
    )
    size: int = Field(48, ge=16, multiple_of=16, title="Size", description="Points along each side of a view.")
    extent_mm: float | None = Field(
        None, gt=0, title="Extent (mm)", description="Side of the cube round a lesion; the whole image where not given."
    )
    own_size: bool = Field(
        False,
        title="Own size",
        description="Whether a lesion whose size is known is seen in a cube of twice its longest diameter.",
    )
    inputs: tuple[str, ...] = Field(
        (), title="Inputs", description="What the scans of a study are, by modality, in the order of the network."
    )
    n_slices: int = Field(
        32, ge=1, title="Slices", description="At most so many slices of a scan of a study, evenly spaced."
    )
    single_slices: bool = Field(
        False, title="Single slices", description="Whether scans of a single slice were among the studies it learned."
    )
    windows: tuple[tuple[float, float] | None, ...] = Field(
        (),
        title="Windows",
        description="Middle and deviation of each input's intensities where their values mean the same in every scan "
        "(CT, PET); none where each scan is normalised by itself.",
    )


class Domain(BaseModel):
    """What kind of scans a model learned from, as far as it can be told from a scan; the defaults hold for `click`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    modalities: list[str] = Field(default=["CT", "MR", "PT"], title="Modalities", description="DICOM's two letters.")
    finest_mm: tuple[float, float] = Field((0.2, 7.0), title="Finest spacing (mm)", description="Least and most.")
    most_anisotropy: float = Field(14.0, gt=1, title="Anisotropy", description="Coarsest by finest voxel size.")
    least_smoothness: float = Field(
        0.25, title="Smoothness", description="What neighbours in a slice have in common, -1 to 1."
    )
    least_values: int = Field(10, title="Intensities", description="Fewer different ones are no scan.")
    largest_mm: float = Field(400.0, title="Largest lesion (mm)")


class Card(BaseModel):
    """What a checkpoint says about itself; stored as ``card.json`` beside the weights.

    Nothing in it may identify a patient: data are named by SHA-256 or by the name of a public data set.
    """

    model_config = ConfigDict(extra="ignore")

    name: str = Field(title="Name")
    version: int = Field(1, ge=1, title="Version")
    architecture: str = Field("click_unet", title="Architecture", description="Name in networks.registry.")
    config: dict[str, Any] = Field(default_factory=dict, title="Configuration of the network")
    labels: dict[int, str] = Field(
        default_factory=dict, title="Labels", description="Value and name of each label; empty for a pure click model."
    )
    needs_click: bool = Field(True, title="Needs a click", description="Whether it segments only what is clicked.")
    automatic: AutomaticSettings | None = Field(None, title="Automatic segmentation")
    looks_at: ClassifierInput | None = Field(
        None, title="Classification", description="What a classifier looks at; its labels are then its classes."
    )
    parent: str | None = Field(None, title="Parent", description="Name, version and hash it was fine-tuned from.")
    sha256: str = Field("", title="SHA-256 of the weights")
    created: str = Field(default_factory=now_iso, title="Created")
    data: list[str] = Field(
        default_factory=list, title="Data", description="Data sets, or SHA-256 of scans, cases and patients."
    )
    licence: str = Field("", title="Licence")
    command: str = Field("", title="Command", description="The command that made these weights.")
    figures: dict[str, Any] = Field(default_factory=dict, title="Figures")
    gate: dict[str, Any] | None = Field(None, title="Verdict", description="What was compared before adopting it.")
    domain: Domain | None = Field(None, title="Scans it learned from")
    other_lesions: tuple[tuple[float, float], ...] = Field(
        (),
        title="Different lesions",
        description="Of a network that compares: share of pairs of different lesions, and the cosine it stays below.",
    )
    training: dict[str, Any] = Field(default_factory=dict, title="Training settings")

    @property
    def does(self) -> Does:
        """What the model is for."""
        if self.looks_at is None:
            return "segment"
        return "compare" if self.architecture == "siamese" else "classify"

    @property
    def title(self) -> str:
        """Name and version as a person says them."""
        return f"{self.name} version {self.version}"

    def for_others(self) -> Card:
        """The card without its marks of patients: who knows a name could tell from one that the patient was there.

        Nor are pinned cases in it: cards of older versions call them by the names of their scans.
        """
        data = [line for line in self.data if not line.startswith(PATIENT_MARK)]
        gate = None if self.gate is None else _without_pinned(self.gate)
        return self.model_copy(update={"data": data, "figures": _without_pinned(self.figures), "gate": gate})


def _without_pinned(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures, at any depth, without those of pinned cases and sentences about them."""
    kept = {k: v for k, v in figures.items() if k != "pinned" and not (k == "sentence" and "pinned case" in str(v))}
    return {k: _without_pinned(v) if isinstance(v, dict) else v for k, v in kept.items()}
