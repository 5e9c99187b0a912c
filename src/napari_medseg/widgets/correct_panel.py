"""Step 3: napari's brushes, the slices reviewed so far, and Accept."""

from __future__ import annotations

from functools import partial
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from napari_medseg.session.correct import SliceState
from napari_medseg.session.services import Services
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.prompt_tools import PromptTools, Tool
from napari_medseg.widgets.slice_strip import SliceStrip
from napari_medseg.widgets.step import button, column, dim, row, tool_button

BRUSHES = {
    "paint": ("Brush", "brush", "P", "Paint the lesion; what you paint stays whatever the model says later."),
    "erase": ("Eraser", "eraser", "E", "Erase; what you erase stays empty whatever the model says later."),
    "fill": ("Fill", "fill", "F", "Fill the region under the mouse."),
    "polygon": ("Polygon", "polygon", "3", "Click corners round the lesion; double click closes the polygon."),
}
_MAX_MM = 60.0
_LEGEND = ((SliceState.PREDICTED, "predicted"), (SliceState.CORRECTED, "corrected"), (SliceState.REVIEWED, "reviewed"))


class CorrectPanel(QWidget):
    """Brushes, undo and redo, the strip of slices, Accept.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    bridge : LayerBridge
        Knows the lesions' layer.
    tools : PromptTools
        Turned off while a brush is on.
    """

    def __init__(self, services: Services, bridge: LayerBridge, tools: PromptTools) -> None:
        super().__init__()
        self.services, self.session, self.bridge, self.tools = services, services.session, bridge, tools
        self._layer: Labels | None = None
        self._build()
        bridge.bound.connect(self._on_bound)
        self.session.events.reviewed.connect(self.draw)
        services.editor.stepped.connect(self.draw)
        bridge.viewer.dims.events.point.connect(self._draw_strip)
        bridge.viewer.dims.events.order.connect(self._draw_strip)
        self._on_bound(bridge.labels)

    def set_look(self, look: Look) -> None:
        """Redraw the icons in the theme's colours."""
        for mode, made in self._brushes.items():
            made.setIcon(icon(BRUSHES[mode][1], look.text, on=look.on_accent, off=look.faint))
        for each, name in ((self._undo, "undo"), (self._redo, "redo")):
            each.setIcon(icon(name, look.text, off=look.faint))
        self._accept.setIcon(icon("check", look.accent, off=look.faint))
        self._strip.set_look(look)
        parts = (f"<span style='color:{self._strip.colour_of(state)}'>■</span> {word}" for state, word in _LEGEND)
        self._legend.setText("&nbsp;&nbsp;".join(parts))

    def mark_slice(self) -> None:
        """Mark the slice that is shown as reviewed, and go on to the next one."""
        shown = self.bridge.slice_shown()
        if shown is None:
            self.session.message = "Show the plane that the scan was acquired in to review it slice by slice."
            return
        was_reviewed = shown in self.session.reviewed
        self.services.correcting.toggle_reviewed(shown)
        if not was_reviewed and shown + 1 < len(self._strip.states):
            self.bridge.show_slice(shown + 1)

    def draw(self, *_values: object) -> None:
        """Draw what the session knows now."""
        work = self.session.work
        history = work.history if work is not None else None
        last, following = (history.last, history.next) if history is not None else (None, None)
        self._undo.setEnabled(last is not None)
        self._redo.setEnabled(following is not None)
        self._undo.setToolTip(f"Undo {last.text if last else ''}\nShortcut: Ctrl+Z")
        self._redo.setToolTip(f"Redo {following.text if following else ''}\nShortcut: Ctrl+Shift+Z")
        self._draw_strip()

    def choose(self, mode: str) -> None:
        """Turn one of napari's brushes on, or off when it is on."""
        layer = self.bridge.activate()
        if layer is None:
            return
        self.tools.choose(Tool.NONE)
        layer.mode = "pan_zoom" if layer.mode == mode else mode
        self._show_mode()

    def _build(self) -> None:
        self._brushes = {
            mode: tool_button(text, f"{tip}\nShortcut: {key}") for mode, (text, _, key, tip) in BRUSHES.items()
        }
        for mode, made in self._brushes.items():
            made.clicked.connect(partial(self.choose, mode))
        self._size, self._mm = QSlider(Qt.Orientation.Horizontal), QLabel()
        self._size.setRange(1, 60)
        self._size.setToolTip("Diameter of brush and eraser\nShortcuts: [ and ]")
        self._size.valueChanged.connect(self._on_size)
        self._mm.setMinimumWidth(54)
        self._mm.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._flat = tool_button("2-D", "Brushes work on the slice that is shown, or in 3-D on its neighbours too")
        self._flat.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self._flat.setSizePolicy(self._mm.sizePolicy())
        self._flat.clicked.connect(self._on_flat)
        self._undo, self._redo = button("Undo"), button("Redo")
        self._undo.clicked.connect(self.services.correcting.undo)
        self._redo.clicked.connect(self.services.correcting.redo)
        self._strip, self._legend = SliceStrip(), dim()
        self._strip.picked.connect(self.bridge.show_slice)
        self._mark = button("Reviewed", "This slice is right: mark it and go to the next one\nShortcut: R")
        self._mark.clicked.connect(self.mark_slice)
        self._all = button("Mark all", "Every slice is right")
        self._all.clicked.connect(self.services.correcting.mark_all_reviewed)
        self._accept = button(
            "Accept", "Keep this correction: the model learns from it\nShortcut: Ctrl+Return", role="act"
        )
        self._accept.clicked.connect(self.services.correcting.accept)
        self._lay_out()

    def _lay_out(self) -> None:
        size: QHBoxLayout = row(QLabel("Size"), self._size, self._mm, self._flat, stretch=1)
        layout = column(self)
        layout.addLayout(row(*self._brushes.values()))
        layout.addLayout(size)
        for pair in ((self._undo, self._redo), (self._mark, self._all)):
            if pair[0] is self._mark:
                layout.addWidget(self._strip)
                layout.addWidget(self._legend)
            line = row(*pair)
            line.setStretch(0, 1)
            line.setStretch(1, 1)
            layout.addLayout(line)
        layout.addWidget(self._accept)

    def _on_bound(self, layer: Labels | None) -> None:
        self._layer = layer
        if layer is not None:
            layer.events.mode.connect(self._on_mode)
            layer.events.brush_size.connect(self._show_size)
            layer.events.n_edit_dimensions.connect(self._show_flat)
            voxel = self._voxel_mm(layer)
            self._size.setRange(1, max(2, round(_MAX_MM / voxel)))
            self._show_size()
            self._show_flat()
        self._show_mode()
        self.draw()

    def _on_mode(self, event: Any) -> None:
        if str(event.mode) != "pan_zoom" and self.tools.tool is not Tool.NONE:
            self.tools.choose(Tool.NONE)
        self._show_mode()

    def _on_size(self, voxels: int) -> None:
        layer = self._layer
        if layer is not None:
            if layer.brush_size != voxels:
                layer.brush_size = voxels
            self._mm.setText(f"{voxels * self._voxel_mm(layer):.1f} mm")

    def _on_flat(self) -> None:
        if self._layer is not None:
            self._layer.n_edit_dimensions = 2 if self._layer.n_edit_dimensions == 3 else 3

    def _show_mode(self) -> None:
        mode = str(self._layer.mode) if self._layer is not None else ""
        for each, made in self._brushes.items():
            made.setChecked(each == mode)

    def _show_size(self, _event: Any = None) -> None:
        if self._layer is not None:
            self._size.setValue(int(self._layer.brush_size))
            self._on_size(self._size.value())

    def _show_flat(self, _event: Any = None) -> None:
        is_solid = self._layer is not None and self._layer.n_edit_dimensions == 3
        self._flat.setChecked(is_solid)
        self._flat.setText("3-D" if is_solid else "2-D")

    def _draw_strip(self, _event: Any = None) -> None:
        self._strip.show_states(self.services.correcting.slice_states(), self.bridge.slice_shown())

    def _voxel_mm(self, layer: Labels) -> float:
        return float(min(abs(step) for step in layer.scale))
