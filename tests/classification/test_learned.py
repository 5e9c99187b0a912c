"""Whose cases are whose, and what a classifier's card says of those that it learned from."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from napari_medseg.classification import CaseLibrary
from napari_medseg.classification.learned import Learned, case_mark, owners, owners_of, patient_mark
from napari_medseg.classification.table import read_table
from napari_medseg.cli import main
from napari_medseg.evaluation.splits import patient_folds
from napari_medseg.learning.class_cases import people
from napari_medseg.models.card import Card


@pytest.fixture
def two_lesions_a_scan(tmp_path, lesion):
    """A table of four scans with two lesions each, nobody's by name, in two spellings of their paths."""
    (tmp_path / "sub").mkdir()
    lines = ["scan,position_mm,class"]
    data = lesion().scans[0].data.T
    for k in range(4):
        nibabel.save(nibabel.Nifti1Image(data + k, np.diag([1.0, 1.2, 2.5, 1.0])), tmp_path / f"s{k}.nii.gz")
        lines += [f"s{k}.nii.gz,10;10;10,bright", f"sub/../s{k}.nii.gz,20;12;10,dark"]
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def test_lesions_of_one_scan_file_are_one_patients(two_lesions_a_scan) -> None:
    rows = read_table(two_lesions_a_scan)
    subjects = [row.subject() for row in rows]
    patients = people(subjects)
    assert len(set(patients)) == 4
    assert [row.person for row in rows] == list(patients)
    for split in patient_folds(patients, n_folds=2):
        assert not {rows[k].scans[0].resolve() for k in split.train} & {rows[k].scans[0].resolve() for k in split.test}


def test_a_patient_that_is_named_stays(two_lesions_a_scan) -> None:
    row = replace(read_table(two_lesions_a_scan)[0], patient="P1")
    assert row.person == row.subject().patient == "P1"


def test_subjects_of_one_scan_file_are_one_patients(two_lesions_a_scan) -> None:
    first, second, other = (row.subject() for row in read_table(two_lesions_a_scan)[:3])
    nobody = [replace(each, patient="") for each in (first, second, other)]
    patients = people(nobody)
    assert patients[0] == patients[1] != patients[2]


def test_lesions_that_similar_adds_are_one_patients(two_lesions_a_scan, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_medseg.classification.find_similar", lambda *_args, **_options: (), raising=False)
    monkeypatch.setattr("napari_medseg.classification.load_matcher", lambda *_args: None, raising=False)
    for scan, click in (("s0.nii.gz", "10,10,10"), ("sub/../s0.nii.gz", "20,12,10"), ("s1.nii.gz", "10,10,10")):
        assert main(["similar", scan, "--click", click, "--cases", "kept", "--add", "bright"]) == 0
    first, second, other = (case.card for case in CaseLibrary(tmp_path / "kept").list())
    assert first.patient == second.patient == str((tmp_path / "s0.nii.gz").resolve())
    assert other.patient != first.patient
    assert first.paths == second.paths


def test_a_stored_case_without_a_patient_is_its_scans_owners(tmp_path, lesion) -> None:
    library = CaseLibrary(tmp_path / "cases")
    for seed in range(2):
        library.add(lesion(seed=seed), "bright", paths=["/scans/a.nii.gz"])
    library.add(lesion(seed=3), "bright", paths=["/scans/b.nii.gz"])
    library.add(lesion(seed=4), "bright")
    patients = [case.subject().patient for case in library.list()]
    assert patients[0] == patients[1] != patients[2]
    assert patients[3] == ""


def test_owners_are_files_and_never_folders(tmp_path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"")
    assert owners("P1", [tmp_path / "scan.nii", tmp_path]) == ("P1", str((tmp_path / "scan.nii").resolve()))
    assert owners("", [tmp_path / "absent.nii"]) == ()


def test_marks_name_nobody(lesion) -> None:
    subject = lesion(patient="Jane Doe")
    assert owners_of(subject) == ("Jane Doe",)
    assert "Jane" not in patient_mark("Jane Doe")
    assert patient_mark("Jane Doe") != patient_mark("Jane Roe")
    assert case_mark(np.zeros(3, np.float32)) != case_mark(np.ones(3, np.float32))


def test_other_cases_of_a_learned_patient_are_known_by_any_of_their_names() -> None:
    learned = Learned(["case sha256 a"])
    marks = [f"case sha256 {each}" for each in "cbad"]
    names = [["file 2", "hash"], ["P1", "file 2"], ["P1"], ["P2"]]
    assert [learned.holds(m, n) for m, n in zip(marks, names, strict=True)] == [False, False, True, False]
    learned.note(marks, names)
    assert [learned.holds(m, n) for m, n in zip(marks, names, strict=True)] == [True, True, True, False]
    assert Learned([patient_mark("P2")]).holds("case sha256 d", ["P2"])


def test_an_exported_card_does_not_tell_which_patients_were_there():
    data = ["2 lesions of 'a'", case_mark(np.zeros(3, np.float32)), patient_mark("Doe, Jane")]
    assert Card(name="a", data=data).for_others().data == data[:2]


def test_an_exported_card_does_not_name_pinned_scans():
    pinned, kept = {"'Doe, Jane' with one click": 0.8}, {"one_click": 0.7}
    sentence = "Dice on your corrections 0.10 -> 0.10, but the pinned case 'Doe, Jane' with one click got worse"
    gate = {"adopted": False, "sentence": sentence, "before": kept | {"pinned": pinned}, "after": kept}
    card = Card(name="a", figures=kept | {"pinned": pinned, "cases": 3}, gate=gate).for_others()
    assert card.figures == kept | {"cases": 3}
    assert card.gate == {"adopted": False, "before": kept, "after": kept}
    better = {"adopted": True, "sentence": "Dice on your corrections 0.10 -> 0.90, nothing forgotten"}
    assert Card(name="a", gate=better).for_others().gate == better
