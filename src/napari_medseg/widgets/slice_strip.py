"""A strip with one mark a slice: untouched, predicted, corrected, reviewed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseg.session.correct import SliceState
from napari_medseg.widgets.look import Look

_HEIGHT = 22


class SliceStrip(QWidget):
    """One mark a slice; clicking one shows that slice.

    Attributes
    ----------
    picked : Signal(int)
        The slice that was clicked.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._states: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._shown: int | None = None
        self._colours: dict[SliceState, str] = {}
        self._line = "#888888"
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(_HEIGHT)
        self.setMouseTracking(True)

    @property
    def states(self) -> NDArray[np.uint8]:
        """The states that are drawn, one a slice."""
        return self._states

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._line = look.text
        self._colours = {
            SliceState.UNTOUCHED: look.line,
            SliceState.PREDICTED: look.accent,
            SliceState.CORRECTED: look.warning,
            SliceState.REVIEWED: look.good,
        }
        self.update()

    def colour_of(self, state: SliceState) -> str:
        """Return the colour that stands for a state."""
        return self._colours.get(state, "#888888")

    def show_states(self, states: NDArray[np.uint8], shown: int | None) -> None:
        """Draw these states, and a mark at the slice that is shown."""
        self._states, self._shown = states, shown
        self.update()

    def sizeHint(self) -> QSize:
        """A flat strip."""
        return QSize(200, _HEIGHT)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw runs of equal slices as one bar each."""
        n_slices = len(self._states)
        if not n_slices or not self._colours:
            return
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        step = self.width() / n_slices
        edges = np.flatnonzero(np.diff(self._states)) + 1
        starts = [0, *edges.tolist()]
        for start, stop in zip(starts, [*edges.tolist(), n_slices], strict=True):
            painter.setBrush(QColor(self.colour_of(SliceState(int(self._states[start])))))
            painter.drawRect(QRectF(start * step, 5, max(1.0, (stop - start) * step), _HEIGHT - 10))
        if self._shown is not None:
            painter.setPen(QPen(QColor(self._line), 2))
            middle = (self._shown + 0.5) * step
            painter.drawLine(int(middle), 1, int(middle), _HEIGHT - 1)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Pick the slice under the mouse."""
        self._pick(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Name the slice under the mouse, and pick it while the button is down."""
        if event is None or not len(self._states):
            return
        index = self._index(event)
        self.setToolTip(f"Slice {index + 1}: {SliceState(int(self._states[index])).name.lower()}")
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._pick(event)

    def _pick(self, event: QMouseEvent | None) -> None:
        if event is not None and len(self._states):
            self.picked.emit(self._index(event))

    def _index(self, event: QMouseEvent) -> int:
        share = event.position().x() / max(1, self.width())
        return int(np.clip(share * len(self._states), 0, len(self._states) - 1))
