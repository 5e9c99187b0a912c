"""Masks as DICOM segmentations: the same voxels at the same place, and references that other programs understand."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_phantom import (
    DX,
    asymmetric_voxels,
    ct_slices,
    enhanced,
    image_header,
    save,
    save_slices,
    set_pixels,
    spoiled_copies,
)
from pydicom.dataset import Dataset

from napari_medseg.errors import ImagingError
from napari_medseg.imaging import dicom
from napari_medseg.imaging.dicom.codes import codes_of
from napari_medseg.imaging.dicom.seg import place_on, read_dicom_seg, write_dicom_seg
from napari_medseg.imaging.files import read_label_map, write_label_map
from napari_medseg.imaging.volume import LabelMap, Volume

OBLIQUE = (0.921061, 0.389418, 0.0, -0.372026, 0.879924, 0.29552)


def scan(folder: Path, **options: object) -> Volume:
    slices = ct_slices(asymmetric_voxels((7, 12, 14)), **options)  # type: ignore[arg-type]
    (volume,) = dicom.read_series(save_slices(folder, slices))
    return volume


def mask_on(volume: Volume, names: dict[int, str] | None = None) -> LabelMap:
    data = np.zeros(volume.data.shape, np.uint8)
    z, y, x = volume.data.shape
    data[z // 3 : z // 2 + 1, y // 4 : y // 2, x // 5 : x // 2] = 1
    data[z // 2, y // 4 : y // 3, x // 2 : x // 2 + 3] = 2
    return LabelMap(data, volume.affine, names or {1: "Lesion", 2: "Liver"}, volume.grid, metadata=volume.metadata)


def assert_same(read: LabelMap, written: LabelMap) -> None:
    assert read.data.dtype == written.data.dtype
    assert np.array_equal(read.data, written.data)
    assert np.allclose(read.affine, written.affine, atol=1e-4)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0), OBLIQUE]
)
def test_written_and_read_back_on_the_scans_grid(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    mask = mask_on(scan(tmp_path / "ct", orientation=orientation))
    path = write_dicom_seg(tmp_path / "mask.dcm", mask)
    read = read_dicom_seg(path)
    assert_same(read, mask)
    assert dict(read.names) == dict(mask.names)
    assert read.warnings == ()


def test_through_the_public_functions(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    path = write_label_map(tmp_path / "mask.dcm", mask)
    assert path == tmp_path / "mask.dcm"
    assert_same(read_label_map(path), mask)


def test_a_tilted_scan_and_an_enhanced_one(tmp_path: Path) -> None:
    slices = ct_slices(asymmetric_voxels((7, 12, 14)))
    for k, ds in enumerate(slices):
        ds.ImagePositionPatient[1] += 0.7 * k
    (tilted,) = dicom.read_series(save_slices(tmp_path / "tilted", slices))
    (frames,) = dicom.read_series(
        save(tmp_path / "e.dcm", enhanced(asymmetric_voxels((7, 12, 14)), orientation=OBLIQUE))
    )
    for volume in (tilted, frames):
        mask = mask_on(volume)
        assert_same(read_dicom_seg(write_dicom_seg(tmp_path / "mask.dcm", mask)), mask)


def test_it_refers_to_the_scan_and_carries_its_patient(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    path = write_dicom_seg(tmp_path / "mask.dcm", mask_on(volume))
    ds = pydicom.dcmread(path)
    source = dicom.dicom_source(volume.metadata)
    assert source is not None
    assert ds.PatientID == "P1"
    assert ds.StudyInstanceUID == source.study_uid
    assert ds.FrameOfReferenceUID == source.frame_of_reference_uid
    assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == source.series_uid
    for item in ds.PerFrameFunctionalGroupsSequence:
        image = item.DerivationImageSequence[0].SourceImageSequence[0]
        plane = next(p for p in source.planes if p and p.sop_instance_uid == image.ReferencedSOPInstanceUID)
        position = pydicom.dcmread(plane.path).ImagePositionPatient
        assert item.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(position)
    lesion, liver = ds.SegmentSequence
    assert lesion.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"


def test_highdicom_reads_the_same_voxels(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct", orientation=OBLIQUE))
    seg = highdicom.seg.segread(write_dicom_seg(tmp_path / "mask.dcm", mask))
    volume = seg.get_volume(combine_segments=True)
    ours = np.argwhere(mask.data > 0)
    for index in ours[::7]:
        lps = mask.position_of(index) * [-1, -1, 1]
        theirs = np.rint(volume.map_reference_to_indices(lps[None])[0]).astype(int)
        assert volume.array[tuple(theirs)] == mask.data[tuple(index)]
    assert np.count_nonzero(volume.array) == len(ours)


def test_labels_that_do_not_count_from_one_and_colours_come_back(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    data = mask.data.astype(np.uint16)
    data[data == 2] = 700
    colours = {1: (1.0, 0.2, 0.0), 700: (0.0, 0.5, 1.0)}
    metadata = MappingProxyType({**mask.metadata, "colours": colours})
    mask = replace(mask, data=data, names={1: "Nodule", 700: "left lung"}, metadata=metadata)
    read = read_dicom_seg(write_dicom_seg(tmp_path / "mask.dcm", mask))
    assert_same(read, mask)
    assert dict(read.names) == {1: "Nodule", 700: "left lung"}
    for label, colour in colours.items():
        assert read.metadata["colours"][label] == pytest.approx(colour, abs=0.01)


def test_deidentified_is_explicit_and_leaves_the_patient_out(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    mask = mask_on(volume)
    path = write_dicom_seg(tmp_path / "mask.dcm", mask, deidentified=True)
    raw = path.read_bytes()
    source = dicom.dicom_source(volume.metadata)
    assert source is not None
    uids = (source.study_uid, source.series_uid, source.frame_of_reference_uid, source.planes[0].sop_instance_uid)  # type: ignore[union-attr]
    for secret in ("Phantom^One", "P1\0", "P1 ", "19700101", "20240101", *uids):
        assert secret.encode() not in raw, secret
    ds = pydicom.dcmread(path)
    assert ds.PatientIdentityRemoved == "YES"
    assert_same(read_dicom_seg(path), mask)
    again = pydicom.dcmread(write_dicom_seg(tmp_path / "again.dcm", mask, deidentified=True))
    assert again.FrameOfReferenceUID == ds.FrameOfReferenceUID


def test_empty_frames_are_left_out_but_for_the_ends(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    ds = pydicom.dcmread(write_dicom_seg(tmp_path / "mask.dcm", mask))
    n_marked = sum(int((mask.data == label).any(axis=(1, 2)).sum()) for label in (1, 2))
    assert ds.NumberOfFrames == n_marked + 2
    assert np.count_nonzero(np.unpackbits(np.frombuffer(ds.PixelData, np.uint8))) == np.count_nonzero(mask.data)


def test_an_empty_mask_is_written_as_one(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    mask = replace(mask, data=np.zeros_like(mask.data), names={1: "Lesion"})
    assert_same(read_dicom_seg(write_dicom_seg(tmp_path / "mask.dcm", mask)), mask)


def test_a_projection_has_a_segmentation_too(tmp_path: Path) -> None:
    ds = image_header(DX, "DX")
    set_pixels(ds, asymmetric_voxels((1, 12, 14))[0])
    ds.PixelSpacing = [0.3, 0.2]
    (volume,) = dicom.read_series(save(tmp_path / "x.dcm", ds))
    data = np.zeros(volume.data.shape, np.uint8)
    data[0, 3:5, 6:9] = 1
    mask = LabelMap(data, volume.affine, {1: "Mass"}, volume.grid, metadata=volume.metadata)
    read = read_dicom_seg(write_dicom_seg(tmp_path / "mask.dcm", mask))
    assert np.array_equal(read.data, data)
    assert "no position in the patient" in read.warnings[0]


def test_a_mask_without_a_series_says_what_to_do(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    alone = replace(mask, metadata=MappingProxyType({}))
    with pytest.raises(ImagingError, match=r"not opened from a DICOM series; save it as \.nii\.gz"):
        write_label_map(tmp_path / "mask.dcm", alone)
    shutil.rmtree(tmp_path / "ct")
    with pytest.raises(ImagingError, match="cannot be opened any more"):
        write_dicom_seg(tmp_path / "mask.dcm", mask)
    assert not (tmp_path / "mask.dcm").exists()


def test_files_that_became_something_else_are_noticed(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    files = sorted((tmp_path / "ct").iterdir())
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(ImagingError, match="has changed since the scan was opened"):
        write_dicom_seg(tmp_path / "mask.dcm", mask)


def test_marks_on_a_missing_slice_are_refused(tmp_path: Path) -> None:
    slices = ct_slices(asymmetric_voxels((9, 12, 14)))
    (volume,) = dicom.read_series(save_slices(tmp_path / "ct", [ds for k, ds in enumerate(slices) if k != 4]))
    mask = mask_on(volume)
    mask.data[4] = 0
    assert_same(read_dicom_seg(write_dicom_seg(tmp_path / "good.dcm", mask)), mask)
    mask.data[4, 3, 3] = 1
    with pytest.raises(ImagingError, match="marks slice 5, which the DICOM series lacks"):
        write_dicom_seg(tmp_path / "bad.dcm", mask)


def test_an_anonymised_scan_without_uids_is_refused(tmp_path: Path) -> None:
    slices = ct_slices(asymmetric_voxels((7, 12, 14)))
    for ds in slices:
        ds.FrameOfReferenceUID = ""
    (volume,) = dicom.read_series(save_slices(tmp_path / "ct", slices))
    with pytest.raises(ImagingError, match="no FrameOfReferenceUID"):
        write_dicom_seg(tmp_path / "mask.dcm", mask_on(volume))


def other_segmentation(kind: str, pixels: np.ndarray, slices: list[Dataset], **options: object) -> Dataset:
    """A segmentation as other programs write it: empty frames left out."""
    descriptions = [
        highdicom.seg.SegmentDescription(
            n + 1,
            f"Part {n + 1}",
            highdicom.sr.CodedConcept("49755003", "SCT", "Morphologically Altered Structure"),
            highdicom.sr.CodedConcept("52988006", "SCT", "Lesion"),
            "MANUAL",
        )
        for n in range(2)
    ]
    return highdicom.seg.Segmentation(
        slices, pixels, kind, descriptions, pydicom.uid.generate_uid(), 5, pydicom.uid.generate_uid(), 1, "A", "B", "C",
        "D", **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segmentations_of_other_programs(tmp_path: Path, kind: str) -> None:
    slices = ct_slices(asymmetric_voxels((9, 12, 14)), orientation=OBLIQUE)
    (volume,) = dicom.read_series(save_slices(tmp_path / "ct", slices))
    pixels = np.zeros((9, 12, 14), np.uint8)
    pixels[2, 3:6, 4:9], pixels[4, 3:6, 4:9], pixels[5, 8:9, 1:3] = 1, 2, 1
    path = save(tmp_path / "seg.dcm", other_segmentation(kind, pixels, slices))
    read = read_dicom_seg(path)
    placed = place_on(read, volume)
    assert placed is not None
    expected = mask_on(volume)
    expected.data[...] = pixels
    assert np.array_equal(placed.data, expected.data)
    assert read.names == {1: "Part 1", 2: "Part 2"}
    assert any("fractional" in warning for warning in read.warnings) == (kind == "FRACTIONAL")
    assert place_on(read, replace(volume, affine=volume.affine @ np.diag([1, 1, 1.1, 1]))) is None


def test_overlapping_segments_are_said(tmp_path: Path) -> None:
    slices = ct_slices(asymmetric_voxels((3, 12, 14)))
    pixels = np.zeros((3, 12, 14, 2), np.uint8)
    pixels[1, 2:5, 2:5, 0], pixels[1, 4:8, 4:8, 1] = 1, 1
    read = read_dicom_seg(save(tmp_path / "seg.dcm", other_segmentation("BINARY", pixels, slices)))
    assert any("overlap in 1 voxels" in warning for warning in read.warnings)
    assert np.count_nonzero(read.data == 2) == 16


def test_damaged_segmentations_are_refused(tmp_path: Path) -> None:
    mask = mask_on(scan(tmp_path / "ct"))
    whole = write_dicom_seg(tmp_path / "mask.dcm", mask).read_bytes()
    spoiled = tmp_path / "spoiled.dcm"
    spoiled.write_bytes(whole[:-30])
    with pytest.raises(ImagingError, match="cut off"):
        read_dicom_seg(spoiled)
    ds = pydicom.dcmread(tmp_path / "mask.dcm")
    ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 90_000]
    ds.save_as(spoiled)
    with pytest.raises(ImagingError, match=r"unevenly spaced|spread over"):
        read_dicom_seg(spoiled)
    ds = pydicom.dcmread(tmp_path / "mask.dcm")
    ds.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    ds.save_as(spoiled)
    with pytest.raises(ImagingError, match=r"segment 9, which is not described"):
        read_dicom_seg(spoiled)
    with pytest.raises(ImagingError, match="is a DICOM CT, not a segmentation"):
        read_dicom_seg(next((tmp_path / "ct").iterdir()))
    for data in spoiled_copies(whole, 150):
        spoiled.write_bytes(data)
        with suppress(ImagingError):
            read_dicom_seg(spoiled)


def test_names_find_their_codes() -> None:
    assert codes_of("Lesion 3").type.meaning == "Lesion"
    assert codes_of("left lung nodule").type.meaning == "Nodule"
    assert codes_of("left_kidney").category.meaning == "Anatomical Structure"
    assert codes_of("metastases").type.scheme == "SCT"
    assert codes_of("").type.meaning == "Lesion"


def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("needs dciodvfy of the Debian package dicom3tools")
    mask = mask_on(scan(tmp_path / "ct", orientation=OBLIQUE))
    for deidentified in (False, True):
        path = write_dicom_seg(tmp_path / "mask.dcm", mask, deidentified=deidentified)
        said = subprocess.run([checker, str(path)], capture_output=True, text=True).stderr
        assert "Segmentation" in said
        assert "Error" not in said
