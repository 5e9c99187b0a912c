"""Classify, step 2: train a classifier on the labelled cases, watch, and choose among versions."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_medseg.session.learn_classes import ClassLearnController, Way
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.run_view import RunView
from napari_medseg.widgets.step import button, column, dim, row
from napari_medseg.widgets.version_list import VersionList


class ClassLearnPanel(QWidget):
    """'Train classifier', its curve, the verdict, and the versions.

    Parameters
    ----------
    controller : ClassLearnController
        Does the work.
    """

    def __init__(self, controller: ClassLearnController) -> None:
        super().__init__()
        self.controller, self.session = controller, controller.session
        self._ways: tuple[Way, ...] = ()
        self._build()
        controller.changed.connect(self.draw)
        controller.labelling.changed.connect(self.draw)
        self.session.events.volume.connect(self.draw)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._run.set_look(look)
        self._versions.set_look(look)
        self.draw()

    def draw(self, *_values: object) -> None:
        """Draw what the controller knows now."""
        controller, is_running = self.controller, self.controller.is_running
        self._draw_ways()
        missing = controller.missing()
        self._family.setText(missing or controller.family)
        self._way.setEnabled(not is_running)
        self._run.draw(can_start=not missing)
        self._versions.draw()

    def _build(self) -> None:
        self._family, self._way = dim(), QComboBox()
        self._way.currentIndexChanged.connect(self._on_way)
        start = button(
            "Train classifier",
            "Learn to tell the classes apart. It is only used if it is better on cases it has not seen",
            role="main",
        )
        self._run = RunView(self.controller, start, self.controller.start, cancel_tip="Stop; nothing is changed")
        self._versions = VersionList(self.controller)
        layout = column(self)
        layout.addWidget(self._family)
        layout.addLayout(row(QLabel("Learn by"), self._way, stretch=1))
        layout.addWidget(self._run)
        layout.addWidget(self._versions)

    def _draw_ways(self) -> None:
        ways = self.controller.ways
        if ways != self._ways:
            self._ways = ways
            self._way.blockSignals(True)
            self._way.clear()
            for number, way in enumerate(ways):
                self._way.addItem(way.caption, way)
                self._way.setItemData(number, way.description, Qt.ItemDataRole.ToolTipRole)
            self._way.blockSignals(False)
        if self.controller.way is not self._way.currentData():
            self._way.blockSignals(True)
            self._way.setCurrentIndex(ways.index(self.controller.way))
            self._way.blockSignals(False)
        self._way.setToolTip(self.controller.way.description)

    def _on_way(self, index: int) -> None:
        if 0 <= index < len(self._ways):
            self.controller.way = self._ways[index]
