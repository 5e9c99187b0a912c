"""Label maps as napari Labels layers, and back onto the grid of their scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.orientation import layer_transform
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.widgets.orientation_letters import AXIS_LABELS

# napari world (z, y, x) in S, P, L to RAS
_SPL_TO_RAS = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])


def label_map_arguments(label_map: LabelMap, *, name: str, volume: Volume | None = None) -> dict[str, Any]:
    """Keyword arguments of the Labels layer that shows a label map.

    Parameters
    ----------
    label_map : LabelMap
        Shown on its own grid.
    name : str
        Name of the layer.
    volume : Volume, optional
        The scan that it belongs to, where it is known.
    """
    scale, translate = layer_transform(label_map.affine)
    own: dict[str, Any] = {"label_map": label_map} if volume is None else {"label_map": label_map, "volume": volume}
    arguments: dict[str, Any] = {
        "name": name,
        "scale": scale,
        "translate": translate,
        "units": ("mm",) * 3,
        "axis_labels": AXIS_LABELS,
        "metadata": {"napari_medseg": own},
    }
    if label_map.names:
        labels = sorted(label_map.names)
        arguments["features"] = {"index": [0, *labels], "name": ["", *(label_map.names[label] for label in labels)]}
    return arguments


def label_map_of(data: NDArray[Any], attributes: Mapping[str, Any]) -> LabelMap:
    """Make a label map of a Labels layer, on its scan's grid where it belongs to one.

    Parameters
    ----------
    data : ndarray of int, shape (Z, Y, X)
        The layer's labels.
    attributes : mapping
        The layer's attributes as napari gives them to a writer: ``metadata``, ``scale``, ``translate``, ``name``, ...

    Returns
    -------
    LabelMap
        With the geometry, on-disk grid and label names of the scan or label map that the layer was made from; else
        with the layer's own scale and translation.

    Raises
    ------
    ImagingError
        If the layer is not 3-D, holds negative or too many labels, or is rotated or sheared.
    """
    name = attributes.get("name", "mask")
    labels = _unsigned(np.asarray(data), name)
    own = attributes.get("metadata", {}).get("napari_medseg", {})
    known, volume = own.get("label_map"), own.get("volume")
    names = known.names if known is not None else {}
    for origin in (volume, known):
        if origin is not None and origin.data.shape == labels.shape:
            return LabelMap(labels, origin.affine, names=names, grid=origin.grid, metadata=origin.metadata)
    return LabelMap(labels, _affine_of(attributes, name), names=names)


def _unsigned(data: NDArray[Any], name: str) -> NDArray[Any]:
    if data.ndim == 2:
        data = data[np.newaxis]
    if data.ndim != 3:
        raise ImagingError(f"layer {name!r} has {data.ndim} axes, but a mask has 3: save one volume at a time")
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    if low < 0 or high > 65535:
        raise ImagingError(f"layer {name!r} holds labels from {low} to {high}: masks hold 0 to 65535, so renumber them")
    return data.astype(np.uint8 if high <= 255 else np.uint16, copy=False)


def _affine_of(attributes: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """RAS affine of a layer that no scan is known for, from its place in napari's world (S, P, L)."""
    rotate, shear = attributes.get("rotate"), attributes.get("shear")
    turned = rotate is not None and not np.allclose(rotate, np.eye(len(np.atleast_1d(rotate))))
    sheared = shear is not None and not np.allclose(shear, 0)
    extra = np.asarray(attributes.get("affine", np.eye(4)), float)
    if turned or sheared or not np.allclose(extra, np.eye(len(extra))):
        raise ImagingError(f"layer {name!r} is rotated or sheared: reset its transform, then save it again")
    scale = np.concatenate([np.ones(3), np.asarray(attributes.get("scale", ()), float)])[-3:]
    translate = np.concatenate([np.zeros(3), np.asarray(attributes.get("translate", ()), float)])[-3:]
    affine = np.eye(4)
    affine[:3, :3] = _SPL_TO_RAS @ np.diag(scale * _mm_per_unit(attributes))
    affine[:3, 3] = _SPL_TO_RAS @ (translate * _mm_per_unit(attributes))
    return affine + 0.0


def _mm_per_unit(attributes: Mapping[str, Any]) -> NDArray[np.float64]:
    """Millimetres per unit of each axis; pixels count as millimetres."""
    units = [str(unit) for unit in attributes.get("units", ())][-3:]
    known = {"millimeter": 1.0, "mm": 1.0, "micrometer": 1e-3, "um": 1e-3, "centimeter": 10.0, "meter": 1000.0}
    return np.array([known.get(unit, 1.0) for unit in [*["mm"] * (3 - len(units)), *units]])
