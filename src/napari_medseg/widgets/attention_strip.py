"""How much each slice of a study decided, along the slice slider."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseg.widgets.look import Look

_HEIGHT = 48


class AttentionStrip(QWidget):
    """One bar a slice, as high as its attention; clicking one shows that slice.

    Attributes
    ----------
    picked : Signal(int)
        The slice that was clicked.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._weights: NDArray[np.float64] = np.zeros(0)
        self._shown: int | None = None
        self._look: Look | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        self.setMouseTracking(True)
        self.setAccessibleName("Attention by slice")

    @property
    def weights(self) -> NDArray[np.float64]:
        """What is drawn, one value a slice."""
        return self._weights

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self.update()

    def show_weights(self, weights: NDArray[np.float64], shown: int | None) -> None:
        """Draw these weights, and a mark at the slice that is shown."""
        self._weights, self._shown = weights, shown
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(200, _HEIGHT)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the bars, the deciding one in the accent colour."""
        n, look = len(self._weights), self._look
        if not n or look is None:
            return
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(look.panel))
        painter.drawRect(self.rect())
        step, largest = self.width() / n, float(self._weights.max()) or 1.0
        best = int(self._weights.argmax())
        for index, weight in enumerate(self._weights):
            height = max(1.0, (_HEIGHT - 6) * float(weight) / largest)
            painter.setBrush(QColor(look.warning if index == best else look.accent))
            painter.drawRect(QRectF(index * step, _HEIGHT - height, max(1.0, step - (step > 3)), height))
        if self._shown is not None:
            painter.setPen(QPen(QColor(look.text), 2))
            middle = (self._shown + 0.5) * step
            painter.drawLine(QPointF(middle, 0), QPointF(middle, _HEIGHT))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Pick the slice under the mouse."""
        if event is not None and len(self._weights):
            self.picked.emit(self._index(event))

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Say how much the slice under the mouse decided, and pick it while the button is down."""
        if event is None or not len(self._weights):
            return
        index = self._index(event)
        self.setToolTip(f"Slice {index + 1}: {self._weights[index]:.1%} of the attention")
        if event.buttons() & Qt.MouseButton.LeftButton:
            self.picked.emit(index)

    def _index(self, event: QMouseEvent) -> int:
        share = event.position().x() / max(1, self.width())
        return int(np.clip(share * len(self._weights), 0, len(self._weights) - 1))
