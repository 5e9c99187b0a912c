"""Files and folders as layers: scans as images, masks as labels, pictures left to napari."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManager

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.files import write_label_map
from napari_medseg.imaging.phantom import Phantom, brain_mr, chest_ct
from napari_medseg.widgets.reader import get_reader, read

PLUGIN = "napari-medseg"


@pytest.fixture(scope="module", autouse=True)
def _discovered() -> None:
    """A ViewerModel without a window does not look for plugins by itself."""
    PluginManager.instance().discover()


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_ct(coarser=3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chest: Phantom) -> Path:
    """A scan and its mask, stored sagittal-last as many NIfTI files are."""
    folder = tmp_path_factory.mktemp("case")
    grid = chest.volume.grid
    assert grid is not None
    disk = np.asarray(chest.volume.data).transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(disk, grid.affine), folder / "thorax.nii.gz")
    write_label_map(folder / "thorax_mask.nii.gz", chest.lesions)
    return folder


def test_a_scan_lands_in_millimetres_with_its_window(folder: Path, chest: Phantom) -> None:
    viewer = ViewerModel()
    (layer,) = viewer.open(folder / "thorax.nii.gz", plugin=PLUGIN)

    assert isinstance(layer, Image)
    assert layer.name == "thorax"
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    np.testing.assert_allclose(layer.scale, chest.volume.spacing_mm)
    assert tuple(layer.contrast_limits) == (-160, 240)
    volume = layer.metadata["napari_medseg"]["volume"]
    assert volume.path == folder / "thorax.nii.gz"
    np.testing.assert_array_equal(layer.data, chest.volume.data)
    x, y, z = volume.position_of((2, 3, 4))
    np.testing.assert_allclose(layer.data_to_world((2, 3, 4)), (z, -y, -x), atol=1e-5)


def test_a_mask_opens_as_labels_on_its_scan(folder: Path, chest: Phantom) -> None:
    viewer = ViewerModel()
    scan, mask = viewer.open(folder, plugin=PLUGIN)

    assert isinstance(mask, Labels)
    assert (scan.name, mask.name) == ("thorax", "thorax_mask")
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(mask.data, chest.lesions.data)
    np.testing.assert_allclose(mask.scale, scan.scale)
    np.testing.assert_allclose(mask.translate, scan.translate)
    assert mask.metadata["napari_medseg"]["volume"] is scan.metadata["napari_medseg"]["volume"]


def test_names_of_labels_reach_the_status_bar(tmp_path: Path, chest: Phantom) -> None:
    path = write_label_map(tmp_path / "lesions.seg.nrrd", chest.lesions)
    viewer = ViewerModel()
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert isinstance(layer, Labels)
    assert layer.features.set_index("index").loc[2, "name"] == "lung nodule"


def test_a_scan_that_is_called_a_mask_is_still_a_scan(tmp_path: Path) -> None:
    head = brain_mr(coarser=4.0)
    assert head.volume.grid is not None
    data = np.asarray(head.volume.data, np.float32).transpose(2, 1, 0) / 4.5
    nib.save(nib.Nifti1Image(data, head.volume.grid.affine), tmp_path / "lesion_flair.nii.gz")
    nib.save(nib.Nifti1Image((data * 4.5).astype(np.uint16), head.volume.grid.affine), tmp_path / "label-16bit.nii.gz")
    for name in ("lesion_flair.nii.gz", "label-16bit.nii.gz"):
        ((_, attributes, kind),) = read(str(tmp_path / name))
        assert kind == "image"
        assert attributes["name"] == name.removesuffix(".nii.gz")


def test_a_picture_is_a_scan_of_one_slice(tmp_path: Path) -> None:
    from PIL import Image as Picture

    grey = np.arange(80, dtype=np.uint8).reshape(8, 10)
    Picture.fromarray(grey).save(tmp_path / "xray.png")
    tifffile.imwrite(tmp_path / "xray.tif", grey, photometric="minisblack")
    viewer = ViewerModel()
    for name in ("xray.png", "xray.tif"):
        (layer,) = viewer.open(tmp_path / name, plugin=PLUGIN)
        np.testing.assert_array_equal(layer.data, grey[None])
        assert layer.metadata["napari_medseg"]["volume"].warnings != ()


def test_a_picture_that_is_no_scan_is_read_by_napari_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_medseg.imaging import files

    def refuse(path: Path) -> None:
        raise MedSegError(f"{Path(path).name} is one file of several that belong together")

    monkeypatch.setattr(files, "read_volumes", refuse)
    cells = np.zeros((5, 8, 10), np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", cells, photometric="minisblack")
    ((data, *_),) = read(str(tmp_path / "cells.tif"))
    np.testing.assert_array_equal(data, cells)

    (tmp_path / "damaged.tif").write_bytes(b"II*")
    with pytest.raises(MedSegError, match=r"damaged\.tif is one file of several"):
        read(str(tmp_path / "damaged.tif"))


@pytest.mark.parametrize("name", ["notes.nii.gz", "IM0001", "scan.nrrd"])
def test_bad_files_are_refused_in_one_sentence_with_their_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("not a scan at all")
    with pytest.raises(MedSegError, match=name.split(".")[0]) as caught:
        read(str(path))
    assert "\n" not in str(caught.value)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MedSegError, match="folder"):
        read(str(tmp_path))


def test_what_is_not_there_or_zarr_is_not_ours(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path / "missing.nii")) is None
    (tmp_path / "cells.zarr").mkdir()
    assert get_reader(str(tmp_path / "cells.zarr")) is None
    assert get_reader([str(tmp_path)]) is read


def test_dropped_slices_of_one_folder_are_one_series(shared_data: Path) -> None:
    folder = next(path for path in sorted((shared_data / "dicom" / "totalsegmentator_ct").rglob("*")) if path.is_file())
    files = sorted(str(path) for path in folder.parent.iterdir() if path.is_file())
    layers = read(files)
    assert len(layers) == 1
    data, attributes, kind = layers[0]
    assert kind == "image"
    assert data.shape[0] == len(files)
    assert attributes["metadata"]["napari_medseg"]["volume"].modality == "CT"


def test_scans_turned_against_each_other_lie_over_each_other_without_the_dock(tmp_path: Path) -> None:
    from scipy.ndimage import map_coordinates

    slope = np.array([3.0, -2.0, 1.5])
    c, s = np.cos(0.2), np.sin(0.2)
    turn = np.array([[c, -s, 0, 4], [s, c, 0, -6], [0, 0, 1, 9], [0, 0, 0, 1]])
    affines = {"first": np.diag([1.0, 1.2, 2.5, 1.0]), "second": turn @ np.diag([1.3, 1.1, 2.0, 1.0])}
    for name, affine in affines.items():
        index = np.moveaxis(np.indices((40, 36, 16)), 0, -1)
        values = (index @ affine[:3, :3].T + affine[:3, 3]) @ slope
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), tmp_path / f"{name}.nii.gz")
    viewer = ViewerModel()
    for name in affines:
        viewer.open(tmp_path / f"{name}.nii.gz", plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == ["first", "second"], "each call knows only the current viewer"
    both = read([str(tmp_path / f"{name}.nii.gz") for name in affines])
    layers = [Image(data, **attributes) for data, attributes, _ in both]
    assert [layer.name for layer in layers] == ["first", "second (resampled for display)"]
    assert layers[1].metadata["napari_medseg"]["volume"].data is not layers[1].data
    for place in np.random.default_rng(4).uniform((12, 12, 12), (24, 24, 30), (20, 3)):
        world = place * [-1, -1, 1]  # (x, y, z) of napari's S, P, L
        for layer in layers:
            index = np.array(layer.world_to_data(world[::-1]))
            found = float(map_coordinates(layer.data.astype(np.float32), index[:, None], order=1)[0])
            assert found == pytest.approx(place @ slope, abs=0.2)


def test_contours_and_segmentations_come_as_labels_on_their_scan(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom" / "STS_042" / "CT"
    (_, scan, _), (data, attributes, kind) = read([str(folder / "image"), str(folder / "mask" / "RS.dcm")])
    assert kind == "labels"
    own = attributes["metadata"]["napari_medseg"]
    assert own["volume"] is scan["metadata"]["napari_medseg"]["volume"]
    assert data.shape == own["volume"].data.shape
    assert np.count_nonzero(data) > 1000
