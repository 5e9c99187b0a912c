"""Labelled cases that a classifier has not learned from: of the library, or of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.classification.cases import CaseLibrary, StoredCase
from napari_medseg.errors import EvaluationError

if TYPE_CHECKING:
    from napari_medseg.classification.classifier import Classifier
    from napari_medseg.classification.learned import Learned
    from napari_medseg.classification.subject import Subject

Report = Callable[[float], None]
_UNSAID = "Its card does not say what it has learned from: these cases may be among it."
_NO_PATIENTS = "Its card names no patients: other cases of these may be among what it has learned from."


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A labelled case that a classifier is asked about.

    Parameters
    ----------
    name : str
        What the table of answers calls it.
    label : str
        Its class.
    patient : str
        Whom it belongs to.
    subject : Subject
        What is classified.
    """

    name: str
    label: str
    patient: str
    subject: Subject


@dataclass(frozen=True, slots=True, eq=False)
class Unseen:
    """What a classifier is asked about.

    Parameters
    ----------
    questions : tuple of Question
        Cases that it is not known to have learned from.
    n_left_out : int
        How many others there were.
    doubt : str
        Why it may have learned from some of them all the same; empty where that is known.
    """

    questions: tuple[Question, ...]
    n_left_out: int
    doubt: str

    @property
    def sentence(self) -> str:
        """How many cases of how many patients are asked about, and what is left out."""
        n, n_patients = len(self.questions), len({each.patient for each in self.questions})
        told = f"{n} case{'s' if n > 1 else ''} of {n_patients} patient{'s' if n_patients > 1 else ''}"
        if self.doubt != _UNSAID:
            told += " that it has not learned from"
        if self.n_left_out:
            told += f"; {self.n_left_out} that it knows, or whose patient it knows, left out"
        return f"{told}. {self.doubt}".strip()


def unseen(classifier: Classifier, library: CaseLibrary, table: Path | None, report: Report) -> Unseen:
    """Leave out what the classifier learned from, and everything else of the same patients.

    Parameters
    ----------
    classifier : Classifier
        Whose card says by SHA-256 what it learned from.
    library : CaseLibrary
        Where cases are taken from without a table; with one it tells whose cases the classifier knows.
    table : Path, optional
        Cases to ask about.
    report : callable
        Told the part that is done.

    Raises
    ------
    EvaluationError
        If nothing is left to ask about, or the table lacks a class.
    """
    from napari_medseg.classification.learned import Learned, case_mark, owners

    learned = Learned(classifier.card.data)
    stored = _alike(classifier, library)
    subjects, marks = [], []
    for number, case in enumerate(stored, 1):
        subjects.append(case.subject())
        marks.append(case_mark(classifier.crop(subjects[-1]).inputs))
        report((0.5 if table is None else 0.25) * number / len(stored))
    names = [owners(case.card.person, case.card.paths) for case in stored]
    learned.note(marks, names)
    if table is not None:
        return _of_table(classifier, learned, table, report)
    known = classifier.classes
    labelled = [k for k, case in enumerate(stored) if case.card.class_name in known]
    questions = tuple(
        Question(stored[k].id, stored[k].card.class_name, stored[k].card.person or stored[k].id, subjects[k])
        for k in labelled
        if not learned.holds(marks[k], names[k])
    )
    if not questions:
        all_known = (
            f"{classifier.card.title} has learned from all {len(labelled)} labelled cases, or from their patients"
        )
        raise EvaluationError(f"{all_known}: label others, or choose a table of cases")
    return Unseen(questions, len(labelled) - len(questions), _doubt(learned))


def _of_table(classifier: Classifier, learned: Learned, path: Path, report: Report) -> Unseen:
    from napari_medseg.classification.learned import case_mark, owners_of
    from napari_medseg.classification.table import read_table

    rows = read_table(path)
    if not rows or not all(row.class_name for row in rows):
        raise EvaluationError(f"{path} does not name the class of every case: fill its column 'class'")
    subjects, marks = [], []
    for number, row in enumerate(rows, 1):
        subjects.append(row.subject())
        marks.append(case_mark(classifier.crop(subjects[-1]).inputs))
        report(0.25 + 0.25 * number / len(rows))
    learned.note(marks, [owners_of(subject) for subject in subjects])
    questions = tuple(
        Question(row.scans[0].name, row.class_name, row.person, subject)
        for row, mark, subject in zip(rows, marks, subjects, strict=True)
        if not learned.holds(mark, owners_of(subject))
    )
    if not questions:
        all_known = f"{classifier.card.title} has learned from all {len(rows)} cases of {path.name}, or their patients"
        raise EvaluationError(f"{all_known}: choose a table of others")
    return Unseen(questions, len(rows) - len(questions), _doubt(learned))


def _alike(classifier: Classifier, library: CaseLibrary) -> list[StoredCase]:
    """Cases of the library that the classifier can look at, of whatever class."""
    task, is_flat = classifier.looks_at.task, classifier.network.encoder.dims == 2
    cases = library.list(task=task)
    return [case for case in cases if task != "lesion" or case.card.is_flat == is_flat]


def _doubt(learned: Learned) -> str:
    if not learned.names_cases:
        return _UNSAID
    return "" if learned.names_patients else _NO_PATIENTS
