"""Records what a brush ran over, changed or not: a stroke over a right voxel says that it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from napari.components import Dims
from napari.layers import Labels
from numpy.typing import NDArray

from napari_medseg.session.labels import relative, union
from napari_medseg.session.lesions import Region

_METHODS = ("paint", "fill", "paint_polygon", "data_setitem")


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
    """Listens to a Labels layer and tells of each finished stroke, fill or polygon once its voxels are written.

    napari tells only what a stroke changed, and before it is written where a script calls the layer's methods; so
    those public methods are wrapped on this one layer.

    Parameters
    ----------
    layer : Labels
        The layer that is painted on.
    dims : Dims
        The viewer's: a flat brush paints in the plane that is shown.
    on_stroke : callable
        Called with the box that may have changed and what the brush ran over in it, either of them None.
    """

    def __init__(self, layer: Labels, dims: Dims, on_stroke: Callable[[Region | None, Touched | None], None]) -> None:
        self._layer, self._dims, self._on_stroke = layer, dims, on_stroke
        self._dabs: list[tuple[Region, NDArray[np.bool_]]] = []
        self._region: Region | None = None
        self._depth = 0
        for name in _METHODS:
            vars(layer)[name] = partial(self._call, getattr(layer, name), name)
        layer.events.paint.connect(self._on_paint)
        # First, so that a press is known before the brush acts on it.
        layer.mouse_drag_callbacks.insert(0, self._on_drag)

    def stop(self) -> None:
        """Stop listening."""
        for name in _METHODS:
            vars(self._layer).pop(name, None)
        self._layer.events.paint.disconnect(self._on_paint)
        self._layer.mouse_drag_callbacks.remove(self._on_drag)

    def _on_drag(self, _layer: Labels, event: Any) -> Iterator[None]:
        self._dabs.clear()
        self._depth += 1
        yield
        while event.type == "mouse_move":
            yield
        self._depth -= 1
        self._tell()

    def _on_paint(self, event: Any) -> None:
        region = painted_region(event.value)
        self._region = region if self._region is None or region is None else union(region, self._region)
        self._tell()

    def _call(self, method: Callable[..., None], name: str, *args: Any, **kwargs: Any) -> None:
        if name == "paint":
            dab = brush(self._layer, self._dims, args[0] if args else kwargs["coord"])
            self._dabs += [dab] if dab is not None else []
        self._depth += 1
        try:
            method(*args, **kwargs)
        finally:
            self._depth -= 1
        self._tell(is_over=not is_encircling(self._layer))

    def _tell(self, *, is_over: bool = True) -> None:
        if self._depth or not is_over:
            return
        dabs, region = self._dabs, self._region
        self._dabs, self._region = [], None
        if dabs or region is not None:
            self._on_stroke(region, _together(dabs))


def is_encircling(layer: Labels) -> bool:
    """Whether napari's right-button stroke, which encircles and fills, is under way; it ends with a paint event."""
    overlay = layer._overlays.get("brush_stroke")
    return bool(overlay is not None and overlay.active)


def painted_region(atoms: Sequence[Any]) -> Region | None:
    """Return the box that one of napari's paint events changed."""
    region: Region | None = None
    for atom in atoms:
        box = atom.slice_key if hasattr(atom, "slice_key") else _index_box(atom[0])
        region = union(box, region)
    return region


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


def _together(dabs: Sequence[tuple[Region, NDArray[np.bool_]]]) -> Touched | None:
    if not dabs:
        return None
    region = dabs[0][0]
    for box, _ in dabs[1:]:
        region = union(box, region)
    mask = np.zeros([span.stop - span.start for span in region], bool)
    for box, dab in dabs:
        mask[relative(box, region)] |= dab
    return Touched(region, mask)


def _index_box(indices: tuple[Any, ...]) -> Region:
    z, y, x = (slice(int(np.min(axis)), int(np.max(axis)) + 1) for axis in indices)
    return z, y, x
