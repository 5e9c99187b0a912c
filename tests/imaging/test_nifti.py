"""NIfTI: what is good, and what is odd but readable; nibabel is the reference."""

from __future__ import annotations

import gzip
import io
import struct

import nibabel as nib
import numpy as np
import pytest
from grid_phantom import MARKER, ORDERS, SHAPE, label_phantom_ijk, order_affine, phantom_ijk, save_nifti

import napari_medseg as ms
from napari_medseg.imaging import limits
from napari_medseg.imaging.orientation import memory_shape, to_disk

AFFINE = order_affine((0, 1, 2), (-1, -1, 1), (10, -5, 20))


def assert_as_nibabel(path):
    """Same voxels at the same places as nibabel says, in memory order."""
    volume, image = ms.read_volume(path), nib.load(path)
    expected = np.asarray(image.dataobj)
    np.testing.assert_allclose(volume.grid.affine, image.affine, atol=1e-6)
    np.testing.assert_allclose(to_disk(volume.data, volume.grid), expected.reshape(SHAPE))
    for index in ((0, 0, 0), MARKER, (5, 7, 9)):
        position = (image.affine @ (*index, 1))[:3]
        at = tuple(np.rint(volume.index_of(position)).astype(int))
        assert volume.data[at] == expected[index]
        np.testing.assert_allclose(volume.position_of(at), position, atol=1e-4)
    return volume


@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_a_marker_stays_where_it_is_through_read_write_and_reload(tmp_path, order, signs):
    affine = order_affine(order, signs)
    scan = save_nifti(tmp_path / "scan.nii", phantom_ijk(), affine)
    volume = assert_as_nibabel(scan)
    assert volume.warnings == ()

    at = np.unravel_index(np.argmax(volume.data), volume.data.shape)
    np.testing.assert_allclose(volume.position_of(at), (affine @ (*MARKER, 1))[:3], atol=1e-4)
    marked = np.zeros(volume.data.shape, np.uint8)
    marked[at] = 1
    marked[0, 0, 0] = 2
    written = ms.write_label_map(tmp_path / "mask.nii", ms.LabelMap(marked, volume.affine, grid=volume.grid))

    reloaded = nib.load(written)
    np.testing.assert_array_equal(reloaded.affine, nib.load(scan).affine)
    assert reloaded.shape == SHAPE
    assert np.argwhere(np.asarray(reloaded.dataobj) == 1).tolist() == [list(MARKER)]
    again = ms.read_label_map(written)
    np.testing.assert_array_equal(again.data, marked)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_type_and_byte_order_keeps_its_stored_type(tmp_path, dtype, order, kind):
    data = (phantom_ijk(np.int64) % 100).astype(dtype)
    image = kind(data, AFFINE, dtype=dtype)
    image = kind(data, AFFINE, image.header.as_byteswapped(order), dtype=np.dtype(dtype))
    nib.save(image, tmp_path / "scan.nii")
    assert (tmp_path / "scan.nii").read_bytes()[:2] in ((b"\x5c\x01", b"\x1c\x02") if order == "<" else (b"\0\0",))
    volume = assert_as_nibabel(tmp_path / "scan.nii")
    assert volume.data.dtype == np.dtype(dtype)
    assert volume.data.dtype.isnative


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.hdr", "scan.img", "scan"])
@pytest.mark.parametrize("packed", [True, False])
def test_gzip_is_recognised_by_content(tmp_path, name, packed):
    plain = save_nifti(tmp_path / "plain.nii", phantom_ijk(), AFFINE).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(plain) if packed else plain)
    volume = ms.read_volume(tmp_path / name)
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), phantom_ijk())
    assert volume.name == "scan"
    assert volume.path == tmp_path / name


def test_gzip_of_several_members_is_one_file(tmp_path):
    plain = save_nifti(tmp_path / "plain.nii", phantom_ijk(), AFFINE).read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]) + b"\0" * 64)
    volume = ms.read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), phantom_ijk())


