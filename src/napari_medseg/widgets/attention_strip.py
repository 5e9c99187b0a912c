"""How much each slice of a study decided, along the slice slider."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QPainter

from napari_medseg.widgets.look import Look
from napari_medseg.widgets.strip import Strip

_HEIGHT = 48


class AttentionStrip(Strip):
    """One bar a slice, as high as its attention."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._weights: NDArray[np.float64] = np.zeros(0)
        self.setAccessibleName("Attention by slice")

    @property
    def weights(self) -> NDArray[np.float64]:
        """What is drawn, one value a slice."""
        return self._weights

    def show_weights(self, weights: NDArray[np.float64], shown: int | None) -> None:
        """Draw these weights, and a mark at the slice that is shown."""
        self._weights = weights
        self.show_slices(len(weights), shown)

    def describe(self, index: int) -> str:
        """Say how much a slice decided."""
        return f"Slice {index + 1}: {self._weights[index]:.1%} of the attention"

    def paint_slices(self, painter: QPainter, look: Look, step: float) -> None:
        """Draw the bars, the deciding one in the warning colour."""
        painter.setBrush(QColor(look.panel))
        painter.drawRect(self.rect())
        largest, best = float(self._weights.max()) or 1.0, int(self._weights.argmax())
        for index, weight in enumerate(self._weights):
            height = max(1.0, (_HEIGHT - 6) * float(weight) / largest)
            painter.setBrush(QColor(look.warning if index == best else look.accent))
            painter.drawRect(QRectF(index * step, _HEIGHT - height, max(1.0, step - (step > 3)), height))
