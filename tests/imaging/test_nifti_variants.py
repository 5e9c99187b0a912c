"""NIfTI files as programs, archives and careless copies leave them: in the right place, with the right words."""

from __future__ import annotations

import bz2
import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from grid_phantom import SHAPE, label_phantom_ijk, order_affine, patch_nifti, phantom_ijk, save_nifti
from refusal import assert_refused

import napari_medseg as ms
from napari_medseg.imaging.orientation import to_disk

AFFINE = order_affine((0, 1, 2), (-1, -1, 1), (10, -5, 20))
QFORM_ONLY = {"sform_code": 0}


def assert_as_nibabel(path):
    """Compare voxels and every corner with what nibabel makes of the file; return the volume."""
    volume, image = ms.read_volume(path), nib.load(path)
    expected = np.asarray(image.dataobj)
    expected = expected.reshape((*expected.shape[:3], *[1] * (3 - expected.ndim), -1))[..., 0]
    np.testing.assert_allclose(to_disk(volume.data, volume.grid), expected, rtol=1e-6)
    for corner in np.ndindex(2, 2, 2):
        ijk = np.array(corner) * (np.array(expected.shape) - 1)
        ends = zip(volume.grid.axes, volume.grid.flips, volume.data.shape, strict=True)
        zyx = [n - 1 - ijk[axis] if flip else ijk[axis] for axis, flip, n in ends]
        np.testing.assert_allclose(volume.position_of(np.array(zyx)), (image.affine @ [*ijk, 1])[:3], atol=1e-3)
    return volume


@pytest.mark.parametrize(
    "header",
    [
        {},
        QFORM_ONLY,
        {**QFORM_ONLY, "pixdim": (0, 0)},
        {**QFORM_ONLY, "pixdim": (0, -1)},
        {**QFORM_ONLY, "pixdim": (0, 1)},
        {"qform_code": 0},
        {"sform_code": 99},
        {"sform_code": 2, "qform_code": 4},
        {"dim": [3, 6, 8, 10, -5, 0, 77, 3]},
        {"dim": [4, 6, 8, 10, 1, 1, 1, 1]},
        {"dim": [7, 6, 8, 10, 1, 1, 1, 1]},
        {"xyzt_units": 0},
        {"xyzt_units": 10},
        {"intent_code": 1002},
        {"intent_code": 3},
        {"cal_max": np.nan, "cal_min": np.inf},
        {"slice_code": 77, "dim_info": 255},
        {"descrip": b"\xff" * 80, "aux_file": b"\xfe" * 24, "intent_name": b"\xfd" * 16},
        {"glmax": -5, "toffset": np.nan, "slice_duration": np.inf},
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_does_not_matter_changes_nothing(tmp_path, header):
    volume = assert_as_nibabel(save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, **header))
    assert volume.warnings == ()
    assert volume.sides_are_known


@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 8, 1), (6, 1, 10), (1, 8, 10), (6, 8), (300, 2, 2)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_flat_and_thin_scans(tmp_path, shape, order):
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    assert assert_as_nibabel(save_nifti(tmp_path / "scan.nii", data, order_affine(order, (1, -1, 1)))).warnings == ()


@pytest.mark.parametrize("angles", [(45, 0, 0), (44.9, 44.9, 0), (30, 30, 30), (0, 0, 90), (180, 0, 0), (1, 1, 1)])
def test_oblique_scans(tmp_path, angles):
    assert_as_nibabel(save_nifti(tmp_path / "scan.nii", phantom_ijk(), order_affine((0, 1, 2), (1, 1, 1), angles)))


