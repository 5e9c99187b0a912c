"""Splits by patient: no patient is ever on both sides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import EvaluationError


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Indices of the cases to train on and of those to test on."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def patient_folds(
    patients: Sequence[Hashable], *, n_folds: int = 5, labels: Sequence[Hashable] | None = None, seed: int = 0
) -> tuple[Split, ...]:
    """Divide cases into folds by patient; every case is tested exactly once.

    Parameters
    ----------
    patients : sequence
        The patient of each case.
    n_folds : int
        At least 2, at most the number of patients.
    labels : sequence, optional
        The class of each case: folds then hold about equal shares of every class.
    seed : int
        Of the random order.

    Raises
    ------
    EvaluationError
        If there are fewer patients than folds, or a label is missing.
    """
    people = list(dict.fromkeys(patients))
    if not 2 <= n_folds <= len(people):
        raise EvaluationError(f"{n_folds} folds by patient need that many patients and at least 2, got {len(people)}")
    if labels is not None and len(labels) != len(patients):
        raise EvaluationError(f"{len(patients)} cases came with {len(labels)} labels")
    fold_of = _deal(people, patients, labels if labels is not None else [0] * len(patients), n_folds, seed)
    folds = np.asarray([fold_of[patient] for patient in patients])
    return tuple(Split(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(n_folds))


def _deal(
    people: list[Hashable], patients: Sequence[Hashable], labels: Sequence[Hashable], n_folds: int, seed: int
) -> dict[Hashable, int]:
    """Deal patients out, those with the most cases first, so that folds hold even shares of every class."""
    classes = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    cases = {person: np.zeros(len(classes)) for person in people}
    for patient, label in zip(patients, labels, strict=True):
        cases[patient][classes[label]] += 1
    totals = np.sum(list(cases.values()), axis=0)
    order = np.random.default_rng(seed).permutation(len(people))
    held = np.zeros((n_folds, len(classes)))
    fold_of: dict[Hashable, int] = {}
    for person in sorted((people[k] for k in order), key=lambda p: -cases[p].sum()):
        empty = np.asarray([k not in fold_of.values() for k in range(n_folds)])
        # Shares of each class if the patient went to this fold; an empty fold wins ties so that none stays empty.
        crowding = ((held + cases[person]) ** 2 - held**2) @ (1.0 / totals**2)
        fold_of[person] = int(np.lexsort((held.sum(axis=1), crowding.round(12), ~empty))[0])
        held[fold_of[person]] += cases[person]
    return fold_of
