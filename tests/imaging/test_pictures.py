"""TIFF stacks, PNG and JPEG: axes, spacing, colours."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from grid_phantom import label_phantom_ijk, phantom_ijk
from PIL import Image

import napari_medseg as ms

STACK = phantom_ijk().T.astype(np.uint16)
AXIAL = "the order of an axial scan is assumed"


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_plain_stack_has_one_millimetre_and_says_so(tmp_path, compression, dtype, byteorder):
    data = (STACK % 120).astype(dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, data, photometric="minisblack", compression=compression, byteorder=byteorder, metadata=None)
    volume = ms.read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == data.dtype
    assert volume.spacing_mm == (1.0, 1.0, 1.0)
    assert "voxel size; 1 mm is assumed" in volume.warnings[0]
    assert AXIAL in volume.warnings[1]


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1.0), ("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3), ("cm", 10)]
)
def test_imagej_spacing(tmp_path, unit, factor):
    path = tmp_path / "stack.tif"
    metadata = {"spacing": 3.0, "unit": unit, "axes": "ZYX"}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4.0, 2.0), metadata=metadata)
    volume = ms.read_volume(path)
    np.testing.assert_allclose(volume.spacing_mm, np.array((3.0, 0.5, 0.25)) * factor)
    np.testing.assert_array_equal(volume.data, STACK)


def test_imagej_pixels_are_no_unit(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, imagej=True, resolution=(72.0, 72.0), metadata={"unit": "pixel", "axes": "ZYX"})
    assert ms.read_volume(path).spacing_mm == (1.0, 1.0, 1.0)


def test_ome_spacing_and_units(tmp_path):
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": 250.0, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 3.0}
    units = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "mm", "PhysicalSizeZUnit": "mm"}
    tifffile.imwrite(path, STACK, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes, **units})
    volume = ms.read_volume(path)
    np.testing.assert_allclose(volume.spacing_mm, (3.0, 0.5, 0.25))
    assert volume.name == "stack"


def test_time_and_channels_are_volumes_of_their_own(tmp_path):
    path = tmp_path / "run.tif"
    data = np.stack([np.stack([STACK, STACK + 1]), np.stack([STACK + 2, STACK + 3])])
    tifffile.imwrite(path, data.transpose(0, 2, 1, 3, 4), imagej=True, metadata={"axes": "TZCYX"})
    volumes = ms.read_volumes(path)
    assert [int(volume.data[0, 0, 0]) for volume in volumes] == [0, 1, 2, 3]
    np.testing.assert_array_equal(volumes[3].data, STACK + 3)
    first = ms.read_volume(path)
    np.testing.assert_array_equal(first.data, STACK)
    assert any("4 volumes; this is the first" in warning for warning in first.warnings)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_become_luminance_with_a_warning(tmp_path, planar):
    path = tmp_path / "photo.tif"
    data = np.zeros((8, 6, 3), np.uint8)
    data[..., 0], data[..., 1] = 200, 100
    stored = data if planar == "contig" else data.transpose(2, 0, 1)
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar)
    volume = ms.read_volume(path)
    assert volume.data.shape == (1, 8, 6)
    assert set(np.unique(volume.data)) == {round(0.299 * 200 + 0.587 * 100)}
    assert any("luminance" in warning for warning in volume.warnings)


def test_white_as_zero_is_inverted_and_said(tmp_path):
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, STACK[0].astype(np.uint8), photometric="miniswhite")
    volume = ms.read_volume(path)
    np.testing.assert_array_equal(volume.data[0], 255 - STACK[0].astype(np.uint8))
    assert any("inverted" in warning for warning in volume.warnings)


def test_a_tiff_mask(tmp_path):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, label_phantom_ijk().T, photometric="minisblack", compression="zlib")
    np.testing.assert_array_equal(ms.read_label_map(path).data, label_phantom_ijk().T)


def test_a_mask_of_a_picture_is_saved_on_its_grid(tmp_path):
    path = tmp_path / "xray.png"
    Image.fromarray(STACK[0].astype(np.uint8)).save(path)
    volume = ms.read_volume(path)
    assert volume.data.shape == (1, 8, 6)
    mask = ms.LabelMap((volume.data > 20).astype(np.uint8), volume.affine, grid=volume.grid)
    again = ms.read_label_map(ms.write_label_map(tmp_path / "mask.nii.gz", mask))
    np.testing.assert_array_equal(again.data, mask.data)
    np.testing.assert_array_equal(again.affine, volume.affine)


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [("L", (8, 6), np.uint8), ("I;16", (8, 6), np.uint16), ("1", (8, 6), np.uint8), ("LA", (8, 6, 2), np.uint8)],
)
def test_png_of_every_depth(tmp_path, mode, shape, dtype):
    path = tmp_path / "xray.png"
    data = (np.arange(np.prod(shape)) % 2 * 200).astype(dtype).reshape(shape)
    if mode == "I;16":
        data = data * 300
    image = Image.fromarray(data.astype(bool) if mode == "1" else data)
    assert image.mode == mode
    image.save(path)
    volume = ms.read_volume(path)
    assert volume.data.dtype == dtype
    expected = data[..., 0] if data.ndim == 3 else (data > 0).astype(np.uint8) if mode == "1" else data
    np.testing.assert_array_equal(volume.data[0], expected)
    assert "1 mm is assumed" in volume.warnings[0]


def test_grey_stored_as_colours_is_grey_without_a_warning_of_luminance(tmp_path):
    path = tmp_path / "xray.png"
    Image.fromarray(np.repeat(STACK[0].astype(np.uint8)[..., None], 3, axis=2)).save(path)
    volume = ms.read_volume(path)
    np.testing.assert_array_equal(volume.data[0], STACK[0].astype(np.uint8))
    assert len(volume.warnings) == 1


def test_a_jpeg_is_read_and_a_palette_is_labels_for_a_mask(tmp_path):
    Image.fromarray(np.full((8, 6), 77, np.uint8)).save(tmp_path / "xray.jpg")
    assert np.abs(ms.read_volume(tmp_path / "xray.jpg").data.astype(int) - 77).max() <= 1
    image = Image.fromarray(label_phantom_ijk()[..., 5].T.copy())
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(ms.read_label_map(tmp_path / "mask.png").data[0], label_phantom_ijk()[..., 5].T)
    assert any("luminance" in warning for warning in ms.read_volume(tmp_path / "mask.png").warnings)


def test_a_jpeg_whose_end_was_made_up_is_told(tmp_path):
    path = tmp_path / "film.jpg"
    pixels = np.random.default_rng(0).integers(60, 200, (160, 200)).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)
    assert len(ms.read_volume(path).warnings) == 1
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    assert "may be cut off" in ms.read_volume(path).warnings[1]


def test_only_the_first_of_moving_pictures_is_read_and_it_is_said(tmp_path):
    first, second = (Image.fromarray(np.full((8, 6), value, np.uint8)) for value in (7, 9))
    first.save(tmp_path / "film.png", save_all=True, append_images=[second])
    volume = ms.read_volume(tmp_path / "film.png")
    assert (volume.data == 7).all()
    assert "holds 2 pictures" in volume.warnings[1]


def test_half_floats_become_floats_that_everything_can_use(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", np.arange(6, dtype=np.float16).reshape(2, 3), metadata=None)
    assert ms.read_volume(tmp_path / "scan.tif").data.dtype == np.float32
