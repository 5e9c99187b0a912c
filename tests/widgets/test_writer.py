"""Labels layers saved through napari: on the scan's own grid, voxel for voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from npe2 import PluginManager

import napari_medseg as ms
from napari_medseg.errors import MedSegError
from napari_medseg.widgets.labels_layer import label_map_of

PLUGIN = "napari-medseg"


@pytest.fixture(scope="module", autouse=True)
def _discovered() -> None:
    """A ViewerModel without a window does not look for plugins by itself."""
    PluginManager.instance().discover()


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    """A coronal scan stored P, S, R with an offset: nothing is where memory has it."""
    affine = np.array([[0, 0, 0.7, -31.0], [-3.0, 0, 0, 12.0], [0, 1.3, 0, 77.0], [0, 0, 0, 1]])
    data = np.random.default_rng(3).integers(0, 900, (6, 8, 10)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def paint(viewer: ViewerModel, scan_file: Path) -> tuple[Labels, np.ndarray]:
    """A Labels layer as a user adds one over the scan, with one voxel at a known patient position."""
    (scan,) = viewer.open(scan_file, plugin=PLUGIN)
    volume = scan.metadata["napari_medseg"]["volume"]
    labels = viewer.add_labels(
        np.zeros(scan.data.shape, np.int32), scale=scan.scale, translate=scan.translate, units=scan.units
    )
    labels.data[1, 2, 3] = 5
    return labels, volume.position_of((1, 2, 3))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("belongs", [True, False])
def test_a_mask_is_saved_where_its_scan_lies(scan_file: Path, tmp_path: Path, suffix: str, belongs: bool) -> None:
    viewer = ViewerModel()
    labels, place = paint(viewer, scan_file)
    if belongs:
        labels.metadata["napari_medseg"] = {"volume": viewer.layers[0].metadata["napari_medseg"]["volume"]}
    written = viewer.layers.save(str(tmp_path / f"out{suffix}"), selected=True, plugin=PLUGIN)
    assert written == [str(tmp_path / f"out{suffix}")]

    mask = nib.load(written[0])
    data = np.asarray(mask.dataobj)
    (index,) = np.argwhere(data == 5)
    np.testing.assert_allclose((mask.affine @ (*index, 1))[:3], place, atol=1e-4)
    if belongs:
        scan = nib.load(scan_file)
        assert mask.shape == scan.shape
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha"])
def test_other_formats_come_back_the_same(scan_file: Path, tmp_path: Path, suffix: str) -> None:
    viewer = ViewerModel()
    labels, place = paint(viewer, scan_file)
    labels.metadata["napari_medseg"] = {"volume": viewer.layers[0].metadata["napari_medseg"]["volume"]}
    (written,) = viewer.layers.save(str(tmp_path / f"out{suffix}"), selected=True, plugin=PLUGIN)
    back = ms.read_label_map(written)
    np.testing.assert_array_equal(back.data, labels.data)
    np.testing.assert_allclose(back.position_of((1, 2, 3)), place, atol=1e-4)


def test_a_mask_that_was_opened_keeps_its_grid_and_names(scan_file: Path, tmp_path: Path) -> None:
    first = ViewerModel()
    labels, _ = paint(first, scan_file)
    own = {"volume": first.layers[0].metadata["napari_medseg"]["volume"]}
    own["label_map"] = ms.LabelMap(
        np.asarray(labels.data, np.uint8), own["volume"].affine, names={5: "cyst"}, grid=own["volume"].grid
    )
    labels.metadata["napari_medseg"] = own
    (once,) = first.layers.save(str(tmp_path / "once_mask.seg.nrrd"), selected=True, plugin=PLUGIN)

    second = ViewerModel()
    second.open(once, plugin=PLUGIN)
    (twice,) = second.layers.save(str(tmp_path / "twice_mask.seg.nrrd"), plugin=PLUGIN)
    assert ms.read_label_map(twice).names == {5: "cyst"}
    np.testing.assert_allclose(ms.read_label_map(twice).affine, ms.read_label_map(once).affine)


@pytest.mark.parametrize(
    ("data", "attributes", "message"),
    [
        (np.zeros((2, 3, 4, 5), int), {"name": "film"}, "'film' has 4 axes"),
        (np.full((2, 3, 4), -1), {"name": "signed"}, "'signed' holds labels from -1 to -1"),
        (np.full((2, 3, 4), 70000), {"name": "many"}, "renumber"),
        (np.zeros((2, 3, 4), int), {"name": "bent", "shear": np.array([0.5, 0, 0])}, "'bent' is rotated or sheared"),
        (
            np.zeros((2, 3, 4), int),
            {"name": "turned", "rotate": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])},
            "'turned' is rotated or sheared",
        ),
    ],
)
def test_what_cannot_be_a_mask_is_refused(data: np.ndarray, attributes: dict, message: str) -> None:
    with pytest.raises(MedSegError, match=message):
        label_map_of(data, attributes)


def test_a_layer_in_micrometres_is_saved_in_millimetres() -> None:
    layer = Labels(np.ones((2, 3, 4), np.uint8), scale=(2000, 500, 500), translate=(1000, 0, 3000), units=("um",) * 3)
    data, attributes, _ = layer.as_layer_data_tuple()
    label_map = label_map_of(data, attributes)
    np.testing.assert_allclose(label_map.spacing_mm, (2.0, 0.5, 0.5))
    np.testing.assert_allclose(label_map.position_of((0, 0, 0)), (-3.0, 0.0, 1.0))


def test_a_flat_layer_is_a_mask_of_one_slice() -> None:
    label_map = label_map_of(np.full((3, 4), 300), {"scale": (0.5, 0.25)})
    assert label_map.data.shape == (1, 3, 4)
    assert label_map.data.dtype == np.uint16
    np.testing.assert_allclose(label_map.spacing_mm, (1.0, 0.5, 0.25))
