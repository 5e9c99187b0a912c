"""A folder of numbered pictures is one stack, with a warning of what nobody knows; other pictures are never stacked."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_medseg as ms
from napari_medseg.imaging.orientation import to_disk
from napari_medseg.imaging.provenance import has_changed

VOXELS = (np.arange(12 * 8 * 6).reshape(12, 8, 6) % 251).astype(np.uint8)


def write(path, pixels):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None)
    else:
        Image.fromarray(pixels).save(path)


def stack(folder, name="slice {}.png", numbers=range(1, 13), voxels=VOXELS):
    for number, pixels in zip(numbers, voxels, strict=True):
        write(folder / name.format(number), pixels)
    return folder


@pytest.mark.parametrize("name", ["slice {}.png", "slice_{:03}.tif", "2024-01-05 ct{:04}.png", "{}.tif"])
@pytest.mark.parametrize("numbers", [range(1, 13), range(0, 120, 10), range(95, 107)])
def test_numbered_pictures_are_one_stack_in_the_order_of_their_numbers(tmp_path, name, numbers):
    (volume,) = ms.read_volumes(stack(tmp_path / "scan", name, numbers))
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid).T, VOXELS)
    assert volume.name == "scan"
    assert volume.spacing_mm == (1, 1, 1)
    assert not volume.sides_are_known
    assert "a stack of 12 pictures" in volume.warnings[0]
    assert "how far apart the slices are" in volume.warnings[0]
    assert ms.read_volume(tmp_path / "scan").data.shape == (12, 8, 6)


def test_wide_pixels_keep_their_type_and_spacing(tmp_path):
    (tmp_path / "scan").mkdir()
    for k in range(4):
        tifffile.imwrite(
            *(tmp_path / "scan" / f"{k}.tif", VOXELS[k].astype(np.uint16) * 200),
            imagej=True, resolution=(2, 4), metadata={"unit": "mm"},
        )  # fmt: skip
    volume = ms.read_volume(tmp_path / "scan")
    assert volume.data.dtype == np.uint16
    assert volume.spacing_mm == (1.0, 0.25, 0.5)


def test_a_missing_number_leaves_its_place_empty(tmp_path):
    volume = ms.read_volume(stack(tmp_path / "scan", numbers=[1, 2, 3, 4, *range(6, 14)]))
    assert volume.data.shape == (13, 8, 6)
    assert "1 of 13 pictures of scan are missing" in volume.warnings[1]
    assert not to_disk(volume.data, volume.grid)[..., 4].any()
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid)[..., 5].T, VOXELS[4])


def test_too_many_missing_numbers_are_refused(tmp_path):
    with pytest.raises(ms.MedSegError, match="88 numbers between them are missing"):
        ms.read_volumes(stack(tmp_path / "scan", numbers=[*range(1, 12), 100]))


def test_a_damaged_picture_is_named_and_the_stack_refused(tmp_path):
    folder = stack(tmp_path / "scan", "slice{:02}.tif")
    file = folder / "slice07.tif"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ms.MedSegError, match=r"slice07\.tif"):
        ms.read_volumes(folder)


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png", "c.png"],
        ["00000001_000.png", "00000001_001.png", "00000002_000.png"],
        ["1.png", "01.png", "2.png"],
        ["1.png", "2.png"],
        ["1.png", "2.tif", "3.png"],
    ],
    ids=lambda names: " ".join(names),
)
def test_pictures_of_different_things_stay_apart(tmp_path, names):
    for k, name in enumerate(names):
        write(tmp_path / "scan" / name, VOXELS[k])
    volumes = ms.read_volumes(tmp_path / "scan")
    assert [volume.data.shape for volume in volumes] == [(1, 8, 6)] * len(names)


@pytest.mark.parametrize("odd", [VOXELS[0][:5], VOXELS[0].astype(np.uint16) * 9, np.repeat(VOXELS[0][None], 2, 0)])
def test_pictures_of_different_size_type_or_depth_stay_apart(tmp_path, odd):
    folder = stack(tmp_path / "scan", "{:02}.tif")
    write(folder / "13.tif", odd)
    assert len(ms.read_volumes(folder)) == 13


def test_a_stack_of_masks_is_a_mask(tmp_path):
    mask = ms.read_label_map(stack(tmp_path / "mask", voxels=VOXELS % 3))
    np.testing.assert_array_equal(to_disk(mask.data, mask.grid).T, VOXELS % 3)
    assert "a stack of 12 pictures" in mask.warnings[0]
    scan = ms.read_volume(stack(tmp_path / "scan"))
    np.testing.assert_allclose(mask.affine, scan.affine)


def test_a_picture_that_changes_is_noticed(tmp_path):
    volume = ms.read_volume(stack(tmp_path / "scan"))
    assert not has_changed(volume)
    write(tmp_path / "scan" / "slice 5.png", VOXELS[0])
    assert has_changed(volume)


def test_a_photograph_is_turned_upright_and_it_is_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 60), np.uint8)
    pixels[:20, :30] = 200
    Image.fromarray(pixels).save(tmp_path / "film.jpg", exif=exif, quality=100)
    volume = ms.read_volume(tmp_path / "film.jpg")
    np.testing.assert_allclose(volume.data[0], np.rot90(pixels, -1), atol=3)
    assert "turned upright" in " ".join(volume.warnings)


def test_damaged_tags_that_the_library_reads_past_are_told(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, VOXELS[0], photometric="minisblack", metadata=None, software="x" * 40)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.tags["Software"].offset
    raw = bytearray(path.read_bytes())
    raw[offset + 8 : offset + 12] = (10**6).to_bytes(4, "little")
    path.write_bytes(raw)
    volume = ms.read_volume(path)
    np.testing.assert_array_equal(volume.data[0], VOXELS[0])
    assert "damaged or unusual tags" in " ".join(volume.warnings)
