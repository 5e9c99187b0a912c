"""Series as scanners, archives and careless copies leave them: opened in the right place, with the right words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_phantom import (
    CT,
    DX,
    MR,
    US,
    asymmetric_voxels,
    ct_slices,
    enhanced,
    image_header,
    save,
    save_slices,
    set_pixels,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

import napari_medseg as ms

VOXELS = asymmetric_voxels((8, 6, 10))
HU = VOXELS.astype(int) - 1024
ORIGIN = np.array([-20.0, -30.0, 40.0])
Change = Callable[[int, Dataset], None]


def series(folder: Path, change: Change | None = None, voxels: np.ndarray = VOXELS, **options: object) -> Path:
    slices = ct_slices(voxels, **options)  # type: ignore[arg-type]
    for k, ds in enumerate(slices):
        if change is not None:
            change(k, ds)
    return save_slices(folder, slices)


def like(slices: list[Dataset], others: list[Dataset]) -> list[Dataset]:
    """Put slices into the series of others."""
    for ds in slices:
        for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, name, getattr(others[0], name))
    return slices


def assert_at_home(volume: ms.Volume, hu: np.ndarray, step=(0.0, 0.0, 2.5), origin=ORIGIN) -> None:
    """Compare every corner with the place that the headers give it, worked out by hand (LPS to RAS)."""
    assert np.array_equal(volume.data, hu)
    for k, row, column in np.ndindex(2, 2, 2):
        index = np.array([k, row, column]) * (np.array(hu.shape) - 1)
        lps = origin + index[0] * np.array(step) + index[1] * np.array([0, 0.8, 0]) + index[2] * np.array([0.6, 0, 0])
        np.testing.assert_allclose(volume.position_of(index), lps * (-1, -1, 1), atol=1e-4)


# One series that opens whole ----------------------------------------------------------------------------------------


def thickness_is_not_spacing(k: int, ds: Dataset) -> None:
    ds.SliceThickness, ds.SpacingBetweenSlices = 0.7, 1.1


def numbers_run_backwards(k: int, ds: Dataset) -> None:
    ds.InstanceNumber = 100 - k


def one_number_for_all(k: int, ds: Dataset) -> None:
    ds.InstanceNumber = 1


def no_numbers(k: int, ds: Dataset) -> None:
    del ds.InstanceNumber


def no_photometric_interpretation(k: int, ds: Dataset) -> None:
    del ds.PhotometricInterpretation


def feet_first(k: int, ds: Dataset) -> None:
    ds.PatientPosition = "FFS"


def orientation_rounded(k: int, ds: Dataset) -> None:
    ds.ImageOrientationPatient = [1, 0.0002 * (k % 2), 0, 0, 1, 0]


def thirty_two_bits(k: int, ds: Dataset) -> None:
    set_pixels(ds, VOXELS[k].astype(np.uint32))


def twelve_bits_and_an_overlay(k: int, ds: Dataset) -> None:
    set_pixels(ds, VOXELS[k] | np.uint16(0x8000), bits_stored=12)


def native_frames_in_fragments(k: int, ds: Dataset) -> None:
    ds.PixelData = encapsulate([VOXELS[k].tobytes()])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.98"


def times_that_differ(k: int, ds: Dataset) -> None:
    ds.AcquisitionTime, ds.ContentTime, ds.TriggerTime = f"1200{k:02d}", f"1201{k:02d}", 33 * k


def no_series_description(k: int, ds: Dataset) -> None:
    del ds.SeriesDescription


def no_patient(k: int, ds: Dataset) -> None:
    for name in ("PatientName", "PatientID", "PatientBirthDate"):
        delattr(ds, name)


def padding_in_the_bits_in_use(k: int, ds: Dataset) -> None:
    ds.add_new(0x00280120, "US", 0)


@pytest.mark.parametrize(
    "change",
    [
        *(thickness_is_not_spacing, numbers_run_backwards, one_number_for_all, no_numbers, no_patient, feet_first),
        *(no_photometric_interpretation, orientation_rounded, thirty_two_bits, twelve_bits_and_an_overlay),
        *(native_frames_in_fragments, times_that_differ, no_series_description, padding_in_the_bits_in_use),
    ],
    ids=lambda change: change.__name__,
)
def test_what_does_not_matter_changes_nothing(tmp_path, change):
    (volume,) = ms.read_volumes(series(tmp_path / "scan", change))
    assert_at_home(volume, HU)
    assert volume.warnings == ()


def nested(folder: Path) -> Path:
    for k, ds in enumerate(ct_slices(VOXELS)):
        save(folder / f"disc {k % 3}" / f"Ünïcode {k}" / "IM", ds)
    return folder


def links_to_files(folder: Path) -> Path:
    folder.mkdir()
    for file in series(folder.with_name("elsewhere")).iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def link_to_the_folder(folder: Path) -> Path:
    folder.symlink_to(series(folder.with_name("elsewhere")))
    return folder


def links_in_a_circle(folder: Path) -> Path:
    (series(folder) / "again").symlink_to(folder)
    (folder / "dead").symlink_to("/nowhere")
    return folder


def read_only(folder: Path) -> Path:
    series(folder).chmod(0o555)
    return folder


def with_a_dicomdir(folder: Path) -> Path:
    index = image_header()
    index.SOPClassUID = index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    save(series(folder) / "DICOMDIR", index)
    return folder


def with_foreign_files(folder: Path) -> Path:
    series(folder)
    for name, content in (("Thumbs.db", bytes(range(256))), ("README.txt", b"read me"), (".DS_Store", b"\0\1")):
        (folder / name).write_bytes(content)
    return folder


def a_long_name(folder: Path) -> Path:
    shutil.move(series(folder), folder.with_name("f" * 200))
    return folder.with_name("f" * 200)


@pytest.mark.parametrize(
    "make",
    [
        *(nested, links_to_files, link_to_the_folder, links_in_a_circle, read_only, with_a_dicomdir),
        *(with_foreign_files, a_long_name),
    ],
    ids=lambda make: make.__name__,
)
def test_folders_of_every_kind(tmp_path, make):
    (volume,) = ms.read_volumes(make(tmp_path / "scan"))
    assert_at_home(volume, HU)
    assert volume.warnings == ()


@pytest.mark.parametrize("degrees", [-20.0, -1.0, 1.0, 20.0])
def test_a_gantry_tilted_either_way(tmp_path, degrees):
    lean = 2.5 * np.tan(np.radians(degrees))

    def tilted(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [-20, round(-30 + k * lean, 6), 40 + 2.5 * k]
        ds.GantryDetectorTilt = degrees

    (volume,) = ms.read_volumes(series(tmp_path / "scan", tilted))
    assert_at_home(volume, HU, step=(0, lean, 2.5))
    assert f"tilted by {abs(degrees):.1f} degrees" in volume.warnings[0]


def test_several_gaps_stay_open_and_are_counted(tmp_path):
    voxels = asymmetric_voxels((20, 6, 10))
    slices = ct_slices(voxels)
    path = save_slices(tmp_path / "scan", [ds for k, ds in enumerate(slices) if k not in (4, 11, 12)])
    (volume,) = ms.read_volumes(path)
    assert "3 of 20 slices are missing" in volume.warnings[0]
    kept = [k for k in range(20) if k not in (4, 11, 12)]
    assert np.array_equal(volume.data[kept], voxels[kept].astype(int) - 1024)
    np.testing.assert_allclose(volume.position_of((19, 0, 0)), (20, 30, 40 + 19 * 2.5))


@pytest.mark.parametrize(("name", "content"), [("IM9999", b""), ("x.dcm", b""), ("x.dcm", b"not a slice " * 99)])
def test_a_file_that_should_have_been_a_slice_is_named(tmp_path, name, content):
    (series(tmp_path / "scan") / name).write_bytes(content)
    (volume,) = ms.read_volumes(tmp_path / "scan")
    assert_at_home(volume, HU)
    assert f"'{name}' is empty or no DICOM file" in volume.warnings[0]


def test_slices_that_lost_their_series_are_told(tmp_path):
    def lost(k: int, ds: Dataset) -> None:
        ds.SeriesInstanceUID = generate_uid()

    study, frame = generate_uid(), generate_uid()

    def together(k: int, ds: Dataset) -> None:
        lost(k, ds)
        ds.StudyInstanceUID, ds.FrameOfReferenceUID = study, frame

    volumes = ms.read_volumes(series(tmp_path / "scan", together))
    assert len(volumes) == 8
    assert "8 parallel slices of one study are each a series of their own" in volumes[0].warnings[0]


# Bits ---------------------------------------------------------------------------------------------------------------


def test_padding_outside_of_the_bits_in_use_is_air_and_not_bone(tmp_path):
    def padded(k: int, ds: Dataset) -> None:
        pixels = VOXELS[k].copy()
        pixels[0, :3] = 63536
        set_pixels(ds, pixels, bits_stored=12)
        ds.add_new(0x00280120, "US", 63536)

    (volume,) = ms.read_volumes(series(tmp_path / "scan", padded))
    expected = HU.copy()
    expected[:, 0, :3] = -1024
    assert np.array_equal(volume.data, expected)


def test_negative_padding_in_signed_bits_is_kept(tmp_path):
    def padded(k: int, ds: Dataset) -> None:
        pixels = VOXELS[k].astype(np.int16)
        pixels[0, :3] = -2000
        set_pixels(ds, pixels, bits_stored=12)
        ds.add_new(0x00280120, "SS", -2000)

    (volume,) = ms.read_volumes(series(tmp_path / "scan", padded))
    assert (volume.data[:, 0, :3] == -3024).all()
    assert np.array_equal(volume.data[:, 1:], HU[:, 1:])


# Several volumes in one series --------------------------------------------------------------------------------------


def over_time(mark: Callable[[Dataset, int, int], None], n_times: int = 3) -> list[Dataset]:
    slices: list[Dataset] = []
    for time in range(n_times):
        part = ct_slices(VOXELS + 5 * time)
        for k, ds in enumerate(part):
            ds.InstanceNumber = k * n_times + time + 1
            mark(ds, time, k)
        slices += like(part, slices or part)
    return slices


def by_temporal_position(ds: Dataset, time: int, k: int) -> None:
    ds.TemporalPositionIdentifier = time + 1


def by_acquisition_number(ds: Dataset, time: int, k: int) -> None:
    ds.AcquisitionNumber = time + 1


def by_acquisition_time_alone(ds: Dataset, time: int, k: int) -> None:
    ds.AcquisitionTime, ds.InstanceNumber = f"1200{time:02d}", 1


def by_reference_time(ds: Dataset, time: int, k: int) -> None:
    ds.FrameReferenceTime, ds.InstanceNumber = 30000.5 * time, 1


def by_instance_number_alone(ds: Dataset, time: int, k: int) -> None:
    pass


def by_trigger_times_that_differ_between_slices(ds: Dataset, time: int, k: int) -> None:
    ds.TriggerTime = 33.0 * time + (0.7 * k if time else 0)


@pytest.mark.parametrize(
    "mark",
    [
        *(by_temporal_position, by_acquisition_number, by_acquisition_time_alone, by_reference_time),
        *(by_instance_number_alone, by_trigger_times_that_differ_between_slices),
    ],
    ids=lambda mark: mark.__name__,
)
def test_times_are_volumes_of_their_own_in_order(tmp_path, mark):
    volumes = ms.read_volumes(save_slices(tmp_path / "scan", over_time(mark)))
    assert len(volumes) == 3
    for time, volume in enumerate(volumes):
        assert_at_home(volume, HU + 5 * time)
        assert "3 volumes of the same place" in volume.warnings[0]


def test_a_last_time_that_was_aborted_is_a_shorter_volume(tmp_path):
    slices = over_time(by_temporal_position)[:-3]
    volumes = ms.read_volumes(save_slices(tmp_path / "scan", slices))
    assert [len(volume.data) for volume in volumes] == [8, 8, 5]


def test_echoes_and_times_together(tmp_path):
    slices: list[Dataset] = []
    for time in range(2):
        for echo in range(2):
            part = ct_slices(VOXELS + 10 * time + 5 * echo, sop_class=MR, modality="MR")
            for ds in part:
                ds.EchoNumbers, ds.TemporalPositionIdentifier = echo + 1, time + 1
                ds.InstanceNumber += 100 * time + 50 * echo
            slices += like(part, slices or part)
    volumes = ms.read_volumes(save_slices(tmp_path / "scan", slices))
    assert [int(volume.data[0, 0, 0]) - int(VOXELS[0, 0, 0]) for volume in volumes] == [0, 5, 10, 15]


@pytest.mark.parametrize("is_enhanced", [False, True])
def test_blocks_of_slices_with_a_gap_between_are_volumes_of_their_own(tmp_path, is_enhanced):
    positions = [[-20, -30, 40 + 2.5 * (k % 4) + 33.3 * (k // 4)] for k in range(8)]

    def in_blocks(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient, ds.AcquisitionNumber = positions[k], k // 4 + 1

    if is_enhanced:
        ds = enhanced(VOXELS)
        for k, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
            item.PlanePositionSequence[0].ImagePositionPatient = positions[k]
            item.FrameContentSequence[0].StackID = str(k // 4 + 1)
        path = save(tmp_path / "scan", ds)
    else:
        path = series(tmp_path / "scan", in_blocks)
    volumes = ms.read_volumes(path)
    assert len(volumes) == 2
    for block, volume in enumerate(volumes):
        assert_at_home(volume, HU[4 * block : 4 * block + 4], origin=ORIGIN + np.array([0, 0, 33.3 * block]))
        assert "2 blocks of slices with a gap between them" in volume.warnings[0]


def test_blocks_that_nothing_tells_apart_are_refused(tmp_path):
    def in_blocks(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [-20, -30, 40 + 2.5 * (k % 4) + 33.3 * (k // 4)]

    with pytest.raises(ms.MedSegError, match="unevenly spaced"):
        ms.read_volumes(series(tmp_path / "scan", in_blocks))


@pytest.mark.parametrize("n_times", [2, 3])
def test_an_enhanced_file_over_time(tmp_path, n_times):
    voxels = np.concatenate([VOXELS + 5 * time for time in range(n_times)])
    ds = enhanced(voxels)
    for n, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        item.FrameContentSequence[0].TemporalPositionIndex = n // 8 + 1
        item.PlanePositionSequence[0].ImagePositionPatient = [-20, -30, 40 + 2.5 * (n % 8)]
    volumes = ms.read_volumes(save(tmp_path / "scan", ds))
    assert len(volumes) == n_times
    for time, volume in enumerate(volumes):
        assert_at_home(volume, HU + 5 * time)


def test_a_localiser_in_the_series_is_a_volume_of_its_own(tmp_path):
    slices = ct_slices(VOXELS)
    view = like(ct_slices(asymmetric_voxels((1, 12, 14)), orientation=(0, 1, 0, 0, 0, -1)), slices)
    scan, localiser = ms.read_volumes(save_slices(tmp_path / "scan", [*slices, *view]))
    assert_at_home(scan, HU)
    assert localiser.data.shape == (12, 14, 1)
    assert "2 stacks of different orientation" in scan.warnings[0]


# Projections, photographs, ultrasound -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "spacing", "warning"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "that at the detector"),
        ({"PixelSpacing": [0.1, 0.15], "ImagerPixelSpacing": [0.2, 0.3]}, (0.1, 0.15), "no position in the patient"),
        ({"NominalScannedPixelSpacing": [0.4, 0.5]}, (0.4, 0.5), "no position in the patient"),
        ({}, (1.0, 1.0), "millimetres in it are not real"),
        ({"PixelSpacing": [0.0, 0.0]}, (1.0, 1.0), "millimetres in it are not real"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_spacing_of_a_projection(tmp_path, fields, spacing, warning):
    ds = image_header(DX, "DX")
    set_pixels(ds, VOXELS[0])
    for name, value in fields.items():
        setattr(ds, name, value)
    volume = ms.read_volume(save(tmp_path / "scan.dcm", ds))
    assert volume.spacing_mm == pytest.approx((1.0, *spacing))
    assert not volume.sides_are_known
    assert warning in " ".join(volume.warnings)


@pytest.mark.parametrize(("sop_class", "modality"), [("1.2.840.10008.5.1.4.1.1.7", "OT"), (US, "US"), (CT, "XA")])
def test_a_picture_without_a_place_is_shown_as_stored(tmp_path, sop_class, modality):
    ds = image_header(sop_class, modality)
    set_pixels(ds, VOXELS[0].astype(np.uint8))
    volume = ms.read_volume(save(tmp_path / "scan", ds))
    assert np.array_equal(volume.data[0], VOXELS[0].astype(np.uint8))
    assert "as stored" in volume.warnings[0]


# Refused ------------------------------------------------------------------------------------------------------------


def test_a_dicomdir_itself_points_to_its_folder(tmp_path):
    with pytest.raises(ms.MedSegError, match="open the folder that it lies in"):
        ms.read_volumes(with_a_dicomdir(tmp_path / "scan") / "DICOMDIR")


def another_slice_at_one_place(folder: Path) -> Path:
    slices = ct_slices(VOXELS)
    (more,) = like(ct_slices(VOXELS[3:4] + 1, origin=(-20, -30, 47.5)), slices)
    more.InstanceNumber = 4
    return save_slices(folder, [*slices, more])


def all_slices_at_one_place(folder: Path) -> Path:
    return series(folder, lambda k, ds: setattr(ds, "ImagePositionPatient", [0, 0, 0]))


def spacing_with_commas(folder: Path) -> Path:
    return series(folder, lambda k, ds: ds.add_new(0x00280030, "LO", "0,8\\0,6"))


def frames_that_nobody_describes(folder: Path) -> Path:
    ds = enhanced(VOXELS)
    ds.NumberOfFrames = 4
    return save(folder, ds)


def more_frames_than_pixels(folder: Path) -> Path:
    ds = enhanced(VOXELS)
    ds.NumberOfFrames = 80
    return save(folder, ds)


def positions_a_kilometre_away(folder: Path) -> Path:
    return series(folder, lambda k, ds: setattr(ds, "ImagePositionPatient", [0, 0, 1e7 + k]))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (another_slice_at_one_place, "two different slices lie at the same position"),
        (all_slices_at_one_place, "two different slices lie at the same position"),
        (spacing_with_commas, "PixelSpacing is missing or wrong"),
        (frames_that_nobody_describes, "NumberOfFrames is 4 but 8"),
        (more_frames_than_pixels, "960 bytes where rows, columns and frames need 9600"),
        (positions_a_kilometre_away, "ImagePositionPatient is missing or wrong"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_placed_is_refused(tmp_path, make, match):
    with pytest.raises(ms.MedSegError, match=match):
        ms.read_volumes(make(tmp_path / "scan"))


def test_a_copy_of_a_file_is_left_out_and_counted(tmp_path):
    series(tmp_path / "scan")
    shutil.copy(tmp_path / "scan" / "IM0002", tmp_path / "scan" / "copy")
    (volume,) = ms.read_volumes(tmp_path / "scan")
    assert_at_home(volume, HU)
    assert "1 files are copies" in volume.warnings[0]


def test_frames_of_reference_are_never_mixed(tmp_path):
    def other(k: int, ds: Dataset) -> None:
        if k >= 4:
            ds.FrameOfReferenceUID = OTHER

    volumes = ms.read_volumes(series(tmp_path / "scan", other))
    assert [len(volume.data) for volume in volumes] == [4, 4]


OTHER = generate_uid()
