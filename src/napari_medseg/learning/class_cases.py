"""Labelled cases, checked: what a classifier can learn from, what it looks at, and what is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.classification.cases import task_of
from napari_medseg.classification.crops import Crop
from napari_medseg.classification.learned import owners_of
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import LearningError
from napari_medseg.evaluation.splits import Split, patient_folds
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.models.card import ClassifierInput

LEAST_CASES = 2
_MARGIN, _LEAST_MM, _LESION_MM = 1.5, 24.0, 40.0
_ABSOLUTE, _DRAWN = ("CT", "PT", "PET"), 24
_CUBE, _SQUARE, _SLICE, _WIDEST = 48, 64, 64, 128


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCases:
    """What teaches a classifier.

    Parameters
    ----------
    crops : tuple of Crop
        A network's input of each case.
    answers : ndarray of int, shape (N,)
        Their classes.
    classes : tuple of str
        Names of the classes.
    patients : tuple of str
        Whom they belong to.
    """

    crops: tuple[Crop, ...]
    answers: NDArray[np.int64]
    classes: tuple[str, ...]
    patients: tuple[str, ...]


def check_cases(
    subjects: Sequence[Subject], answers: Sequence[str], classes: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the names of the classes, or say why nothing can be learned.

    Parameters
    ----------
    subjects : sequence of Subject
        The cases.
    answers : sequence of str
        Their classes.
    classes : sequence of str, optional
        All classes, in the order of the outputs; those that occur, by name, if not given.

    Raises
    ------
    LearningError
        If there are fewer than two classes, or a class has fewer than two cases; or cases are of different kinds.
    """
    if len(subjects) != len(answers):
        raise LearningError(f"{len(subjects)} cases came with {len(answers)} classes: give each case one")
    counts = Counter(answers)
    names = tuple(dict.fromkeys(classes)) if classes is not None else tuple(sorted(counts))
    if not subjects:
        raise LearningError("there is no labelled case to learn from: label at least two cases of each class")
    if unnamed := [name for name in counts if not name or name not in names]:
        raise LearningError(
            f"a case has the class '{unnamed[0]}', which is none of {', '.join(names)}: name it or add it"
        )
    if len(names) < 2:
        raise LearningError(f"all {len(subjects)} cases are '{names[0]}': label cases of at least one other class too")
    if missing := [name for name in names if not counts[name]]:
        raise LearningError(f"nobody labelled a case '{missing[0]}': label at least two, or take that class away")
    if few := [name for name in names if counts[name] < LEAST_CASES]:
        raise LearningError(f"there is only one case of '{few[0]}': label at least two cases of each class")
    kinds = {task_of(subject) for subject in subjects}
    if len(kinds) > 1:
        raise LearningError(
            f"the cases are of different kinds ({' and '.join(sorted(kinds))}): train one kind at a time"
        )
    flat = [1 in subject.scans[0].data.shape for subject in subjects]
    if kinds != {"study"} and any(flat) and not all(flat):
        raise LearningError(
            f"{sum(flat)} cases are single 2-D images and {len(flat) - sum(flat)} are volumes: train one kind at a time"
        )
    return names


def dimensions(subjects: Sequence[Subject]) -> int:
    """2 for images and for studies, whose slices are looked at one by one; 3 for lesions in volumes."""
    if task_of(subjects[0]) == "study":
        return 2
    return 2 if 1 in subjects[0].scans[0].data.shape else 3


def choose_input(subjects: Sequence[Subject], settings: ClassTraining) -> ClassifierInput:
    """Choose what a new classifier looks at, by its cases."""
    task, dims = task_of(subjects[0]), dimensions(subjects)
    extent = None
    if task == "lesion":
        known = [d for d in (subject.diameter_mm() for subject in subjects) if d is not None]
        extent = max(_LEAST_MM, _MARGIN * float(np.quantile(known, 0.9))) if known else _LESION_MM
    inputs = tuple(scan.modality for scan in max(subjects, key=lambda s: len(s.scans)).scans) if task == "study" else ()
    return ClassifierInput(
        task=task,
        size=settings.size or _size(subjects, task, dims),
        extent_mm=(settings.extent_mm or extent) if task == "lesion" else None,
        inputs=inputs,
        single_slices=task == "study" and any(1 in scan.data.shape for s in subjects for scan in s.scans),
        windows=tuple(_window(subjects, modality) for modality in inputs),
    )


def _window(subjects: Sequence[Subject], modality: str) -> tuple[float, float] | None:
    """Middle and deviation of the body's intensities in all scans of a modality whose values mean something."""
    if modality not in _ABSOLUTE:
        return None
    scans = [scan for subject in subjects for scan in subject.scans if scan.modality == modality]
    drawn = [scan.data[tuple(slice(None, None, max(1, n // _DRAWN)) for n in scan.data.shape)] for scan in scans]
    values = np.concatenate([np.asarray(part, np.float32).ravel() for part in drawn])
    body = values[values > values.mean()]
    if not body.size or not np.isfinite(body).all():
        return None
    low, high = np.percentile(body, (0.5, 99.5))
    deviation = float(np.clip(body, low, high).std())
    return (float(np.median(body)), deviation) if deviation > 0 else None


def _size(subjects: Sequence[Subject], task: str, dims: int) -> int:
    """Points along each side of a view: of a whole image twice as many as it has, within limits.

    The encoder halves what it sees at once, and learned from views in which a lesion is many points wide.
    """
    if task != "image":
        return _SLICE if task == "study" else _CUBE if dims == 3 else _SQUARE
    own = float(np.median([max(subject.scans[0].data.shape) for subject in subjects]))
    return int(np.clip(16 * np.ceil(own / 8), _SQUARE, _WIDEST))


def people(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The patient of each case, or the file of its scan; a case that says neither is a patient of its own."""
    return tuple(next(iter(owners_of(subject)), f"case {k}") for k, subject in enumerate(subjects))


def folds(cases: LabelledCases, *, most: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """Splits by patient in which every class teaches and is asked for; none where patients do not suffice."""
    per_class = [
        len({p for p, a in zip(cases.patients, cases.answers, strict=True) if a == k})
        for k in range(len(cases.classes))
    ]
    n = min(most, *per_class)
    if n < 2:
        return ()
    splits = patient_folds(cases.patients, n_folds=n, labels=cases.answers.tolist(), seed=seed)
    wanted = set(range(len(cases.classes)))
    return tuple(split for split in splits if set(cases.answers[split.train]) == wanted)
