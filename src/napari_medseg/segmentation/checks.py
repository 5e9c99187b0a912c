"""What every segmenter refuses, so that all of them refuse alike; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_medseg.errors import ModelError
from napari_medseg.imaging.orientation import same_grid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.segmentation.views import Prompts, prompts_in_array


def checked(prompts: Sequence[Prompt], volume: Volume, previous: LabelMap | None) -> Prompts:
    """Prompts in array indices, areas cut to the scan, if an answer can be given to them.

    Raises
    ------
    ModelError
        If a point, box or lasso lies outside the scan or is not finite, a lasso is tilted, the mask to correct lies on
        another grid, or only background is marked and there is nothing to take it from.
    """
    drawn = prompts_in_array(prompts, volume.affine)
    if previous is not None and not same_grid(previous, volume):
        raise ModelError("the previous mask lies on another grid than the scan: resample it to the scan first")
    last = np.array(volume.data.shape) - 0.5
    inside = ((drawn.points >= -0.5) & (drawn.points <= last)).all(1)
    if not inside.all():
        x, y, z = volume.position_of(drawn.points[~inside][0])
        raise ModelError(f"the point ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the scan: give a position inside it")
    if not all(np.isfinite([area.low, area.high]).all() for area in drawn.areas):
        raise ModelError("a corner of the box or lasso is not a number: give all of them in millimetres")
    if any((area.high < -0.5).any() or (area.low > last).any() for area in drawn.areas):
        raise ModelError("a box or lasso lies outside the scan: draw it where the scan is")
    is_told = drawn.signs.any() or any(area.positive for area in drawn.areas)
    if not is_told and (previous is None or not np.any(previous.data)):
        raise ModelError("only background was marked: click into the lesion too, or draw a box round it")
    return replace(drawn, areas=tuple(area.inside(volume.data.shape) for area in drawn.areas))
