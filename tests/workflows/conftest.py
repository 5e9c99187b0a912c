"""A real window with a real mouse. All access to napari's private parts stands here."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import QPoint, Qt

from napari_medseg.imaging.volume import Volume

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
# An oblique grid, flipped against memory, with unequal axes and spacings.
AFFINE = np.array([[-0.9, 0.05, 0.2, 40], [0.06, 1.1, -0.15, -30], [0.1, 0.08, 2.9, 12], [0, 0, 0, 1]])


class Window:
    """A napari window with the dock open, and a mouse that knows voxels."""

    def __init__(self, viewer, qtbot) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-medseg", "MedSeg")
        self.session = self.dock.session
        self._canvas = viewer.window._qt_viewer.canvas
        viewer.window._qt_window.resize(1300, 900)
        viewer.window._qt_window.activateWindow()

    def wait(self, until) -> None:
        self.qtbot.waitUntil(until, timeout=20_000)

    def open(self, path: Path) -> Volume:
        self.dock.services.opening.open(path)
        self.wait(lambda: self.session.volume is not None and self.session.busy is None)
        self.qtbot.wait(50)
        return self.session.volume

    @property
    def labels(self) -> np.ndarray:
        return self.session.work.labels.data

    @property
    def layer(self):
        return self.dock.bridge.labels

    def show(self, index) -> None:
        self.dock.bridge.jump_to(tuple(index))
        self.qtbot.wait(20)

    def pixel(self, index) -> QPoint:
        """Where on the canvas a voxel is drawn."""
        world = self.layer.data_to_world(index)
        x, y = (world[axis] for axis in reversed(self.viewer.dims.displayed))
        view = self._canvas.view
        mapped = (view.transform * view.scene.transform).map([x, y])
        return QPoint(round(mapped[0]), round(mapped[1]))

    def click(self, index, button=LEFT, modifier=Qt.KeyboardModifier.NoModifier) -> None:
        self.qtbot.mouseMove(self._canvas.native, self.pixel(index))
        self.qtbot.mouseClick(self._canvas.native, button, modifier, self.pixel(index))

    def double_click(self, index) -> None:
        at = self.pixel(index)
        self.qtbot.mouseClick(self._canvas.native, LEFT, pos=at)
        self.qtbot.mouseDClick(self._canvas.native, LEFT, pos=at)

    def drag(self, *indices, button=LEFT) -> None:
        """Press at the first voxel, move over the others, release at the last."""
        native = self._canvas.native
        self.qtbot.mouseMove(native, self.pixel(indices[0]))
        self.qtbot.mousePress(native, button, pos=self.pixel(indices[0]))
        for index in indices[1:]:
            self.qtbot.wait(15)
            self.qtbot.mouseMove(native, self.pixel(index))
        self.qtbot.wait(15)
        self.qtbot.mouseRelease(native, button, pos=self.pixel(indices[-1]))

    def key(self, key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
        self.qtbot.keyClick(self.viewer.window._qt_window, key, modifier)

    def buttons(self) -> list:
        """The dock's buttons that can be seen."""
        from qtpy.QtWidgets import QAbstractButton

        return [each for each in self.dock.findChildren(QAbstractButton) if each.isVisible()]

    def press(self, text: str) -> None:
        """Press the dock's button with this text."""
        found = [each for each in self.buttons() if each.text() == text]
        assert len(found) == 1, f"{len(found)} visible buttons say {text!r}"
        assert found[0].isEnabled()
        self.qtbot.mouseClick(found[0], LEFT)

    def settled(self) -> None:
        self.wait(lambda: self.session.busy is None)


@pytest.fixture
def window(make_napari_viewer, qtbot, model) -> Window:
    if os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        pytest.skip("a canvas needs a display: run under xvfb-run")
    made = Window(make_napari_viewer(show=True), qtbot)
    model.radius_mm = 6.0
    made.session.model = model
    return made


def write_ball(path: Path, centre: tuple[int, int, int], seed: int) -> NDArray[np.bool_]:
    """Write a CT-like file with a bright ball of 8 mm radius in it, and return where the ball is."""
    shape = (60, 44, 16)
    ijk = np.indices(shape).reshape(3, -1)
    away = (AFFINE[:3, :3] @ (ijk - np.array(centre)[:, None])) ** 2
    inside = (away.sum(0) <= 64).reshape(shape)
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    data = np.where(inside, 90, 20) + noise
    nib.save(nib.Nifti1Image(data.astype(np.int16), AFFINE), path)
    return inside


@pytest.fixture
def scan(tmp_path) -> Path:
    """A CT-like file with a bright ball in it."""
    path = tmp_path / "ct.nii.gz"
    write_ball(path, (34, 20, 8), 0)
    return path


@pytest.fixture
def ball_scan():
    """`write_ball`."""
    return write_ball
