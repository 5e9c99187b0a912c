"""The boxes for plane and window: they choose, and they follow whatever else turns or windows the scan."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox

from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import build
from napari_medseg.widgets import commands, scan_view, windows
from napari_medseg.widgets.dock import MedSegDock

AFFINE = np.array([[0, 0, -1.5, 60], [0, -1.0, 0, 20], [3, 0, 0, -30], [0, 0, 0, 1]], float)


def scan(modality="CT", shape=(6, 8, 10)) -> Volume:
    data = np.random.default_rng(0).normal(100, 300, shape).astype(np.int16)
    return Volume(data, AFFINE, name=f"a {modality}", modality=modality)


@pytest.fixture
def dock(qtbot):
    made = MedSegDock(ViewerModel(), build())
    qtbot.addWidget(made)
    made.resize(330, 1000)
    made.show()
    return made


@pytest.fixture
def opened(dock):
    dock.services.opening.choose(scan())
    return dock


def box(dock, name) -> QComboBox:
    [found] = [each for each in dock.findChildren(QComboBox) if each.accessibleName() == name]
    return found


def shown(dock) -> tuple[str, str]:
    """What the two boxes say."""
    boxes = (box(dock, "Plane"), box(dock, "Window"))
    return tuple(each.currentText() if each.currentIndex() >= 0 else each.placeholderText() for each in boxes)


def choose(dock, qtbot, name, text) -> None:
    """Choose with the keys, as the boxes take them once they have the focus."""
    made = box(dock, name)
    while made.currentText() != text:
        before = made.currentIndex()
        qtbot.keyClick(made, Qt.Key.Key_Down)
        assert made.currentIndex() != before, f"{name} has no {text}"


def test_the_row_shows_with_a_scan_and_fits_the_dock(dock):
    narrow = dock.minimumSizeHint().width()
    assert not box(dock, "Plane").isVisible()
    dock.services.opening.choose(scan())
    assert shown(dock) == ("Axial", "Soft tissue")
    assert box(dock, "Plane").isVisible()
    assert box(dock, "Window").isVisible()
    assert dock.minimumSizeHint().width() <= max(narrow, 330)
    dock.pages.choose("Evaluate")
    assert box(dock, "Plane").isVisible(), "on every page"
    dock.viewer.layers.clear()
    assert not box(dock, "Plane").isVisible()


def test_choosing_turns_and_windows_the_scan(opened, qtbot):
    choose(opened, qtbot, "Plane", "Sagittal")
    assert scan_view.plane_of(opened.viewer) == "sagittal"
    assert opened.viewer.dims.order == (2, 0, 1)
    choose(opened, qtbot, "Window", "Bone")
    assert windows.window_of(opened.bridge.image).name == "Bone"
    assert tuple(opened.bridge.image.contrast_limits) == (-500, 1300)


def test_the_boxes_follow_keys_menu_and_napari(opened):
    commands.show_coronal(opened.viewer)
    commands.show_next_window(opened.viewer)
    assert shown(opened) == ("Coronal", "Lung")
    opened.bridge.image.contrast_limits = (-7, 55)
    assert shown(opened) == ("Coronal", "Own")
    windows.apply_window(opened.bridge.image, "brain")
    opened.bridge.image.colormap = "magma"
    assert shown(opened) == ("Coronal", "Own")
    opened.bridge.show_slice(2)
    assert shown(opened)[0] == "Axial"


def test_in_3d_there_is_no_plane_to_choose_but_a_window(opened):
    opened.viewer.dims.ndisplay = 3
    assert shown(opened) == ("3-D", "Soft tissue")
    assert not box(opened, "Plane").isEnabled()
    assert box(opened, "Window").isEnabled()
    opened.viewer.dims.ndisplay = 2
    assert shown(opened)[0] == "Axial"
    assert box(opened, "Plane").isEnabled()


def test_a_picture_has_one_plane(dock):
    dock.services.opening.choose(scan("DX", (1, 8, 10)))
    assert shown(dock) == ("Axial", "Standard")
    assert not box(dock, "Plane").isEnabled()
    dock.services.opening.choose(scan())
    assert box(dock, "Plane").isEnabled()


def test_another_scan_brings_its_own_windows(opened, qtbot):
    opened.services.opening.choose(scan("MR"))
    assert [box(opened, "Window").itemText(k) for k in range(4)] == [
        "Standard",
        "High contrast",
        "Dark detail",
        "Full range",
    ]
    choose(opened, qtbot, "Window", "Dark detail")
    ct, mr = (layer for layer in opened.viewer.layers if scan_view.volume_of(layer) and layer.name in ("a CT", "a MR"))
    assert windows.window_of(mr).name == "Dark detail"
    assert windows.window_of(ct).name == "Soft tissue"
    opened.viewer.layers.selection.active = ct
    assert shown(opened)[1] == "Soft tissue", "the scan that the texts on the canvas speak of"


def test_a_layer_of_another_plugin_has_no_presets(dock):
    dock.viewer.add_image(np.random.default_rng(0).normal(size=(6, 8, 10)))
    assert dock.session.volume is not None
    assert shown(dock) == ("Axial", "")
    assert not box(dock, "Window").isEnabled()
