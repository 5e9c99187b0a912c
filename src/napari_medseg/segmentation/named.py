"""A click into something that a fine-tuned model knows by name: the model's own labels have a say in the answer.

One window round the click is segmented as a whole scan would be, a longer one where the structure goes on beyond it.
Where the clicks lie in a label, the connected structure there is what they ask for: all labels of it that are parts of
one thing (of comparable size), or the clicked one alone, as a lesion in an organ. It counts only where the answer to
the click alone speaks of the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import AutomaticSettings
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.automatic import intensity_scale, marked, predict_labels, resized
from napari_medseg.segmentation.click import Answer
from napari_medseg.segmentation.views import Prompts

_PART_OF_ONE_STRUCTURE = 0.15
_LEAST_AGREEMENT = 0.3
_MOST_SAMPLES = 200_000
_MOST_LONGER = 2


def with_named(answer: Answer, named: Answer, share: float) -> Answer:
    """The answer to a click with the named structure's share in it, or the answer alone where they hardly overlap."""
    region = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(answer[1], named[1], strict=True))
    clicked, structure = (_on(region, each) for each in (answer, named))
    a, b = clicked > 0.5, structure > 0.5
    if 2 * np.count_nonzero(a & b) < _LEAST_AGREEMENT * (np.count_nonzero(a) + np.count_nonzero(b)):
        return answer
    return np.float32(1 - share) * clicked + np.float32(share) * structure, region


def named_structure(
    network: ClickUNet, settings: AutomaticSettings, volume: Volume, prompts: Prompts, dtype: torch.dtype
) -> Answer | None:
    """Probabilities of the labelled structure that holds all positive points and no others, and their region.

    Parameters
    ----------
    network : ClickUNet
        With labels of its own.
    settings : AutomaticSettings
        The grid that the labels were learned on, and the window.
    volume : Volume
        The scan.
    prompts : Prompts
        Points; a box or lasso says itself how large the thing is.
    dtype : torch.dtype
        Precision to run in.

    Returns
    -------
    (ndarray, tuple of slice) or None
        None where no label is there, or more of it than the window shows.
    """
    if prompts.areas or not prompts.signs.any():
        return None
    ends: tuple[int, ...] = ()
    while True:
        cut = _window(volume, settings, prompts.positive[-1], longer=ends)
        found = _seen_in(cut, network, settings, volume, prompts, dtype)
        if found is None:
            return None
        likely, mask = found
        was_longer, ends = bool(ends), _cut_off(mask, cut, volume.data.shape)
        if not ends:
            return likely, cut
        if was_longer or len(ends) > _MOST_LONGER:
            return None


def _seen_in(
    cut: tuple[slice, ...],
    network: ClickUNet,
    settings: AutomaticSettings,
    volume: Volume,
    prompts: Prompts,
    dtype: torch.dtype,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Probabilities and mask, in a part of the scan, of the structure that all positive points and no others lie in."""
    data = volume.data[cut]
    shape = [
        max(1, round(n * s / w)) for n, s, w in zip(data.shape, volume.spacing_mm, settings.spacing_mm, strict=True)
    ]
    step = max(1, int((volume.data.size / _MOST_SAMPLES) ** (1 / 3)))
    steps = tuple(slice(None, None, step if n > 2 * step else 1) for n in volume.data.shape)
    low, high, mean, deviation = intensity_scale(np.asarray(volume.data[steps], np.float32))
    image = resized(torch.from_numpy(np.ascontiguousarray(data, np.float32)), shape)
    image = (image.clamp(low, high) - mean) / deviation
    coarse = predict_labels(network, settings, marked(image), dtype=dtype).float()
    probabilities = np.stack([resized(p, data.shape).numpy() for p in coarse])
    start = np.array([part.start for part in cut])
    points = np.rint(prompts.points).astype(int) - start
    if ((points < 0) | (points >= data.shape))[prompts.signs].any():
        return None
    found = _asked_for(probabilities, tuple(points[prompts.signs][-1]), settings.threshold)
    if found is None:
        return None
    within = ((points >= 0) & (points < data.shape)).all(1)
    held = np.array([inside and found[1][tuple(p)] for p, inside in zip(points, within, strict=True)])
    return found if np.array_equal(held, prompts.signs) else None


def parts_of_one_structure(counts: NDArray[np.integer]) -> bool:
    """Whether labels of these sizes that touch are parts of one thing, and not a lesion in an organ."""
    return bool(counts.min() >= _PART_OF_ONE_STRUCTURE * counts.max())


def _asked_for(
    probabilities: NDArray[np.float32], here: Sequence[int], threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Probabilities of the structure at a voxel, other structures left out, and its mask."""
    z, y, x = here
    clicked = int(probabilities[:, z, y, x].argmax())
    if probabilities[clicked, z, y, x] <= threshold:
        return None
    likely, which = probabilities.max(0), probabilities.argmax(0)
    parts = cc3d.connected_components(likely > threshold, connectivity=26)
    mask = parts == parts[z, y, x]
    labels, counts = np.unique(which[mask], return_counts=True)
    if len(labels) > 1 and not parts_of_one_structure(counts):
        likely = probabilities[clicked]
        parts = cc3d.connected_components((likely > threshold) & (which == clicked), connectivity=26)
        mask = parts == parts[z, y, x]
    return np.where((parts == 0) | mask, likely, np.float32(0)), mask


def _window(
    volume: Volume, settings: AutomaticSettings, point: NDArray[np.float64], longer: Sequence[int] = ()
) -> tuple[slice, ...]:
    """The box of the scan that one window shows (along some axes two), with the click in its middle if it can be."""
    sizes = [p * (2 - settings.overlap) if axis in longer else p for axis, p in enumerate(settings.patch)]
    cut = []
    for n, mm, wanted, size, at in zip(
        volume.data.shape, volume.spacing_mm, settings.spacing_mm, sizes, point, strict=True
    ):
        length = min(n, max(1, int(size * wanted / mm)))
        start = int(np.clip(round(float(at) - length / 2), 0, n - length))
        cut.append(slice(start, start + length))
    return tuple(cut)


def _on(region: Sequence[slice], answer: Answer) -> NDArray[np.float32]:
    """An answer's probabilities in a region that holds its own."""
    probability, own = answer
    out = np.zeros([part.stop - part.start for part in region], np.float32)
    out[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(own, region, strict=True))] = probability
    return out


def _cut_off(mask: NDArray[np.bool_], cut: Sequence[slice], shape: Sequence[int]) -> tuple[int, ...]:
    """The axes along which the structure goes on where the window ends and the scan does not."""
    return tuple(
        axis
        for axis, (part, n) in enumerate(zip(cut, shape, strict=True))
        if (part.start > 0 and mask.take(0, axis).any()) or (part.stop < n and mask.take(-1, axis).any())
    )