@pytest.mark.parametrize("opened", ["scan.hdr", "scan.img"])
@pytest.mark.parametrize("packed", [True, False])
def test_pairs_open_by_either_file(tmp_path, opened, packed):
    nib.save(nib.Nifti1Pair(phantom_ijk(), AFFINE), tmp_path / "scan.hdr")
    if packed:
        for suffix in (".hdr", ".img"):
            plain = tmp_path / f"scan{suffix}"
            (tmp_path / f"scan{suffix}.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        opened += ".gz"
    volume = ms.read_volume(tmp_path / opened)
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), phantom_ijk())
    assert volume.name == "scan"


def test_slope_and_intercept_make_float32_intensities(tmp_path):
    save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, scl_slope=0.5, scl_inter=-1024)
    volume = assert_as_nibabel(tmp_path / "scan.nii")
    assert volume.data.dtype == np.float32
    assert volume.data.max() == 32000 * 0.5 - 1024


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 55.0), (np.nan, np.nan), (1.0, 0.0)])
def test_no_scaling_keeps_the_stored_integers(tmp_path, slope, intercept):
    save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, scl_slope=slope, scl_inter=intercept)
    volume = ms.read_volume(tmp_path / "scan.nii")
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), phantom_ijk())
    assert volume.warnings == ()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_each_volume_of_a_4d_file_is_a_scan_of_its_own(tmp_path, suffix):
    data = np.stack([phantom_ijk() + 100 * t for t in range(3)], axis=-1)
    path = save_nifti(tmp_path / f"run{suffix}", data, AFFINE)
    first = ms.read_volume(path)
    np.testing.assert_array_equal(to_disk(first.data, first.grid), data[..., 0])
    assert "holds 3 volumes; this is the first" in first.warnings[0]
    volumes = ms.read_volumes(path)
    assert [volume.name for volume in volumes] == ["run [1 of 3]", "run [2 of 3]", "run [3 of 3]"]
    for t, volume in enumerate(volumes):
        np.testing.assert_array_equal(to_disk(volume.data, volume.grid), data[..., t])
        assert volume.warnings == ()


@pytest.mark.parametrize(
    ("units", "factor", "word"), [(1, 1000.0, "metres"), (2, 1.0, ""), (3, 1e-3, "microns"), (0, 1, "")]
)
def test_units_of_length_are_honoured(tmp_path, units, factor, word):
    save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, xyzt_units=units)
    volume = ms.read_volume(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.grid.affine[:3], nib.load(tmp_path / "scan.nii").affine[:3] * factor, rtol=1e-9)
    assert [word in warning for warning in volume.warnings] == ([True] if word else [])


def test_qform_alone_is_used_as_nibabel_does(tmp_path):
    for number, angles in enumerate([(0, 0, 0), (180, 0, 0), (0, 180, 0), (0, 0, 180), (33, 71, -160)]):
        affine = order_affine((0, 1, 2), (1, 1, -1), angles)
        path = save_nifti(tmp_path / f"{number}.nii", phantom_ijk(), affine, sform_code=0)
        assert ms.read_volume(path).warnings == ()
        np.testing.assert_allclose(ms.read_volume(path).grid.affine, nib.load(path).affine, atol=1e-5)


def test_a_scan_without_orientation_says_so(tmp_path):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE, sform_code=0, qform_code=0)
    volume = assert_as_nibabel(path)
    assert len(volume.warnings) == 1
    assert "left and right may be swapped" in volume.warnings[0]


def test_sform_wins_over_a_qform_that_disagrees_and_the_distance_is_said(tmp_path):
    image = nib.Nifti1Image(phantom_ijk(), AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] += 5
    image.set_qform(moved, code=1)
    image.set_sform(AFFINE, code=2)
    nib.save(image, tmp_path / "scan.nii")
    volume = assert_as_nibabel(tmp_path / "scan.nii")
    assert "5 mm apart (sform and qform disagree)" in volume.warnings[0]


