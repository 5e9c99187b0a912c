"""Scans of one patient belong together; scans that only happen to lie at the same millimetres do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.imaging.dicom.source import DicomSource
from napari_medseg.imaging.volume import Volume
from napari_medseg.session.stage import belong_together, distinct_names, on_stage

AFFINE = np.array([[0, 0, -2.0, 10], [0, -2.0, 0, 20], [3.0, 0, 0, -5], [0, 0, 0, 1]])


def scan(path: str = "", *, shift_mm: float = 0.0, sides: bool = True, uids: tuple[str, str] | None = None) -> Volume:
    """A scan at a place, from a path; ``uids`` are study and frame of reference."""
    affine = AFFINE.copy()
    affine[0, 3] += shift_mm
    metadata = {} if uids is None else {"dicom": DicomSource("1.1", *uids, True, ())}
    file = Path(path) if path else None
    return Volume(np.zeros((6, 8, 10), np.int16), affine, path=file, sides_are_known=sides, metadata=metadata)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("/d/STS_042/CT_image.nii.gz", "/d/STS_042/PET_image.nii.gz", True),
        ("/d/STS_042/CT_image.nii.gz", "/d/STS_042/MR_T1_image.nii.gz", True),
        ("/d/STS_042/CT_image.nii.gz", "/d/STS_043/PET_image.nii.gz", False),
        ("/d/Smith/ct.nii", "/d/Jones/ct.nii", False),
        ("/d/hippocampus_001.nii.gz", "/d/hippocampus_002.nii.gz", False),
        ("/d/patient1_ct.nii.gz", "/d/patient2_pet.nii.gz", False),
        ("/d/patient1_ct.nii.gz", "/d/patient1_pet.nii.gz", True),
        ("/d/BRATS_001_0000.nii.gz", "/d/BRATS_001_0001.nii.gz", True),
        ("/d/BRATS_001_0000.nii.gz", "/d/BRATS_002_0000.nii.gz", False),
        ("/d/T1.nii", "/d/T2.nii", True),
        ("/d/p12/study1_FLAIR.nii.gz", "/d/p12/study2_FLAIR.nii.gz", True),
        ("/d/sub-01/anat/x.nii", "/d/sub-01/pet/x.nii", True),
        ("/d/sub-01/ses-1/x.nii", "/d/sub-01/ses-2/x.nii", True),
        ("/d/sub-01/x.nii", "/d/sub-02/x.nii", False),
        ("/d/a.nii", "", False),
        ("", "", True),
    ],
)
def test_paths_tell_patients_apart(a, b, expected):
    assert belong_together(scan(a), scan(b)) is expected
    assert belong_together(scan(b), scan(a)) is expected


def test_scans_that_do_not_overlap_or_do_not_know_their_sides_are_apart():
    ct = scan("/d/p/ct.nii")
    assert not belong_together(ct, scan("/d/p/pet.nii", shift_mm=19.9))
    assert belong_together(ct, scan("/d/p/pet.nii", shift_mm=15))
    assert not belong_together(ct, scan("/d/p/photo.tif", sides=False))


def test_dicom_says_itself_what_belongs_together():
    ct = scan("/d/1", uids=("study", "frame"))
    assert belong_together(ct, scan("/e/2", uids=("another", "frame"), shift_mm=500))
    assert belong_together(ct, scan("/e/2", uids=("study", "moved")))
    assert not belong_together(ct, scan("/d/1", uids=("another", "moved")))
    assert not belong_together(scan(uids=("", "")), scan(uids=("", "")))


def test_the_stage_holds_the_chosen_scan_and_what_belongs_to_it():
    ct, pet, other = scan("/d/p1/ct.nii"), scan("/d/p1/pet.nii"), scan("/d/p2/ct.nii")
    assert on_stage(ct, (ct, other, pet)) == (ct, pet)
    assert on_stage(other, (ct, other, pet)) == (other,)


def test_scans_of_one_name_are_called_by_their_folders_too():
    scans = [scan("/d/p1/ct.nii"), scan("/d/p2/ct.nii"), scan("/d/p2/pet.nii")]
    named = [replace(each, name=each.path.stem) for each in scans]
    assert distinct_names(named) == ["ct (p1)", "ct (p2)", "pet"]
