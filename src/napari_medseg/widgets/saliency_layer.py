"""The layer that shows where a classifier looked, over the scan that it looked at."""

from __future__ import annotations

from napari.layers import Image

from napari_medseg.session.classify import ClassifyController
from napari_medseg.widgets.layer_bridge import LayerBridge

NAME = "Where the classifier looked"
_COLOURS, _LEAST, _OPACITY = "inferno", 90, 0.7


class SaliencyLayer:
    """Shows the heat of the last answer, on the scan's own grid, while it is wanted.

    Parameters
    ----------
    bridge : LayerBridge
        Knows the viewer and the lesions' layer.
    classifying : ClassifyController
        Knows the answer.
    """

    def __init__(self, bridge: LayerBridge, classifying: ClassifyController) -> None:
        self._bridge, self._classifying, self._is_wanted = bridge, classifying, True
        self._layer: Image | None = None
        classifying.changed.connect(self._draw)
        classifying.jumped.connect(bridge.show_slice)

    @property
    def layer(self) -> Image | None:
        """The layer, while it is in the viewer."""
        return self._layer if self._layer is not None and self._layer in self._bridge.viewer.layers else None

    def show(self, is_wanted: bool) -> None:
        """Show or hide the layer."""
        self._is_wanted = is_wanted
        self._draw()

    def _draw(self) -> None:
        viewer, lesions, shown = self._bridge.viewer, self._bridge.labels, self._classifying.shown
        if self.layer is not None:
            viewer.layers.remove(self.layer)
        self._layer = None
        heat = shown.heat_in(self._bridge.session.work) if shown is not None else None
        if heat is None or lesions is None or not self._is_wanted:
            return
        offset = [part.start * step for part, step in zip(heat.region, lesions.scale, strict=True)]
        active = viewer.layers.selection.active
        self._layer = viewer.add_image(
            heat.values,
            name=NAME,
            scale=lesions.scale,
            translate=lesions.translate + offset,
            units=("mm",) * 3,
            axis_labels=lesions.axis_labels,
            colormap=_COLOURS,
            contrast_limits=(_LEAST, 255),
            opacity=_OPACITY,
            blending="additive",
            interpolation2d="linear",
        )
        if active is not None:
            viewer.layers.selection.active = active  # brushes go on working on the lesions
