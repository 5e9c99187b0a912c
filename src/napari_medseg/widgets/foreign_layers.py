"""Layers that others put into the viewer, taken as scans."""

from __future__ import annotations

import numpy as np
from napari.layers import Image

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import Volume
from napari_medseg.session.arrays import volume_of_array


def foreign_volume(layer: Image) -> Volume:
    """Return a scan for an Image layer that another plugin or the console made.

    Raises
    ------
    MedSegError
        If it is in colours, multiscale, or has another number of axes than two or three.
    """
    if layer.rgb:
        raise MedSegError(f"'{layer.name}' is in colours: a scan has one value a voxel.")
    if layer.multiscale:
        raise MedSegError(f"'{layer.name}' is multiscale: open one resolution of it.")
    in_mm = all(str(unit) in ("millimeter", "mm") for unit in layer.units)
    return volume_of_array(
        np.asarray(layer.data),
        scale=tuple(layer.scale),
        translate=tuple(layer.translate),
        name=layer.name,
        has_units=in_mm,
    )
