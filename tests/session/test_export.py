"""Export on the scan's own grid, read back and compared."""

import json

import nibabel as nib
import numpy as np
import pytest

from napari_medseg.imaging.files import read_label_map
from napari_medseg.imaging.orientation import same_grid
from napari_medseg.session.services import build

# An oblique, flipped grid with unequal axes: no swap or flip can pass.
AFFINE = np.array([[-0.8, 0.05, 0.3, 40], [0.04, 0.95, -0.2, -30], [0.1, 0.06, 2.9, 12], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "ct.nii.gz"
    data = np.random.default_rng(2).integers(-500, 500, (14, 10, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


@pytest.fixture
def services(scan, model):
    made = build()
    made.session.model = model
    made.opening.open(scan)
    made.segmenting.click(tuple(made.session.volume.position_of((3, 5, 6))))
    made.session.work.labels.data[0, 0, 0] = 5
    made.correcting.take_stroke()
    return made


ENDINGS = {
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "seg-nrrd": ".seg.nrrd",
    "metaimage": ".mha",
    "stl": ".stl",
    "obj": ".obj",
}


@pytest.mark.parametrize("key", ENDINGS)
def test_every_format_is_saved_and_verified(services, key, tmp_path):
    path = services.exporting.suggested_path(key)
    assert path == tmp_path / f"ct_lesions{ENDINGS[key]}"
    services.exporting.export(path, key=key)
    assert services.session.message == f"Saved, verified: {path}"
    assert services.session.saved.path == path
    assert services.session.saved.summary is None


def test_the_mask_lies_on_the_scans_own_grid(services, scan):
    path = services.exporting.suggested_path()
    services.exporting.export(path)
    saved, source = nib.load(path), nib.load(scan)
    assert saved.shape == source.shape
    assert np.allclose(saved.affine, source.affine, atol=1e-6)
    volume, shown = services.session.volume, services.session.work.labels.data
    on_disk = np.asarray(saved.dataobj)
    assert sorted(np.unique(on_disk)) == [0, 1, 5]
    for index in [*np.argwhere(shown == 1)[::7], np.array([0, 0, 0])]:
        ijk = np.rint(np.linalg.solve(saved.affine, [*volume.position_of(index), 1])[:3]).astype(int)
        assert on_disk[tuple(ijk)] == shown[tuple(index)]


def test_a_second_export_gets_a_new_name(services):
    services.exporting.export(services.exporting.suggested_path())
    assert services.exporting.suggested_path().name == "ct_lesions_2.nii.gz"


def test_the_summary_names_labels_volumes_and_model(services, tmp_path):
    services.table.rename(1, "met")
    services.exporting.export(tmp_path / "out.nii.gz", summary=True)
    about = json.loads((tmp_path / "out.json").read_text())
    assert services.session.saved.summary == tmp_path / "out.json"
    assert about["mask"] == "out.nii.gz"
    assert [row["name"] for row in about["labels"]] == ["met", "Lesion 5"]
    n_voxels = int((services.session.work.labels.data == 1).sum())
    voxel_ml = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    assert about["labels"][0]["voxels"] == n_voxels
    assert about["labels"][0]["volume_ml"] == pytest.approx(n_voxels * voxel_ml, abs=1e-4)
    ball = np.sort(services.session.volume.data[services.session.work.labels.data == 1])
    for key, value in {"mean": ball.mean(), "sd": ball.std(), "min": ball[0], "max": ball[-1]}.items():
        assert about["labels"][0][key] == pytest.approx(value, rel=1e-5), key
    # One voxel: from edge to edge, along the steps of the array's two axes in the slice.
    one = sorted(np.linalg.norm(AFFINE[:3, :2], axis=0))
    assert about["labels"][1]["long_axis_mm"] == pytest.approx(one[1], rel=1e-4)
    assert about["labels"][1]["short_axis_mm"] <= one[0] * 1.01
    assert about["model"] == {"name": "ball", "version": 1, "sha256": None}


def test_an_empty_label_has_no_measures(services, tmp_path):
    services.segmenting.new_lesion()
    services.exporting.export(tmp_path / "out.nii.gz", summary=True)
    empty = json.loads((tmp_path / "out.json").read_text())["labels"][2]
    assert (empty["voxels"], empty["volume_ml"]) == (0, 0)
    assert {empty[key] for key in ("long_axis_mm", "short_axis_mm", "mean", "sd", "min", "max")} == {None}


def test_dicom_is_offered_for_dicom_scans_only(services):
    formats = services.exporting.formats()
    assert next(iter(formats)) == "nifti"
    assert [key for key, refusal in formats.items() if refusal] == ["dicom-seg", "rtstruct"]
    assert "not opened from DICOM" in formats["rtstruct"]


def test_a_changed_scan_is_asked_about_first(services, scan, tmp_path):
    scan.write_bytes(scan.read_bytes()[:-1] + b"\0")
    path = tmp_path / "out.nii.gz"
    services.exporting.export(path)
    assert not path.exists()
    assert services.session.question.startswith("The scan's file was changed")
    services.exporting.export(path, despite_change=True)
    assert services.session.question == ""
    assert services.session.saved.path == path


def test_the_scan_itself_is_never_written_over(services, scan, tmp_path):
    before = scan.read_bytes()
    link = tmp_path / "link.nii.gz"
    link.symlink_to(scan)
    for path in (scan, link):
        services.exporting.export(path, replace=True, despite_change=True)
        assert services.session.message == f"{path.name} is the scan itself and stays as it is: choose another name"
        assert services.session.saved is None
    assert scan.read_bytes() == before


def test_a_file_of_somebody_else_is_asked_about_first(services, tmp_path):
    path, beside = tmp_path / "theirs.nii.gz", tmp_path / "theirs.json"
    path.write_bytes(b"a mask")
    beside.write_bytes(b"{}")
    services.exporting.export(path, summary=True)
    assert services.session.question == "theirs.nii.gz and theirs.json are there already. Replace them?"
    assert (path.read_bytes(), beside.read_bytes()) == (b"a mask", b"{}")
    services.exporting.export_anyway()
    assert services.session.question == ""
    assert services.session.saved.path == path
    assert nib.load(path).shape
    services.exporting.export(path, summary=True)
    assert services.session.question == "", "what this session wrote it may write again"


def test_two_questions_are_asked_one_after_the_other(services, scan, tmp_path):
    path = tmp_path / "theirs.nii.gz"
    path.write_bytes(b"a mask")
    scan.write_bytes(scan.read_bytes()[:-1] + b"\0")
    services.exporting.export(path)
    assert "Replace it?" in services.session.question
    services.exporting.export_anyway()
    assert services.session.question.startswith("The scan's file was changed")
    assert path.read_bytes() == b"a mask"
    services.exporting.export_anyway()
    assert services.session.saved.path == path


def test_what_cannot_be_saved_is_one_sentence(services, tmp_path):
    for path in (tmp_path / "missing" / "out.nii.gz", tmp_path / "out.txt"):
        services.exporting.export(path)
        assert path.name.split(".")[0] in services.session.message or "missing" in services.session.message
        assert services.session.saved is None
        assert not services.failures.seen


def test_nothing_to_export_is_said(services):
    services.table.delete(1)
    services.table.delete(5)
    services.exporting.export(services.exporting.suggested_path())
    assert services.session.message.startswith("There is nothing to export yet")


def test_a_dicom_scan_is_exported_as_dicom_seg(shared_data, tmp_path, model):
    services = build()
    services.session.model = model
    services.opening.open(shared_data / "dicom" / "STS_042" / "CT" / "image")
    assert not any(services.exporting.formats().values())
    model.radius_mm = 20.0
    services.segmenting.click(tuple(services.session.volume.position_of((24, 80, 60))))
    path = tmp_path / "seg.dcm"
    services.exporting.export(path)
    assert services.session.message == f"Saved, verified: {path}"
    found = read_label_map(path)
    assert np.array_equal(found.data, services.session.work.labels.data)
    assert same_grid(found, services.session.volume)
    rtstruct = services.exporting.suggested_path("rtstruct")
    assert rtstruct.name.endswith("_lesions_rtstruct.dcm")
    services.exporting.export(tmp_path / "rs.dcm", key="rtstruct", deidentified=True)
    assert services.session.message == f"Saved, verified: {tmp_path / 'rs.dcm'}"
    services.opening.open(path)
    assert services.session.misfit is None
    assert "voxel for voxel" in services.session.message
    services.opening.open(tmp_path / "rs.dcm")
    assert services.session.message.startswith("rs.dcm holds contours"), "it refers to a de-identified copy of the scan"


def test_a_deidentified_name_does_not_repeat_the_scans(services):
    path = services.exporting.suggested_path("dicom-seg", deidentified=True)
    assert path.name == "deidentified_lesions.dcm"
