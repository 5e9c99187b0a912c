"""A set of masks against their references: case by case, and the means with confidence intervals by patient."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.bootstrap import Interval, mean_intervals
from napari_medseg.evaluation.masks import MaskFigures, compare_masks, finite_or_none
from napari_medseg.imaging.files import read_label_map

FIGURES = tuple(f.name for f in fields(MaskFigures) if f.name not in ("label", "name", "tolerance_mm"))


@dataclass(frozen=True, slots=True)
class Case:
    """One mask that was compared with its reference."""

    name: str
    patient: str
    figures: tuple[MaskFigures, ...]

    def as_json(self) -> dict[str, Any]:
        """The figures of all labels together, and of each label, as JSON can hold them."""
        first, *labels = (figures.as_json() for figures in self.figures)
        return {"case": self.name, "patient": self.patient, **first, "labels": labels or [first]}

    def rows(self) -> list[dict[str, Any]]:
        """One row a label, as a table holds it."""
        return [{"case": self.name, "patient": self.patient, **figures.as_json()} for figures in self.figures]


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean figures of one label over the cases that have it."""

    label: int
    name: str
    n_cases: int
    means: dict[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """Means and intervals as JSON can hold them."""
        means = {name: finite_or_none(asdict(interval)) for name, interval in self.means.items()}
        return {"label": self.label, "name": self.name, "n_cases": self.n_cases, "means": means}


def compare_files(mask: Path, reference: Path, *, tolerance_mm: float = 2.0, patient: str = "") -> Case:
    """Compare a mask file with its reference.

    Raises
    ------
    MedSegError
        If a file cannot be read as a mask, or the grids differ.
    """
    figures = compare_masks(read_label_map(mask), read_label_map(reference), tolerance_mm=tolerance_mm)
    return Case(mask.name, patient or mask.name, figures)


def compare_folders(
    masks: Path, references: Path, *, tolerance_mm: float = 2.0, patient_pattern: str | None = None
) -> Generator[Case, None, None]:
    """Compare every reference in a folder with the mask of the same file name in another, one case at a time.

    Parameters
    ----------
    masks, references : Path
        Folders.
    tolerance_mm : float
        For the normalised surface Dice.
    patient_pattern : str, optional
        Regular expression whose first group (or whole match) in a file's name is the patient. Without it every
        file is a patient of its own.

    Raises
    ------
    EvaluationError
        If a reference has no mask, or the pattern does not match a name.
    """
    names = sorted(path.name for path in references.iterdir() if path.is_file() and not path.name.startswith("."))
    missing = [name for name in names if not (masks / name).exists()]
    if not names or missing:
        what = f"has no {missing[0]} ({len(missing)} of {len(names)} missing)" if missing else "cannot be compared"
        why = "masks and references are matched by file name" if missing else f"{references} holds no reference"
        raise EvaluationError(f"{masks} {what}: {why}")
    patients = [_patient(name, patient_pattern) for name in names]
    for name, patient in zip(names, patients, strict=True):
        yield compare_files(masks / name, references / name, tolerance_mm=tolerance_mm, patient=patient)


def summarise(cases: Sequence[Case], *, seed: int = 0) -> tuple[Summary, ...]:
    """Means over cases of each label's figures, with 95 % intervals from resampled patients."""
    labels: dict[int, str] = {}
    for case in cases:
        for figures in case.figures:
            labels.setdefault(figures.label, figures.name)
    return tuple(_summary(cases, label, name, seed) for label, name in sorted(labels.items()))


def _summary(cases: Sequence[Case], label: int, name: str, seed: int) -> Summary:
    rows = [(case.patient, figures) for case in cases for figures in case.figures if figures.label == label]
    patients = [patient for patient, _ in rows]
    table = {figure: [float(getattr(figures, figure)) for _, figures in rows] for figure in FIGURES}
    means = mean_intervals(table, patients, seed=seed)
    return Summary(label, name, len(rows), means)


def _patient(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise EvaluationError(f"{pattern!r} is not a regular expression: {error}") from error
    if not found:
        raise EvaluationError(f"the patient pattern {pattern!r} does not match the file name {name}")
    return found.group(1) if found.groups() else found.group(0)
