"""Records what a brush ran over, changed or not: a stroke over a right voxel says that it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.components import Dims
from napari.layers import Labels
from numpy.typing import NDArray

from napari_medseg.session.labels import relative, union
from napari_medseg.session.lesions import Region


@dataclass(frozen=True, eq=False)
class Touched:
    """The voxels that a stroke ran over, inside a box."""

    region: Region
    mask: NDArray[np.bool_]

    def within(self, region: Region) -> NDArray[np.bool_]:
        """Return the mask in a box that holds this one's."""
        mask = np.zeros([span.stop - span.start for span in region], bool)
        mask[relative(self.region, region)] = self.mask
        return mask


class StrokeRecorder:
    """Listens to a Labels layer's brush and eraser and keeps the voxels that they ran over.

    Parameters
    ----------
    layer : Labels
        The layer that is painted on.
    dims : Dims
        The viewer's: a flat brush paints in the plane that is shown.
    on_release : callable
        Called when the mouse button goes up, so that a stroke that changed nothing counts too.
    """

    def __init__(self, layer: Labels, dims: Dims, on_release: Callable[[], None]) -> None:
        self._layer, self._dims, self._on_release = layer, dims, on_release
        self._dabs: list[tuple[Region, NDArray[np.bool_]]] = []
        self._paint = layer.paint
        # napari tells only what a stroke changed; its public method knows every dab.
        vars(layer)["paint"] = self._on_dab
        layer.mouse_drag_callbacks.append(self._on_drag)

    def take(self) -> Touched | None:
        """Return what the brush ran over since the last call."""
        dabs, self._dabs = self._dabs, []
        if not dabs:
            return None
        region = dabs[0][0]
        for box, _ in dabs[1:]:
            region = union(box, region)
        mask = np.zeros([span.stop - span.start for span in region], bool)
        for box, dab in dabs:
            mask[relative(box, region)] |= dab
        return Touched(region, mask)

    def stop(self) -> None:
        """Stop listening."""
        vars(self._layer).pop("paint", None)
        self._layer.mouse_drag_callbacks.remove(self._on_drag)

    def _on_drag(self, _layer: Labels, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            yield
        if self._dabs:
            self._on_release()

    def _on_dab(self, coord: Any, new_label: int, refresh: bool = True) -> None:
        dab = brush(self._layer, self._dims, coord)
        if dab is not None:
            self._dabs.append(dab)
        self._paint(coord, new_label, refresh)


def brush(layer: Labels, dims: Dims, coord: Any) -> tuple[Region, NDArray[np.bool_]] | None:
    """Return the voxels under napari's round brush at a voxel: the box and the mask in it; None outside."""
    centre = np.round(np.asarray(coord, float)).astype(int)
    painted = [axis - (dims.ndim - layer.ndim) for axis in dims.order[-layer.n_edit_dimensions :]]
    radius = np.floor(layer.brush_size / 2) + 0.5
    steps = np.abs(np.asarray(layer.scale, float))
    steps = steps / steps[painted].min()
    reach = np.array([int(radius / steps[axis]) if axis in painted else 0 for axis in range(layer.ndim)])
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, layer.data.shape)
    if (low >= high).any():
        return None
    region = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    grid = np.ogrid[region]
    distance = sum(((axis - at) * step) ** 2 for axis, at, step in zip(grid, centre, steps, strict=True))
    return (region[0], region[1], region[2]), np.asarray(distance <= radius**2)
