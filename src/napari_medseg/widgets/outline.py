"""Lesions drawn as outlines, so that the margin under them can be judged: one switch for all scans of a window."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakSet

from napari.layers import Labels
from psygnal import Signal


class Outline:
    """How wide the outlines of all lesions' layers are, in voxels; 0 fills the lesions, and 3-D always does.

    Attributes
    ----------
    changed : Signal(bool)
        Whether there are outlines from now on.
    """

    changed = Signal(bool)

    def __init__(self) -> None:
        self._width, self._is_drawing = 0, False
        self._layers: WeakSet[Labels] = WeakSet()

    @property
    def is_on(self) -> bool:
        """Whether lesions are drawn as outlines."""
        return self._width > 0

    def show(self, is_wanted: bool) -> None:
        """Draw outlines, or fill the lesions."""
        if is_wanted != self.is_on:
            self._set(int(is_wanted))

    def toggle(self) -> None:
        """Draw outlines where lesions are filled, and the other way round."""
        self.show(not self.is_on)

    def take(self, layer: Labels | None) -> None:
        """Draw a lesions' layer like the others from now on."""
        if layer is not None and layer not in self._layers:
            self._layers.add(layer)
            layer.events.contour.connect(self._on_contour)
            self._draw()

    def _set(self, width: int) -> None:
        # napari says so each time that it draws in 3-D; the tick is off there
        warnings.filterwarnings("ignore", "Contours are not displayed during 3D rendering", UserWarning)
        self._width = width
        self._draw()
        self.changed.emit(self.is_on)

    def _on_contour(self, event: Any) -> None:
        """Somebody chose a width in napari's own controls."""
        if not self._is_drawing:
            self._set(event.source.contour)

    def _draw(self) -> None:
        self._is_drawing = True
        for layer in list(self._layers):
            if layer.contour != self._width:
                layer.contour = self._width
        self._is_drawing = False
