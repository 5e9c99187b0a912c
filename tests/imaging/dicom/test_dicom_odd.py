"""DICOM that is odd, incomplete, damaged or hostile: refused in one sentence or read with a warning, never wrong."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_phantom import (
    DX,
    MR,
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

from napari_medseg.errors import ImagingError
from napari_medseg.imaging import dicom
from napari_medseg.imaging.volume import Volume

Make = Callable[[Path], None]
J2K_LOSSLESS, RLE, JPEG_LS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"
VOXELS = asymmetric_voxels((8, 6, 10))
MOST_BYTES = 64 * 1024 * 1024

refused: dict[str, tuple[Make, str]] = {}
warned: dict[str, tuple[Make, str]] = {}


def refuses(message: str) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        refused[make.__name__] = (make, message)
        return make

    return register


def warns(message: str) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        warned[make.__name__] = (make, message)
        return make

    return register


def series(**options: object) -> list[Dataset]:
    return ct_slices(VOXELS, **options)  # type: ignore[arg-type, return-value]


def spoil_one(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Save a good series, then change the bytes of one of its files."""
    save_slices(folder, series())
    file = sorted(folder.iterdir())[2]
    file.write_bytes(change(file.read_bytes()))


def compressed(folder: Path, syntax: str, encode: Callable[[np.ndarray], bytes]) -> None:
    slices = series()
    for ds, frame in zip(slices, VOXELS, strict=True):
        ds.PixelData = encapsulate([encode(frame)])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = syntax
    save_slices(folder, slices)


# Geometry -----------------------------------------------------------------------------------------------------------


@warns("1 of 8 slices are missing")
def one_slice_missing(folder: Path) -> None:
    save_slices(folder, [ds for k, ds in enumerate(series()) if k != 3])


@refuses("slices are missing")
def half_of_the_slices_missing_in_one_place(folder: Path) -> None:
    save_slices(folder, [ds for k, ds in enumerate(series()) if k in (0, 1, 6, 7)])


@refuses("unevenly spaced")
def uneven_spacing(folder: Path) -> None:
    slices = series()
    slices[4].ImagePositionPatient[2] += 0.9
    save_slices(folder, slices)


@refuses("unevenly spaced")
def growing_spacing(folder: Path) -> None:
    slices = series()
    for k, ds in enumerate(slices):
        ds.ImagePositionPatient[2] = 2.0 * k + 0.3 * k * k
    save_slices(folder, slices)


@warns("differ by up to")
def slightly_uneven_spacing(folder: Path) -> None:
    slices = series()
    slices[4].ImagePositionPatient[2] += 0.08
    save_slices(folder, slices)


@warns("slices may be missing between them")
def every_second_slice_missing(folder: Path) -> None:
    save_slices(folder, series()[::2])


@warns("The gantry was tilted by 15.0 degrees")
def gantry_tilt(folder: Path) -> None:
    slices = series()
    for k, ds in enumerate(slices):
        ds.ImagePositionPatient[1] += k * 2.5 * np.tan(np.radians(15))
    save_slices(folder, slices)


