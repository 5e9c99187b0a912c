"""What learning bought: seconds, voxels and clicks that corrections took, before and after each version."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from napari_medseg.imaging.durable import write_durably
from napari_medseg.learning.corrections import StoredCorrection


@dataclass(frozen=True, slots=True)
class Effort:
    """What one correction took.

    Parameters
    ----------
    correction, scan : str
        Name of its folder; name of the scan's file or folder, of the correction where the scan had none.
    model : str
        The model and version that proposed: ``"click 2"``.
    created : str
        When it was accepted, ISO 8601, UTC.
    seconds : float
        How long the user worked on it, pauses left out.
    voxels : int
        Voxels that the user changed in the proposal.
    clicks : int
        Clicks, boxes, scribbles and lassos given.
    pinned : bool
        Whether new versions must not get worse on it.
    """

    correction: str
    scan: str
    model: str
    created: str
    seconds: float
    voxels: int
    clicks: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class MeanEffort:
    """Mean effort a case of the corrections that one version proposed."""

    model: str
    n_cases: int
    seconds: float
    voxels: float
    clicks: float


def efforts(corrections: Iterable[StoredCorrection]) -> tuple[Effort, ...]:
    """What each stored correction took, in the order given; nothing but their cards is read."""
    return tuple(_effort(stored) for stored in corrections)


def mean_efforts(cases: Sequence[Effort]) -> tuple[MeanEffort, ...]:
    """Mean effort a case for each version, in the order in which versions were first used."""
    versions = list(dict.fromkeys(case.model for case in cases))
    return tuple(_mean(model, [case for case in cases if case.model == model]) for model in versions)


def write_efforts(path: str | Path, cases: Sequence[Effort]) -> Path:
    """Write one line a correction as CSV, durably, and return the path."""
    text = io.StringIO()
    names = [field.name for field in fields(Effort)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_plain(getattr(case, name)) for name in names] for case in cases)
    data = text.getvalue().encode("utf-8")

    def verify(written: Path) -> None:
        if written.read_bytes() != data:
            raise OSError(f"{path} was not written completely: is the disk full?")

    return write_durably(Path(path), lambda written: _write(written, data), verify)


def _effort(stored: StoredCorrection) -> Effort:
    card, scan = stored.card, stored.scan
    return Effort(
        correction=stored.id,
        scan=Path(scan.path).name if scan.path else stored.id,
        model=card.model or "unknown model",
        created=card.created,
        seconds=round(card.seconds, 1),
        voxels=card.edited_voxels,
        clicks=len(card.prompts),
        pinned=card.pinned,
    )


def _mean(model: str, cases: Sequence[Effort]) -> MeanEffort:
    n = len(cases)
    return MeanEffort(
        model,
        n,
        sum(case.seconds for case in cases) / n,
        sum(case.voxels for case in cases) / n,
        sum(case.clicks for case in cases) / n,
    )


def _plain(value: object) -> object:
    """A spreadsheet must not take a scan's name for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