@pytest.mark.parametrize("seed", range(5))
def test_rounding_in_quaternions_is_no_disagreement(tmp_path, seed):
    rng = np.random.default_rng(seed)
    affine = order_affine((0, 1, 2), (-1, -1, 1), rng.uniform(-180, 180, 3), spacing=(0.5, 0.5, 1.0))
    image = nib.Nifti1Image(np.zeros((512, 512, 2), np.uint8), affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nib.save(image, tmp_path / "scan.nii")
    assert ms.read_volume(tmp_path / "scan.nii").warnings == ()


def test_a_single_slice_without_thickness_is_a_volume_of_one_slice(tmp_path):
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    path = save_nifti(tmp_path / "xray.nii", phantom_ijk()[:, :, :1], affine, sform_code=0, dim=(0, 2), pixdim=(3, 0))
    volume = ms.read_volume(path)
    assert volume.data.shape == (1, 8, 6)
    assert volume.spacing_mm == (1.0, 1.0, 1.0)
    assert any("1 mm is assumed" in warning for warning in volume.warnings)


def test_bytes_after_the_voxels_are_named(tmp_path):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    path.write_bytes(path.read_bytes() + b"x" * 17)
    assert "17 bytes more" in ms.read_volume(path).warnings[0]


def test_voxels_that_are_no_number_are_counted(tmp_path):
    data = phantom_ijk(np.float32)
    data[0, :2, 0] = np.nan, np.inf
    volume = ms.read_volume(save_nifti(tmp_path / "scan.nii", data, AFFINE))
    assert "2 voxels that are not a number" in volume.warnings[0]
    with pytest.raises(ms.MedSegError, match="no number in any voxel"):
        ms.read_volume(save_nifti(tmp_path / "nan.nii", np.full(SHAPE, np.nan, np.float32), AFFINE))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u4", "i2", "u1"])
def test_label_maps_of_any_numeric_type(tmp_path, dtype):
    path = save_nifti(tmp_path / "mask.nii.gz", label_phantom_ijk(dtype), AFFINE)
    mask = ms.read_label_map(path)
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(to_disk(mask.data, mask.grid), label_phantom_ijk())


def test_label_maps_with_more_than_255_labels_are_uint16(tmp_path):
    data = label_phantom_ijk(np.int32)
    data[0, 0, 0] = 65535
    mask = ms.read_label_map(save_nifti(tmp_path / "mask.nii.gz", data, AFFINE))
    assert mask.data.dtype == np.uint16
    ms.write_label_map(tmp_path / "again.nii.gz", mask)
    assert nib.load(tmp_path / "again.nii.gz").get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "again.nii.gz").dataobj), data)


def test_label_values_that_scaling_rounds_are_still_labels(tmp_path):
    save_nifti(tmp_path / "mask.nii", label_phantom_ijk(np.int16) * 1000, AFFINE, scl_slope=0.001)
    mask = ms.read_label_map(tmp_path / "mask.nii")
    np.testing.assert_array_equal(to_disk(mask.data, mask.grid), label_phantom_ijk())


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "fraction 0.5"), (-1.0, "negative value -1"), (70000.0, "label 70000"), (np.nan, "not a number")],
)
def test_what_is_no_label_map_is_refused_with_the_value(tmp_path, value, message):
    data = label_phantom_ijk(np.float32)
    data[2, 2, 2] = value
    with pytest.raises(ms.MedSegError, match=message):
        ms.read_label_map(save_nifti(tmp_path / "mask.nii", data, AFFINE))