@pytest.mark.parametrize(("part", "warns"), [(0.4, True), (0.05, True), (0.005, False)])
def test_axes_that_are_not_perpendicular_are_told(tmp_path, part, warns):
    affine = AFFINE.copy()
    affine[:3, 1] += part * affine[:3, 0]
    volume = assert_as_nibabel(save_nifti(tmp_path / "scan.nii", phantom_ijk(), affine, qform_code=0))
    assert any("not perpendicular (sheared by" in warning for warning in volume.warnings) == warns


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "expected"),
    [
        ("i2", 1, -1024, "i2"),
        ("u2", 1, -1024, "i2"),
        ("u1", 2, 0, "i2"),
        ("i2", 3, 0, "i4"),
        ("i2", -1, 0, "i2"),
        ("i2", 0.5, 0, "f4"),
        ("i2", 1, 0.25, "f4"),
        ("i4", 100000, 0, "f4"),
        ("f4", 2, 1, "f4"),
        ("f8", 2, 1, "f8"),
        ("i2", 1e30, 0, "f4"),
    ],
)
def test_whole_slopes_and_intercepts_keep_integers(tmp_path, dtype, slope, intercept, expected):
    data = phantom_ijk(np.int32) % 250 if dtype == "u1" else phantom_ijk(np.int32)
    path = save_nifti(tmp_path / "scan.nii", data.astype(dtype), AFFINE, scl_slope=slope, scl_inter=intercept)
    assert assert_as_nibabel(path).data.dtype == np.dtype(expected)


@pytest.mark.parametrize(("shape", "n"), [((3,), 3), ((2, 3), 6), ((1, 1, 1, 4), 4), ((2, 1, 2), 4)])
def test_axes_beyond_space_are_volumes_and_never_space(tmp_path, shape, n):
    data = (
        np.arange(480 * n, dtype=np.int16)
        .reshape((n, *SHAPE))
        .transpose(1, 2, 3, 0)
        .reshape((*SHAPE, *shape), order="F")
    )
    volumes = ms.read_volumes(save_nifti(tmp_path / "run.nii", data, AFFINE))
    assert len(volumes) == n
    for t, volume in enumerate(volumes):
        np.testing.assert_array_equal(to_disk(volume.data, volume.grid), np.arange(480).reshape(SHAPE) + 480 * t)


def packed(raw: bytes, variant: str) -> bytes:
    half = len(raw) // 2
    return {
        "plain": gzip.compress(raw, mtime=0),
        "stored": gzip.compress(raw, compresslevel=0),
        "members": gzip.compress(raw[:half]) + gzip.compress(raw[half:]),
        "padding": gzip.compress(raw) + bytes(512),
        "name and comment": b"\x1f\x8b\x08\x18" + bytes(6) + b"scan.nii\0hello\0" + gzip.compress(raw, mtime=0)[10:],
    }[variant]


@pytest.mark.parametrize("variant", ["plain", "stored", "members", "padding", "name and comment"])
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "Ünïcode 患者 scan.nii.gz", "s" * 240 + ".nii.gz", "scan"])
def test_gzip_of_every_kind_under_every_name(tmp_path, variant, name):
    raw = save_nifti(tmp_path / "raw.nii", phantom_ijk(), AFFINE).read_bytes()
    (tmp_path / name).write_bytes(packed(raw, variant))
    volume = ms.read_volume(tmp_path / name)
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), phantom_ijk())
    assert volume.warnings == ()


def test_an_extension_of_the_header_is_skipped_even_if_it_lies_about_its_size(tmp_path):
    image = nib.Nifti1Image(phantom_ijk(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello" * 50))
    nib.save(image, tmp_path / "scan.nii")
    assert_as_nibabel(tmp_path / "scan.nii")
    raw = bytearray((tmp_path / "scan.nii").read_bytes())
    raw[352:356] = struct.pack("<i", 2**31 - 1)
    (tmp_path / "scan.nii").write_bytes(raw)
    np.testing.assert_array_equal(to_disk(*_of(ms.read_volume(tmp_path / "scan.nii"))), phantom_ijk())


def _of(volume):
    return volume.data, volume.grid


def test_raw_voxels_of_a_pair_that_begin_as_gzip_does(tmp_path):
    data = phantom_ijk()
    data[0, 0, 0] = 0x8B1F - 65536
    nib.save(nib.Nifti1Pair(data, AFFINE), tmp_path / "scan.hdr")
    assert_as_nibabel(tmp_path / "scan.hdr")


def test_a_pair_whose_voxels_are_packed_without_saying_so(tmp_path):
    nib.save(nib.Nifti1Pair(phantom_ijk(), AFFINE), tmp_path / "scan.hdr")
    image = tmp_path / "scan.img"
    image.write_bytes(gzip.compress(image.read_bytes()))
    np.testing.assert_array_equal(to_disk(*_of(ms.read_volume(tmp_path / "scan.hdr"))), phantom_ijk())


def test_links_are_followed(tmp_path):
    (tmp_path / "link.nii").symlink_to(save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE))
    assert_as_nibabel(tmp_path / "link.nii")


@pytest.mark.parametrize("target", ["nowhere.nii", "scan.nii"])
def test_links_to_nothing_or_to_themselves_are_refused(tmp_path, target):
    (tmp_path / "scan.nii").symlink_to(tmp_path / target)
    assert_refused(tmp_path / "scan.nii", "does not exist")


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"srow_x": (3, 1e12)}, "no place in a scanner"),
        ({"srow_z": (3, -1e30)}, "no place in a scanner"),
        ({**QFORM_ONLY, "qoffset_y": 1e9}, "no place in a scanner"),
        ({"xyzt_units": 1, "srow_x": [2000, 0, 0, 0]}, "too large to be real"),
        (
            {"xyzt_units": 3, "srow_x": [0.01, 0, 0, 0], "srow_y": [0, 0.01, 0, 0], "srow_z": [0, 0, 0.01, 0]},
            "too small",
        ),
        ({**QFORM_ONLY, "quatern_b": 0.9, "quatern_c": 0.9}, "no rotation"),
        ({"dim": [3, -32768, 8, 10, 1, 1, 1, 1]}, "size is -32768"),
        ({"dim": [3, 32767, 32767, 1, 1, 1, 1, 1]}, "ends too early"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_placed_is_refused(tmp_path, header, match):
    assert_refused(save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, **header), match)


