"""The layers of a comparison: the prior, registered, over or beside the current scan, and the change map."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from psygnal import Signal

from napari_medseg.imaging.orientation import resample_volume
from napari_medseg.session.prior import PriorController
from napari_medseg.widgets.layer_bridge import LayerBridge

PRIOR, CHANGE = "Prior (registered, resampled for display)", "Change map"
_MOST_SIGMA, _QUIET = 10.0, 0.2
_APART = 1.04
_RED_AND_BLUE = Colormap(
    [[0.15, 0.45, 1, 1], [0.15, 0.45, 1, 0], [0, 0, 0, 0], [1, 0.3, 0.1, 0], [1, 0.3, 0.1, 1]],
    controls=[0.0, 0.5 - _QUIET / 2, 0.5, 0.5 + _QUIET / 2, 1.0],
    name="medseg-change",
)


class FollowUpLayers:
    """Shows what a comparison found, on the current scan's own grid.

    Parameters
    ----------
    controller : PriorController
        Knows the comparison.
    bridge : LayerBridge
        Knows the viewer and the current scan's layers.

    Attributes
    ----------
    closed : Signal
        Emits "over", "beside" or "change" when somebody else took that layer out of the viewer.
    """

    closed = Signal(str)

    def __init__(self, controller: PriorController, bridge: LayerBridge) -> None:
        self.controller, self.bridge = controller, bridge
        self._wanted = {"over": False, "beside": False, "change": False}
        self._layers: dict[str, Image] = {}
        self._registered: tuple[object, Any] = (None, None)
        bridge.bound.connect(lambda _layer: self.refresh())
        bridge.viewer.layers.events.removed.connect(self._on_removed)

    def show_prior(self, is_wanted: bool) -> None:
        """Show the registered prior over the current scan, or hide it."""
        self._wanted["over"] = is_wanted
        self.refresh()

    def show_beside(self, is_wanted: bool) -> None:
        """Show the registered prior beside the current scan, or hide it."""
        self._wanted["beside"] = is_wanted
        self.refresh()
        self.bridge.viewer.fit_to_view()

    def show_change(self, is_wanted: bool) -> None:
        """Show the change map, or hide it."""
        self._wanted["change"] = is_wanted
        self.refresh()

    def refresh(self) -> None:
        """Draw what is wanted, while the current scan of the comparison is the one that is worked on."""
        viewer, found = self.bridge.viewer, self.controller.found
        layers, self._layers = self._layers, {}
        for layer in layers.values():
            if layer in viewer.layers:
                viewer.layers.remove(layer)
        image = self.bridge.image
        if found is None or not isinstance(image, Image) or self.bridge.session.volume is not self.controller.scan:
            return
        active = viewer.layers.selection.active
        limits = image.contrast_limits
        if self._wanted["over"] or self._wanted["beside"]:
            data = self._prior()
            low, high = np.percentile(data, [1, 99.5])
            looks = {"colormap": image.colormap, "contrast_limits": (low, max(high, low + 1)) if high > low else limits}
            if self._wanted["over"]:
                self._add("over", data, image, 0.0, name=PRIOR, **looks)
            if self._wanted["beside"]:
                self._add("beside", data, image, _APART, name="Prior, beside", **looks)
        if self._wanted["change"]:
            sigma = {"contrast_limits": (-_MOST_SIGMA, _MOST_SIGMA), "colormap": _RED_AND_BLUE, "opacity": 0.7}
            self._add("change", found.change.map.data, image, 0.0, name=CHANGE, **sigma)
        if active is not None and active in viewer.layers:
            viewer.layers.selection.active = active  # brushes go on working on the lesions

    def _on_removed(self, event: Any) -> None:
        key = next((key for key, layer in self._layers.items() if layer is event.value), None)
        if key is not None:
            del self._layers[key]
            self._wanted[key] = False
            self.closed.emit(key)

    def _prior(self) -> Any:
        found = self.controller.found
        if found is not None and self._registered[0] is not found:
            self._registered = (found, resample_volume(found.prior, found.current).data)
        return self._registered[1]

    def _add(self, key: str, data: Any, image: Image, apart: float, **looks: Any) -> None:
        """Add a layer just above the current scan, or moved aside by a part of its width."""
        viewer, shift = self.bridge.viewer, np.zeros(3)
        axis = viewer.dims.order[-1] - (viewer.dims.ndim - 3)
        shift[axis] = apart * data.shape[axis] * image.scale[axis]
        layer = Image(
            data,
            scale=image.scale,
            translate=np.asarray(image.translate) + shift,
            units=("mm",) * 3,
            axis_labels=image.axis_labels,
            interpolation2d="linear",
            **{"blending": "translucent", **looks},
        )
        viewer.add_layer(layer)
        viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(image) + 1 + (key == "change"))
        self._layers[key] = layer