@warns("The header says that the gantry was tilted")
def tilt_that_only_the_header_knows(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.GantryDetectorTilt = -12.0
    save_slices(folder, slices)


@refuses("do not lie on a straight line")
def slices_off_the_line(folder: Path) -> None:
    slices = series()
    slices[3].ImagePositionPatient[0] += 9.0
    save_slices(folder, slices)


@refuses("beside each other")
def slices_beside_each_other(folder: Path) -> None:
    slices = series()
    for k, ds in enumerate(slices):
        ds.ImagePositionPatient[0] += 30.0 * k
    save_slices(folder, slices)


@warns("2 stacks of different orientation")
def mixed_orientations(folder: Path) -> None:
    slices = series()
    extra = series(orientation=(1, 0, 0, 0, 0, -1))[:2]
    for ds in extra:
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID
    save_slices(folder, [*slices, *extra])


@warns("2 stacks of different orientation, size")
def mixed_sizes(folder: Path) -> None:
    slices = series()
    (other,) = ct_slices(asymmetric_voxels((1, 20, 20)))
    other.SeriesInstanceUID, other.FrameOfReferenceUID = slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID
    save_slices(folder, [*slices, other])


@warns("2 stacks of different orientation, size or spacing")
def mixed_pixel_spacing(folder: Path) -> None:
    slices = series()
    (other,) = ct_slices(VOXELS[:1], spacing_mm=(2.5, 1.0, 1.0))
    other.SeriesInstanceUID, other.FrameOfReferenceUID = slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID
    save_slices(folder, [*slices, other])


@refuses("ImagePositionPatient is missing or wrong in 'IM")
def position_missing(folder: Path) -> None:
    slices = series()
    del slices[2].ImagePositionPatient
    save_slices(folder, slices)


@refuses("ImagePositionPatient is missing or wrong")
def position_not_a_number(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.add_new(0x00200032, "LO", "here\\there\\nowhere")
    save_slices(folder, slices)


@refuses("ImageOrientationPatient is missing or wrong")
def orientation_missing(folder: Path) -> None:
    slices = series()
    for ds in slices:
        del ds.ImageOrientationPatient
    save_slices(folder, slices)


@refuses("ImageOrientationPatient is missing or wrong")
def orientation_not_perpendicular(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.ImageOrientationPatient = [1, 0, 0, 0.7, 0.7, 0]
    save_slices(folder, slices)


@refuses("ImageOrientationPatient is missing or wrong")
def orientation_of_zeros(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.ImageOrientationPatient = [0, 0, 0, 0, 0, 0]
    save_slices(folder, slices)


@refuses("PixelSpacing is missing or wrong")
def spacing_missing(folder: Path) -> None:
    slices = series()
    for ds in slices:
        del ds.PixelSpacing
    save_slices(folder, slices)


@refuses("PixelSpacing is missing or wrong")
def spacing_of_zero(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.PixelSpacing = [0, 0.6]
    save_slices(folder, slices)


@refuses("PixelSpacing is missing or wrong")
def spacing_negative(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.PixelSpacing = [-0.8, 0.6]
    save_slices(folder, slices)


@warns("no thickness: 1 mm is assumed")
def single_slice_without_thickness(folder: Path) -> None:
    ds = series()[0]
    del ds.SliceThickness
    save(folder / "one", ds)


@warns("ImagePositionPatient is missing")
def single_slice_without_position(folder: Path) -> None:
    ds = series()[0]
    del ds.ImagePositionPatient
    save(folder / "one", ds)


# Identity ------------------------------------------------------------------------------------------------------------


@refuses("images of two patients under one series UID")
def two_patients_under_one_uid(folder: Path) -> None:
    slices = series()
    for ds in slices[4:]:
        ds.PatientID, ds.PatientName = "P2", "Phantom^Two"
    save_slices(folder, slices)


@refuses("images of two patients")
def two_names_without_identifiers(folder: Path) -> None:
    slices = series()
    for k, ds in enumerate(slices):
        ds.PatientID, ds.PatientName = "", ("Phantom^One", "Phantom^Two")[k % 2]
    save_slices(folder, slices)


@warns("name or birth date is not the same")
def two_spellings_of_one_patient(folder: Path) -> None:
    slices = series()
    slices[5].PatientBirthDate = "19800101"
    save_slices(folder, slices)


@warns("files are copies of other slices")
def copied_files(folder: Path) -> None:
    save_slices(folder, series())
    files = sorted(folder.iterdir())
    shutil.copy(files[0], folder / "copy1")
    shutil.copy(files[4], folder / "copy2")


@refuses("two different slices lie at the same position")
def two_slices_at_one_position(folder: Path) -> None:
    slices = series()
    (other,) = ct_slices(VOXELS[:1] + np.uint16(7))
    other.SeriesInstanceUID, other.FrameOfReferenceUID = slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID
    other.InstanceNumber = 99
    save_slices(folder, [*slices, other])


@warns("2 volumes of the same place; each is opened on its own")
def two_echoes(folder: Path) -> None:
    slices = series(sop_class=MR, modality="MR")
    second = ct_slices(VOXELS + np.uint16(9), sop_class=MR, modality="MR")
    for ds in slices:
        ds.EchoTime, ds.EchoNumbers = 10.0, 1
    for ds in second:
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID
        ds.EchoTime, ds.EchoNumbers = 80.0, 2
    save_slices(folder, [*slices, *second])


@warns("told apart by their instance numbers alone")
def two_times_without_a_mark(folder: Path) -> None:
    slices = series()
    second = ct_slices(VOXELS + np.uint16(9))
    for ds in second:
        ds.SeriesInstanceUID, ds.FrameOfReferenceUID = slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID
        ds.InstanceNumber = ds.InstanceNumber + 8
    save_slices(folder, [*slices, *second])


# Pixels --------------------------------------------------------------------------------------------------------------


@refuses(r"is cut off: \d+ of 120 bytes")
def truncated_pixels(folder: Path) -> None:
    spoil_one(folder, lambda data: data[:-40])


@refuses("is cut off before its pixel data|has no pixel data")
def truncated_header(folder: Path) -> None:
    spoil_one(folder, lambda data: data[: data.index(b"\x28\0\x30\0")])


@refuses("has no pixel data")
def no_pixels(folder: Path) -> None:
    slices = series()
    del slices[3].PixelData
    save_slices(folder, slices)


@refuses("bytes where rows, columns and frames need")
def pixels_too_few(folder: Path) -> None:
    slices = series()
    slices[3].PixelData = slices[3].PixelData[:-20]
    save_slices(folder, slices)


@refuses("Rows and no Columns")
def columns_of_zero(folder: Path) -> None:
    slices = series()
    slices[3].Columns = 0
    save_slices(folder, slices)


@refuses("BitsAllocated is 12")
def odd_bit_depth(folder: Path) -> None:
    slices = series()
    slices[3].BitsAllocated = 12
    save_slices(folder, slices)


@refuses("SamplesPerPixel is 4")
def four_samples(folder: Path) -> None:
    slices = series()
    slices[3].SamplesPerPixel = 4
    save_slices(folder, slices)


@refuses("NumberOfFrames|bytes where rows")
def a_hundred_million_frames(folder: Path) -> None:
    ds = image_header(DX, "DX")
    set_pixels(ds, VOXELS[0])
    ds.NumberOfFrames = 100_000_000
    save(folder / "x", ds)


@refuses("NumberOfFrames is 100000000, more than")
def a_hundred_million_compressed_frames(folder: Path) -> None:
    ds = image_header(DX, "DX")
    set_pixels(ds, VOXELS[0])
    ds.NumberOfFrames = 100_000_000
    ds.PixelData = encapsulate([imagecodecs.jpegls_encode(VOXELS[0])])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = JPEG_LS
    save(folder / "x", ds)


@refuses("NumberOfFrames is -5")
def negative_frames(folder: Path) -> None:
    ds = image_header(DX, "DX")
    set_pixels(ds, VOXELS[0])
    ds.NumberOfFrames = -5
    save(folder / "x", ds)


@refuses("RLE frame is damaged or cut off|claims")
def rle_that_claims_a_huge_frame(folder: Path) -> None:
    slices = series()[:1]
    slices[0].Rows = slices[0].Columns = 65535
    header = struct.pack("<16I", 2, 64, 70, *[0] * 13)
    slices[0].PixelData = encapsulate([header + b"\x81\x00" * 6])
    slices[0]["PixelData"].VR, slices[0]["PixelData"].is_undefined_length = "OB", True
    slices[0].file_meta.TransferSyntaxUID = RLE
    save_slices(folder, slices)


@refuses("RLE frame is damaged")
def rle_with_offsets_outside(folder: Path) -> None:
    compressed(folder, RLE, lambda frame: struct.pack("<16I", 2, 64, 2**31, *[0] * 13) + b"\0" * 300)


@refuses("segments that its header asks for")
def rle_with_a_wrong_number_of_segments(folder: Path) -> None:
    compressed(folder, RLE, lambda frame: struct.pack("<16I", 15, *[64] * 15) + b"\0" * 300)


@refuses("is 6 x 9 with 1 samples, but its header says 6 x 10")
def jpeg_ls_of_another_size(folder: Path) -> None:
    compressed(folder, JPEG_LS, lambda frame: imagecodecs.jpegls_encode(frame[:, :9]))


@refuses("is 65535 x 65535")
def jpeg_2000_that_claims_a_huge_frame(folder: Path) -> None:
    def lie(frame: np.ndarray) -> bytes:
        data = bytearray(imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True))
        data[8:16] = struct.pack(">2I", 65535, 65535)
        return bytes(data)

    compressed(folder, J2K_LOSSLESS, lie)


@refuses("compressed frame is damaged|cut off")
def jpeg_2000_cut_off(folder: Path) -> None:
    compressed(folder, J2K_LOSSLESS, lambda frame: imagecodecs.jpeg2k_encode(frame, codecformat="J2K")[:60])


@refuses("compressed frame is damaged|cut off")
def jpeg_ls_cut_off(folder: Path) -> None:
    compressed(folder, JPEG_LS, lambda frame: imagecodecs.jpegls_encode(frame)[:-10])


@refuses("compressed frame is cut off")
def jpeg_cut_off(folder: Path) -> None:
    encode = imagecodecs.ljpeg_encode
    compressed(folder, "1.2.840.10008.1.2.4.70", lambda frame: encode(frame, bitspersample=16)[:-12])


@refuses("compressed in an unknown way")
def compressed_noise(folder: Path) -> None:
    compressed(folder, JPEG_LS, lambda frame: b"no picture at all, only words, a few of them" * 3)


@refuses("is a video")
def video(folder: Path) -> None:
    compressed(folder, "1.2.840.10008.1.2.4.102", lambda frame: b"\0\0\0\x18ftypmp42" + b"\0" * 100)


@refuses("compressed pixel data")
def fragments_cut_off(folder: Path) -> None:
    compressed(folder, JPEG_LS, imagecodecs.jpegls_encode)
    file = sorted(folder.iterdir())[1]
    file.write_bytes(file.read_bytes()[:-60])


@refuses("needs fragments")
def no_fragments_where_compressed(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.PixelData = ds.PixelData[:60]
    save_slices(folder, slices)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1))


@warns("RescaleSlope is 0")
def slope_of_zero(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.RescaleSlope = 0
    save_slices(folder, slices)


@refuses("RescaleSlope or RescaleIntercept is not a number")
def slope_not_a_number(folder: Path) -> None:
    slices = series()
    slices[2].add_new(0x00281053, "LO", "nan")
    save_slices(folder, slices)


@warns("MONOCHROME1")
def inverted(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.PhotometricInterpretation = "MONOCHROME1"
    save_slices(folder, slices)


# Structure -----------------------------------------------------------------------------------------------------------


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def nested(levels: int, *, has_lengths: bool) -> bytes:
    """A sequence in a sequence in a sequence, with or without lengths."""
    content = element(0x0008, 0x0100, b"SH", b"code")
    for _ in range(levels):
        if has_lengths:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
            content = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
        else:
            item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            content = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item + end
    return content


def insert_before_modality(data: bytes, extra: bytes) -> bytes:
    at = data.index(b"\x08\0\x60\0CS")
    return data[:at] + extra + data[at:]


@refuses("nested deeper than")
def sequences_nested_ten_thousand_deep(folder: Path) -> None:
    save(folder / "one", series()[0])
    file = folder / "one"
    file.write_bytes(insert_before_modality(file.read_bytes(), nested(10_000, has_lengths=False)))


@refuses("cut off")
def a_length_beyond_the_end(folder: Path) -> None:
    save(folder / "one", series()[0])
    file = folder / "one"
    lie = struct.pack("<HH2sHI", 0x0008, 0x2112, b"SQ", 0, 0xFFFFFFF0)
    file.write_bytes(insert_before_modality(file.read_bytes(), lie))


@refuses("the file meta information is cut off|ends after the file meta|is cut off in its header")
def only_the_preamble(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "one").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")


@refuses("NumberOfFrames is 8 but 7 frames are described")
def enhanced_with_too_few_frames_described(folder: Path) -> None:
    ds = enhanced(VOXELS)
    del ds.PerFrameFunctionalGroupsSequence[-1]
    save(folder / "e", ds)


@refuses("ImageOrientationPatient is missing")
def enhanced_without_orientation(folder: Path) -> None:
    ds = enhanced(VOXELS)
    del ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    save(folder / "e", ds)


@refuses("PixelSpacing is missing")
def enhanced_without_measures(folder: Path) -> None:
    ds = enhanced(VOXELS)
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    save(folder / "e", ds)


@warns("2 volumes of the same place")
def enhanced_over_two_times(folder: Path) -> None:
    ds = enhanced(np.concatenate([VOXELS, VOXELS]))
    for k, item in enumerate(ds.PerFrameFunctionalGroupsSequence):
        item.FrameContentSequence[0].TemporalPositionIndex = 1 + k // 8
        item.PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, 2.5 * (k % 8)]
    save(folder / "e", ds)


@refuses("Siemens mosaic")
def mosaic(folder: Path) -> None:
    ds = series(sop_class=MR, modality="MR")[0]
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    save(folder / "m", ds)


@refuses("holds no DICOM image but a report")
def only_a_report(folder: Path) -> None:
    ds = image_header("1.2.840.10008.5.1.4.1.1.88.11", "SR")
    save(folder / "sr", ds)


@refuses("holds no DICOM image but a set of contours")
def only_contours(folder: Path) -> None:
    save(folder / "rs", image_header("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"))


@refuses("is no scan but a segmentation; open it as a mask")
def only_a_segmentation(folder: Path) -> None:
    save(folder / "seg", image_header("1.2.840.10008.5.1.4.1.1.66.4", "SEG"))


@refuses("is a DICOM|holds no DICOM image but")
def garbage_as_modality(folder: Path) -> None:
    save(folder / "x", image_header("1.2.840.10008.5.1.4.1.1.88.11", "SR"))
    file = folder / "x"
    file.write_bytes(file.read_bytes().replace(b"CS\2\0SR", b"CS\2\0\n\x07"))


@refuses("whole-slide microscopy")
def whole_slide(folder: Path) -> None:
    ds = image_header("1.2.840.10008.5.1.4.1.1.77.1.6", "SM")
    set_pixels(ds, VOXELS[0])
    save(folder / "sm", ds)


@warns("was left out: the file meta information is cut off")
def a_damaged_file_of_nobody(folder: Path) -> None:
    save_slices(folder, series())
    (folder / "zz").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0")


@warns("")
def other_files_beside_the_scan(folder: Path) -> None:
    save_slices(folder, series())
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "report.pdf").write_bytes(b"%PDF-1.4")
    save(folder / "sr", image_header("1.2.840.10008.5.1.4.1.1.88.11", "SR"))
    save(folder / "rs", image_header("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT"))


@warns("Left out: Cannot open")
def a_bad_series_beside_a_good_one(folder: Path) -> None:
    save_slices(folder / "good", series())
    spoil_one(folder / "bad", lambda data: data[:-40])


@warns("")
def series_uid_empty_everywhere(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.SeriesInstanceUID = ds.SOPInstanceUID = ds.SOPClassUID = ""
    save_slices(folder, slices)


@warns("")
def defined_lengths_nested_deep(folder: Path) -> None:
    save(folder / "one", series()[0])
    file = folder / "one"
    file.write_bytes(insert_before_modality(file.read_bytes(), nested(2000, has_lengths=True)))


@warns("")
def private_elements_and_odd_character_sets(folder: Path) -> None:
    slices = series()
    for ds in slices:
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.add_new(0x00091010, "UN", b"\xff" * 40_000)
        ds.SeriesDescription = "Tête"
    save_slices(folder, slices)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))


def read_bounded(folder: Path) -> tuple[Volume, ...]:
    """Read and check that memory stayed small."""
    tracemalloc.start()
    try:
        return dicom.read_series(folder)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES


@pytest.mark.parametrize("name", refused)
def test_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    make, message = refused[name]
    make(tmp_path / "scan")
    with pytest.raises(ImagingError, match=message) as caught:
        read_bounded(tmp_path / "scan")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    assert "scan" in sentence
    assert "P1" not in sentence


@pytest.mark.parametrize("name", warned)
def test_read_with_a_warning(tmp_path: Path, name: str) -> None:
    make, message = warned[name]
    make(tmp_path / "scan")
    volumes = read_bounded(tmp_path / "scan")
    assert volumes
    assert all(warning.endswith(".") for volume in volumes for warning in volume.warnings)
    assert message in " ".join(volumes[0].warnings)
    if not message:
        assert volumes[0].warnings == ()
        assert volumes[0].data.shape[1:] == (6, 10)


def test_there_are_enough_families() -> None:
    assert len(refused) + len(warned) >= 60


def test_a_missing_slice_leaves_its_place_empty(tmp_path: Path) -> None:
    one_slice_missing(tmp_path)
    (volume,) = dicom.read_series(tmp_path)
    expected = VOXELS.astype(int) - 1024
    expected[3] = np.delete(expected, 3, axis=0).min()
    assert np.array_equal(volume.data, expected)
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.6))


def test_tilted_slices_lie_where_they_were_scanned(tmp_path: Path) -> None:
    gantry_tilt(tmp_path)
    (volume,) = dicom.read_series(tmp_path)
    shift = 2.5 * np.tan(np.radians(15))
    for k in (0, 3, 7):
        home = np.array([20.0, 30.0 - k * shift, 40.0 + 2.5 * k])
        assert volume.position_of((k, 0, 0)) == pytest.approx(home, abs=1e-3)


def test_two_echoes_are_two_volumes_in_order(tmp_path: Path) -> None:
    two_echoes(tmp_path)
    volumes = dicom.read_series(tmp_path)
    assert [volume.data[0, 0, 0] for volume in volumes] == [VOXELS[0, 0, 0], VOXELS[0, 0, 0] + 9]
    assert "echo 1" in volumes[0].name
    assert "echo 2" in volumes[1].name


def test_one_slice_of_a_series_is_one_slice(tmp_path: Path) -> None:
    save_slices(tmp_path, series())
    file = sorted(tmp_path.iterdir())[0]
    (volume,) = dicom.read_series(file)
    assert volume.data.shape == (1, 6, 10)
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.6))


def test_a_list_shows_what_cannot_be_opened(tmp_path: Path) -> None:
    a_bad_series_beside_a_good_one(tmp_path)
    good, bad = dicom.list_series(tmp_path)
    assert good.refusal == ""
    assert "is cut off" in bad.refusal
    with pytest.raises(ImagingError, match="is cut off"):
        dicom.read_listed(bad)
    assert not bad.thumbnail().any()


def test_random_damage_never_escapes_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ds = enhanced(VOXELS)
    whole = save(tmp_path / "whole", ds).read_bytes()
    file = tmp_path / "damaged"
    n_refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(132, len(whole) - 900, rng.integers(1, 6)):
            data[at] = rng.integers(256)
        file.write_bytes(bytes(data[: rng.integers(200, len(data))] if rng.random() < 0.3 else data))
        try:
            dicom.read_series(file)
        except ImagingError:
            n_refused += 1
    assert 30 < n_refused < 300