def test_transfer_as_text_and_garbage_in_front_are_refused(tmp_path):
    raw = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE).read_bytes()
    for spoilt in (raw.replace(b"\n", b"\r\n"), bytes(128) + raw, raw[4:], raw[::-1]):
        (tmp_path / "scan.nii").write_bytes(spoilt)
        assert_refused(tmp_path / "scan.nii", "scan")


def test_other_packings_are_named(tmp_path):
    raw = save_nifti(tmp_path / "raw.nii", phantom_ijk(), AFFINE).read_bytes()
    for name, content, match in (
        ("scan.nii.bz2", bz2.compress(raw), "bzip2; unpack it"),
        ("scan.nii.gz", gzip.compress(gzip.compress(raw)), "something else is inside"),
    ):
        (tmp_path / name).write_bytes(content)
        assert_refused(tmp_path / name, match)


def test_a_picture_of_colours_is_refused(tmp_path):
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, AFFINE), tmp_path / "scan.nii")
    assert_refused(tmp_path / "scan.nii", "RGB colours")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_masks_of_every_type(tmp_path, dtype, order):
    image = nib.Nifti1Image(label_phantom_ijk().astype(order + dtype), AFFINE, dtype=np.dtype(order + dtype))
    image.header.set_data_dtype(order + dtype)
    nib.save(image, tmp_path / "mask.nii")
    mask = ms.read_label_map(tmp_path / "mask.nii")
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(to_disk(mask.data, mask.grid), label_phantom_ijk())


@pytest.mark.parametrize(
    ("data", "header", "match"),
    [
        (label_phantom_ijk(np.int64) * 2_000_000_000, {}, r"label 6e\+09; labels are 0 to 65535"),
        (-label_phantom_ijk(np.int16), {}, "negative value -3"),
        (label_phantom_ijk(), {"scl_slope": 0.5}, "fraction 1.5"),
        (label_phantom_ijk() / 3.0, {}, "fraction 0.66"),
        (np.where(label_phantom_ijk() == 3, np.nan, 0.0), {}, "not a number"),
        (np.where(label_phantom_ijk() == 3, np.inf, 0.0), {}, "not a number"),
        (label_phantom_ijk(), {"scl_slope": 70000.0}, "labels are 0 to 65535"),
    ],
    ids=["huge", "negative", "halves", "thirds", "nan", "infinite", "scaled"],
)
def test_masks_that_are_none(tmp_path, data, header, match):
    assert_refused(save_nifti(tmp_path / "mask.nii", data, AFFINE, **header), match, ms.read_label_map)


def test_a_damaged_qform_beside_a_good_sform_is_told(tmp_path):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    volume = ms.read_volume(patch_nifti(path, quatern_b=5.0))
    assert volume.warnings == ("scan.nii has a damaged qform; its sform was used.",)
