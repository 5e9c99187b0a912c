"""Written SEG and RTSTRUCT objects of real and made scans: valid, the same voxels for others, nobody's name in them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_phantom import DX, MR, PET, asymmetric_voxels, ct_slices, image_header, save, save_slices, set_pixels

from napari_medseg.errors import ImagingError
from napari_medseg.imaging import dicom
from napari_medseg.imaging.files import read_label_map, write_label_map
from napari_medseg.imaging.volume import LabelMap, Volume

OBLIQUE = (0.921061, 0.389418, 0.0, -0.372026, 0.879924, 0.29552)
SECRETS = ("Smith", "PID-77", "19510203", "20240101", "ACC-5", "Saint Nowhere", "Referrer")


def projection(folder: Path, *, has_spacing: bool = True) -> Volume:
    ds = image_header(DX, "DX")
    set_pixels(ds, asymmetric_voxels((1, 12, 14))[0])
    if has_spacing:
        ds.PixelSpacing = [0.3, 0.2]
    (volume,) = dicom.read_series(save(folder / "x.dcm", ds))
    return volume


def stack(folder: Path, modality: str = "CT", **about: str) -> Volume:
    kinds = {"MR": {"sop_class": MR}, "PT": {"sop_class": PET}}.get(modality, {})
    slices = ct_slices(asymmetric_voxels((7, 12, 14)), orientation=OBLIQUE, modality=modality, **kinds)
    for ds in slices:
        for keyword, value in about.items():
            setattr(ds, keyword, value)
    (volume,) = dicom.read_series(save_slices(folder, slices))
    return volume


def mask_on(volume: Volume) -> LabelMap:
    """Three lesions, the last with a hole, on slices with gaps between them."""
    data = np.zeros(volume.data.shape, np.uint8)
    z, y, x = volume.data.shape
    data[z // 3 : z // 2 + 1, y // 4 : y // 2, x // 5 : x // 2] = 1
    data[z // 2, y // 4 : y // 3, x // 2 : x // 2 + 3] = 2
    data[-1, -6:-1, -7:-1] = 5
    data[-1, -4:-3, -5:-3] = 0
    names = {1: "Lesion", 2: "Liver metastasis", 5: "left lung nodule"}
    return LabelMap(data, volume.affine, names, volume.grid, metadata=volume.metadata)


def checked(path: Path) -> str:
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("needs dciodvfy of the Debian package dicom3tools")
    return subprocess.run([checker, str(path)], capture_output=True, text=True).stderr


@pytest.mark.parametrize("deidentified", [False, True])
@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "DX", "DX without spacing"])
def test_dciodvfy_finds_no_error(tmp_path: Path, modality: str, deidentified: bool) -> None:
    is_flat = modality.startswith("DX")
    volume = projection(tmp_path, has_spacing=modality == "DX") if is_flat else stack(tmp_path / "scan", modality)
    for key in ("dicom-seg",) if is_flat else ("dicom-seg", "rtstruct"):
        path = write_label_map(tmp_path / "m.dcm", mask_on(volume), format=key, deidentified=deidentified)
        said = checked(path)
        assert "Segmentation" in said or "RTStructureSet" in said
        assert "Error" not in said


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_masks_of_real_scans_are_valid_and_come_back(shared_data: Path, tmp_path: Path, modality: str) -> None:
    (volume,) = dicom.read_series(shared_data / "dicom" / "STS_042" / modality / "image")
    mask = mask_on(volume)
    seg = write_label_map(tmp_path / "seg.dcm", mask)
    rtstruct = write_label_map(tmp_path / "rs.dcm", mask, format="rtstruct")
    assert np.array_equal(read_label_map(seg).data, mask.data)
    for path in (seg, rtstruct):
        assert "Error" not in checked(path)


def voxels_by_position(path: Path) -> dict[tuple[float, ...], int]:
    """Marked voxels of a binary SEG by their rounded LPS position, parsed with pydicom and numpy alone."""
    ds = pydicom.dcmread(path)
    shape = (ds.NumberOfFrames, ds.Rows, ds.Columns)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")[: np.prod(shape)].reshape(shape)
    shared = ds.SharedFunctionalGroupsSequence[0]
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    found = {}
    for frame, item in zip(bits, ds.PerFrameFunctionalGroupsSequence, strict=True):
        first = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        segment = int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for row, column in np.argwhere(frame):
            place = first + column * column_mm * cosines[0] + row * row_mm * cosines[1]
            found[tuple(np.round(place, 2) + 0.0)] = segment
    return found


def test_an_independent_parser_finds_the_same_voxels(tmp_path: Path) -> None:
    mask = mask_on(stack(tmp_path / "scan"))
    path = write_label_map(tmp_path / "seg.dcm", mask)
    found = voxels_by_position(path)
    segment_of = {1: 1, 2: 2, 5: 3}
    index = np.argwhere(mask.data > 0)
    assert len(found) == len(index)
    for at in index:
        place = mask.position_of(at) * [-1, -1, 1]
        near = min(found, key=lambda known, place=place: float(np.abs(np.array(known) - place).max()))
        assert np.abs(np.array(near) - place).max() < 0.02
        assert found[near] == segment_of[int(mask.data[tuple(at)])]
    ds = highdicom.seg.segread(path)
    assert [ds.get_segment_description(n).segment_label for n in (1, 2, 3)] == list(mask.names.values())
    assert ds.get_segment_description(2).segmented_property_type.meaning == "Neoplasm, Secondary"


@pytest.mark.parametrize("key", ["dicom-seg", "rtstruct"])
def test_identity_stays_by_design_and_goes_when_asked(tmp_path: Path, key: str) -> None:
    volume = stack(
        tmp_path / "scan",
        PatientName="Smith^Jane",
        PatientID="PID-77",
        PatientBirthDate="19510203",
        AccessionNumber="ACC-5",
        InstitutionName="Saint Nowhere",
        ReferringPhysicianName="Referrer^R",
        StudyDescription="Smith follow-up",
        PatientComments="called Smith",
        ClinicalTrialSubjectID="PID-77",
    )
    mask = mask_on(volume)
    kept = pydicom.dcmread(write_label_map(tmp_path / "kept.dcm", mask, format=key))
    assert (kept.PatientName, kept.PatientID, kept.AccessionNumber) == ("Smith^Jane", "PID-77", "ACC-5")
    source = dicom.dicom_source(volume.metadata)
    assert source is not None
    assert kept.StudyInstanceUID == source.study_uid

    path = write_label_map(tmp_path / "gone.dcm", mask, format=key, deidentified=True)
    raw = path.read_bytes()
    uids = {source.series_uid, source.study_uid, source.frame_of_reference_uid}
    uids |= {plane.sop_instance_uid for plane in source.planes if plane is not None}
    today = kept.InstanceCreationDate if "InstanceCreationDate" in kept else kept.ContentDate
    for secret in (*SECRETS, *uids, str(today)):
        assert secret.encode() not in raw, secret
    gone = pydicom.dcmread(path)
    assert gone.PatientIdentityRemoved == "YES"
    assert all(gone[keyword].value.startswith("2.25.") for keyword in ("StudyInstanceUID", "SOPInstanceUID"))


def test_fresh_uids_are_the_same_here_and_others_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = mask_on(stack(tmp_path / "scan"))
    seg = pydicom.dcmread(write_label_map(tmp_path / "seg.dcm", mask, deidentified=True))
    contours = pydicom.dcmread(write_label_map(tmp_path / "rs.dcm", mask, format="rtstruct", deidentified=True))
    assert seg.FrameOfReferenceUID == contours.FrameOfReferenceUID
    assert seg.StudyInstanceUID == contours.StudyInstanceUID
    assert seg.SOPInstanceUID != contours.SOPInstanceUID
    monkeypatch.setenv("NAPARI_MEDSEG_HOME", str(tmp_path / "another_computer"))
    other = pydicom.dcmread(write_label_map(tmp_path / "seg2.dcm", mask, deidentified=True))
    assert other.FrameOfReferenceUID != seg.FrameOfReferenceUID
    assert (tmp_path / "another_computer" / "deidentification.key").stat().st_mode & 0o077 == 0


def test_a_mask_of_no_dicom_scan_is_refused(tmp_path: Path) -> None:
    mask = replace(mask_on(stack(tmp_path / "scan")), metadata={})
    for key in ("dicom-seg", "rtstruct"):
        with pytest.raises(ImagingError, match="not opened from a DICOM series"):
            write_label_map(tmp_path / "m.dcm", mask, format=key)
