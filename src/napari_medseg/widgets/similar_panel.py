"""Classify, step 4: similar lesions of the user's own library, as pictures."""

from __future__ import annotations

from functools import partial

import numpy as np
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QScrollArea, QSizePolicy, QToolButton, QWidget

from napari_medseg.classification.likeness import WHAT_ALIKE_MEANS, in_percent
from napari_medseg.session.similar import Neighbour, Neighbours, SimilarController
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.step import button, column, dim

_PER_ROW, _PX, _TEXT_PX = 4, 58, 68
_LAID_OUT_MS = 60


class SimilarPanel(QWidget):
    """'Find similar' and its thumbnails; clicking one opens the case.

    Parameters
    ----------
    controller : SimilarController
        Does the work.
    bridge : LayerBridge
        Shows the lesion.
    """

    def __init__(self, controller: SimilarController, bridge: LayerBridge) -> None:
        super().__init__()
        self.controller = controller
        self._find = button("Find similar", "Search your labelled lesions for ones that look like the selected one")
        self._find.clicked.connect(controller.find)
        self._what, self._meaning, self._grid = dim(), dim(WHAT_ALIKE_MEANS), QGridLayout()
        self._grid.setSpacing(GAP)
        self._back = button("Back", "Show the lesion again that was asked about")
        self._back.clicked.connect(controller.back)
        self._revealed: Neighbours | None = None
        self._reveal = QTimer(self)
        self._reveal.setSingleShot(True)
        self._reveal.setInterval(_LAID_OUT_MS)
        self._reveal.timeout.connect(self._on_laid_out)
        layout = column(self)
        for widget in (self._find, self._what, self._back):
            layout.addWidget(widget)
        layout.addLayout(self._grid)
        layout.addWidget(self._meaning)
        self.draw()
        controller.changed.connect(self.draw)
        controller.jumped.connect(bridge.jump_to)

    def set_look(self, _look: Look) -> None:
        """Nothing here has a colour of its own."""

    def draw(self) -> None:
        """Draw the neighbours."""
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        shown = self.controller.shown
        self._meaning.setVisible(shown is not None and shown.found[0].likeness is not None)
        self._back.setVisible(self.controller.is_away)
        if shown is None:
            self._what.setText("Lesions of your library that look like the selected one.")
            return
        if shown is not self._revealed:
            self._revealed = shown
            self._reveal.start()
        scan = shown.work.volume.name or "the scan"
        self._what.setText(f"Most like {shown.what} of {scan}; click one to open it.")
        self._back.setText(f"Back to {self._back.fontMetrics().elidedText(scan, Qt.TextElideMode.ElideMiddle, 180)}")
        for number, neighbour in enumerate(shown.found):
            self._grid.addWidget(self._thumbnail(neighbour), number // _PER_ROW, number % _PER_ROW)

    def _on_laid_out(self) -> None:
        """Scroll the page to a new answer: its pictures come below what was in view."""
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if area is not None:
            area.ensureWidgetVisible(self)

    def _thumbnail(self, neighbour: Neighbour) -> QToolButton:
        made = QToolButton()
        made.setProperty("role", "picture")
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        made.setIcon(QIcon(pixmap_of(neighbour.picture)))
        made.setIconSize(QSize(_PX, _PX))
        named = neighbour.card.class_name or "no class"
        shown = made.fontMetrics().elidedText(named, Qt.TextElideMode.ElideRight, _TEXT_PX)
        alike = "" if neighbour.likeness is None else in_percent(neighbour.likeness)
        made.setText(f"{shown}\n{alike}".strip())
        size = "" if neighbour.card.diameter_mm is None else f", {neighbour.card.diameter_mm:.0f} mm"
        scan = neighbour.card.names[0] if neighbour.card.names else "scan"
        told = f"\nMore alike than {alike} of pairs of different lesions" if alike else ""
        made.setToolTip(f"{named}{size}{told}\n{scan}, {neighbour.id}: click to open")
        made.setAccessibleName(f"{neighbour.id}: {named}")
        made.setCursor(Qt.CursorShape.PointingHandCursor)
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.clicked.connect(partial(self.controller.open, neighbour))
        return made


def pixmap_of(picture: np.ndarray) -> QPixmap:
    """Return a grey picture (H, W) as Qt draws it."""
    grey = np.ascontiguousarray(picture)
    height, width = grey.shape
    return QPixmap.fromImage(QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8).copy())
