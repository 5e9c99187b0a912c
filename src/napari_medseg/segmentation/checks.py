"""What every segmenter refuses, so that all of them refuse alike; needs no torch."""

from __future__ import annotations

import numpy as np

from napari_medseg.errors import ModelError
from napari_medseg.imaging.orientation import same_grid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.views import Prompts


def check_prompts(prompts: Prompts, volume: Volume, previous: LabelMap | None) -> None:
    """Refuse prompts, or a mask to correct, that no answer can be given to.

    Raises
    ------
    ModelError
        If a point, box or lasso lies outside the scan or is not finite, the mask lies on another grid, or only
        background is marked and there is nothing to take it from.
    """
    if previous is not None and not same_grid(previous, volume):
        raise ModelError("the previous mask lies on another grid than the scan: resample it to the scan first")
    inside = ((prompts.points >= -0.5) & (prompts.points <= np.array(volume.data.shape) - 0.5)).all(1)
    if not inside.all():
        x, y, z = volume.position_of(prompts.points[~inside][0])
        raise ModelError(f"the point ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the scan: give a position inside it")
    if not all(np.isfinite([area.low, area.high]).all() for area in prompts.areas):
        raise ModelError("a corner of the box or lasso is not a number: give all of them in millimetres")
    last = np.array(volume.data.shape) - 0.5
    if any((area.high < -0.5).any() or (area.low > last).any() for area in prompts.areas):
        raise ModelError("a box or lasso lies outside the scan: draw it where the scan is")
    if prompts.signs.any() or any(area.positive for area in prompts.areas):
        return
    if previous is None or not np.any(previous.data):
        raise ModelError("only background was marked: click into the lesion too, or draw a box round it")
