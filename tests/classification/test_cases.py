"""The user's own library of cases, tables of cases, and 'Find similar'."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from class_phantom import SHAPE

from napari_medseg.classification import CaseLibrary, Matcher, Subject, find_similar
from napari_medseg.classification.matcher import view_extent_mm
from napari_medseg.classification.table import read_table
from napari_medseg.errors import ModelError
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.siamese import SiameseNetwork


@pytest.fixture
def matcher() -> Matcher:
    torch.manual_seed(0)
    network = SiameseNetwork(widths=(8, 8, 16, 16), n_embedding=8).eval()
    looks_at = ClassifierInput(task="lesion", size=32, extent_mm=40.0)
    return Matcher(Checkpoint(network, Card(name="siamese", architecture="siamese", looks_at=looks_at)))


@pytest.fixture
def library(tmp_path: Path) -> CaseLibrary:
    return CaseLibrary(tmp_path / "cases")


def test_cases_are_kept_with_class_place_and_picture(library, lesion, image, study) -> None:
    assert library.list() == ()
    assert library.counts() == {}
    first = library.add(lesion(patient="P1"), "bright", paths=["/scans/a.nii.gz"])
    library.add(image(), "bright")
    library.add(study(), " dark ")
    assert [case.card.task for case in library.list()] == ["lesion", "image", "study"]
    assert library.counts() == {"bright": 2, "dark": 1}
    assert library.counts(task="lesion") == {"bright": 1, "dark": 0}
    again = library.list(task="lesion")[0]
    assert again.id == first.id == "case-0001"
    assert again.card.paths == ["/scans/a.nii.gz"]
    assert again.card.patient == "P1"
    assert again.card.diameter_mm == pytest.approx(13.0, abs=2.0)
    assert again.card.volume_ml == pytest.approx(4 / 3 * np.pi * 6**3 / 1000, rel=0.15)
    assert again.thumbnail().std() > 5
    subject = again.subject()
    assert subject.marked().sum() == lesion().marked().sum()
    assert np.allclose(subject.scans[0].position_of(subject.centre()), again.card.position_mm)


def test_classes_are_declared_changed_and_taken_away(library, lesion) -> None:
    library.declare(["malignant", "benign"])
    case = library.add(lesion())
    assert library.counts() == {"malignant": 0, "benign": 0}
    library.relabel(case.id, "benign")
    assert library.counts() == {"malignant": 0, "benign": 1}
    library.relabel(case.id, "cyst")
    assert library.classes() == ("malignant", "benign", "cyst")
    library.remove(case.id)
    assert library.list() == ()
    with pytest.raises(ModelError, match="there is no case 'case-0001'"):
        library.remove(case.id)


def test_the_number_of_a_removed_case_is_not_given_again(library, lesion) -> None:
    library.remove(library.add(lesion(), "a").id)
    assert library.add(lesion(), "b").id == "case-0002"
    library.remove("case-0002")
    assert CaseLibrary(library.root).add(lesion(), "c").id == "case-0003"
    assert [case.card.class_name for case in library.list()] == ["c"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_cases_in_a_shared_folder_can_be_read_by_colleagues(library, lesion) -> None:
    before = os.umask(0o027)
    try:
        folder = library.add(lesion()).folder
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_a_damaged_case_is_left_out_or_said(library, lesion) -> None:
    kept, broken = library.add(lesion(), "a"), library.add(lesion(), "b")
    (kept.folder / "arrays.safetensors").write_bytes(b"nothing")
    (broken.folder / "case.json").write_text("{")
    assert [case.id for case in library.list()] == [kept.id]
    with pytest.raises(ModelError, match=r"case-0001 in .* is damaged: remove it"):
        library.list()[0].subject()


def test_similar_lesions_are_found_nearest_first(library, matcher, lesion) -> None:
    same = library.add(lesion("bright", seed=1), "bright")
    library.add(lesion("dark", seed=2), "dark")
    near = library.add(lesion("bright", seed=3), "bright")
    found = find_similar(matcher, library, lesion("bright", seed=1), n=2)
    assert found[0].case.id == same.id
    assert 1.0 >= found[0].similarity >= found[1].similarity >= 0.0
    assert found[1].case.id == near.id
    assert Path(str(found[0].as_json()["thumbnail"])).is_file()
    without = find_similar(matcher, library, lesion("bright", seed=1), without=[same.id])
    assert same.id not in [one.case.id for one in without]
    assert found[0].likeness is None, "this network's card does not say what different lesions reach"
    matcher.card.other_lesions = ((0.0, -1.0), (1.0, 1.0))
    again = find_similar(matcher, library, lesion("bright", seed=1), n=2)
    assert [one.case.id for one in again] == [one.case.id for one in found]
    assert again[0].as_json()["likeness"] == 1.0
    assert 1.0 >= again[0].likeness > again[1].likeness >= 0.0


def test_a_second_search_reads_embeddings_that_are_kept(library, matcher, lesion, monkeypatch) -> None:
    library.add(lesion("dark"), "dark")
    find_similar(matcher, library, lesion())
    monkeypatch.setattr("napari_medseg.classification.cases.StoredCase.subject", None)
    assert len(find_similar(matcher, library, lesion())) == 1


def test_an_empty_library_says_what_to_do(library, matcher, lesion) -> None:
    with pytest.raises(ModelError, match="holds no other lesion yet: label lesions"):
        find_similar(matcher, library, lesion())


def test_a_lesion_is_compared_at_its_own_size_or_at_one_that_is_known(matcher, lesion) -> None:
    marked = lesion()
    clicked = Subject.at(marked.scans[0], tuple(marked.scans[0].position_of(marked.centre())))
    known = marked.diameter_mm()
    assert view_extent_mm(5.0) == 24.0
    near = matcher.embed(clicked, diameter_mm=known) @ matcher.embed(marked)
    far = matcher.embed(clicked) @ matcher.embed(marked)
    assert near > far
    assert matcher.similarity(matcher.embed(marked), matcher.embed(marked)) > 0.5
    assert matcher.embed_all([marked, clicked]).shape == (2, 8)


def _save(path: Path, data: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 1.2, 2.5, 1.0])), path)
    return path.name


def test_a_table_names_scans_masks_and_classes(tmp_path, lesion) -> None:
    subject = lesion()
    scan = _save(tmp_path / "a.nii.gz", subject.scans[0].data.T)
    mask = _save(tmp_path / "m.nii.gz", subject.marked().T.astype(np.uint8))
    table = tmp_path / "cases.csv"
    table.write_text(f"scan,mask,label,class,patient\n{scan},{mask},1,bright,P1\n{scan};{scan},,,dark,P2\n")
    rows = read_table(table)
    assert [row.class_name for row in rows] == ["bright", "dark"]
    assert rows[0].subject().marked().sum() == subject.marked().sum()
    assert rows[0].subject().scans[0].data.shape == SHAPE
    assert len(rows[1].subject().scans) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,class\na,b\n", "no column 'scan'"),
        ("scan,label\na.nii,one\n", "line 2 of .* holds something that is no number"),
        ("scan,position_mm\na.nii,1;2\n", "line 2 of .*: a position is x;y;z in mm"),
        ("scan,class\n,b\n", "line 2 of .* names no scan"),
    ],
)
def test_a_wrong_table_is_refused_by_its_line(tmp_path, text, says) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ModelError, match=says):
        read_table(tmp_path / "t.csv")
    with pytest.raises(ModelError, match="cannot be read as a table"):
        read_table(tmp_path / "absent.csv")


def test_a_number_that_is_given_again_is_another_case(library, matcher, lesion) -> None:
    library.add(lesion("dark"), "dark")
    far = find_similar(matcher, library, lesion("bright", seed=1))[0].similarity
    shutil.rmtree(library.root / "case-0001")  # by hand: what is removed here keeps its number
    assert library.add(lesion("bright", seed=1), "bright").id == "case-0001"
    assert find_similar(matcher, library, lesion("bright", seed=1))[0].similarity > far


def test_lesions_of_2d_images_are_not_compared_with_those_of_volumes(library, matcher, lesion, image) -> None:
    flat = image().scans[0]
    library.add(Subject.at(flat, tuple(flat.position_of((0.0, 9.0, 9.0)))), "flat")
    with pytest.raises(ModelError, match="holds no other lesion yet"):
        find_similar(matcher, library, lesion())
    for k in (8.0, 10.0):
        library.add(Subject.at(flat, tuple(flat.position_of((0.0, 9.0, k)))), "flat")
    with pytest.raises(ModelError, match="'bright 0' is a single 2-D image: open a volume"):
        find_similar(matcher, library, Subject.at(flat, tuple(flat.position_of((0.0, 9.0, 9.0)))))
