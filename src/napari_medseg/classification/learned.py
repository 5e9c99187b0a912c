"""What a classifier has learned from: its card names cases and their owners by SHA-256, and by nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from napari_medseg.classification.subject import Subject
from napari_medseg.imaging.view import Floats
from napari_medseg.models.card import PATIENT_MARK

_CASE, _DIGITS = "case sha256 ", 16


def case_mark(inputs: Floats) -> str:
    """What a card says of a case, from the network's input."""
    return _CASE + hashlib.sha256(np.ascontiguousarray(inputs).tobytes()).hexdigest()[:_DIGITS]


def patient_mark(owner: str) -> str:
    """What a card says of an owner of cases."""
    return PATIENT_MARK + hashlib.sha256(f"napari-medseg {owner}".encode()).hexdigest()[:_DIGITS]


def owners_of(subject: Subject) -> tuple[str, ...]:
    """Names of a subject's owner, as `owners` gives them."""
    return owners(subject.patient, [scan.path for scan in subject.scans if scan.path is not None])


def owners(patient: str, paths: Iterable[str | Path]) -> tuple[str, ...]:
    """All names that one owner of cases goes by: the patient, and the scan files, each of which is one patient's.

    Folders are left out: one may hold scans of many patients.
    """
    files = [str(Path(path).resolve()) for path in paths if Path(path).is_file()]
    return tuple(dict.fromkeys([*([patient] if patient else []), *files]))


class Learned:
    """Knows what a classifier has learned from.

    Parameters
    ----------
    data : sequence of str
        What its card says.
    """

    def __init__(self, data: Sequence[str]) -> None:
        self._marks = set(data)
        self.names_cases = any(mark.startswith(_CASE) for mark in data)
        self.names_patients = any(mark.startswith(PATIENT_MARK) for mark in data)

    def note(self, marks: Sequence[str], names: Sequence[Sequence[str]]) -> None:
        """Take cases and the names of their owners into account: where one was learned from, all of its owner's are."""
        before = -1
        while before != len(self._marks):
            before = len(self._marks)
            for mark, own in zip(marks, names, strict=True):
                if self.holds(mark, own):
                    self._marks.update(patient_mark(name) for name in own)

    def holds(self, mark: str, names: Sequence[str]) -> bool:
        """Whether a case, or another case of its owner, was learned from."""
        return mark in self._marks or any(patient_mark(name) in self._marks for name in names)
