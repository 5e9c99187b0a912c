"""The click, box, scribble and lasso tools on the canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray
from psygnal import Signal

from napari_medseg.segmentation.prompts import Box, Lasso, Point, Prompt, Scribble
from napari_medseg.session.prompts import SegmentController
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.prompt_layers import PromptLayers

DRAG_PX = 5.0
_RIGHT = 2


class Tool(Enum):
    """What the mouse does on the canvas, beyond napari's own panning and zooming."""

    NONE = "none"
    CLICK = "click"
    BOX = "box"
    SCRIBBLE = "scribble"
    LASSO = "lasso"


class PromptTools:
    """Turns the mouse on the canvas into prompts.

    Left says lesion; right, or left with Ctrl, says not lesion. With the click tool a drag still pans the view. That
    tool is on when a scan without lesions is opened; in one that holds some, a stray click should change none of them.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer to listen to.
    bridge : LayerBridge
        Turns world positions into patient positions.
    layers : PromptLayers
        Draws what is being drawn.
    segmenting : SegmentController
        Receives the prompts.

    Attributes
    ----------
    changed : Signal
        Emits the tool that is on now.
    is_welcome : callable
        Whether the click tool may turn itself on: not where the user looks at something else than segmenting.
    """

    changed = Signal(Tool)

    def __init__(
        self, viewer: ViewerModel, bridge: LayerBridge, layers: PromptLayers, segmenting: SegmentController
    ) -> None:
        self.viewer, self.bridge, self.layers, self.segmenting = viewer, bridge, layers, segmenting
        self.is_welcome: Callable[[], bool] = lambda: True
        self._tool, self._is_offered = Tool.NONE, False
        self._double_click: list[Any] = []
        viewer.mouse_drag_callbacks.append(self._on_press)
        bridge.session.events.volume.connect(self._on_volume)

    @property
    def tool(self) -> Tool:
        """The tool that is on now."""
        return self._tool

    def toggle(self, tool: Tool) -> None:
        """Turn a tool on, or off if it is on; who asks for the one that turned itself on keeps it."""
        self.choose(Tool.NONE if self._tool is tool and not self._is_offered else tool)

    def choose(self, tool: Tool, *, is_offer: bool = False) -> None:
        """Turn a tool on (and any brush off), or all off; an offer makes no layer until it is taken."""
        layer = self.bridge.activate() if tool is not Tool.NONE else self.bridge.labels
        if layer is None:
            tool = Tool.NONE
        before, self._tool, self._is_offered = self._tool, tool, is_offer and tool is not Tool.NONE
        if layer is not None and (tool is not Tool.NONE or before is not Tool.NONE):
            if tool is not Tool.NONE:
                layer.mode = "pan_zoom"
            if layer.mode == "pan_zoom":
                layer.mouse_pan = tool in (Tool.NONE, Tool.CLICK)
                layer.cursor = "standard" if tool is Tool.NONE else "cross"
        if tool is not Tool.NONE and not is_offer:
            self.layers.prepare(lines=tool is not Tool.CLICK)
        self._take_double_clicks(tool is not Tool.NONE)
        if tool is not before:
            self.changed.emit(tool)

    def _on_volume(self, volume: object) -> None:
        is_fresh = volume is not None and not self.bridge.session.lesions
        self.choose(Tool.CLICK if is_fresh and self.is_welcome() else Tool.NONE, is_offer=True)

    def _take_double_clicks(self, take: bool) -> None:
        """While a tool is on, two quick clicks are two clicks, not napari's zoom."""
        callbacks = self.viewer.mouse_double_click_callbacks
        if take and self._on_double_click not in callbacks:
            self._double_click = list(callbacks)
            callbacks[:] = [self._on_double_click]
        elif not take and self._on_double_click in callbacks:
            callbacks[:] = self._double_click

    def _on_double_click(self, _viewer: object, event: Any) -> None:
        if self._tool is Tool.CLICK and self._can_point():
            self._click(event)

    def _on_press(self, _viewer: object, event: Any) -> Iterator[None]:
        if self._tool is Tool.NONE or event.button not in (1, _RIGHT) or {"Alt", "Shift"} & set(event.modifiers):
            return
        if not self._can_point():
            return
        start, positive, tool = np.array(event.pos), is_positive(event), self._tool
        points, world = [self.bridge.position_of(event.position)], np.array(event.position, float)
        yield
        farthest = 0.0
        while event.type == "mouse_move":
            farthest = max(farthest, float(np.linalg.norm(np.array(event.pos) - start)))
            points.append(self.bridge.position_of(event.position))
            if tool is not Tool.CLICK:
                self.layers.draw(drawing=prompt_of(tool, points, positive))
            yield
        if tool is Tool.CLICK:
            if farthest < DRAG_PX:
                self._click(event, positive)
            return
        prompt = prompt_of(tool, points, positive) if farthest >= DRAG_PX else None
        if prompt is None:
            self.layers.draw()
            self.bridge.session.message = "Drag with the mouse button down to draw."
        else:
            self._turn_other_planes((world + np.array(event.position, float)) / 2)
            self.segmenting.add(prompt)
            self.layers.draw()

    def _can_point(self) -> bool:
        if self.viewer.dims.ndisplay == 3:
            self.bridge.session.message = "Prompts belong on a slice: switch to 2-D (Ctrl+Y) first."
            return False
        return True

    def _click(self, event: Any, positive: bool | None = None) -> None:
        position = self.bridge.position_of(event.position)
        if position is None:
            self.bridge.session.message = "That is outside the scan: click on the scan itself."
            return
        self._is_offered = False
        self._turn_other_planes(np.array(event.position, float))
        self.segmenting.click(position, positive=is_positive(event) if positive is None else positive)

    def _turn_other_planes(self, world: NDArray[np.float64]) -> None:
        """Let the planes that are not shown run through a place: whoever turns to them sees what was pointed at."""
        dims = self.viewer.dims
        for axis in dims.displayed:
            dims.set_point(axis, float(world[axis]))


def is_positive(event: Any) -> bool:
    """Whether a mouse event says 'lesion': left without Ctrl."""
    return event.button != _RIGHT and "Control" not in event.modifiers


def prompt_of(tool: Tool, points: list[Point | None], positive: bool) -> Prompt | None:
    """Return the box, scribble or lasso drawn through some points (None: outside of the scan)."""
    inside = tuple(point for point in points if point is not None)
    if len(inside) < 2:
        return None
    if tool is Tool.BOX:
        return Box(inside[0], inside[-1], positive)
    if tool is Tool.LASSO:
        return Lasso(inside, positive) if len(inside) > 2 else None
    return Scribble(inside, positive)
