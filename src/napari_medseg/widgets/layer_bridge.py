"""Keeps napari's layers and the session in step: the scan's image, the lesions, and what the user paints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.labels import union
from napari_medseg.session.lesions import MAX_LABEL, Lesion, Region
from napari_medseg.session.services import Services
from napari_medseg.session.work import ScanWork
from napari_medseg.widgets import scan_view
from napari_medseg.widgets.foreign_layers import foreign_volume
from napari_medseg.widgets.lesion_colours import colour_table, colours_of
from napari_medseg.widgets.orientation_letters import PLANES
from napari_medseg.widgets.outline import Outline
from napari_medseg.widgets.overlay import Overlay
from napari_medseg.widgets.stage import Shown, Stage
from napari_medseg.widgets.strokes import StrokeRecorder, Touched

OPACITY = 0.45
BRUSH_MM = 8.0
LAYER_REMOVED = "The lesions' layer was removed; the lesions are kept and come back with the next tool."


class LayerBridge:
    """Binds one viewer to one session.

    Parameters
    ----------
    viewer : ViewerModel
        The viewer whose layers show the session.
    services : Services
        The session and its controllers.

    Attributes
    ----------
    bound : Signal
        Emits the lesions' layer that tools work on from now on, or None.
    outline : Outline
        Whether lesions are drawn as outlines.
    """

    bound = Signal(object)

    def __init__(self, viewer: ViewerModel, services: Services) -> None:
        self.viewer, self.services, self.session = viewer, services, services.session
        self._images: dict[int, Layer] = {}
        self._labels: dict[int, Labels] = {}
        self._recorders: dict[int, StrokeRecorder] = {}
        self._writing = False
        self._stage = Stage(viewer)
        self._overlay = Overlay(viewer, services.display, self._say)
        self.outline = Outline()
        self.bound.connect(self.outline.take)
        session = self.session
        session.events.volume.connect(self._on_volume)
        session.events.lesions.connect(self._on_lesions)
        session.events.active_label.connect(self._on_active_label)
        services.editor.changed.connect(self._on_changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        for layer in list(viewer.layers):
            self._adopt(layer)

    @property
    def labels(self) -> Labels | None:
        """The lesions' layer of the open scan, unless the user removed it."""
        work = self.session.work
        return self._labels.get(id(work)) if work is not None else None

    @property
    def image(self) -> Layer | None:
        """The layer that shows the open scan."""
        volume = self.session.volume
        return self._images.get(id(volume)) if volume is not None else None

    def ensure_labels(self) -> Labels | None:
        """Return the lesions' layer, bringing it back if the user removed it; None without a scan."""
        work, image = self.session.work, self.image
        if work is None or image is None:
            return None
        layer = self._labels.get(id(work))
        if layer is None:
            layer = self._add_labels(work, image)
        return layer

    def activate(self) -> Labels | None:
        """Make the lesions' layer the one that tools work on."""
        layer = self.ensure_labels()
        if layer is not None and self.viewer.layers.selection.active is not layer:
            self.viewer.layers.selection.active = layer
        return layer

    def position_of(self, world: tuple[float, ...]) -> tuple[float, float, float] | None:
        """Return the patient position (RAS+, mm) under a position of napari's world; None outside of the scan."""
        layer, volume = self.ensure_labels(), self.session.volume
        if layer is None or volume is None:
            return None
        index = np.asarray(layer.world_to_data(world[-3:]), float)
        if (index < -0.5).any() or (index > np.asarray(volume.data.shape) - 0.5).any():
            return None
        r, a, s = volume.position_of(index)
        return float(r), float(a), float(s)

    def jump_to(self, index: tuple[int, int, int]) -> None:
        """Show the slices that run through a voxel."""
        layer = self.ensure_labels()
        if layer is not None:
            world = layer.data_to_world(index)
            offset = self.viewer.dims.ndim - 3
            self.viewer.dims.set_point([offset, offset + 1, offset + 2], world)

    def slice_shown(self) -> int | None:
        """Return the slice along the scan's plane of acquisition that is shown; None in another plane or in 3-D."""
        layer, work, dims = self.labels, self.session.work, self.viewer.dims
        if layer is None or work is None or dims.ndisplay == 3:
            return None
        offset = dims.ndim - 3
        if work.axis + offset not in dims.not_displayed:
            return None
        index = round(float(layer.world_to_data(dims.point[-3:])[work.axis]))
        return index if 0 <= index < work.volume.data.shape[work.axis] else None

    def show_slice(self, index: int) -> None:
        """Show one slice along the scan's plane of acquisition; the view turns to that plane first."""
        layer, work = self.ensure_labels(), self.session.work
        if layer is not None and work is not None:
            plane = PLANES[work.axis]
            if scan_view.plane_of(self.viewer) != plane:
                self.viewer.dims.ndisplay = 2
                scan_view.show_plane(self.viewer, plane)
            at = [0.0, 0.0, 0.0]
            at[work.axis] = float(index)
            axis = work.axis + self.viewer.dims.ndim - 3
            self.viewer.dims.set_point(axis, float(layer.data_to_world(at)[work.axis]))

    def _adopt(self, layer: Layer) -> None:
        """Work on a scan that somebody added to the viewer, or take the labels of a mask over."""
        if self._writing:
            return
        if isinstance(layer, Labels) and "label_map" in layer.metadata.get("napari_medseg", {}):
            # napari is still adding the layer: removing it now would leave its window behind.
            QTimer.singleShot(0, partial(self._take_over, layer))
        if not isinstance(layer, Image):
            return
        volume = scan_view.volume_of(layer)
        if volume is not None:
            self._images[id(volume)] = layer
            self.services.opening.choose(volume)
        elif self.session.volume is None:
            try:
                volume = foreign_volume(layer)
            except MedSegError as error:
                self.session.message = str(error)
                return
            self._images[id(volume)] = layer
            self.services.opening.choose(volume)

    def _take_over(self, layer: Labels) -> None:
        """Make a mask that came as a layer part of the open scan's lesions."""
        if layer not in self.viewer.layers or self.session.work is None or layer in self._labels.values():
            return
        label_map: LabelMap = layer.metadata["napari_medseg"]["label_map"]
        with self._writes():
            self.viewer.layers.remove(layer)
        self.services.opening.take_mask(label_map)

    def _on_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        for volume in self.services.opening.scans:
            if self._images.get(id(volume)) is layer:
                del self._images[id(volume)]
                self._close(volume)
        for key, labels in list(self._labels.items()):
            if labels is layer:
                del self._labels[key]
                self._recorders.pop(key).stop()
                if not self._writing:
                    self.session.message = LAYER_REMOVED

    def _close(self, volume: Volume) -> None:
        work = next((work for work in self.services.opening.works if work.volume is volume), None)
        self.services.opening.close(volume)
        self._stage.forget(volume)
        labels = self._labels.get(id(work)) if work is not None else None
        if labels is not None and labels in self.viewer.layers:
            with self._writes():
                self.viewer.layers.remove(labels)

    def _on_volume(self, volume: Volume | None) -> None:
        if volume is None:
            return
        self._stage.leave()
        if id(volume) not in self._images:
            with self._writes():
                self._images[id(volume)] = scan_view.add_volume(self.viewer, volume)
        self.activate()
        with self._writes():
            here = self._stage.turn_to(volume, self._shown())
            # other plugins' layers stay where they were put
            self._overlay.turn_to(volume, [shown for shown in here if scan_view.volume_of(shown.image) is not None])
            self._stage.look_at(volume, self._images[id(volume)])
        self.bound.emit(self.labels)

    def _shown(self) -> list[Shown]:
        """Open scans with their layers."""
        found = []
        for work in self.services.opening.works:
            image = self._images.get(id(work.volume))
            if isinstance(image, Image):
                found.append(Shown(work.volume, image, self._labels.get(id(work))))
        return found

    def _say(self, text: str) -> None:
        self.session.message = text

    def _add_labels(self, work: ScanWork, image: Layer) -> Labels:
        volume, pad = work.volume, 3 - image.ndim
        label_map = LabelMap(work.labels.data, volume.affine, grid=volume.grid, metadata=volume.metadata)
        with self._writes():
            layer = self.viewer.add_labels(
                work.labels.data,
                name="Lesions" if len(self._labels) == 0 else f"Lesions of {volume.name}",
                scale=(*(1.0,) * pad, *image.scale),
                translate=(*(0.0,) * pad, *image.translate),
                units=("mm",) * 3,
                axis_labels=("z", "y", "x") if pad else image.axis_labels,
                opacity=OPACITY,
                colormap=colours_of(self.session.lesions),
                metadata={"napari_medseg": {"volume": volume, "label_map": label_map}},
            )
        layer = cast("Labels", layer)
        layer.brush_size = max(1, round(BRUSH_MM / min(abs(step) for step in layer.scale)))
        layer.selected_label = self.session.active_label
        self._labels[id(work)] = layer
        self._bind(layer, work)
        self.bound.emit(layer)
        return layer

    def _bind(self, layer: Labels, work: ScanWork) -> None:
        layer.events.data.connect(partial(self._on_data, layer, work))
        layer.events.selected_label.connect(partial(self._on_selected_label, layer, work))
        self._recorders[id(work)] = StrokeRecorder(layer, self.viewer.dims, partial(self._on_stroke, work))
        # One history for clicks, answers and strokes: napari's own would know the strokes alone.
        vars(layer)["undo"] = self.services.correcting.undo
        vars(layer)["redo"] = self.services.correcting.redo

    def _on_stroke(self, work: ScanWork, region: Region | None, touched: Touched | None) -> None:
        if self.session.work is not work:
            return
        if touched is not None:
            region = union(touched.region, region)
        if region is not None:
            self.services.correcting.take_stroke(region, touched=touched.within(region) if touched else None)

    def _on_data(self, layer: Labels, work: ScanWork, _event: Any) -> None:
        """Somebody gave the layer another array: take its content over and go on with ours."""
        ours = work.labels.data
        if layer.data is ours or self._writing:
            return
        theirs = np.asarray(layer.data)
        if theirs.shape == ours.shape and theirs.min(initial=0) >= 0 and theirs.max(initial=0) <= MAX_LABEL:
            ours[...] = theirs
        else:
            self.session.message = "Those labels do not fit the scan, so the lesions stay as they were."
        with self._writes():
            layer.data = ours
        if self.session.work is work:
            self.services.correcting.take_stroke()

    def _on_selected_label(self, layer: Labels, work: ScanWork, _event: Any) -> None:
        if self.session.work is work and 0 < layer.selected_label <= MAX_LABEL:
            self.session.active_label = int(layer.selected_label)

    def _on_active_label(self, label: int) -> None:
        layer = self.labels
        if layer is not None and layer.selected_label != label:
            layer.selected_label = label

    def _on_lesions(self, lesions: tuple[Lesion, ...]) -> None:
        layer = self.labels
        if layer is None:
            return
        wanted = colours_of(lesions)
        if not np.array_equal(colour_table(wanted), colour_table(layer.colormap)):
            layer.colormap = wanted

    def _on_changed(self, _region: Region) -> None:
        layer = self.ensure_labels()
        if layer is not None:
            layer.refresh(extent=False, thumbnail=False, highlight=False)

    @contextmanager
    def _writes(self) -> Iterator[None]:
        """Mark what happens to the layers meanwhile as our own doing."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before
