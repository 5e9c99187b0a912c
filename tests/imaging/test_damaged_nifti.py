"""Damaged and lying NIfTI files: each is refused in one sentence, quickly and without taking memory."""

from __future__ import annotations

import contextlib
import gzip
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest
from grid_phantom import SHAPE, label_phantom_ijk, order_affine, patch_nifti, phantom_ijk, save_nifti
from refusal import assert_refused

import napari_medseg as ms

AFFINE = order_affine((0, 1, 2), (-1, -1, 1), (10, -5, 20))
QFORM_ONLY = {"sform_code": 0}
NO_FORM = {"sform_code": 0, "qform_code": 0}
LYING_HEADERS = [
    ({"dim": (1, 0)}, "size is 0 x 8 x 10"),
    ({"dim": (2, -8)}, "size is 6 x -8 x 10"),
    ({"dim": (1, -1)}, "every size must be 1 or more"),
    ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, r"32767 x 32767 x 32767 voxels, which need 6.* TiB .* free"),
    ({"dim": [4, 6, 8, 10, 32767, 1, 1, 1]}, "ends too early: its header promises 30 MiB"),
    ({"dim": (3, 11)}, "ends too early"),
    ({"dim": (0, 0)}, "0 axes"),
    ({"dim": (0, 8)}, "8 axes"),
    ({"dim": (0, -3)}, "-3 axes"),
    ({"dim": [1, 480, 1, 1, 1, 1, 1, 1]}, "line of 480 numbers"),
    ({"dim": [5, 6, 8, 2, 1, 5, 1, 1]}, "5 components in each voxel"),
    ({"dim": [5, 6, 8, 1, 2, 5, 1, 1], "intent_code": 1007}, "5 components in each voxel"),
    ({"datatype": 0}, "no known type"),
    ({"datatype": 1, "bitpix": 1}, "single bits"),
    ({"datatype": 32, "bitpix": 64}, "complex numbers"),
    ({"datatype": 128, "bitpix": 24}, "RGB colours"),
    ({"datatype": 1536, "bitpix": 128}, "128-bit floats"),
    ({"datatype": 1792, "bitpix": 128}, "complex numbers"),
    ({"datatype": 2048, "bitpix": 256}, "complex numbers"),
    ({"datatype": 2304, "bitpix": 32}, "RGBA colours"),
    ({"datatype": 9999}, "unknown data type 9999"),
    ({"datatype": -4}, "unknown data type -4"),
    ({"datatype": 64, "bitpix": 64}, "ends too early"),
    ({"bitpix": 8}, "16 bits a voxel but the header says 8"),
    ({"vox_offset": 0}, "byte 0, inside the header"),
    ({"vox_offset": 100}, "byte 100, inside the header"),
    ({"vox_offset": 348}, "byte 348, inside the header"),
    ({"vox_offset": -352}, "byte -352, which is no place"),
    ({"vox_offset": 352.5}, "byte 352.5, which is no place"),
    ({"vox_offset": np.nan}, "byte nan, which is no place"),
    ({"vox_offset": np.inf}, "byte inf, which is no place"),
    ({"vox_offset": 1e12}, "ends too early"),
    ({"vox_offset": 368}, "ends too early"),
    ({"srow_x": [0, 0, 0, 0], "srow_y": [0, 0, 0, 0], "srow_z": [0, 0, 0, 0]}, "unusable orientation: .* zero"),
    ({"srow_z": [0, 0, 0, 5]}, "singular"),
    ({"srow_y": [-0.75, 0.1, 0.1, 0], "srow_x": [-0.75, 0.1, 0.1, 0]}, "singular"),
    ({"srow_x": [1, 1, 0, 0], "srow_y": [2, 2, 0, 0], "srow_z": [0, 0, 1, 0]}, "singular"),
    ({"srow_x": (2, np.nan)}, "finite"),
    ({"srow_y": (3, np.inf)}, "finite"),
    ({"srow_x": (0, 1e38), "srow_y": (0, 1e38)}, "too large to be real"),
    ({**QFORM_ONLY, "quatern_b": 5.0}, "rotation .* that is no rotation"),
    ({**QFORM_ONLY, "quatern_c": np.nan}, "no rotation"),
    ({**QFORM_ONLY, "pixdim": (2, 0)}, "voxel size 0 along axis 2"),
    ({**QFORM_ONLY, "pixdim": (3, np.nan)}, "voxel size nan along axis 3"),
    ({**QFORM_ONLY, "pixdim": (1, np.inf)}, "voxel size inf along axis 1"),
    ({**QFORM_ONLY, "qoffset_z": np.nan}, "finite"),
    ({**NO_FORM, "pixdim": (1, 0)}, "voxel size 0 along axis 1"),
    ({"scl_slope": 2.0, "scl_inter": np.nan}, "slope of 2 but the intercept nan"),
    ({"scl_slope": 2.0, "scl_inter": np.inf}, "slope of 2 but the intercept inf"),
    ({"magic": b"nope"}, "magic is b'nope'"),
    ({"magic": b""}, "Analyze 7.5 file, which does not say which side is left"),
    ({"magic": b"n+2"}, r"magic is b'n\+2' instead of n\+1"),
    ({"magic": b"ni1"}, "in an .img file, which is missing"),
    ({"sizeof_hdr": 347}, "scan"),
]


