"""The tick Outline and its key: lesions as outlines, in all scans and those to come, filled in 3-D."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QCheckBox

from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import build
from napari_medseg.widgets.dock import MedSegDock

AFFINE = np.array([[0, 0, -1.5, 60], [0, -1.0, 0, 20], [3, 0, 0, -30], [0, 0, 0, 1]], float)


def scan(name) -> Volume:
    return Volume(np.zeros((6, 8, 10), np.int16), AFFINE, name=name, modality="CT")


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def dock(qtbot, viewer):
    made = MedSegDock(viewer, build())
    qtbot.addWidget(made)
    made.show()
    made.services.opening.choose(scan("first"))
    return made


def tick(dock) -> QCheckBox:
    [found] = [each for each in dock.findChildren(QCheckBox) if each.text() == "Outline"]
    return found


def drawn(layer) -> int:
    """Voxels of the slice that are drawn."""
    return int((layer._slice.image.view > 0).sum())


def test_the_tick_draws_every_lesions_layer_as_outlines(dock):
    first = dock.bridge.labels
    dock.session.work.labels.data[:, 2:7, 2:7] = 1
    first.refresh()
    assert drawn(first) == 25
    tick(dock).setChecked(True)
    assert first.contour == 1
    assert drawn(first) == 16, "the rim alone"
    dock.services.opening.choose(scan("second"))
    second = dock.bridge.labels
    assert second is not first
    assert second.contour == 1, "layers made later too"
    tick(dock).setChecked(False)
    assert first.contour == second.contour == 0
    assert drawn(first) == 25


def test_a_dock_that_is_opened_again_knows_it(dock, viewer, qtbot):
    dock.bridge.outline.toggle()
    assert tick(dock).isChecked()
    again = MedSegDock(viewer)
    qtbot.addWidget(again)
    assert tick(again).isChecked()
    assert "O" in again._keys()


def test_a_width_chosen_in_naparis_controls_ticks_it_and_holds_for_all(dock):
    first = dock.bridge.labels
    first.contour = 3
    assert tick(dock).isChecked()
    dock.services.opening.choose(scan("second"))
    assert dock.bridge.labels.contour == 3
    dock.bridge.labels.contour = 0
    assert not tick(dock).isChecked()
    assert first.contour == 0


def test_lesions_are_filled_in_3d_without_a_warning_of_napari(dock, viewer):
    tick(dock).setChecked(True)
    dock.session.work.labels.data[2:4, 2:7, 2:7] = 1
    viewer.dims.ndisplay = 3  # a warning would be an error here
    dock.bridge.labels.refresh()
    assert drawn(dock.bridge.labels) == 50
    assert tick(dock).isChecked()
    assert not tick(dock).isEnabled()
    dock.services.opening.choose(scan("second"))
    viewer.dims.ndisplay = 2
    assert dock.bridge.labels.contour == 1
    assert tick(dock).isEnabled()
