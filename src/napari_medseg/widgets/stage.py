"""Shows the scans that belong to the open one and nothing of the others; slice slider and view follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.session.stage import belong_together, on_stage
from napari_medseg.widgets.orientation_letters import PLANES
from napari_medseg.widgets.scan_layers import centre_on, show_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.imaging.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One open scan with the layers that show it."""

    volume: Volume
    image: Image
    labels: Labels | None


@dataclass(frozen=True, slots=True)
class _View:
    """Where somebody was looking."""

    order: tuple[int, ...]
    point: tuple[float, ...]
    center: tuple[float, ...]
    zoom: float
    ndisplay: int


class Stage:
    """Hides the layers of scans that do not belong to the open one, and brings them back with their view.

    Layers that the user shows again by their eye stay until another scan takes the stage.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers they are.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self._was_visible: WeakKeyDictionary[Layer, bool] = WeakKeyDictionary()
        self._views: dict[int, _View] = {}
        self._volume: Volume | None = None
        self._fitting = False
        viewer.dims.events.range.connect(self.follow)
        viewer.events.reset_view.connect(self._on_fitted)

    def leave(self) -> None:
        """Remember the view of the scan that is about to leave."""
        if self._volume is not None and self.viewer.dims.ndim == 3:
            dims, camera = self.viewer.dims, self.viewer.scene.camera
            self._views[id(self._volume)] = _View(dims.order, dims.point, camera.center, camera.zoom, dims.ndisplay)

    def turn_to(self, volume: Volume, scans: Sequence[Shown]) -> tuple[Shown, ...]:
        """Bring a scan and what belongs to it onto the stage; return those."""
        volumes = on_stage(volume, [shown.volume for shown in scans])
        here = tuple(shown for shown in scans if any(shown.volume is each for each in volumes))
        self._reveal(layer for shown in here for layer in (shown.image, shown.labels))
        self._hide(layer for shown in scans if shown not in here for layer in (shown.image, shown.labels))
        return here

    def look_at(self, volume: Volume, image: Layer) -> None:
        """Keep the view while the stage stays the same; else go back to the scan's own, or show its middle."""
        before, self._volume = self._volume, volume
        self._run_over(self._seen())
        view, dims = self._views.get(id(volume)), self.viewer.dims
        if before is None or belong_together(before, volume) or dims.ndim != 3:
            return
        if view is None:
            show_plane(self.viewer, PLANES[acquisition_axis(volume)])
            centre_on(self.viewer, image)
        else:
            dims.order, dims.point = view.order, view.point
            self.viewer.fit_to_view(layers=[image])
            if view.ndisplay == dims.ndisplay:
                self.viewer.scene.camera.center, self.viewer.scene.camera.zoom = view.center, view.zoom
        if dims.ndisplay == 3:  # napari turns to the slice that the camera looks at when it goes back to 2-D
            camera = self.viewer.scene.camera
            camera.center = (dims.point[dims.order[0]], *camera.center[1:])

    def forget(self, volume: Volume) -> None:
        """Drop what is known of a scan that was closed."""
        self._views.pop(id(volume), None)

    def follow(self, _event: Any = None) -> None:
        """Keep the slice slider to the layers that are not off stage: napari's own runs over all, hidden ones too."""
        seen = self._seen()
        if seen and len(seen) < len(self.viewer.layers):
            self._run_over(seen)

    def _run_over(self, seen: list[Layer]) -> None:
        dims = self.viewer.dims
        extent = self.viewer.layers.get_extent(seen)
        ranges = [*zip(*extent.world, extent.step, strict=True)]
        wanted = (*dims.range[: dims.ndim - len(ranges)], *ranges)
        if not np.allclose(wanted, dims.range):
            dims.range = wanted

    def _seen(self) -> list[Layer]:
        return [layer for layer in self.viewer.layers if layer.visible or layer not in self._was_visible]

    def _hide(self, layers: Iterable[Layer | None]) -> None:
        for layer in layers:
            if layer is not None and (layer.visible or layer not in self._was_visible):
                self._was_visible.setdefault(layer, layer.visible)
                layer.visible = False
                layer.events.visible.connect(self._on_eye)

    def _reveal(self, layers: Iterable[Layer | None]) -> None:
        for layer in layers:
            if layer is not None and layer in self._was_visible:
                layer.events.visible.disconnect(self._on_eye)
                layer.visible = self._was_visible.pop(layer) or layer.visible

    def _on_eye(self, _event: Any = None) -> None:
        """Somebody shows or hides a layer that is off stage."""
        self._run_over(self._seen())

    def _on_fitted(self, _event: Any = None) -> None:
        """Napari fits its view to hidden layers too: where it did, fit it to the others."""
        seen, camera = self._seen(), self.viewer.scene.camera
        if self._fitting or not seen or len(seen) == len(self.viewer.layers):
            return
        displayed = list(self.viewer.dims.displayed)
        extent = self.viewer.layers.extent
        middle = extent.world.mean(axis=0)[displayed]
        if np.allclose(camera.center[-len(displayed) :], middle, atol=float(np.max(extent.step))):
            self._fitting = True
            self.viewer.fit_to_view(layers=seen)
            self._fitting = False
