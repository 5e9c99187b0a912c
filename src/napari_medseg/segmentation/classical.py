"""Segmentation without a network: geodesic distances from the prompts. Needs no weights and no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.graph import MCP_Geometric

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import Card
from napari_medseg.segmentation.click import framing, nothing_without_a_click, obey
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.segmentation.views import Prompts, View, intensity_window, paste, prompts_in_array, sample, valid

_CUBE_MM = 60.0
_SIZE = 48
_FLOOR = 0.03


class GeodesicSegmenter:
    """A voxel belongs to the lesion when the way to a positive prompt is shorter than to the background.

    Towards the lesion a step costs more the less its intensity is like those under the positive prompts, towards the
    background the more it is like them; the border of a cube round them is background (after GeoS, Criminisi 2008).
    """

    name = "geodesic"
    version = 1
    labels: Mapping[int, str] = MappingProxyType({})
    needs_click = True
    card = Card(name="geodesic", version=1, architecture="none", needs_click=True)

    def segment(
        self,
        volume: Volume,
        prompts: Sequence[Prompt] = (),
        *,
        previous: LabelMap | None = None,
        progress: Callable[[float], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> LabelMap:
        """Segment a lesion from prompts; arguments and result as `Segmenter.segment` has them.

        Raises
        ------
        ModelError
            If there are prompts, but no positive click or scribble.
        Cancelled
            If `should_stop` said so.
        """
        if not prompts:
            return nothing_without_a_click(self.name, volume)
        drawn = prompts_in_array(prompts, volume.affine)
        if not drawn.signs.any():
            raise ModelError("the geodesic method needs a click into the lesion, boxes alone are not enough for it")
        if should_stop is not None and should_stop():
            raise Cancelled("the segmentation was cancelled")
        spacing = np.array(volume.spacing_mm)
        data = np.zeros(volume.data.shape, np.uint8)
        view = _view(volume, previous, drawn, spacing)
        belonging = _belonging(volume.data, view, spacing, drawn)
        likely, region = paste(belonging, view, volume.data.shape, volume.spacing_mm)
        mask = obey(likely, region, drawn, spacing)
        parts = cc3d.connected_components(mask, connectivity=6)
        start = np.array([s.start for s in region])
        seeds = [tuple(np.clip(np.rint(p - start), 0, np.array(parts.shape) - 1).astype(int)) for p in drawn.positive]
        data[region] = np.isin(parts, [parts[s] for s in seeds if parts[s]])
        return LabelMap(data, volume.affine, {1: "Lesion"}, grid=volume.grid, metadata=volume.metadata)


def _view(volume: Volume, previous: LabelMap | None, prompts: Prompts, spacing: NDArray[np.float64]) -> View:
    if previous is not None and previous.data.any():
        whole = tuple(slice(0, n) for n in previous.data.shape)
        framed = framing(prompts.points, (np.asarray(previous.data) > 0).astype(np.uint8), whole, 2.0, spacing, _SIZE)
        if framed is not None:
            return framed
    low, high = prompts.positive.min(0), prompts.positive.max(0)
    extent = max(min(_CUBE_MM, float((spacing * volume.data.shape).max())), 2.5 * float(((high - low) * spacing).max()))
    return View((low + high) / 2, extent, _SIZE)


def _belonging(
    array: NDArray[np.generic], view: View, spacing: NDArray[np.float64], prompts: Prompts
) -> NDArray[np.float32]:
    """Between 0 and 1 for each point of the view: how much nearer the positive prompts are; 0.5 is half way."""
    image = sample(array, view, tuple(spacing))
    inside = valid(array.shape, view, tuple(spacing)) > 0
    middle, deviation = intensity_window(array, prompts.positive, tuple(spacing))
    low, high = np.percentile(image[inside], (5, 95))
    scale = max(deviation, 0.03 * float(high - low), 1e-6)
    unlike = np.tanh(np.abs(gaussian_filter(image, 0.7) - middle) / (4.0 * scale)).astype(float) ** 2
    seeds = [np.clip(np.rint(view.point_of(p, tuple(spacing))), 0, view.size - 1).astype(int) for p in prompts.points]
    near = [tuple(s) for s, positive in zip(seeds, prompts.signs, strict=True) if positive and inside[tuple(s)]]
    far = [tuple(s) for s, positive in zip(seeds, prompts.signs, strict=True) if not positive and inside[tuple(s)]]
    edge = inside & ~binary_erosion(inside)  # the cube's border, and the scan's where it ends within
    far.extend(map(tuple, np.argwhere(edge)))
    to_lesion = _distance(_FLOOR + unlike, near, inside)
    to_rest = _distance(_FLOOR + 1.0 - unlike, far, inside)
    with np.errstate(invalid="ignore"):  # outside the scan both ways are infinitely long
        share = to_rest / np.maximum(to_lesion + to_rest, 1e-9) * (1.0 - 0.6 * unlike)
    return np.where(np.isfinite(share), share, 0.0).astype(np.float32)


def _distance(
    cost: NDArray[np.float64], seeds: list[tuple[int, ...]], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Cheapest way to the nearest seed, through the scan only; infinite where there is none."""
    passable = np.where(inside, cost, -1.0)  # MCP never enters negative costs
    return np.asarray(MCP_Geometric(passable).find_costs(seeds)[0])
