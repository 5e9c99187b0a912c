"""No patient on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.splits import patient_folds


@given(st.lists(st.integers(0, 12), min_size=13, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_no_patient_is_on_both_sides(patients: list[int], n_folds: int, seed: int) -> None:
    patients = [*range(5), *patients]
    people = np.asarray(patients)
    folds = patient_folds(patients, n_folds=n_folds, labels=[p % 2 for p in patients], seed=seed)
    assert len(folds) == n_folds
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(patients)))
    for fold in folds:
        assert fold.test.size
        assert not set(people[fold.train]) & set(people[fold.test])
        assert len(fold.train) + len(fold.test) == len(patients)


def test_folds_hold_even_shares_of_each_class() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(50), 2)
    labels = np.repeat(rng.random(50) < 0.2, 2)
    folds = patient_folds(patients.tolist(), labels=labels.tolist())
    assert [len(fold.test) for fold in folds] == [20] * 5
    assert sorted(labels[fold.test].sum() for fold in folds) == [2, 4, 4, 4, 4]


def test_seed_decides_the_order() -> None:
    patients = list(range(30))
    first, again, other = (patient_folds(patients, seed=seed)[0].test.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_bad_input_is_refused() -> None:
    with pytest.raises(EvaluationError, match="5 folds by patient"):
        patient_folds(["a", "a", "b"])
    with pytest.raises(EvaluationError, match="2 cases came with 1 labels"):
        patient_folds(["a", "b"], n_folds=2, labels=["x"])