@pytest.fixture
def scan(tmp_path):
    return save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)


@pytest.mark.parametrize(("lie", "match"), LYING_HEADERS, ids=lambda value: str(value)[:50])
@pytest.mark.parametrize("packed", [False, True], ids=["nii", "gz"])
def test_a_lying_header_is_refused(scan, lie, match, packed):
    patch_nifti(scan, **lie)
    if packed:
        path = scan.with_name("scan.nii.gz")
        path.write_bytes(gzip.compress(scan.read_bytes()))
        if "ends too early" in match:
            match = "ends too early"
        scan = path
    if "sizeof_hdr" in lie:
        match = "no NIfTI header|instead of a NIfTI scan"
    assert_refused(scan, match)


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        ({"dim": (1, 2**62)}, "4611686018427387904 x 8 x 10"),
        ({"dim": [3, 2**40, 2**40, 2**40, 1, 1, 1, 1]}, "free"),
        ({"dim": (2, -(2**62))}, "every size must be 1 or more"),
        ({"vox_offset": 400}, "inside the header"),
        ({"vox_offset": 2**62}, "no place"),
        ({"eol_check": [13, 10, 10, 10]}, "transfer as text"),
        ({"magic": b"n+1"}, "magic"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_lying_header_of_nifti2_is_refused(tmp_path, lie, match):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, kind=nib.Nifti2Image)
    assert_refused(patch_nifti(path, **lie), match)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 100, 200, 343, 347, 348, 349, 351, 352, 353, 700, 1310, 1311])
def test_a_cut_off_file_is_refused(scan, length):
    scan.write_bytes(scan.read_bytes()[:length])
    assert_refused(scan, "empty|ends|no known format|no NIfTI header|text")


@pytest.mark.parametrize("part", [0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, -9, -8, -7, -4, -1])
def test_a_cut_off_gzip_is_refused(scan, part):
    packed = gzip.compress(scan.read_bytes())
    path = scan.with_name("scan.nii.gz")
    path.write_bytes(packed[: part if part < 0 else max(3, int(part * len(packed)))])
    assert_refused(path, "ends too early|damaged")


@pytest.mark.parametrize("place", [-1, -2, -4, -5, -6, -8, 4000, 700, 600, 500])
def test_a_flipped_byte_in_a_gzip_is_refused(scan, place):
    noise = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    packed = bytearray(gzip.compress(save_nifti(scan, noise, AFFINE).read_bytes()))
    place = place if place < 0 else place % (len(packed) - 20) + 10
    packed[place] ^= 0x55
    path = scan.with_name("scan.nii.gz")
    path.write_bytes(packed)
    assert_refused(path, "damaged|ends too early|unusable|header|says|NIfTI")


