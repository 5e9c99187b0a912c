"""The doubt of the model over the scan, and key N."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QCheckBox

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.confidence import confidence_of
from napari_medseg.session.services import build
from napari_medseg.widgets.dock import MedSegDock
from napari_medseg.widgets.doubt_layer import NAME

SHAPE = (12, 40, 44)
AFFINE = np.array([[0, 0, -1.5, 60], [0, -1.0, 0, 20], [3, 0, 0, -30], [0, 0, 0, 1]], float)


class Unsure:
    name, version, needs_click, labels = "unsure", 1, True, {}

    def segment(self, volume, prompts=(), *, previous=None, progress=None, should_stop=None) -> LabelMap:
        region = (slice(2, 11), slice(5, 35), slice(6, 40))
        data = np.zeros(SHAPE, np.uint8)
        data[region] = 1
        probability = np.ones(data[region].shape)
        probability[3:7, 20:30, 4:14] = 0.52
        return LabelMap(data, volume.affine, confidence=confidence_of(probability, data[region], region))


@pytest.fixture
def dock(qtbot):
    services = build()
    services.session.model = Unsure()
    made = MedSegDock(ViewerModel(), services)
    qtbot.addWidget(made)
    made.show()
    values = np.random.default_rng(0).normal(0, 50, SHAPE).cumsum(2)
    services.opening.choose(Volume(values.astype(np.int16), AFFINE, name="scan"))
    return made


def ask(dock):
    dock.services.segmenting.click(tuple(map(float, dock.session.volume.position_of((6, 10, 20)))))


def press(dock, qtbot, text):
    [found] = [each for each in dock.findChildren(QAbstractButton) if each.text() == text]
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def layer(dock):
    return next((each for each in dock.viewer.layers if each.name == NAME), None)


def test_the_layer_is_hidden_until_it_is_wanted_and_lies_where_the_doubt_is(dock, qtbot):
    ask(dock)
    assert layer(dock) is None
    [wanted] = [each for each in dock.findChildren(QCheckBox) if each.text() == "Show doubt"]
    wanted.setChecked(True)
    shown = layer(dock)
    peak = np.array(np.unravel_index(shown.data.argmax(), shown.data.shape))
    lesions = dock.bridge.labels
    index = np.rint(lesions.world_to_data(shown.data_to_world(peak))).astype(int)
    assert (index >= (5, 25, 10)).all()
    assert (index < (9, 35, 20)).all()
    assert [str(unit) for unit in shown.units] == ["millimeter"] * 3
    assert dock.viewer.layers.selection.active is lesions
    wanted.setChecked(False)
    assert layer(dock) is None


def test_only_doubt_that_is_more_than_the_share_of_the_intensities_is_seen(dock):
    ask(dock)
    [wanted] = [each for each in dock.findChildren(QCheckBox) if each.text() == "Show doubt"]
    wanted.setChecked(True)
    shown = layer(dock)
    low, high = shown.contrast_limits
    alpha = shown.colormap.map((np.array([0, 64, 80, 127]) - low) / (high - low))[:, 3]
    assert (alpha[:2] == 0).all(), "a quarter alone, as it stands up to the edge of where the model looked"
    assert 0 < alpha[2] < 0.15
    assert alpha[3] > 0.8
    assert "translucent" in shown.blending, "bright anatomy under it adds no doubt"


def test_key_n_goes_to_the_doubtful_region_and_says_which(dock, qtbot):
    ask(dock)
    press(dock, qtbot, "Next doubtful region")
    lesions = dock.bridge.labels
    z, y, x = np.rint(lesions.world_to_data(dock.viewer.dims.point)).astype(int)
    assert 5 <= z < 9
    assert 25 <= y < 35
    assert 10 <= x < 20
    assert dock.session.message == "Doubtful region 1 of 1: 1.8 ml at the rear border of the lesion."
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], lesions.data_to_world((z, y, x))[-2:])
    assert "N" in dock._keys()


def test_an_unusual_scan_is_named_in_the_dock(dock):
    assert "not from US" not in "".join(label.text() for label in dock.findChildren(type(dock._message)))
    values = np.random.default_rng(0).normal(0, 50, SHAPE).cumsum(2)
    dock.services.opening.choose(Volume(values.astype(np.int16), AFFINE, name="echo", modality="US"))
    assert "not from US" in "".join(label.text() for label in dock.findChildren(type(dock._message)))
