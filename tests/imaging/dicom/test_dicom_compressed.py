"""Every transfer syntax that scanners and archives use, and colour, cines and projections."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_phantom import (
    DX,
    US,
    US_CINE,
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
from pydicom.filewriter import dcmwrite
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from napari_medseg.errors import ImagingError
from napari_medseg.imaging import dicom

Encode = Callable[[np.ndarray], bytes]
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS, JPEG_LOSSLESS_FIRST = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
J2K_LOSSLESS, J2K, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201"
RLE = "1.2.840.10008.1.2.5"


def compress(ds: Dataset, syntax: str, frames: list[bytes]) -> None:
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax


def rle(frame: np.ndarray) -> bytes:
    samples = frame.shape[2] if frame.ndim == 3 else 1
    return bytes(
        RLELosslessEncoder.encode(
            frame.tobytes(),
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=samples,
            number_of_frames=1,
            bits_allocated=frame.dtype.itemsize * 8,
            bits_stored=frame.dtype.itemsize * 8,
            pixel_representation=int(frame.dtype.kind == "i"),
            photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
            planar_configuration=0,
            index=0,
        )
    )


LOSSLESS: dict[str, tuple[str, Encode]] = {
    "rle": (RLE, rle),
    "jpeg-lossless": (JPEG_LOSSLESS, lambda frame: imagecodecs.ljpeg_encode(frame, bitspersample=16)),
    "jpeg-lossless-first-order": (JPEG_LOSSLESS_FIRST, lambda frame: imagecodecs.ljpeg_encode(frame, bitspersample=16)),
    "jpeg-ls": (JPEG_LS, imagecodecs.jpegls_encode),
    "jpeg-2000": (J2K_LOSSLESS, lambda frame: imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True)),
    "jpeg-2000-in-jp2": (
        J2K_LOSSLESS,
        lambda frame: imagecodecs.jpeg2k_encode(frame, codecformat="JP2", reversible=True),
    ),
    "high-throughput-jpeg-2000": (HTJ2K, lambda frame: imagecodecs.htj2k_encode(frame, reversible=True)),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_syntaxes_give_the_same_voxels(tmp_path: Path, name: str) -> None:
    syntax, encode = LOSSLESS[name]
    voxels = asymmetric_voxels((3, 17, 23))
    slices = ct_slices(voxels)
    for ds, frame in zip(slices, voxels, strict=True):
        compress(ds, syntax, [encode(frame)])
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert volume.data.dtype == np.int16
    assert np.array_equal(volume.data, voxels.astype(int) - 1024)


@pytest.mark.parametrize("name", ["rle", "jpeg-2000", "jpeg-lossless"])
def test_signed_voxels_keep_their_sign(tmp_path: Path, name: str) -> None:
    syntax, encode = LOSSLESS[name]
    voxels = (asymmetric_voxels((2, 17, 23)).astype(int) - 1500).astype(np.int16)
    slices = ct_slices(voxels, intercept=0)
    for ds, frame in zip(slices, voxels, strict=True):
        compress(ds, syntax, [encode(frame if name != "jpeg-lossless" else frame.view(np.uint16))])
    (volume,) = dicom.read_series(save_slices(tmp_path, slices))
    assert np.array_equal(volume.data, voxels)


def test_lossy_syntaxes_come_close(tmp_path: Path) -> None:
    smooth = (1000 + 500 * np.sin(np.arange(24)[:, None] / 5) + 20 * np.arange(32)).astype(np.uint16)
    encoders: dict[str, Encode] = {
        JPEG_EXTENDED: lambda frame: imagecodecs.jpeg8_encode(frame, level=95, bitspersample=12),
        JPEG_LS_NEAR: lambda frame: imagecodecs.jpegls_encode(frame, level=3),
        J2K: lambda frame: imagecodecs.jpeg2k_encode(frame, codecformat="J2K", level=80),
    }
    for syntax, encode in encoders.items():
        slices = ct_slices(np.stack([smooth, smooth]))
        for ds in slices:
            compress(ds, syntax, [encode(smooth)])
        (volume,) = dicom.read_series(save_slices(tmp_path / syntax, slices))
        assert np.abs(volume.data - (smooth.astype(int) - 1024)).max() < 40, syntax
        assert not np.array_equal(volume.data[0], smooth.astype(int) - 1024), syntax


def test_baseline_jpeg_of_a_projection(tmp_path: Path) -> None:
    frame = (np.add.outer(np.arange(40), np.arange(48)) * 2).astype(np.uint8)
    ds = image_header(DX, "DX")
    set_pixels(ds, frame)
    compress(ds, JPEG_BASELINE, [imagecodecs.jpeg8_encode(frame, level=95)])
    (volume,) = dicom.read_series(save(tmp_path / "x", ds))
    assert volume.data.dtype == np.uint8
    assert np.abs(volume.data[0].astype(int) - frame).max() < 6


def test_big_endian_and_implicit_and_deflated(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((3, 5, 7))
    for syntax in (ExplicitVRBigEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        folder = tmp_path / syntax
        folder.mkdir()
        for k, ds in enumerate(ct_slices(voxels)):
            ds.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                ds.PixelData = voxels[k].byteswap().tobytes() + b"\0" * (voxels[k].nbytes % 2)
            dcmwrite(folder / f"{k}", ds, enforce_file_format=True)
        (volume,) = dicom.read_series(folder)
        assert np.array_equal(volume.data, voxels.astype(int) - 1024), syntax


def test_bytes_in_big_endian_words_are_swapped_back(tmp_path: Path) -> None:
    frame = np.arange(48, dtype=np.uint8).reshape(6, 8)
    ds = image_header(DX, "DX")
    set_pixels(ds, frame)
    ds.PixelData = frame.reshape(-1, 2)[:, ::-1].tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dcmwrite(tmp_path / "x", ds, enforce_file_format=True)
    (volume,) = dicom.read_series(tmp_path / "x")
    assert np.array_equal(volume.data[0], frame)


def test_frames_in_several_fragments(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((3, 17, 23))
    ds = enhanced(voxels)
    frames = [imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True) for frame in voxels]
    for has_table in (True, False):
        ds.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=has_table)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = J2K_LOSSLESS
        (volume,) = dicom.read_series(save(tmp_path / f"{has_table}", ds))
        assert np.array_equal(volume.data, voxels.astype(int) - 1024)


def test_a_deflated_enhanced_file(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((4, 6, 5))
    ds = enhanced(voxels)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    (volume,) = dicom.read_series(save(tmp_path / "d", ds))
    assert np.array_equal(volume.data, voxels.astype(int) - 1024)


def test_a_wrongly_declared_syntax_is_read_and_said(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((2, 17, 23))
    slices = ct_slices(voxels)
    for ds, frame in zip(slices, voxels, strict=True):
        compress(ds, J2K_LOSSLESS, [imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True)])
    save_slices(tmp_path / "compressed", slices)
    for file in (tmp_path / "compressed").iterdir():
        wrong = b"1.2.840.10008.1.2.1\0\0\0"
        file.write_bytes(file.read_bytes().replace(J2K_LOSSLESS.encode(), wrong, 1))
    (volume,) = dicom.read_series(tmp_path / "compressed")
    assert np.array_equal(volume.data, voxels.astype(int) - 1024)
    assert any("declared uncompressed" in warning for warning in volume.warnings)


def colour_image(photometric: str, pixels: np.ndarray, *, is_planar: bool = False) -> Dataset:
    ds = image_header(US, "US")
    ds.Rows, ds.Columns, ds.SamplesPerPixel = pixels.shape[0], pixels.shape[1], 3
    ds.PhotometricInterpretation, ds.PlanarConfiguration = photometric, int(is_planar)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = (np.moveaxis(pixels, -1, 0) if is_planar else pixels).tobytes()
    ds["PixelData"].VR = "OB"
    return ds


COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
BRIGHTNESS = np.array([[76, 150], [29, 255]])


@pytest.mark.parametrize("is_planar", [False, True])
def test_colour_becomes_luminance(tmp_path: Path, is_planar: bool) -> None:
    (volume,) = dicom.read_series(save(tmp_path / "us", colour_image("RGB", COLOURS, is_planar=is_planar)))
    assert np.array_equal(volume.data[0], BRIGHTNESS)
    assert any("luminance" in warning for warning in volume.warnings)


def test_luminance_colour_models_give_their_first_sample(tmp_path: Path) -> None:
    full = np.stack([np.arange(64).reshape(8, 8) + 50, np.full((8, 8), 90), np.full((8, 8), 200)], -1).astype(np.uint8)
    (volume,) = dicom.read_series(save(tmp_path / "full", colour_image("YBR_FULL", full)))
    assert np.array_equal(volume.data[0], full[..., 0])
    ds = colour_image("YBR_FULL_422", full)
    pairs = full.reshape(-1, 2, 3)
    ds.PixelData = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], -1).tobytes()
    (volume,) = dicom.read_series(save(tmp_path / "half", ds))
    assert np.array_equal(volume.data[0], full[..., 0])
    grey = np.stack([full[..., 0]] * 3, -1)
    ds = colour_image("YBR_FULL_422", full)
    compress(ds, JPEG_BASELINE, [imagecodecs.jpeg8_encode(grey, level=95)])
    (volume,) = dicom.read_series(save(tmp_path / "jpeg", ds))
    assert np.abs(volume.data[0].astype(int) - full[..., 0]).max() < 6
    ds = colour_image("RGB", COLOURS)
    compress(ds, RLE, [rle(COLOURS)])
    (volume,) = dicom.read_series(save(tmp_path / "rle", ds))
    assert np.array_equal(volume.data[0], BRIGHTNESS)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    ds = image_header(US, "US")
    set_pixels(ds, np.array([[0, 1], [2, 3]], np.uint8))
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for n, colour in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        table = COLOURS.reshape(-1, 3)[:, n].astype(np.uint16) * 257
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.tobytes())
    (volume,) = dicom.read_series(save(tmp_path / "p", ds))
    assert np.array_equal(volume.data[0], BRIGHTNESS)


def test_a_modality_table_is_applied(tmp_path: Path) -> None:
    ds = image_header(DX, "DX")
    set_pixels(ds, np.array([[10, 11], [12, 13]], np.uint16))
    item = Dataset()
    item.add_new(0x00283002, "US", [4, 10, 16])
    item.add_new(0x00283006, "OW", np.array([500, 400, 300, 65000], np.uint16).tobytes())
    item.ModalityLUTType = "US"
    ds.ModalityLUTSequence = [item]
    (volume,) = dicom.read_series(save(tmp_path / "x", ds))
    assert volume.data.tolist() == [[[500, 400], [300, 65000]]]
    assert any("lookup table" in warning for warning in volume.warnings)


def test_inverted_images_are_turned_round_and_it_is_said(tmp_path: Path) -> None:
    ds = image_header(DX, "DX")
    set_pixels(ds, np.array([[0, 100], [4000, 4095]], np.uint16), bits_stored=12)
    ds.PhotometricInterpretation, ds.ImagerPixelSpacing = "MONOCHROME1", [0.2, 0.1]
    (volume,) = dicom.read_series(save(tmp_path / "x", ds))
    assert volume.data.tolist() == [[[4095, 3995], [95, 0]]]
    assert volume.spacing_mm[1:] == pytest.approx((0.2, 0.1))
    assert any("MONOCHROME1" in warning for warning in volume.warnings)
    assert any("no position in the patient" in warning for warning in volume.warnings)


def test_a_cine_is_frames_in_time_and_not_a_volume(tmp_path: Path) -> None:
    frames = asymmetric_voxels((5, 6, 8)).astype(np.uint8)
    ds = image_header(US_CINE, "US")
    set_pixels(ds, frames)
    region = Dataset()
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 3, 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.03, 0.05
    ds.SequenceOfUltrasoundRegions = [region]
    path = save(tmp_path / "us", ds)
    volumes = dicom.read_series(path)
    assert [volume.data.shape for volume in volumes] == [(1, 6, 8)] * 5
    assert all(np.array_equal(volume.data[0], frame) for volume, frame in zip(volumes, frames, strict=True))
    assert volumes[0].spacing_mm[1:] == pytest.approx((0.5, 0.3))
    assert "in time, not in space" in volumes[0].warnings[0]
    assert volumes[3].name.endswith("frame 4")
    first = dicom.read_first(path)
    assert np.array_equal(first.data[0], frames[0])
    (info,) = dicom.list_series(path)
    assert (info.n_frames, info.n_slices) == (5, 1)


def test_single_bits_and_floats(tmp_path: Path) -> None:
    ds = image_header(DX, "OT")
    bits = np.arange(35).reshape(5, 7) % 3 == 0
    set_pixels(ds, bits.astype(np.uint8))
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes() + b"\0"
    (volume,) = dicom.read_series(save(tmp_path / "bits", ds))
    assert np.array_equal(volume.data[0], bits)
    ds = image_header(DX, "OT")
    values = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    set_pixels(ds, values)
    del ds.PixelData
    ds.FloatPixelData = values.tobytes()
    (volume,) = dicom.read_series(save(tmp_path / "float", ds))
    assert volume.data.dtype == np.float32
    assert np.array_equal(volume.data[0], values)


def test_a_dose_grid_takes_its_offsets(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((4, 5, 6))
    (ds, *_) = ct_slices(voxels)
    set_pixels(ds, voxels)
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"
    ds.GridFrameOffsetVector, ds.DoseGridScaling = [0, 3, 6, 9], 0.001
    (volume,) = dicom.read_series(save(tmp_path / "dose", ds))
    assert volume.spacing_mm == pytest.approx((3.0, 0.8, 0.6))
    assert np.allclose(volume.data, voxels * 0.001)


def test_a_nuclear_tomogram_takes_its_slice_vector(tmp_path: Path) -> None:
    voxels = asymmetric_voxels((4, 5, 6))
    (ds, *_) = ct_slices(voxels)
    set_pixels(ds, voxels)
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.20", "NM"
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = (
        ds.ImagePositionPatient,
        ds.ImageOrientationPatient,
    )
    ds.DetectorInformationSequence = [detector]
    ds.SliceVector, ds.SpacingBetweenSlices = [2, 1, 3, 4], 3.5
    (volume,) = dicom.read_series(save(tmp_path / "nm", ds))
    assert volume.spacing_mm == pytest.approx((3.5, 0.8, 0.6))
    assert np.array_equal(volume.data, voxels[[1, 0, 2, 3]].astype(int) - 1024)


def test_an_inflated_data_set_is_bounded(tmp_path: Path) -> None:
    (ds, *_) = ct_slices(asymmetric_voxels((1, 4, 5)))
    path = save(tmp_path / "bomb", ds)
    head = path.read_bytes()
    start = head.index(b"\x08\0\x08\0")
    meta = head[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    length = struct.unpack_from("<I", meta, 140)[0]
    at = meta.index(b"1.2.840.10008.1.2.1.99") - 2
    meta = meta[:140] + struct.pack("<I", length + 2) + meta[144:at] + struct.pack("<H", 22) + meta[at + 2 :]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(head[start : head.index(b"\xe0\x7f\x10\0")])
    for _ in range(100):
        body += packer.compress(b"\0" * 1024 * 1024)
    path.write_bytes(meta + body + packer.flush())
    with pytest.raises(ImagingError, match="inflate to more than a hundred times"):
        dicom.read_series(path)