def test_a_wrong_checksum_alone_is_noticed_although_every_voxel_is_there(scan):
    packed = bytearray(gzip.compress(scan.read_bytes()))
    packed[-8] ^= 1
    path = scan.with_name("scan.nii.gz")
    path.write_bytes(packed)
    assert nib.load(path).get_fdata().shape == SHAPE
    assert_refused(path, "checksum")


def test_garbage_after_a_gzip_is_refused(scan):
    path = scan.with_name("scan.nii.gz")
    path.write_bytes(gzip.compress(scan.read_bytes()) + b"garbage, more than ten bytes")
    assert_refused(path, "damaged")


def test_a_bomb_is_refused_after_a_bounded_surplus(scan):
    path = scan.with_name("scan.nii.gz")
    packer = zlib.compressobj(9, 8, 31)
    with path.open("wb") as file:
        file.write(packer.compress(scan.read_bytes()))
        for _ in range(80):
            file.write(packer.compress(bytes(1024 * 1024)))
        file.write(packer.flush())
    assert_refused(path, "more than its header says")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"patient,age\n1,40\n", "text, not a scan"),
        (gzip.compress(b"hello, this is a text\n" * 40), "compressed, but a text is inside"),
        (gzip.compress(gzip.compress(bytes(1000))), "compressed, but something else is inside"),
        (gzip.compress(b""), "compressed, but"),
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(50), "ZIP archive; unpack it"),
        (b"BZh91AY&SY" + bytes(50), "bzip2"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (bytes(2000), "no NIfTI header"),
        (bytes(range(256)) * 8, "no NIfTI header"),
        (b"<html><body>404 Not Found</body></html>", "text, not a scan"),
        (struct.pack("<i", 348), "ends inside its header"),
        (struct.pack(">i", 540) + bytes(100), "ends inside its header"),
    ],
    ids=[
        "csv",
        "gz-text",
        "gz-gz",
        "gz-empty",
        "empty",
        "zip",
        "bz2",
        "hdf5",
        "zeros",
        "bytes",
        "html",
        "stub",
        "stub2",
    ],
)
@pytest.mark.parametrize("read", [ms.read_volumes, ms.read_label_map])
def test_what_is_no_nifti_is_said(tmp_path, content, match, read):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    assert_refused(path, match, read)


@pytest.mark.parametrize("missing", [".hdr", ".img"])
def test_half_a_pair_is_refused(tmp_path, missing):
    nib.save(nib.Nifti1Pair(phantom_ijk(), AFFINE), tmp_path / "scan.hdr")
    (tmp_path / f"scan{missing}").unlink()
    other = ".img" if missing == ".hdr" else ".hdr"
    assert_refused(tmp_path / f"scan{other}", r"\.hdr file into|missing; put it")


def test_a_cut_off_pair_is_refused(tmp_path):
    nib.save(nib.Nifti1Pair(phantom_ijk(), AFFINE), tmp_path / "scan.hdr")
    (tmp_path / "scan.img").write_bytes((tmp_path / "scan.img").read_bytes()[:-3])
    assert_refused(tmp_path / "scan.hdr", r"scan\.img ends too early")


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_to_the_header_never_ends_in_anything_but_a_scan_or_a_sentence(scan, seed):
    rng = np.random.default_rng(seed)
    raw = bytearray(scan.read_bytes())
    for _ in range(rng.integers(1, 6)):
        raw[rng.integers(0, 352)] = rng.integers(0, 256)
    scan.write_bytes(raw)
    for read in (ms.read_volume, ms.read_label_map):
        with contextlib.suppress(ms.MedSegError):
            assert np.isfinite(read(scan).affine).all()


def test_a_mask_of_many_volumes_says_that_it_is_the_first(tmp_path):
    data = np.stack([label_phantom_ijk(), label_phantom_ijk() * 2], axis=-1)
    mask = ms.read_label_map(save_nifti(tmp_path / "mask.nii", data, AFFINE))
    assert mask.data.max() == 3
    assert "holds 2 volumes" in mask.warnings[0]
