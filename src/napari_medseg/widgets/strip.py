"""What strips along the slice slider share: a place a slice, a mark at the one that is shown, picking one."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPointF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseg.widgets.look import Look


class Strip(QWidget):
    """One place a slice; clicking one shows that slice.

    Parameters
    ----------
    height : int
        In pixels.

    Attributes
    ----------
    picked : Signal(int)
        The slice that was clicked.
    """

    picked = Signal(int)

    def __init__(self, height: int) -> None:
        super().__init__()
        self._height, self._n_slices = height, 0
        self._shown: int | None = None
        self._look: Look | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(height)
        self.setMouseTracking(True)

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self.update()

    def show_slices(self, n_slices: int, shown: int | None) -> None:
        """Draw so many slices, and a mark at the one that is shown."""
        self._n_slices, self._shown = n_slices, shown
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(200, self._height)

    def paint_slices(self, painter: QPainter, look: Look, step: float) -> None:
        """Draw the slices, each `step` pixels wide."""

    def describe(self, index: int) -> str:
        """Say what a slice is, as its tooltip does."""
        return f"Slice {index + 1}"

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the slices and the mark."""
        if not self._n_slices or self._look is None:
            return
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        step = self.width() / self._n_slices
        self.paint_slices(painter, self._look, step)
        if self._shown is not None:
            painter.setPen(QPen(QColor(self._look.text), 2))
            middle = (self._shown + 0.5) * step
            painter.drawLine(QPointF(middle, 1), QPointF(middle, self._height - 1))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Pick the slice under the mouse."""
        self._pick(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Describe the slice under the mouse, and pick it while the button is down."""
        if event is None or not self._n_slices:
            return
        self.setToolTip(self.describe(self._index(event)))
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._pick(event)

    def _pick(self, event: QMouseEvent | None) -> None:
        if event is not None and self._n_slices:
            self.picked.emit(self._index(event))

    def _index(self, event: QMouseEvent) -> int:
        share = event.position().x() / max(1, self.width())
        return int(np.clip(share * self._n_slices, 0, self._n_slices - 1))
