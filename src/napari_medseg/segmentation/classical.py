"""Segmentation without a network: the size of what was clicked from rays, its border by a random walker.

Needs no weights and no torch; the reference that a trained model must beat, and a second opinion where one fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import cc3d
import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import Card
from napari_medseg.segmentation.checks import checked
from napari_medseg.segmentation.click import (
    Floats,
    framing,
    nothing_without_a_click,
    obey,
    only_what_was_asked,
    only_where_it_was_asked,
)
from napari_medseg.segmentation.confidence import confidence_of, without_doubt_at
from napari_medseg.segmentation.intensities import (
    MARGIN,
    SIZE,
    Belief,
    belief_from_rays,
    belief_of,
    likely_by_intensity,
    middle_of,
)
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.segmentation.rays import search_rays
from napari_medseg.segmentation.views import Prompts, paste

_JUST_INSIDE, _NOT_IN = np.float32(0.55), np.float32(0.5)


class GeodesicSegmenter:
    """Segments what a click points at by its intensities alone.

    The first click: rays find a surface of any size (`rays`), a random walker that starts from it and from the two
    intensity histograms finds the border (`random_walk`). A correcting click changes the mask so far about as far as
    the mask's border was from it, and nothing elsewhere. A box or lasso cuts the answer off; it does not find a lesion.
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
            If a prompt lies outside the scan, `previous` lies on another grid, or nothing says where the lesion is: no
            positive click or scribble, and no mask so far.
        Cancelled
            If `should_stop` said so.
        """
        if not prompts:
            return nothing_without_a_click(self.name, volume)
        drawn = checked(prompts, volume, previous)
        before = np.zeros(volume.data.shape, np.uint8) if previous is None else (previous.data > 0).astype(np.uint8)
        spacing = np.array(volume.spacing_mm)
        belief = _from_mask(before, drawn, spacing)
        if belief is None and not drawn.signs.any():
            raise ModelError(
                "the geodesic method needs a click into the lesion, boxes and lassos are not enough for it"
            )
        if should_stop is not None and should_stop():
            raise Cancelled("the segmentation was cancelled")
        if belief is None:
            surface = search_rays(volume.data, middle_of(drawn, spacing), volume.spacing_mm).best()
            belief = belief_from_rays(surface, drawn, volume.data.shape, spacing)
        likely, region = paste(
            likely_by_intensity(volume.data, belief, spacing, drawn), belief.view, volume.data.shape, volume.spacing_mm
        )
        was = before[region]
        likely = _as_areas_say(_where_asked(likely, was, region, drawn, spacing), was, region, drawn)
        mask = obey(likely, region, drawn, spacing, was if was.any() else None)
        data = np.zeros(volume.data.shape, np.uint8)
        data[region] = _joined(mask, region, drawn) | (mask & (was > 0) & ~_joined(was, region, drawn))
        confidence = confidence_of(likely, data[region], region)
        return LabelMap(
            data,
            volume.affine,
            {1: "Lesion"},
            grid=volume.grid,
            metadata=volume.metadata,
            confidence=without_doubt_at(confidence, prompts, volume.affine, volume.spacing_mm),
        )


def _where_asked(
    likely: Floats, was: NDArray[np.uint8], region: Sequence[slice], prompts: Prompts, spacing: NDArray[np.float64]
) -> Floats:
    """Keep a correction to its sense and its place: the mask so far stays where the newest prompt says nothing."""
    if not was.any():
        return likely
    if (prompts.ages == 0).any() or not prompts.areas:
        only_what_was_asked(likely, was, prompts)
        return only_where_it_was_asked(likely, was, region, prompts, spacing)
    beyond = prompts.areas[-1].beyond(region)
    return np.where(beyond, np.where(was > 0, np.maximum(likely, _JUST_INSIDE), np.minimum(likely, _NOT_IN)), likely)


def _as_areas_say(likely: Floats, was: NDArray[np.uint8], region: Sequence[slice], prompts: Prompts) -> Floats:
    """Nothing in a negative area; outside positive ones only what a prompt there holds, and parts that they miss."""
    kept = np.ones(likely.shape, bool)
    beyond = [area.beyond(region) for area in prompts.areas if area.positive]
    if beyond:
        outside = np.logical_and.reduce(beyond)
        parts = cc3d.connected_components(was, connectivity=6)
        missed = (was > 0) & ~np.isin(parts, np.unique(parts[~outside]))
        kept = ~outside | missed | _joined(outside & (likely > 0.5), region, prompts)
    for area in prompts.areas:
        if not area.positive:
            kept[area.within(region)] = False
    return np.where(kept, likely, np.float32(0))


def _joined(mask: NDArray[np.generic], region: Sequence[slice], prompts: Prompts) -> NDArray[np.bool_]:
    """The parts of the mask that a positive prompt lies in."""
    parts = cc3d.connected_components(mask, connectivity=6)
    start = np.array([s.start for s in region])
    seeds = np.clip(np.rint(prompts.positive - start).astype(int), 0, np.array(parts.shape) - 1)
    return np.isin(parts, [parts[tuple(s)] for s in seeds if parts[tuple(s)]])


def _from_mask(mask: NDArray[np.uint8], prompts: Prompts, spacing: NDArray[np.float64]) -> Belief | None:
    """The mask so far as a shape; None where it is empty."""
    whole = tuple(slice(0, n) for n in mask.shape)
    view = framing(prompts.points, mask, whole, MARGIN, spacing, SIZE)
    return None if view is None else belief_of(mask, view, spacing)
