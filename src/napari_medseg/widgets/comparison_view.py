"""Old and new mask of a corrected case in the viewer: two outlines, a slider between them, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSlider, QVBoxLayout, QWidget

from napari_medseg.imaging.orientation import layer_transform, same_grid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.services import Services
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.scan_layers import scan_layer
from napari_medseg.widgets.step import button, dim, row

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.learning.comparison import Comparison, VersionAnswer

OLD, NEW, CORRECTED = "#ff8a4c", "#36d1c4", "#ffffff"
_OUTLINE = 2
_APART = 1.04


class ComparisonView(QWidget):
    """What is shown while two versions are compared; hidden otherwise.

    Parameters
    ----------
    viewer : ViewerModel
        Gets the layers.
    services : Services
        Opens the case's scan, and tells of comparisons.
    """

    def __init__(self, viewer: ViewerModel, services: Services) -> None:
        super().__init__()
        self.viewer, self.services = viewer, services
        self._layers: dict[str, Labels] = {}
        self._beside: list[Layer] = []
        self._build()
        self.hide()
        services.comparing.compared.connect(self._on_compared)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def layers(self) -> tuple[Labels, ...]:
        """The layers of the comparison: correction, old, new."""
        return tuple(self._layers.values())

    def set_look(self, look: Look) -> None:
        """Colours of the layers stand for themselves in every theme."""

    def _build(self) -> None:
        self._about = dim()
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, 100)
        self._slider.setToolTip("Fade from the old version's mask to the new one's")
        self._slider.setAccessibleName("Old to new version")
        self._slider.valueChanged.connect(self._on_slid)
        self._grid = button("Side by side", "Show the old and the new mask in two pictures of the same slice")
        self._grid.setCheckable(True)
        self._grid.toggled.connect(self._on_grid)
        self._done = button("Done", "Remove the two masks; the lesions stay as they are")
        self._done.clicked.connect(self.close_comparison)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GAP)
        layout.addWidget(self._about)
        layout.addLayout(row(dim("old"), self._slider, dim("new"), stretch=1))
        layout.addLayout(row(self._grid, self._done, stretch=0))

    def close_comparison(self) -> None:
        """Take the comparison's layers out of the viewer."""
        self._grid.setChecked(False)
        layers, self._layers = self._layers, {}
        for layer in layers.values():
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self.hide()

    def _on_compared(self, comparison: Comparison) -> None:
        self.close_comparison()
        self._show_scan(comparison.volume)
        answers = (("old", comparison.old, OLD), ("new", comparison.new, NEW))
        self._layers["corrected"] = self._add("Corrected", comparison.corrected, CORRECTED, 1)
        for key, answer, colour in answers:
            self._layers[key] = self._add(_named(answer), answer.mask, colour, _OUTLINE)
        self._about.setText(
            f"<span style='color:{OLD}'>■</span> {_named(comparison.old)}&nbsp;&nbsp;"
            f"<span style='color:{NEW}'>■</span> {_named(comparison.new)}&nbsp;&nbsp;□ corrected"
        )
        self._about.setToolTip(comparison.sentence)
        self._slider.setValue(50)
        self._on_slid(50)
        self._turn_to(comparison)
        self.show()

    def _show_scan(self, volume: Volume) -> None:
        """Show the case's scan, unless it is the open one."""
        there = self.services.session.volume
        if there is None or not (same_grid(there, volume) and np.array_equal(there.data, volume.data)):
            self.services.opening.choose(volume)

    def _add(self, name: str, mask: LabelMap, colour: str, outline: int) -> Labels:
        scale, translate = layer_transform(mask.affine)
        values: Sequence[int] = [int(v) for v in np.unique(mask.data) if v]
        colours: dict[int | None, Any] = {None: "transparent", 0: "transparent", **dict.fromkeys(values, colour)}
        layer = Labels(
            mask.data,
            name=name,
            scale=scale,
            translate=translate,
            units=("mm",) * 3,
            colormap=DirectLabelColormap(color_dict=colours),
            opacity=1.0,
        )
        layer.contour = outline
        layer.editable = False
        active = self.viewer.layers.selection.active
        self.viewer.add_layer(layer)
        if active is not None:
            self.viewer.layers.selection.active = active
        return layer

    def _turn_to(self, comparison: Comparison) -> None:
        """Show the slice in which the two differ most, or that holds most of the correction."""
        differs = (comparison.old.mask.data > 0) != (comparison.new.mask.data > 0)
        if not differs.any():
            differs = comparison.corrected.data > 0
        axis = self.viewer.dims.order[0] if len(self.viewer.dims.order) == 3 else 0
        counts = differs.sum(tuple(a for a in range(3) if a != axis))
        index = [n // 2 for n in differs.shape]
        index[axis] = int(counts.argmax())
        self.viewer.dims.set_point(range(3), self._layers["new"].data_to_world(index))

    def _on_slid(self, value: int) -> None:
        if {"old", "new"} <= self._layers.keys() and not self._grid.isChecked():
            self._layers["old"].opacity = min(1.0, 2 - value / 50)
            self._layers["new"].opacity = min(1.0, value / 50)

    def _on_grid(self, is_on: bool) -> None:
        """Two pictures: the new mask moves to a copy of the scan beside the old one, and back."""
        for layer in self._beside:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._beside = []
        self._slider.setEnabled(not is_on)
        new, image = self._layers.get("new"), scan_layer(self.viewer)
        if new is None or image is None:
            return
        home = self._layers["old"].translate
        new.translate = home
        if is_on:
            self._slider.setValue(50)
            self._layers["old"].opacity = new.opacity = 1.0
            shift = np.zeros(3)
            shift[self.viewer.dims.order[-1]] = _APART * self._width(image)
            self._beside = [self._copy_of(image, shift), self._copy_of(self._layers["corrected"], shift)]
            new.translate = home + shift
            self.viewer.layers.move(self.viewer.layers.index(new), len(self.viewer.layers))
        self.viewer.fit_to_view()

    def _width(self, image: Image) -> float:
        axis = self.viewer.dims.order[-1]
        return float(image.data.shape[axis] * image.scale[axis])

    def _copy_of(self, layer: Layer, shift: NDArray[np.float64]) -> Layer:
        """The same array once more, elsewhere; a foreign layer for the rest of the dock."""
        data, state, kind = layer.as_layer_data_tuple()
        state.update(translate=np.asarray(layer.translate) + shift, name=f"{layer.name}, beside", metadata={})
        active = self.viewer.layers.selection.active
        made = Layer.create(data, state, kind)
        if isinstance(layer, Labels) and isinstance(made, Labels):
            made.contour, made.editable = layer.contour, False
        self.viewer.add_layer(made)
        self.viewer.layers.selection.active = active
        return made

    def _on_removed(self, event: Any) -> None:
        if event.value in self._layers.values():
            self.close_comparison()


def _named(answer: VersionAnswer) -> str:
    return f"Version {answer.version}: Dice {answer.dice:.2f}"
