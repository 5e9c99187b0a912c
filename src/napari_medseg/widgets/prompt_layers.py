"""Draws the prompts of the active lesion: green says lesion, red says not lesion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Points, Shapes
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.prompts import Box, Click, Lasso, Prompt, Scribble
from napari_medseg.widgets.layer_bridge import LayerBridge

POSITIVE, NEGATIVE = "#2ee56b", "#ff3b4e"
CLICKS, LINES = "Clicks", "Boxes and lines"
_DOT_PX = (9, 13)


class PromptLayers:
    """Shows the prompts in layers that are made when they are first needed and only ever follow the session.

    Parameters
    ----------
    viewer : ViewerModel
        Where the layers go.
    bridge : LayerBridge
        Knows the scan's layer.
    """

    def __init__(self, viewer: ViewerModel, bridge: LayerBridge) -> None:
        self.viewer, self.bridge, self.session = viewer, bridge, bridge.session
        self._points: Points | None = None
        self._shapes: Shapes | None = None
        self._drawn: tuple[Prompt | None, ...] = ()
        self.session.events.lesions.connect(self.draw)
        self.session.events.active_label.connect(self.draw)
        self.session.events.volume.connect(self._on_volume)
        viewer.layers.events.removed.connect(self._on_removed)
        for emitter in (viewer.dims.events.point, viewer.dims.events.order, viewer.dims.events.ndisplay):
            emitter.connect(self._limit_dots)

    def prepare(self, *, lines: bool) -> None:
        """Make the layer for clicks (or for boxes and lines) now: napari takes a moment for a new layer."""
        if lines and self._shapes is None:
            self._add_shapes()
        if not lines and self._points is None:
            self._add_points()

    def draw(self, _value: object = None, *, drawing: Prompt | None = None) -> None:
        """Draw the active lesion's prompts, and one more that is being drawn now."""
        volume = self.session.volume
        if volume is None:
            return
        active = self.session.active
        prompts = self.session.prompts if active is not None and active.visible else ()
        drawn = (*prompts, drawing)
        if drawn == self._drawn:
            return
        self._draw_clicks(volume, [each for each in prompts if isinstance(each, Click)])
        lines = [each for each in (*prompts, drawing) if isinstance(each, Box | Scribble | Lasso)]
        self._draw_lines(volume, lines)
        self._drawn = drawn

    def _draw_clicks(self, volume: Volume, clicks: Sequence[Click]) -> None:
        if not clicks and (self._points is None or not len(self._points.data)):
            return
        layer = self._points or self._add_points()
        if layer is None:
            return
        layer.data = np.array([volume.index_of(click.position_mm) for click in clicks]).reshape(-1, 3).round()
        layer.face_color = [colour_of(click) for click in clicks] or POSITIVE
        layer.border_color = "white"
        layer.size = self._dot_size(layer)
        self._limit_dots()
        layer.selected_data = set()

    def _draw_lines(self, volume: Volume, lines: Sequence[Box | Scribble | Lasso]) -> None:
        if not lines and (self._shapes is None or not self._shapes.nshapes):
            return
        layer = self._shapes or self._add_shapes()
        if layer is None:
            return
        layer.data = []
        if lines:
            layer.add(
                [outline(volume, line) for line in lines],
                shape_type=["polygon" if isinstance(line, Box) else "path" for line in lines],
                edge_color=[colour_of(line) for line in lines],
                face_color="transparent",
                edge_width=self._line_width(layer),
            )
        layer.selected_data = set()

    def _limit_dots(self, _event: Any = None) -> None:
        """Dots of at least some pixels only where there are any: napari draws one of size 0 where there are none."""
        layer, dims = self._points, self.viewer.dims
        if layer is None or dims.ndim < 3:
            return
        sliced = [axis - (dims.ndim - 3) for axis in dims.not_displayed if axis >= dims.ndim - 3]
        off = np.abs(np.asarray(layer.data) - layer.world_to_data(dims.point[-3:]))[:, sliced]
        least = _DOT_PX[0] if (off <= 0.5).all(axis=1).any() else 0
        if layer.canvas_size_limits[0] != least:
            layer.canvas_size_limits = (least, _DOT_PX[1])

    def _add_points(self) -> Points | None:
        self._points = self._add("points", CLICKS, border_width=0.12, canvas_size_limits=_DOT_PX)
        return self._points

    def _add_shapes(self) -> Shapes | None:
        self._shapes = self._add("shapes", LINES, opacity=0.9)
        return self._shapes

    def _add(self, kind: str, name: str, **looks: Any) -> Any:
        labels = self.bridge.ensure_labels()
        if labels is None:
            return None
        active = self.viewer.layers.selection.active
        layer = getattr(self.viewer, f"add_{kind}")(
            ndim=3,
            name=name,
            scale=labels.scale,
            translate=labels.translate,
            units=labels.units,
            axis_labels=labels.axis_labels,
            **looks,
        )
        layer.editable = False
        self.viewer.layers.selection.active = active if active in self.viewer.layers else labels
        return layer

    def _dot_size(self, layer: Points) -> float:
        return 3.0 / float(np.min(np.abs(layer.scale)))

    def _line_width(self, layer: Shapes) -> float:
        return 0.8 / float(np.min(np.abs(layer.scale)))

    def _on_volume(self, _volume: Volume | None) -> None:
        for layer in (self._points, self._shapes):
            if layer is not None and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._drawn = ()
        self.draw()

    def _on_removed(self, event: Any) -> None:
        if event.value is self._points:
            self._points, self._drawn = None, ()
        if event.value is self._shapes:
            self._shapes, self._drawn = None, ()


def colour_of(prompt: Prompt) -> str:
    """Return green for 'lesion' and red for 'not lesion'."""
    return POSITIVE if prompt.positive else NEGATIVE


def outline(volume: Volume, line: Box | Scribble | Lasso) -> NDArray[np.float64]:
    """Return the corners of a box in its slice, or the points of a scribble or (closed) lasso, as voxel indices."""
    if not isinstance(line, Box):
        points = [volume.index_of(point) for point in line.points_mm]
        is_open = isinstance(line, Scribble) and len(points) > 1
        return np.array(points if is_open else [*points, points[0]])
    low, high = volume.index_of(line.corner_mm), volume.index_of(line.opposite_mm)
    flat = int(np.abs(high - low).argmin())
    first, second = (axis for axis in range(3) if axis != flat)
    corners = np.tile((low + high) / 2, (4, 1))
    corners[:, first] = [low[first], low[first], high[first], high[first]]
    corners[:, second] = [low[second], high[second], high[second], low[second]]
    return corners
