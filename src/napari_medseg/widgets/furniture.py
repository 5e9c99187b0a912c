"""What stands on the canvas beside scans: letters at the edges, scale bar, texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from napari.components.overlays import TextOverlay
from napari.layers import Image
from napari.utils.color import ColorValue

from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.widgets import key_bindings, preferences
from napari_medseg.widgets.orientation_letters import EDGES, PLANES, edge_letters, upright_orientation
from napari_medseg.widgets.scan_layers import centre_on, scan_layer, show_plane, shown_volume, volume_of
from napari_medseg.widgets.scan_texts import describe_position, describe_scan

if TYPE_CHECKING:
    from napari.components import ViewerModel

_POSITIONS = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
    "scan": "top_left",
    "cursor": "bottom_left",
}
_INK, _SHADE = ColorValue("#fff3b0"), ColorValue("#000000a0")


class Furniture:
    """What stands on the canvas beside the scans of one viewer, kept up to date by the viewer's events.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Watched from now on; nothing is shown until it holds a scan.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._order: tuple[int, ...] = viewer.dims.order
        self._before: tuple[Any, bool] | None = None
        self._preferences = preferences.view_preferences()
        self._preferences.events.connect(self._on_preferences)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._write_all)
        viewer.dims.events.order.connect(self._on_order)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        viewer.dims.events.point.connect(self._write_scan)
        viewer.scene.camera.events.orientation.connect(self._write_letters)
        viewer.scene.camera.events.angles.connect(self._write_letters)
        viewer.cursor.events.position.connect(self._write_cursor)
        viewer.events.mouse_over_canvas.connect(self._write_cursor)
        if scan_layer(viewer) is not None:
            self._appear(viewer)

    @property
    def is_visible(self) -> bool:
        """Whether the viewer holds a scan, and so the letters and texts are there."""
        return self._before is not None

    def text(self, place: str) -> str:
        """Text at a place: ``"left"``, ``"right"``, ``"top"``, ``"bottom"``, ``"scan"`` or ``"cursor"``."""
        viewer = self._viewer()
        overlay = viewer.canvas.overlays.get(_key(place)) if viewer is not None else None
        lines = overlay.text.split("\n") if overlay is not None and overlay.visible else []
        return "\n".join(line.rstrip() for line in lines)

    def _on_inserted(self, event: Any) -> None:
        viewer = self._viewer()
        if viewer is None or not isinstance(event.value, Image) or volume_of(event.value) is None:
            return
        layer = event.value
        _reach_all_intensities(layer)
        for emitter in (layer.events.contrast_limits, layer.events.colormap, layer.events.name, layer.events.visible):
            emitter.connect(self._write_all)
        if not self.is_visible:
            self._appear(viewer)
        self._write_all()

    def _on_removed(self) -> None:
        viewer = self._viewer()
        if viewer is None or not self.is_visible:
            return
        if scan_layer(viewer) is None:
            self._leave(viewer)
        self._write_all()

    def _on_order(self) -> None:
        viewer = self._viewer()
        if viewer is None or not self.is_visible or viewer.dims.ndim < 3:
            return
        before, now = self._order, viewer.dims.order
        self._order = now
        if len(before) == len(now) == 3 and now == (before[2], before[0], before[1]):
            # napari's roll turns the coronal plane on its side; roll to the next upright plane instead
            show_plane(viewer, PLANES[before[0] - 1])
        self._stand_upright(viewer)
        self._write_all()

    def _on_ndisplay(self) -> None:
        viewer = self._viewer()
        if viewer is None or not self.is_visible:
            return
        camera = viewer.scene.camera
        if viewer.dims.ndisplay == 3 and np.allclose(camera.angles, 0):
            _face_the_patient(viewer)
        self._write_all()

    def _on_preferences(self) -> None:
        viewer = self._viewer()
        if viewer is not None and self.is_visible:
            for place in _POSITIONS:
                viewer.canvas.overlays[_key(place)].font_size = self._font_size(place)
            self._write_all()

    def _font_size(self, place: str) -> float:
        return float(self._preferences.letter_size if place in EDGES else self._preferences.text_size)

    def _appear(self, viewer: ViewerModel) -> None:
        scale_bar = viewer.canvas.overlays["scale_bar"]
        self._before = (viewer.scene.camera.orientation, scale_bar.visible)
        scale_bar.visible = True
        for place, position in _POSITIONS.items():
            viewer.canvas.overlays[_key(place)] = TextOverlay(
                position=position, font_size=self._font_size(place), color=_INK, box_color=_SHADE
            )
        layer = scan_layer(viewer)
        volume = volume_of(layer) if layer is not None else None
        if layer is not None and volume is not None:
            self._order = ()
            show_plane(viewer, PLANES[acquisition_axis(volume)])
            self._stand_upright(viewer)
            centre_on(viewer, layer)
        key_bindings.bind(viewer)

    def _leave(self, viewer: ViewerModel) -> None:
        for place in _POSITIONS:
            viewer.canvas.overlays.pop(_key(place), None)
        if self._before is not None:
            viewer.scene.camera.orientation, viewer.canvas.overlays["scale_bar"].visible = self._before
        self._before = None
        viewer.dims.order = tuple(range(viewer.dims.ndim))
        key_bindings.unbind(viewer)

    def _stand_upright(self, viewer: ViewerModel) -> None:
        offset = viewer.dims.ndim - 3
        shown = tuple(axis - offset for axis in viewer.dims.order[-3:])
        if sorted(shown) == [0, 1, 2]:
            viewer.scene.camera.orientation = upright_orientation(shown)

    def _write_all(self) -> None:
        """Speak of the scan that is selected or seen now."""
        self._write_letters()
        self._write_scan()
        self._write_cursor()

    def _write(self, place: str, text: str) -> None:
        viewer = self._viewer()
        if place not in EDGES and not self._preferences.texts:
            text = ""
        overlay = viewer.canvas.overlays.get(_key(place)) if viewer is not None else None
        if overlay is not None:
            # napari measures long lines a little too short for their box
            padded = text if place in EDGES else "\n".join(f"{line}\u00a0\u00a0" for line in text.split("\n"))
            if overlay.text != padded:
                overlay.text = padded
            overlay.visible = bool(text)

    def _write_letters(self) -> None:
        viewer = self._viewer()
        layer = scan_layer(viewer) if viewer is not None and self.is_visible else None
        volume = shown_volume(layer) if layer is not None else None
        known = viewer is not None and volume is not None and volume.sides_are_known
        letters = edge_letters(viewer, volume) if known and volume is not None else {}
        for edge in EDGES:
            self._write(edge, letters.get(edge, ""))

    def _write_scan(self) -> None:
        viewer = self._viewer()
        layer = scan_layer(viewer) if viewer is not None and self.is_visible else None
        self._write("scan", describe_scan(viewer, layer) if viewer is not None and layer is not None else "")

    def _write_cursor(self) -> None:
        viewer = self._viewer()
        if viewer is None or not self.is_visible:
            return
        layer = scan_layer(viewer)
        over = viewer.mouse_over_canvas and viewer.dims.ndisplay == 2 and layer is not None
        self._write("cursor", describe_position(layer, viewer.cursor.position) if over and layer is not None else "")


def _key(place: str) -> str:
    return f"medseg_{place}"


def _face_the_patient(viewer: ViewerModel) -> None:
    """In 3-D look at the patient from the front, head up."""
    offset = viewer.dims.ndim - 3
    shown = [axis - offset for axis in viewer.dims.order[-3:]]
    if sorted(shown) == [0, 1, 2]:
        unit = np.eye(3)
        to_posterior, to_superior = unit[shown.index(1)], unit[shown.index(0)]
        viewer.scene.camera.set_view_direction(tuple(to_posterior), tuple(to_superior))
        viewer.fit_to_view()


def _reach_all_intensities(layer: Image) -> None:
    """Let napari's contrast slider reach every intensity of the scan, not its window alone."""
    low, high = float(np.min(layer.data)), float(np.max(layer.data))
    shown = layer.contrast_limits
    if np.isfinite([low, high]).all():
        layer.contrast_limits_range = (min(low, shown[0]), max(high, shown[1]))
