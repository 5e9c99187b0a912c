"""Masks in and out in a real window: opened as napari opens files, placed on their scan, saved for others."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from napari_medseg.imaging.dicom import read_series
from napari_medseg.imaging.dicom.rtstruct import read_rtstruct
from napari_medseg.imaging.files import read_label_map, write_label_map
from napari_medseg.imaging.volume import LabelMap

PLUGIN = "napari-medseg"


@pytest.fixture
def study(shared_data: Path) -> Path:
    return shared_data / "dicom" / "STS_042"


def offer(window, modality: str):
    return next(each for each in window.session.offers if each.modality == modality)


def test_from_a_folder_of_series_to_a_deidentified_rtstruct(window, study, tmp_path) -> None:
    window.viewer.open(study, plugin=PLUGIN)
    window.wait(lambda: len(window.session.offers) == 3)
    assert window.session.volume is None
    for modality in ("MR", "CT"):
        window.dock.services.opening.open_offer(offer(window, modality))
        window.wait(lambda modality=modality: window.session.volume is not None and window.session.busy is None)
        assert window.session.volume.modality == modality
    window.dock.services.opening.choose(window.dock.services.opening.scans[0])
    window.viewer.open(study / "CT" / "mask" / "RS.dcm", plugin=PLUGIN)
    window.wait(lambda: bool(window.session.lesions))
    assert window.session.volume.modality == "CT", "contours go to the scan that they name"
    labels = window.labels.copy()
    path = tmp_path / "rs.dcm"
    window.dock.services.exporting.export(path, key="rtstruct", deidentified=True)
    window.settled()
    assert window.session.message == f"Saved, verified: {path}"
    assert np.array_equal(read_rtstruct(path, window.session.volume).data, labels)
    source = pydicom.dcmread(next((study / "CT" / "image").iterdir()), stop_before_pixels=True)
    raw = path.read_bytes()
    for value in (source.PatientID, source.StudyInstanceUID, source.SeriesInstanceUID, source.FrameOfReferenceUID):
        assert str(value).encode() not in raw


def test_a_seg_opened_by_napari_becomes_lesions_on_the_whole_grid(window, study, tmp_path) -> None:
    (volume,) = read_series(study / "CT" / "image")
    data = np.zeros(volume.data.shape, np.uint8)
    data[20:24, 50:80, 60:90], data[30, 20:30, 20:40] = 1, 2
    mask = LabelMap(data, volume.affine, {1: "Sarcoma", 2: "Node"}, volume.grid, metadata=volume.metadata)
    path = write_label_map(tmp_path / "seg.dcm", mask)
    window.open(study / "CT" / "image")
    window.viewer.open(path, plugin=PLUGIN)
    window.wait(lambda: len(window.session.lesions) == 2)
    assert np.array_equal(window.labels, data)
    assert [lesion.name for lesion in window.session.lesions] == ["Sarcoma", "Node"]
    assert [layer.name for layer in window.viewer.layers if layer._type_string == "labels"] == ["Lesions"]
    window.dock.services.exporting.export(tmp_path / "again.dcm", key="dicom-seg")
    window.settled()
    assert np.array_equal(read_label_map(tmp_path / "again.dcm").data, data)
    window.open(study / "PET" / "image")
    window.viewer.open(path, plugin=PLUGIN)
    window.wait(lambda: "taken over" in window.session.message)
    assert window.session.volume.modality == "CT"


def test_scan_and_mask_dropped_together(window, scan) -> None:
    image = nib.load(scan)
    mask = np.zeros(image.shape, np.uint8)
    mask[20:30, 10:20, 5:9] = 3
    nib.save(nib.Nifti1Image(mask, image.affine), scan.with_name("lesion_mask.nii.gz"))
    window.viewer.open([scan, scan.with_name("lesion_mask.nii.gz")], plugin=PLUGIN, stack=False)
    window.wait(lambda: bool(window.session.lesions))
    assert [lesion.label for lesion in window.session.lesions] == [3]
    assert window.session.work.labels.n_voxels[3] == 400
    assert sum(layer._type_string == "labels" for layer in window.viewer.layers) == 1


def test_a_mask_of_another_grid_waits_for_an_answer(window, scan) -> None:
    window.open(scan)
    image = nib.load(scan)
    mask = np.zeros((30, 22, 16), np.uint8)
    mask[8:18, 4:14, 4:12] = 1
    path = scan.with_name("coarse_mask.nii.gz")
    nib.save(nib.Nifti1Image(mask, image.affine @ np.diag([2, 2, 1, 1])), path)
    window.viewer.open(path, plugin=PLUGIN)
    window.wait(lambda: window.session.misfit is not None)
    assert not window.labels.any()
    assert sum(layer._type_string == "labels" for layer in window.viewer.layers) == 1
    window.press("Nearest")
    window.wait(lambda: bool(window.session.lesions))
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert np.count_nonzero(window.labels) * voxel_ml == pytest.approx(mask.sum() * 4 * voxel_ml, rel=0.02)


def test_a_mask_layer_that_was_there_before_the_dock_is_taken_over(make_napari_viewer, qtbot, model, scan) -> None:
    viewer = make_napari_viewer()
    image = nib.load(scan)
    mask = np.zeros(image.shape, np.uint8)
    mask[20:30, 10:20, 5:9] = 1
    nib.save(nib.Nifti1Image(mask, image.affine), scan.with_name("lesion_mask.nii.gz"))
    for path in (scan, scan.with_name("lesion_mask.nii.gz")):
        viewer.open(path, plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == ["ct", "lesion_mask"]
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "MedSeg")
    qtbot.waitUntil(lambda: bool(dock.session.lesions), timeout=20_000)
    assert [layer.name for layer in viewer.layers] == ["ct", "Lesions"]
    assert dock.session.work.labels.n_voxels[1] == 400