def test_a_written_mask_carries_geometry_and_nothing_of_the_source(tmp_path):
    image = nib.Nifti1Image(phantom_ijk(), AFFINE)
    image.header["descrip"] = b"DOE^JOHN 1970"
    image.header["aux_file"] = b"doe.txt"
    image.header["db_name"] = b"doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN"))
    nib.save(image, tmp_path / "scan.nii.gz")
    volume = ms.read_volume(tmp_path / "scan.nii.gz")
    mask = ms.LabelMap((volume.data > 100).astype(np.uint8), volume.affine, {1: "DOE"}, grid=volume.grid)
    for name in ("mask.nii", "mask.nii.gz"):
        content = ms.write_label_map(tmp_path / name, mask).read_bytes()
        plain = gzip.decompress(content) if name.endswith(".gz") else content
        assert b"doe" not in content.lower()
        assert b"doe" not in plain.lower()
        assert plain[352:] == np.asarray(nib.load(tmp_path / name).dataobj).tobytes(order="F")
        header = nib.load(tmp_path / name).header
        assert len(header.extensions) == 0
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)


def test_a_sheared_grid_is_saved_without_a_quaternion_that_would_lie(tmp_path):
    affine = AFFINE.copy()
    affine[:3, 2] += 0.4 * affine[:3, 1]
    mask = ms.read_label_map(save_nifti(tmp_path / "mask.nii", label_phantom_ijk(), affine, qform_code=0))
    header = nib.load(ms.write_label_map(tmp_path / "again.nii", mask)).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)


def test_a_mask_longer_than_nifti1_allows_is_saved_as_nifti2(tmp_path):
    mask = ms.LabelMap(np.zeros((1, 1, 40000), np.uint8) + 1, np.diag([1.0, 1, 1, 1]))
    path = ms.write_label_map(tmp_path / "long.nii.gz", mask)
    assert isinstance(nib.load(path), nib.Nifti2Image)
    assert nib.load(path).shape == (40000, 1, 1)


def test_a_mask_that_left_its_grid_is_refused(tmp_path):
    volume = ms.read_volume(save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE))
    moved = volume.affine.copy()
    moved[1, 3] += 2
    with pytest.raises(ms.MedSegError, match="2 mm away from its scan; resample"):
        ms.write_label_map(
            tmp_path / "mask.nii", ms.LabelMap(np.zeros(volume.data.shape, np.uint8), moved, grid=volume.grid)
        )
    with pytest.raises(ms.MedSegError, match=r"shape.*resample"):
        ms.write_label_map(
            tmp_path / "mask.nii", ms.LabelMap(np.zeros(SHAPE, np.uint8), volume.affine, grid=volume.grid)
        )
    assert memory_shape(volume.grid) == volume.data.shape
    assert not (tmp_path / "mask.nii").exists()


def test_a_scan_larger_than_memory_is_refused_with_both_figures(tmp_path, monkeypatch):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    monkeypatch.setattr(limits, "available_memory", lambda: 500)
    with pytest.raises(
        ms.MedSegError, match=r"scan.nii says that it holds 6 x 8 x 10 voxels, which need 960 bytes.*500 bytes free"
    ):
        ms.read_volume(path)


def test_a_failing_disk_is_noticed(tmp_path, monkeypatch):
    mask = ms.read_label_map(save_nifti(tmp_path / "old.nii", label_phantom_ijk(), AFFINE))
    real = np.ascontiguousarray

    def flipped(piece):
        copy = real(piece).copy()
        copy.flat[7] ^= 1
        return copy

    monkeypatch.setattr("napari_medseg.imaging.nifti.np.ascontiguousarray", flipped)
    before = (tmp_path / "old.nii").read_bytes()
    with pytest.raises(ms.MedSegError, match=r"old\.nii did not read back as it was written"):
        ms.write_label_map(tmp_path / "old.nii", mask)
    assert (tmp_path / "old.nii").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_gzip_header_of_a_mask_names_no_file_and_no_time(tmp_path):
    mask = ms.read_label_map(save_nifti(tmp_path / "mask.nii", label_phantom_ijk(), AFFINE))
    content = ms.write_label_map(tmp_path / "doe.nii.gz", mask).read_bytes()
    assert content[3] == 0
    assert content[4:8] == b"\0\0\0\0"
    assert gzip.GzipFile(fileobj=io.BytesIO(content)).read(4) == struct.pack("<i", 348)
