"""The plane and the window in which the open scan is shown: two boxes in step with the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_medseg.widgets.look import INDENT, Look
from napari_medseg.widgets.orientation_letters import PLANES
from napari_medseg.widgets.scan_layers import plane_of, scan_layer, show_plane
from napari_medseg.widgets.step import dim, row
from napari_medseg.widgets.windows import apply_window, presets_of, window_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

PLANE_TIP = "The plane that is shown\nShortcuts: Shift+A axial, Shift+C coronal, Shift+S sagittal"
WINDOW_TIP = "The intensities from black to white: 'Own' where they are no preset's\nShortcut: Shift+W, the next one"


class ViewRow(QWidget):
    """Plane and window, as the canvas shows them and for the user to choose.

    Parameters
    ----------
    viewer : ViewerModel
        Whose plane it is; the window is that of the scan that the texts on its canvas speak of.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self._build()
        for event in (viewer.dims.events.order, viewer.dims.events.ndisplay, viewer.dims.events.range):
            event.connect(self._draw_plane)
        for event in (viewer.layers.events.removed, viewer.layers.selection.events.active):
            event.connect(self._draw_window)
        viewer.layers.events.inserted.connect(self._on_inserted)
        for layer in viewer.layers:
            self._watch(layer)
        self._draw_plane()
        self._draw_window()

    def set_look(self, look: Look) -> None:
        """Write what cannot be chosen now in the theme's faint colour."""
        self.setStyleSheet(f"QComboBox:disabled {{ color: {look.faint}; }}")

    def _build(self) -> None:
        self._plane, self._window = QComboBox(), QComboBox()
        self._plane.addItems([plane.capitalize() for plane in PLANES])
        for box, name, tip in ((self._plane, "Plane", PLANE_TIP), (self._window, "Window", WINDOW_TIP)):
            box.setAccessibleName(name)
            box.setToolTip(tip)
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # the canvas keeps the keys when the mouse chose
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._plane.activated.connect(self._on_plane)
        self._window.activated.connect(self._on_window)
        layout = row(dim("Plane"), self._plane, dim("Window"), self._window)
        layout.setContentsMargins(INDENT, 6, INDENT, 0)
        layout.setStretch(1, 4)
        layout.setStretch(3, 5)
        self.setLayout(layout)

    def _on_plane(self, index: int) -> None:
        show_plane(self.viewer, PLANES[index])

    def _on_window(self, index: int) -> None:
        layer = scan_layer(self.viewer)
        if layer is not None:
            apply_window(layer, presets_of(layer)[index])

    def _on_inserted(self, event: Any) -> None:
        self._watch(event.value)
        self._draw_window()

    def _watch(self, layer: Layer) -> None:
        if isinstance(layer, Image):
            for event in (layer.events.contrast_limits, layer.events.colormap, layer.events.visible):
                event.connect(self._draw_window)

    def _draw_plane(self, _event: Any = None) -> None:
        plane, dims = plane_of(self.viewer), self.viewer.dims
        self._plane.setPlaceholderText("3-D" if dims.ndisplay == 3 else "")
        self._plane.setCurrentIndex(PLANES.index(plane) if plane is not None else -1)
        self._plane.setEnabled(plane is not None and min(dims.nsteps[-3:]) > 1)  # a picture has one plane alone

    def _draw_window(self, _event: Any = None) -> None:
        layer = scan_layer(self.viewer)
        presets = presets_of(layer) if layer is not None else ()
        shown = window_of(layer) if layer is not None else None
        names = [preset.name for preset in presets]
        if names != [self._window.itemText(k) for k in range(self._window.count())]:
            self._window.clear()
            self._window.addItems(names)
        self._window.setPlaceholderText("Own" if presets else "")
        self._window.setCurrentIndex(presets.index(shown) if shown is not None else -1)
        self._window.setEnabled(bool(presets))
