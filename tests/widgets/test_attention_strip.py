"""The slices that decided about a study, in the dock: the strip and the button lead there from any plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QAbstractButton

from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.study_classifier import StudyClassifier
from napari_medseg.session.services import build
from napari_medseg.widgets import scan_view
from napari_medseg.widgets.attention_strip import AttentionStrip
from napari_medseg.widgets.dock import MedSegDock

SHAPES = {"axial": (7, 20, 24), "sagittal": (20, 24, 7)}
STEPS = {"axial": (4.0, 1.0, 1.2), "sagittal": (1.0, 1.2, 4.0)}
OTHER = {"axial": "coronal", "sagittal": "axial"}


def scan(plane: str) -> Volume:
    z, y, x = STEPS[plane]
    affine = np.array([[0, 0, -x, 30], [0, -y, 0, 40], [z, 0, 0, -50], [0, 0, 0, 1]])
    data = np.random.default_rng(0).normal(size=SHAPES[plane]).astype(np.float32)
    return Volume(data, affine, f"{plane} scan", "MR")


@pytest.fixture
def dock(qtbot):
    from napari.components import ViewerModel

    torch.manual_seed(0)
    network = StudyClassifier(widths=(8, 8, 16, 16)).eval()
    card = Card(
        name="study-classifier",
        architecture="study_classifier",
        looks_at=ClassifierInput(task="study", size=32, inputs=("MR",)),
        config=network.config,
        labels={0: "scar", 1: "recurrence"},
    )
    Library().activate(card.name, Library().add(card.name, Checkpoint(network, card)))
    made = MedSegDock(ViewerModel(), build())
    qtbot.addWidget(made)
    made.resize(340, 760)
    made.show()
    return made


@pytest.mark.parametrize("plane", list(SHAPES))
def test_the_strip_and_the_deciding_slice_are_found_from_another_plane(dock, qtbot, plane) -> None:
    dock.services.opening.choose(scan(plane))
    page, viewer = dock.pages.choose("Classify"), dock.bridge.viewer
    assert scan_view.plane_of(viewer) == plane
    dock.services.classifying.classify("study")
    strip = page.findChild(AttentionStrip)
    qtbot.waitUntil(strip.isVisible)
    assert len(strip.weights) == 7
    scan_view.show_plane(viewer, OTHER[plane])
    assert dock.bridge.slice_shown() is None
    at = QPoint(round((5 + 0.5) * strip.width() / 7), strip.height() // 2)
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=at)
    assert scan_view.plane_of(viewer) == plane
    assert dock.bridge.slice_shown() == 5
    scan_view.show_plane(viewer, OTHER[plane])
    viewer.dims.ndisplay = 3
    [decided] = [each for each in page.findChildren(QAbstractButton) if each.text() == "Deciding slice"]
    qtbot.mouseClick(decided, Qt.MouseButton.LeftButton)
    assert scan_view.plane_of(viewer) == plane, "a slice is shown in 2-D"
    assert dock.bridge.slice_shown() == int(strip.weights.argmax())
