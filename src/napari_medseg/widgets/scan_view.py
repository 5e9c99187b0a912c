"""Shows scans as a radiologist expects them: plane, millimetres, letters, window, position under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.components.overlays import TextOverlay
from napari.layers import Image
from napari.utils.color import ColorValue

from napari_medseg.imaging.orientation import acquisition_axis, layer_transform
from napari_medseg.widgets import key_bindings
from napari_medseg.widgets.orientation_letters import (
    AXIS_LABELS,
    EDGES,
    PLANES,
    UPRIGHT,
    Plane,
    edge_letters,
    upright_orientation,
)
from napari_medseg.widgets.scan_texts import describe_position, describe_scan, placement_warnings, plane_of, volume_of
from napari_medseg.widgets.windows import presets_for

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.imaging.volume import Volume

__all__ = [
    "Furniture",
    "add_volume",
    "furnish",
    "layer_arguments",
    "placement_warnings",
    "plane_of",
    "scan_layer",
    "show_plane",
    "volume_of",
]

_POSITIONS = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
    "scan": "top_left",
    "cursor": "bottom_left",
}
_LETTER_SIZE, _TEXT_SIZE = 18.0, 10.0
_INK, _SHADE = ColorValue("#fff3b0"), ColorValue("#000000a0")
_furnished: WeakKeyDictionary[ViewerModel, Furniture] = WeakKeyDictionary()


def add_volume(viewer: ViewerModel, volume: Volume) -> Image:
    """Show a scan: in its plane of acquisition, in millimetres, with its window and the viewer's furniture.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        A napari viewer, with or without a window.
    volume : Volume
        The scan. A second scan of the patient lands over the first by their positions.

    Returns
    -------
    napari.layers.Image
        The new layer; ``layer.metadata["napari_medseg"]["volume"]`` is the volume.
    """
    furnish(viewer)
    return viewer.add_image(volume.data, **layer_arguments(volume))


def layer_arguments(volume: Volume) -> dict[str, Any]:
    """Keyword arguments of the Image layer that shows a scan."""
    scale, translate = layer_transform(volume.affine)
    window = presets_for(volume)[0]
    return {
        "name": volume.name or "scan",
        "scale": scale,
        "translate": translate,
        "units": ("mm",) * 3,
        "axis_labels": AXIS_LABELS,
        "contrast_limits": (window.low, window.high),
        "colormap": window.colormap,
        "interpolation2d": "linear",
        "metadata": {"napari_medseg": {"volume": volume}},
    }


def furnish(viewer: ViewerModel) -> Furniture:
    """Give a viewer its letters, scale bar and texts; they appear with the first scan and leave with the last.

    Returns
    -------
    Furniture
        The same object for every call with the same viewer.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's widget is given a proxy
    if viewer not in _furnished:
        _furnished[viewer] = Furniture(viewer)
    return _furnished[viewer]


def show_plane(viewer: ViewerModel, plane: Plane) -> None:
    """Show the axial, coronal or sagittal plane: superior up (axial: anterior up), patient right on screen left.

    A sagittal plane has anterior on the left. Oblique scans show their own nearest plane.
    """
    offset = viewer.dims.ndim - 3
    if offset >= 0:
        viewer.dims.order = (*range(offset), *(axis + offset for axis in UPRIGHT[plane]))


def scan_layer(viewer: ViewerModel) -> Image | None:
    """Give the scan that letters and texts speak of.

    The one that the selected layer shows or belongs to, else the topmost visible one, else the topmost.
    """
    scans = [layer for layer in viewer.layers if isinstance(layer, Image) and volume_of(layer) is not None]
    active = viewer.layers.selection.active
    selected = volume_of(active) if active is not None else None
    if selected is not None:
        for layer in reversed(scans):
            if volume_of(layer) is selected:
                return layer
    return next((layer for layer in reversed(scans) if layer.visible), scans[-1] if scans else None)


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
        self._watched: Image | None = None
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_scan_changed)
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
        return overlay.text if overlay is not None and overlay.visible else ""

    def _on_inserted(self, event: Any) -> None:
        viewer = self._viewer()
        if viewer is None or not isinstance(event.value, Image) or volume_of(event.value) is None:
            return
        low, high = np.min(event.value.data), np.max(event.value.data)
        shown = event.value.contrast_limits
        if np.isfinite([low, high]).all():
            event.value.contrast_limits_range = (min(low, shown[0]), max(high, shown[1]))
        if not self.is_visible:
            self._appear(viewer)
        self._on_scan_changed()

    def _on_removed(self) -> None:
        viewer = self._viewer()
        if viewer is None or not self.is_visible:
            return
        if scan_layer(viewer) is None:
            self._leave(viewer)
        self._on_scan_changed()

    def _on_scan_changed(self) -> None:
        """Listen to the window and visibility of the scan that the texts speak of."""
        viewer = self._viewer()
        layer = scan_layer(viewer) if viewer is not None else None
        if layer is not self._watched:
            for each, connect in ((self._watched, False), (layer, True)):
                if each is not None:
                    for emitter in (each.events.contrast_limits, each.events.colormap, each.events.name):
                        (emitter.connect if connect else emitter.disconnect)(self._write_scan)
            self._watched = layer
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

    def _appear(self, viewer: ViewerModel) -> None:
        scale_bar = viewer.canvas.overlays["scale_bar"]
        self._before = (viewer.scene.camera.orientation, scale_bar.visible)
        scale_bar.visible = True
        for place, position in _POSITIONS.items():
            is_letter = place in EDGES
            viewer.canvas.overlays[_key(place)] = TextOverlay(
                position=position,
                font_size=_LETTER_SIZE if is_letter else _TEXT_SIZE,
                color=_INK,
                box_color=_SHADE,
                visible=is_letter,
            )
        layer = scan_layer(viewer)
        volume = volume_of(layer) if layer is not None else None
        if volume is not None:
            self._order = ()
            show_plane(viewer, PLANES[acquisition_axis(volume)])
            self._stand_upright(viewer)
            _centre(viewer, layer)
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
        self._write_letters()
        self._write_scan()
        self._write_cursor()

    def _write(self, place: str, text: str) -> None:
        viewer = self._viewer()
        overlay = viewer.canvas.overlays.get(_key(place)) if viewer is not None else None
        if overlay is not None:
            if overlay.text != text:
                overlay.text = text
            overlay.visible = bool(text)

    def _write_letters(self) -> None:
        viewer = self._viewer()
        layer = scan_layer(viewer) if viewer is not None and self.is_visible else None
        volume = volume_of(layer) if layer is not None else None
        letters = edge_letters(viewer, volume) if viewer is not None and volume is not None else {}
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


def _centre(viewer: ViewerModel, layer: Image | None) -> None:
    if layer is None:
        return
    middle = layer.data_to_world([(n - 1) // 2 for n in layer.data.shape])
    offset = viewer.dims.ndim - 3
    viewer.dims.set_point([offset, offset + 1, offset + 2], middle)
    viewer.reset_view()


def _face_the_patient(viewer: ViewerModel) -> None:
    """In 3-D look at the patient from the front, head up."""
    offset = viewer.dims.ndim - 3
    shown = [axis - offset for axis in viewer.dims.order[-3:]]
    if sorted(shown) == [0, 1, 2]:
        unit = np.eye(3)
        to_posterior, to_superior = unit[shown.index(1)], unit[shown.index(0)]
        viewer.scene.camera.set_view_direction(tuple(to_posterior), tuple(to_superior))
        viewer.fit_to_view()
