"""DICOM series that are as they should be: every voxel at its place, with its value, whatever the orientation."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_phantom import AXIAL, PET, asymmetric_voxels, ct_slices, enhanced, save, save_slices, set_pixels

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging import dicom
from napari_medseg.imaging.orientation import to_disk
from napari_medseg.imaging.volume import Volume

SPACING = (2.5, 0.8, 0.6)
ORIGIN = (-20.0, -30.0, 40.0)


def world_ras(orientation: tuple[float, ...], k: int, row: int, column: int) -> np.ndarray:
    """Where DICOM says that a pixel lies (PS3.3 C.7.6.2.1.1), in RAS."""
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    position = np.array(ORIGIN) + k * SPACING[0] * np.cross(across, down)
    return (position + column * SPACING[2] * across + row * SPACING[1] * down) * [-1, -1, 1]


def assert_every_voxel_at_home(volume: Volume, voxels: np.ndarray, orientation: tuple[float, ...]) -> None:
    for k, row, column in itertools.product(*(range(0, n, 3) for n in voxels.shape)):
        index = volume.index_of(world_ras(orientation, k, row, column))
        assert index == pytest.approx(np.rint(index), abs=1e-3)
        assert volume.data[tuple(np.rint(index).astype(int))] == voxels[k, row, column]


def all_orientations() -> list[tuple[float, ...]]:
    axes = [tuple(sign * v for v in axis) for axis in np.eye(3) for sign in (1, -1)]
    return [(*a, *b) for a in axes for b in axes if np.dot(a, b) == 0]


@pytest.mark.parametrize("orientation", all_orientations())
def test_every_axis_order_keeps_its_place_in_the_patient(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    voxels = asymmetric_voxels((4, 5, 7))
    slices = ct_slices(voxels, spacing_mm=SPACING, origin=ORIGIN, orientation=orientation)
    volume = dicom.read_series(save_slices(tmp_path, slices))[0]
    assert_every_voxel_at_home(volume, voxels.astype(int) - 1024, orientation)
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert np.diag(directions[[2, 1, 0]]) == pytest.approx([1, -1, -1])


@pytest.mark.parametrize("make", ["classic", "enhanced"])
def test_an_oblique_series_keeps_its_place(tmp_path: Path, make: str) -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    orientation = (c, s, 0.0, -s * np.cos(0.3), c * np.cos(0.3), np.sin(0.3))
    voxels = asymmetric_voxels()
    if make == "classic":
        save_slices(tmp_path, ct_slices(voxels, spacing_mm=SPACING, origin=ORIGIN, orientation=orientation))
    else:
        save(tmp_path / "e", enhanced(voxels, spacing_mm=SPACING, origin=ORIGIN, orientation=orientation))
    (volume,) = dicom.read_series(tmp_path)
    assert_every_voxel_at_home(volume, voxels.astype(int) - 1024, orientation)
    assert volume.spacing_mm == pytest.approx(SPACING, abs=1e-4)
    assert volume.warnings == ()


def test_the_disk_grid_counts_columns_rows_slices(tmp_path: Path) -> None:
    voxels = asymmetric_voxels()
    (volume,) = dicom.read_series(save_slices(tmp_path, ct_slices(voxels)))
    assert volume.grid is not None
    assert volume.grid.shape == (10, 8, 6)
    on_disk = to_disk(volume.data, volume.grid)
    assert np.array_equal(on_disk, voxels.transpose(2, 1, 0).astype(int) - 1024)
    assert np.allclose(volume.grid.affine[:3, 3], np.multiply(ORIGIN, [-1, -1, 1]))


def test_files_sort_by_position_and_not_by_name_or_instance_number(tmp_path: Path) -> None:
    voxels = asymmetric_voxels()
    slices = ct_slices(voxels)
    for ds, number in zip(slices, (4, 4, 1, 900, 2, 3), strict=True):
        ds.InstanceNumber = number
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert np.array_equal(volume.data, voxels.astype(int) - 1024)


def test_integer_rescale_keeps_int16(tmp_path: Path) -> None:
    voxels = np.array([[[0, 4095], [1024, 5]], [[1, 2], [3, 4]]], np.uint16)
    (volume,) = dicom.read_series(save_slices(tmp_path, ct_slices(voxels, slope=2)))
    assert volume.data.dtype == np.int16
    assert np.array_equal(volume.data, voxels.astype(int) * 2 - 1024)


def test_values_beyond_int16_widen_the_type(tmp_path: Path) -> None:
    voxels = np.array([[[0, 65535]], [[1, 2]]], np.uint16)
    slices = save_slices(tmp_path / "unsigned", ct_slices(voxels, intercept=0))
    assert dicom.read_series(slices)[0].data.dtype == np.uint16
    slices = save_slices(tmp_path / "both", ct_slices(voxels))
    (volume,) = dicom.read_series(slices)
    assert volume.data.dtype == np.int32
    assert volume.data.min() == -1024
    assert volume.data.max() == 65535 - 1024


def test_each_slice_uses_its_own_slope(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((3, 4, 5)).astype(np.int16)
    slices = ct_slices(voxels, sop_class=PET, modality="PT", intercept=0)
    slopes = [0.125, 1.0, 3.5]
    for ds, slope in zip(slices, slopes, strict=True):
        ds.RescaleSlope = slope
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert volume.data.dtype == np.float32
    assert np.allclose(volume.data, voxels * np.array(slopes)[:, None, None])
    assert volume.modality == "PT"


@pytest.mark.parametrize(
    ("units", "kind", "unit"),
    [
        ("GML", "BW", "SUV"),
        ("GML", None, "SUV"),
        ("GML", "LBM", "SUV LBM"),
        ("BQML", None, "Bq/ml"),
        ("CNTS", None, "CNTS"),
        ("NONE", None, ""),
        (None, "BW", ""),
    ],
)
def test_the_unit_of_a_pet_is_kept(tmp_path: Path, units: str | None, kind: str | None, unit: str) -> None:
    slices = ct_slices(asymmetric_voxels((3, 4, 5)), sop_class=PET, modality="PT", intercept=0)
    for ds in slices:
        if units is not None:
            ds.Units = units
        if kind is not None:
            ds.SUVType = kind
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert dicom.dicom_source(volume.metadata).unit == unit


def test_a_real_pet_says_that_it_is_in_suv(shared_data: Path) -> None:
    for modality, unit in (("PET", "SUV"), ("CT", "")):
        (volume,) = dicom.read_series(shared_data / "dicom" / "STS_042" / modality / "image")
        assert dicom.dicom_source(volume.metadata).unit == unit


def test_integer_slopes_that_differ_between_slices_stay_integers(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((3, 4, 5)).astype(np.int16)
    slices = ct_slices(voxels)
    slopes, intercepts = np.array([1, 2, -3]), np.array([0, -1024, 7])
    for ds, slope, intercept in zip(slices, slopes, intercepts, strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = int(slope), int(intercept)
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert volume.data.dtype == np.int16
    assert np.array_equal(volume.data, voxels * slopes[:, None, None] + intercepts[:, None, None])


def test_an_enhanced_file_uses_the_slope_of_each_frame(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((3, 4, 5))
    save(tmp_path / "pet", enhanced(voxels, slopes=[0.5, 1.0, 2.25]))
    (volume,) = dicom.read_series(tmp_path)
    assert np.allclose(volume.data, voxels * np.array([0.5, 1.0, 2.25])[:, None, None])


def test_enhanced_frames_sort_by_position(tmp_path: Path) -> None:
    voxels = asymmetric_voxels()
    ds = enhanced(voxels[::-1])
    for k, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        item.PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, 10.0 - 2.5 * k]
    save(tmp_path / "e", ds)
    (volume,) = dicom.read_series(tmp_path)
    assert np.array_equal(volume.data, voxels.astype(int) - 1024)


def test_bits_that_are_not_in_use_are_dropped(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((2, 4, 5))
    slices = ct_slices(voxels, intercept=0)
    for ds in slices:
        overlaid = np.frombuffer(ds.PixelData, np.uint16).reshape(4, 5) | np.uint16(0xF000)
        set_pixels(ds, overlaid, bits_stored=12)
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert np.array_equal(volume.data, voxels)


def test_twelve_bit_negative_values_get_their_sign(tmp_path: Path) -> None:
    values = np.array([[[-1, -2048], [2047, 0]], [[5, -7], [1, 2]]], np.int16)
    slices = ct_slices(values, intercept=0)
    for ds, pixels in zip(slices, values, strict=True):
        set_pixels(ds, pixels & np.int16(0x0FFF), bits_stored=12)
        ds.PixelRepresentation = 1
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert np.array_equal(volume.data, values)


def test_a_study_gives_every_series_most_slices_first(tmp_path: Path) -> None:
    for number, n_slices in enumerate((3, 7, 5)):
        slices = ct_slices(asymmetric_voxels((n_slices, 4, 5)))
        for ds in slices:
            ds.SeriesDescription, ds.Modality = f"Series {number}", ("CT", "MR", "PT")[number]
        save_slices(tmp_path / "study" / f"folder{number}", slices)
    (tmp_path / "study" / "notes.txt").write_text("not an image")
    infos = dicom.list_series(tmp_path)
    assert [(info.n_slices, info.modality) for info in infos] == [(7, "MR"), (5, "PT"), (3, "CT")]
    assert infos[0].description == "Series 1"
    assert infos[0].spacing_mm == pytest.approx(SPACING)
    assert len({info.patient for info in infos}) == 1
    assert "P1" not in infos[0].patient
    volumes = dicom.read_series(tmp_path)
    assert [volume.data.shape[0] for volume in volumes] == [7, 5, 3]
    (chosen,) = dicom.read_listed(infos[1])
    assert chosen.name == "Series 2"
    first = dicom.read_first(tmp_path)
    assert first.data.shape[0] == 7
    assert any("holds 3 volumes" in warning for warning in first.warnings)


def test_a_thumbnail_shows_the_middle_slice(tmp_path: Path) -> None:
    voxels = np.zeros((5, 120, 200), np.uint16)
    voxels[2, 30:60, 100:150] = 3000
    (info,) = dicom.list_series(save_slices(tmp_path, ct_slices(voxels)))
    picture = info.thumbnail()
    assert picture.dtype == np.uint8
    assert max(picture.shape) <= 96
    assert picture[15, 40] == 255
    assert picture[0, 0] == 0


def test_listing_reports_progress_and_can_be_cancelled(tmp_path: Path) -> None:
    save_slices(tmp_path, ct_slices(asymmetric_voxels((40, 4, 5))))
    shares: list[float] = []
    dicom.list_series(tmp_path, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    with pytest.raises(Cancelled, match="Listing"):
        dicom.list_series(tmp_path, should_stop=lambda: True)
    calls = iter([False] * 50 + [True] * 100)
    with pytest.raises(Cancelled, match="Reading"):
        dicom.read_series(tmp_path, should_stop=lambda: next(calls))
    shares.clear()
    dicom.read_series(tmp_path, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_metadata_refer_to_the_files_slice_by_slice(tmp_path: Path) -> None:
    slices = ct_slices(asymmetric_voxels())
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    source = dicom.dicom_source(volume.metadata)
    assert source is not None
    assert source.frame_of_reference_uid == slices[0].FrameOfReferenceUID
    assert [plane.sop_instance_uid for plane in source.planes if plane] == [ds.SOPInstanceUID for ds in slices]
    assert dicom.changed_files(source) == ()
    changed = source.planes[2]
    assert changed is not None
    changed.path.write_bytes(changed.path.read_bytes() + b"\0\0")
    assert dicom.changed_files(source) == (changed.path,)


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    from pydicom.filewriter import dcmwrite

    voxels = asymmetric_voxels((2, 4, 5))
    for k, ds in enumerate(ct_slices(voxels)):
        del ds.file_meta
        dcmwrite(tmp_path / f"{k}", ds, implicit_vr=k == 1, little_endian=True, enforce_file_format=False)
    (volume,) = dicom.read_series(tmp_path)
    assert np.array_equal(volume.data, voxels.astype(int) - 1024)


def test_a_path_that_holds_no_image_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match="does not exist"):
        dicom.read_series(tmp_path / "nowhere")
    with pytest.raises(ImagingError, match="holds no DICOM image"):
        dicom.read_series(tmp_path)
    text = tmp_path / "a.dcm"
    text.write_text("hello " * 100)
    with pytest.raises(ImagingError, match=r"a\.dcm' is not a DICOM file"):
        dicom.read_series(text)


def test_real_series_match_the_nifti_of_the_same_patient(shared_data: Path) -> None:
    for modality, tolerance in (("CT", 6.0), ("MR_T1", 4.0), ("PET", 1e-3)):
        (volume,) = dicom.read_series(shared_data / "dicom" / "STS_042" / modality / "image")
        image = nib.load(shared_data / "sarcoma" / "STS_042" / f"{modality}_image.nii.gz")
        stored = np.asarray(image.dataobj)
        corners = np.array(list(itertools.product(*([0, n - 1] for n in stored.shape))), float)
        for corner in corners:
            index = volume.index_of((image.affine @ [*corner, 1.0])[:3])
            assert index == pytest.approx(corner[::-1], abs=0.02), modality
        assert np.abs(volume.data - stored.transpose(2, 1, 0)).max() <= tolerance, modality


def test_a_real_compressed_series_reads(shared_data: Path) -> None:
    (volume,) = dicom.read_series(shared_data / "dicom" / "totalsegmentator_ct")
    assert volume.data.shape == (20, 512, 512)
    assert volume.data.dtype == np.int16
    assert volume.data.min() == -1024
    assert volume.spacing_mm == pytest.approx((2.0, 0.9765625, 0.9765625))


def test_axial_needs_no_copy(tmp_path: Path) -> None:
    (volume,) = dicom.read_series(save_slices(tmp_path, ct_slices(asymmetric_voxels(), orientation=AXIAL)))
    assert volume.data.flags.c_contiguous


def test_links_that_lead_nowhere_are_passed_over(tmp_path: Path) -> None:
    voxels = asymmetric_voxels()
    save_slices(tmp_path, ct_slices(voxels))
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing here")
    (volume,) = dicom.read_series(tmp_path)
    assert volume.data.size == voxels.size
