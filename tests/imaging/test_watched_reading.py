"""Reading tells how far it is and stops midway, in every format, and gives the same voxels as unwatched reading."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from dicom_phantom import ct_slices, save_slices
from PIL import Image

import napari_medseg as ms
from napari_medseg.errors import Cancelled
from napari_medseg.imaging import content, nifti, tiff_pages
from napari_medseg.imaging.files import read_label_map, read_volumes

VOXELS = (np.arange(40 * 96 * 128, dtype=np.int64).reshape(40, 96, 128) * 48271 % 65521).astype(np.int16)
LABELS = (VOXELS > 0).astype(np.int16) * np.int16(300)


def nifti_file(path: Path, voxels: np.ndarray) -> Path:
    image = nib.Nifti1Image(voxels.T, np.diag([1.0, 1.0, 2.0, 1.0]))
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)
    return path


def nifti_4d(path: Path, voxels: np.ndarray) -> Path:
    return nifti_file(path, np.stack([voxels, voxels[::-1]]))


def scaled_nifti(path: Path, voxels: np.ndarray) -> Path:
    raw = bytearray(gzip.decompress(nifti_file(path, voxels).read_bytes()))
    raw[112:116] = np.float32(0.5).tobytes()
    path.write_bytes(gzip.compress(bytes(raw), 1))
    return path


def nrrd_file(path: Path, voxels: np.ndarray, encoding: str = "gzip") -> Path:
    fields = ("type: short", "dimension: 3", "sizes: 128 96 40", "endian: little", f"encoding: {encoding}")
    raw = voxels.astype("<i2").tobytes()
    body = gzip.compress(raw, 1) if encoding == "gzip" else raw
    path.write_bytes("\n".join(["NRRD0004", *fields]).encode() + b"\n\n" + body)
    return path


def meta_file(path: Path, voxels: np.ndarray) -> Path:
    fields = ("ObjectType = Image", "NDims = 3", "DimSize = 128 96 40", "ElementType = MET_SHORT")
    header = "\n".join([*fields, "ElementSpacing = 1 1 2", "ElementDataFile = LOCAL"])
    path.write_bytes(header.encode() + b"\n" + voxels.astype("<i2").tobytes())
    return path


def tiff_file(path: Path, voxels: np.ndarray, **how: str) -> Path:
    tifffile.imwrite(path, voxels, photometric="minisblack", **how)
    return path


def picture_folder(path: Path, voxels: np.ndarray) -> Path:
    path.mkdir()
    for k, plane in enumerate(voxels):
        Image.fromarray((plane & 255).astype(np.uint8)).save(path / f"p{k:03d}.png")
    return path


def dicom_folder(path: Path, voxels: np.ndarray) -> Path:
    return save_slices(path, ct_slices(voxels))


MAKERS = {
    "scan.nii.gz": nifti_file,
    "scan.nii": nifti_file,
    "time.nii.gz": nifti_4d,
    "half.nii.gz": scaled_nifti,
    "gzip.nrrd": nrrd_file,
    "raw.nrrd": lambda path, voxels: nrrd_file(path, voxels, "raw"),
    "scan.mha": meta_file,
    "plain.tif": tiff_file,
    "big_endian.tif": lambda path, voxels: tiff_file(path, voxels, byteorder=">"),
    "packed.tif": lambda path, voxels: tiff_file(path, voxels, compression="zlib"),
    "pictures": picture_folder,
    "dicom": dicom_folder,
}


@pytest.fixture(autouse=True)
def _everything_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "_AT_ONCE_WATCHED", 0)
    monkeypatch.setattr(tiff_pages, "_LEAST_WATCHED", 0)
    monkeypatch.setattr(content, "_RAW_CHUNK", 64 * 1024)


@pytest.mark.parametrize("name", MAKERS)
def test_progress_rises_to_the_end_and_the_voxels_are_those_of_unwatched_reading(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, VOXELS)
    told: list[float] = []
    watched = read_volumes(path, progress=told.append, should_stop=lambda: False)
    plain = ms.read_volumes(path)
    assert len(watched) == len(plain)
    for one, other in zip(watched, plain, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_allclose(one.affine, other.affine)
        assert one.warnings == other.warnings
    assert told == sorted(set(told))
    assert told[0] >= 0
    assert 0.8 < told[-1] <= 1
    assert len(told) < 110


@pytest.mark.parametrize("name", MAKERS)
def test_reading_stops_midway(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, VOXELS)
    told: list[float] = []
    with pytest.raises(Cancelled):
        read_volumes(path, progress=told.append, should_stop=lambda: bool(told))
    assert told[-1] < 0.9


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("half.nii.gz", "dicom")])
def test_masks_are_watched_too(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, LABELS)
    told: list[float] = []
    watched = read_label_map(path, progress=told.append)
    np.testing.assert_array_equal(watched.data, read_label_map(path).data)
    assert told == sorted(set(told))
    with pytest.raises(Cancelled):
        read_label_map(path, should_stop=lambda: True)


def test_a_damaged_checksum_is_noticed_while_somebody_watches(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "scan.nii.gz", VOXELS)
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ms.MedSegError, match="checksum"):
        read_volumes(path, progress=lambda share: None)


def test_a_seg_is_read_watched(tmp_path: Path) -> None:
    scan = ms.read_volume(dicom_folder(tmp_path / "scan", VOXELS[:6].view(np.uint16)))
    data = np.zeros(scan.data.shape, np.uint8)
    data[1:5, 20:30, 40:60] = 1
    mask = ms.LabelMap(data, scan.affine, {1: "lesion"}, scan.grid, metadata=scan.metadata)
    path = ms.write_label_map(tmp_path / "mask.dcm", mask)
    told: list[float] = []
    read_label_map(path, progress=told.append)
    assert told
    with pytest.raises(Cancelled):
        read_label_map(path, should_stop=lambda: True)
