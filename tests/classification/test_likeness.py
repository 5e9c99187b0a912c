"""How alike two lesions look, in terms of what different lesions reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_medseg.classification import CaseLibrary, Subject, find_similar, load_matcher
from napari_medseg.classification.likeness import SHARES, in_percent, likeness_of, reference_of
from napari_medseg.imaging.files import read_label_map, read_volume


def test_pairs_of_one_patient_are_no_pairs_of_different_lesions() -> None:
    same, other = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    reference = reference_of(np.stack([same, same, other]), ["P1", "P1", "P2"])
    assert [share for share, _ in reference] == list(SHARES)
    assert {cosine for _, cosine in reference} == {0.0}, "the cosine of 1 is of one patient's"
    assert reference_of(np.stack([same, same]), ["P1", "P1"]) == ()


def test_likeness_is_the_share_of_pairs_that_are_less_alike() -> None:
    drawn = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    reference = reference_of(unit, [str(k) for k in range(60)])
    cosines = (unit @ unit.T)[np.triu_indices(60, 1)]
    for wanted in (0.25, 0.6, 0.93):
        at = np.quantile(cosines, wanted)
        assert likeness_of(at, reference) == pytest.approx(wanted, abs=0.02)
    assert likeness_of(np.array([-1.0, 1.0]), reference).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("likeness", "said"),
    [(0.0, "0 %"), (0.978, "97 %"), (0.994, "99 %"), (0.996, "> 99 %"), (1.0, "> 99 %"), (None, "–")],
)
def test_a_likeness_is_never_rounded_up_to_a_hundred(likeness: float | None, said: str) -> None:
    assert in_percent(likeness) == said


def test_lesions_that_are_akin_are_shown_as_alike_by_the_bundled_network(shared_data: Path, tmp_path: Path) -> None:
    """The nearest of a few nodules of other patients: seldom the same lesion, and yet more alike than most."""
    matcher, library = load_matcher(), CaseLibrary(tmp_path)
    names = sorted({path.name.split("_image")[0] for path in (shared_data / "lung_nodules").glob("*_image.nii.gz")})
    people = {name.split("_")[0]: name for name in names}
    subjects = [
        Subject.lesion(*(reader(shared_data / "lung_nodules" / f"{name}_{what}.nii.gz") for reader, what in READERS))
        for name in list(people.values())[:9]
    ]
    for subject in subjects[1:]:
        library.add(subject, "nodule")
    found = find_similar(matcher, library, subjects[0], n=8)
    likeness = [one.likeness for one in found]
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > 0.8
    assert found[0].similarity < likeness[0]
    assert likeness[-1] < 0.6, "not every nodule is like every other"
    own = find_similar(matcher, library, subjects[1], n=1)[0]
    assert own.likeness == pytest.approx(1.0, abs=1e-3)
    assert own.similarity > 0.99


READERS = ((read_volume, "image"), (read_label_map, "mask"))
