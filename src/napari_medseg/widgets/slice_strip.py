"""A strip with one mark a slice: untouched, predicted, corrected, reviewed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor, QPainter

from napari_medseg.session.correct import SliceState
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.strip import Strip

_HEIGHT = 22


class SliceStrip(Strip):
    """One mark a slice, coloured by its state."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._states: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._colours: dict[SliceState, str] = {}

    @property
    def states(self) -> NDArray[np.uint8]:
        """The states that are drawn, one a slice."""
        return self._states

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._colours = {
            SliceState.UNTOUCHED: look.line,
            SliceState.PREDICTED: look.accent,
            SliceState.CORRECTED: look.warning,
            SliceState.REVIEWED: look.good,
        }
        super().set_look(look)

    def colour_of(self, state: SliceState) -> str:
        """Return the colour that stands for a state."""
        return self._colours.get(state, "#888888")

    def show_states(self, states: NDArray[np.uint8], shown: int | None) -> None:
        """Draw these states, and a mark at the slice that is shown."""
        self._states = states
        self.show_slices(len(states), shown)

    def describe(self, index: int) -> str:
        """Say what state a slice is in."""
        return f"Slice {index + 1}: {SliceState(int(self._states[index])).name.lower()}"

    def paint_slices(self, painter: QPainter, _look: Look, step: float) -> None:
        """Draw runs of equal slices as one bar each."""
        edges = np.flatnonzero(np.diff(self._states)) + 1
        starts = [0, *edges.tolist()]
        for start, stop in zip(starts, [*edges.tolist(), len(self._states)], strict=True):
            painter.setBrush(QColor(self.colour_of(SliceState(int(self._states[start])))))
            painter.drawRect(QRectF(start * step, 5, max(1.0, (stop - start) * step), _HEIGHT - 10))
