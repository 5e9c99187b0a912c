"""The layer that shows where the model is not sure, and the way to its doubtful regions."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from napari.utils import Colormap

from napari_medseg.session.doubt import DoubtController
from napari_medseg.session.work import Editor
from napari_medseg.widgets.layer_bridge import LayerBridge

NAME = "Model's doubt"
# A quarter is the share that intensities alone have in a first answer: what they alone doubt stays unseen.
_LEAST, _MOST = 64, 128
# Alpha grows with the square, so that doubt fades out instead of ending where the model's look ended.
_COLOURS = Colormap(
    [(1.0, 0.2, 0.9, 0.0), (1.0, 0.2, 0.9, 0.22), (1.0, 0.35, 0.95, 0.9)], name="doubt", controls=[0.0, 0.5, 1.0]
)


class DoubtLayer:
    """Shows the doubt in the last answers over the scan, once it is wanted; hidden at first.

    Parameters
    ----------
    bridge : LayerBridge
        Knows the viewer and the lesions' layer.
    doubt : DoubtController
        Knows the doubt.
    editor : Editor
        Tells of every change.
    """

    def __init__(self, bridge: LayerBridge, doubt: DoubtController, editor: Editor) -> None:
        self._bridge, self._doubt, self._is_wanted = bridge, doubt, False
        self._layer: Image | None = None
        doubt.jumped.connect(self._on_jumped)
        editor.stepped.connect(self._draw)
        bridge.bound.connect(self._draw)

    @property
    def is_shown(self) -> bool:
        """Whether the layer is in the viewer."""
        return self._layer is not None and self._layer in self._bridge.viewer.layers

    def show(self, is_wanted: bool) -> None:
        """Show or hide the layer."""
        self._is_wanted = is_wanted
        self._draw()

    def _draw(self, *_values: object) -> None:
        viewer, lesions = self._bridge.viewer, self._bridge.labels
        found = self._doubt.doubt() if self._is_wanted and lesions is not None else None
        if self.is_shown:
            viewer.layers.remove(self._layer)
        self._layer = None
        if found is None or lesions is None:
            return
        values, box = found
        offset = [part.start * step for part, step in zip(box, lesions.scale, strict=True)]
        active = viewer.layers.selection.active
        self._layer = viewer.add_image(
            values,
            name=NAME,
            scale=lesions.scale,
            translate=lesions.translate + offset,
            units=("mm",) * 3,
            axis_labels=lesions.axis_labels,
            colormap=_COLOURS,
            contrast_limits=(_LEAST, _MOST),
            blending="translucent_no_depth",
            interpolation2d="linear",
        )
        if active is not None:
            viewer.layers.selection.active = active  # brushes go on working on the lesions

    def _on_jumped(self, index: tuple[int, int, int]) -> None:
        """Show the slices through a voxel, with it in the middle of the canvas."""
        bridge = self._bridge
        bridge.jump_to(index)
        if bridge.labels is not None:
            camera: Any = bridge.viewer.scene.camera
            camera.center = tuple(bridge.labels.data_to_world(index)[axis] for axis in self._displayed())

    def _displayed(self) -> tuple[int, ...]:
        """The lesions' axes in the order in which the camera counts them: three of them, displayed last."""
        dims = self._bridge.viewer.dims
        return tuple(axis - (dims.ndim - 3) for axis in dims.order[-3:])
