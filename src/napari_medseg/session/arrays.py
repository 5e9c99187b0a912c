"""Scans made of plain arrays, as the console or another plugin puts them into the viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.volume import Volume


def volume_of_array(
    data: NDArray[Any],
    *,
    scale: tuple[float, ...],
    translate: tuple[float, ...],
    name: str,
    has_units: bool,
) -> Volume:
    """Return a scan for an array that somebody put into the viewer.

    Parameters
    ----------
    data : ndarray, 2-D or 3-D
        The picture or stack.
    scale, translate : tuple of float
        The layer's own, one number an axis.
    name : str
        The layer's name.
    has_units : bool
        Whether the layer says that its scale is in millimetres.

    Raises
    ------
    ImagingError
        If it has another number of axes.
    """
    if data.ndim not in (2, 3):
        raise ImagingError(f"'{name}' has {data.ndim} axes: a scan has two or three.")
    pad = 3 - data.ndim
    z, y, x = (*(1.0,) * pad, *(abs(float(step)) or 1.0 for step in scale[-data.ndim :]))
    at_z, at_y, at_x = (*(0.0,) * pad, *(float(shift) for shift in translate[-data.ndim :]))
    affine = np.array([[0, 0, -x, -at_x], [0, -y, 0, -at_y], [z, 0, 0, at_z], [0, 0, 0, 1]], float)
    doubts = [] if has_units else ["Units unknown: the layer's scale is taken as millimetres."]
    doubts.append("Orientation unknown: the picture is taken as axial, patient right on the left.")
    stack = data.reshape((1,) * pad + data.shape)
    return Volume(stack, affine, name=name, warnings=tuple(doubts), sides_are_known=False)
