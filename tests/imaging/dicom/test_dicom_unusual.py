"""DICOM as unusual devices, archives and anonymisers leave it; places and values are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_phantom import (
    CT,
    MR,
    PET,
    asymmetric_voxels,
    ct_slices,
    enhanced,
    image_header,
    save,
    save_slices,
    set_pixels,
)
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended

import napari_medseg as ms

VOXELS = asymmetric_voxels((8, 6, 10))
HU = VOXELS.astype(int) - 1024
NM, DOSE = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.481.2"
JPEG_LS, HTJ2K = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.201"


def series(folder: Path, change: Callable[[int, Dataset], object] = lambda k, ds: None, **options: object) -> Path:
    slices = ct_slices(VOXELS, **options)
    for k, ds in enumerate(slices):
        change(k, ds)
    return save_slices(folder, slices)


def joined(*stacks: list[Dataset]) -> list[Dataset]:
    """Slices of several stacks as one series."""
    first = stacks[0][0]
    slices = [ds for stack in stacks for ds in stack]
    for number, ds in enumerate(slices, start=1):
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, name, getattr(first, name))
        ds.InstanceNumber = number
    return slices


def assert_stack(volume: ms.Volume, values: np.ndarray, first=(-20.0, -30.0, 40.0), step_mm: float = 2.5) -> None:
    """Compare values, and the corners with what LPS headers say (rows 0.8 mm, columns 0.6 mm apart)."""
    np.testing.assert_allclose(volume.data, values, rtol=1e-6)
    for k, row, column in np.ndindex(2, 2, 2):
        index = np.array([k, row, column]) * (np.array(values.shape) - 1)
        lps = np.array(first) + np.array([0.6 * index[2], 0.8 * index[1], step_mm * index[0]])
        np.testing.assert_allclose(volume.position_of(index), lps * (-1, -1, 1), atol=0.06)


def in_fragments(ds: Dataset, syntax: str, data: bytes) -> None:
    ds.PixelData = data
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = syntax


# Headers that lost something ----------------------------------------------------------------------------------------


def one_instance_uid_for_all(k: int, ds: Dataset) -> None:
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"


def no_instance_uid(k: int, ds: Dataset) -> None:
    del ds.SOPInstanceUID


def no_class(k: int, ds: Dataset) -> None:
    del ds.SOPClassUID


def no_series(k: int, ds: Dataset) -> None:
    del ds.SeriesInstanceUID


def no_frame_of_reference(k: int, ds: Dataset) -> None:
    del ds.FrameOfReferenceUID


def spacing_between_slices_of_zero(k: int, ds: Dataset) -> None:
    ds.SpacingBetweenSlices = 0


def spacing_between_slices_below_zero(k: int, ds: Dataset) -> None:
    ds.SpacingBetweenSlices = -2.5


def positions_rounded_to_a_tenth(k: int, ds: Dataset) -> None:
    ds.ImagePositionPatient = [-20, -30, round(40 + k * 2.5 + 0.04 * (-1) ** k, 1)]


def positions_in_powers_of_ten(k: int, ds: Dataset) -> None:
    ds.add_new(0x00200032, "DS", ["-2.0e+01", "-30.000000000 ", f" {40 + 2.5 * k:.3f}"])


def padding_after_the_pixels(k: int, ds: Dataset) -> None:
    ds.DataSetTrailingPadding = bytes(500)


def a_word_too_many(k: int, ds: Dataset) -> None:
    ds.PixelData += b"\0\0"


def an_icon_before_the_pixels(k: int, ds: Dataset) -> None:
    icon = Dataset()
    set_pixels(icon, np.array([[1, 2], [3, 4]], np.uint8))
    ds.IconImageSequence = [icon]


def a_slice_location_that_lies(k: int, ds: Dataset) -> None:
    ds.SliceLocation = 1000 - 7 * k


def pixels_of_unknown_type(k: int, ds: Dataset) -> None:
    ds["PixelData"].VR = "UN"


def numbers_below_zero(k: int, ds: Dataset) -> None:
    ds.InstanceNumber = k - 5


def delimiters_in_private_bytes(k: int, ds: Dataset) -> None:
    ds.add_new(0x00091001, "OB", b"\xfe\xff\xdd\xe0" * 50)


def no_slope(k: int, ds: Dataset) -> None:
    del ds.RescaleSlope


def bits_at_the_upper_end(k: int, ds: Dataset) -> None:
    set_pixels(ds, VOXELS[k] << 4)
    ds.BitsStored, ds.HighBit = 12, 15


def jpeg_ls_in_three_fragments(k: int, ds: Dataset) -> None:
    in_fragments(ds, JPEG_LS, encapsulate([imagecodecs.jpegls_encode(VOXELS[k])], fragments_per_frame=3))


def high_throughput_jpeg_2000(k: int, ds: Dataset) -> None:
    in_fragments(ds, HTJ2K, encapsulate([imagecodecs.htj2k_encode(VOXELS[k], reversible=True)]))


@pytest.mark.parametrize(
    "change",
    [
        *(one_instance_uid_for_all, no_instance_uid, no_class, no_series, no_frame_of_reference, no_slope),
        *(spacing_between_slices_of_zero, spacing_between_slices_below_zero, positions_rounded_to_a_tenth),
        *(positions_in_powers_of_ten, padding_after_the_pixels, a_word_too_many, an_icon_before_the_pixels),
        *(a_slice_location_that_lies, pixels_of_unknown_type, numbers_below_zero, delimiters_in_private_bytes),
        *(bits_at_the_upper_end, jpeg_ls_in_three_fragments, high_throughput_jpeg_2000),
    ],
    ids=lambda change: change.__name__,
)
def test_a_series_opens_whole_and_without_a_word(tmp_path: Path, change: Callable[[int, Dataset], object]) -> None:
    (volume,) = ms.read_volumes(series(tmp_path / "scan", change))
    assert_stack(volume, HU)
    assert volume.warnings == ()


# Several volumes in one series ---------------------------------------------------------------------------------------


def kernel(n: int, ds: Dataset) -> None:
    ds.ConvolutionKernel = ("B30f", "B70f", "I40f")[n]


def image_type(n: int, ds: Dataset) -> None:
    ds.ImageType = (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "MIP"], ["DERIVED", "PRIMARY"])[n]


def b_value(n: int, ds: Dataset) -> None:
    ds.DiffusionBValue = (0.0, 500.0, 1000.0)[n]


def b_value_of_all_but_the_first(n: int, ds: Dataset) -> None:
    if n:
        ds.DiffusionBValue = 500.0 * n


def direction(n: int, ds: Dataset) -> None:
    ds.DiffusionBValue, ds.DiffusionGradientOrientation = 1000.0, [float(n == axis) for axis in range(3)]


def acquisition(n: int, ds: Dataset) -> None:
    ds.AcquisitionNumber = n + 1


def only_private_b_value(n: int, ds: Dataset) -> None:
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019100C, "IS", str(500 * n))


@pytest.mark.parametrize(
    "mark",
    [kernel, image_type, b_value, b_value_of_all_but_the_first, direction, acquisition, only_private_b_value],
    ids=lambda mark: mark.__name__,
)
def test_volumes_of_one_place_are_never_mixed(tmp_path: Path, mark: Callable[[int, Dataset], None]) -> None:
    stacks = [ct_slices(VOXELS + np.uint16(1000 * n), sop_class=MR, modality="MR") for n in range(3)]
    for n, stack in enumerate(stacks):
        for ds in stack:
            mark(n, ds)
    volumes = ms.read_volumes(save_slices(tmp_path / "scan", joined(*stacks)))
    assert len(volumes) == 3
    for found in volumes:
        n = int(found.data.min()) // 1000
        assert_stack(found, VOXELS + 1000.0 * n)
        assert "3 volumes of the same place" in found.warnings[0]
    assert {int(found.data.min()) // 1000 for found in volumes} == {0, 1, 2}


def test_a_screenshot_in_the_series_is_an_image_of_its_own(tmp_path: Path) -> None:
    screenshot = image_header("1.2.840.10008.5.1.4.1.1.7", "OT")
    set_pixels(screenshot, np.zeros((20, 30), np.uint8))
    scan, other = ms.read_volumes(save_slices(tmp_path / "scan", joined(ct_slices(VOXELS), [screenshot])))
    assert_stack(scan, HU)
    assert other.data.shape == (1, 20, 30)


def test_thick_slices_that_become_thin_are_never_squeezed(tmp_path: Path) -> None:
    def thick_then_thin(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [-20, -30, 40 + (5 * k if k < 4 else 15 + 2.5 * (k - 3))]

    with pytest.raises(ms.MedSegError, match="3 of 11 slices are missing"):
        ms.read_volumes(series(tmp_path / "scan", thick_then_thin))


def test_beds_that_overlap_are_refused(tmp_path: Path) -> None:
    def second_bed(k: int, ds: Dataset) -> None:
        if k >= 4:
            ds.ImagePositionPatient = [-20, -30, 40 + 2.5 * (k - 2)]

    with pytest.raises(ms.MedSegError, match="two different slices lie at the same position"):
        ms.read_volumes(series(tmp_path / "scan", second_bed))


# Values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_pixels_that_are_fractions(tmp_path: Path, keyword: str) -> None:
    def fractions(k: int, ds: Dataset) -> None:
        del ds.PixelData
        kind = "<f4" if keyword == "FloatPixelData" else "<f8"
        ds.BitsAllocated, ds.RescaleIntercept = 8 * np.dtype(kind).itemsize, 0
        setattr(ds, keyword, (HU[k] + 0.5).astype(kind).tobytes())

    (volume,) = ms.read_volumes(series(tmp_path / "scan", fractions))
    assert_stack(volume, HU + 0.5)


def test_pixels_of_one_bit(tmp_path: Path) -> None:
    bits = (VOXELS // 3) % 2

    def one_bit(k: int, ds: Dataset) -> None:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.RescaleIntercept = 1, 1, 0, 0
        ds.PixelData = np.packbits(bits[k].astype(np.uint8).ravel(), bitorder="little").tobytes()

    (volume,) = ms.read_volumes(series(tmp_path / "scan", one_bit))
    assert_stack(volume, bits)


def test_a_table_of_intensities_is_looked_up(tmp_path: Path) -> None:
    def table(k: int, ds: Dataset) -> None:
        del ds.RescaleSlope, ds.RescaleIntercept
        item = Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [2000, 0, 16], "US"
        item.add_new(0x00283006, "OW", (np.arange(2000) * 2).astype("<u2").tobytes())
        ds.ModalityLUTSequence = [item]

    (volume,) = ms.read_volumes(series(tmp_path / "scan", table))
    assert_stack(volume, VOXELS * 2.0)
    assert "lookup table was applied" in volume.warnings[0]


def test_every_slice_of_a_pet_has_its_own_fractional_slope(tmp_path: Path) -> None:
    slopes = 0.5 + 0.123456 * np.arange(8)

    def own(k: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = f"{slopes[k]:.6f}", 0

    (volume,) = ms.read_volumes(series(tmp_path / "scan", own, sop_class=PET, modality="PT"))
    assert_stack(volume, VOXELS * slopes[:, None, None])


def test_more_pixels_than_rows_and_columns_are_told(tmp_path: Path) -> None:
    def half_the_rows(k: int, ds: Dataset) -> None:
        ds.Rows = 3

    (volume,) = ms.read_volumes(series(tmp_path / "scan", half_the_rows))
    assert volume.data.shape == (8, 3, 10)
    assert "longer than rows, columns and frames need" in volume.warnings[0]


# Files of many frames ------------------------------------------------------------------------------------------------


def tomogram(path: Path, step_mm: float) -> Path:
    ds = image_header(NM, "NM")
    set_pixels(ds, VOXELS)
    ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = [0.8, 0.6], abs(step_mm), step_mm
    ds.ImageType, ds.FrameIncrementPointer = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"], [0x00540080]
    ds.SliceVector, ds.NumberOfSlices = list(range(1, 9)), 8
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = [-20, -30, 40], [1, 0, 0, 0, 1, 0]
    ds.DetectorInformationSequence = [detector]
    return save(path, ds)


def test_a_tomogram_runs_the_way_that_its_spacing_points(tmp_path: Path) -> None:
    (up,) = ms.read_volumes(tomogram(tmp_path / "up.dcm", 4.0))
    assert_stack(up, VOXELS, step_mm=4.0)
    (down,) = ms.read_volumes(tomogram(tmp_path / "down.dcm", -4.0))
    assert_stack(down, VOXELS[::-1], first=(-20, -30, 40 - 7 * 4.0), step_mm=4.0)


def test_a_grid_of_doses_is_scaled_and_placed(tmp_path: Path) -> None:
    ds = image_header(DOSE, "RTDOSE")
    set_pixels(ds, VOXELS)
    ds.PixelSpacing, ds.ImagePositionPatient = [0.8, 0.6], [-20, -30, 40]
    ds.ImageOrientationPatient, ds.FrameIncrementPointer = [1, 0, 0, 0, 1, 0], 0x3004000C
    ds.GridFrameOffsetVector, ds.DoseGridScaling = [2.5 * k for k in range(8)], 0.001
    (volume,) = ms.read_volumes(save(tmp_path / "dose.dcm", ds))
    assert_stack(volume, VOXELS * 0.001)


@pytest.mark.parametrize("offsets", ["none", "extended"])
def test_packed_frames_of_several_fragments(tmp_path: Path, offsets: str) -> None:
    ds, frames = enhanced(VOXELS, sop_class=CT), [imagecodecs.jpegls_encode(plane) for plane in VOXELS]
    if offsets == "none":
        in_fragments(ds, JPEG_LS, encapsulate(frames, fragments_per_frame=2, has_bot=False))
    else:
        data, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(frames)
        in_fragments(ds, JPEG_LS, data)
    (volume,) = ms.read_volumes(save(tmp_path / "scan.dcm", ds))
    assert_stack(volume, HU)


def test_shuffled_frames_keep_their_own_slopes(tmp_path: Path) -> None:
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    ds = enhanced(VOXELS, slopes=range(1, 9))
    ds.PerFrameFunctionalGroupsSequence = [ds.PerFrameFunctionalGroupsSequence[k] for k in order]
    ds.PixelData = VOXELS[order].tobytes()
    (volume,) = ms.read_volumes(save(tmp_path / "scan.dcm", ds))
    assert_stack(volume, VOXELS * np.arange(1, 9)[:, None, None])


def test_frames_of_two_orientations_are_two_volumes(tmp_path: Path) -> None:
    ds = enhanced(VOXELS)
    del ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for k, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        orientation = Dataset()
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if k < 4 else [1, 0, 0, 0, 0, -1]
        item.PlaneOrientationSequence = [orientation]
        if k >= 4:
            item.PlanePositionSequence[0].ImagePositionPatient = [-20, -30 + 2.5 * k, 40]
    volumes = ms.read_volumes(save(tmp_path / "scan.dcm", ds))
    assert sorted(volume.data.shape for volume in volumes) == [(4, 6, 10), (6, 4, 10)]
    axial = next(volume for volume in volumes if volume.data.shape == (4, 6, 10))
    assert_stack(axial, HU[:4])
    coronal = next(volume for volume in volumes if volume is not axial)
    # rows run downwards from z = 40, so the lowest row is first; slices run towards posterior
    np.testing.assert_array_equal(coronal.data, HU[4:, ::-1].transpose(1, 0, 2))
    np.testing.assert_allclose(coronal.position_of((5, 0, 0)), (20, 30 - 2.5 * 4, 40), atol=1e-4)


def test_a_frame_that_is_not_described_is_refused(tmp_path: Path) -> None:
    ds = enhanced(VOXELS)
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:-1]
    with pytest.raises(ms.MedSegError, match="NumberOfFrames is 8 but 7 frames are described"):
        ms.read_volumes(save(tmp_path / "scan.dcm", ds))
