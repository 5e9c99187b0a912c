"""Figures that a person can trust: measured on what the weights have not learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cc3d
import edt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseg.imaging.volume import Volume
from napari_medseg.learning.cases import Case
from napari_medseg.learning.samples import LabelledScan, Sample, draw_samples
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.segmentation.automatic import resized
from napari_medseg.segmentation.prompts import Click
from napari_medseg.segmentation.views import VALID

if TYPE_CHECKING:
    from napari_medseg.networks.click_unet import ClickUNet

GUARD_SEED = 50_000_017
_GUARD_BATCHES, _GUARD_VIEWS, _GUARD_SIZE = 12, 3, 48
_BLOCK = 1 / 3
_MOST_OFF = 0.25
_PART_OF_ONE_STRUCTURE = 0.15
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """One corrected case, or part of one, that does not teach in the first phase.

    Parameters
    ----------
    index : int
        Which case.
    region : tuple of slice
        Part of the scan's own array that figures are measured in.
    is_whole : bool
        Whether that is the whole scan.
    """

    index: int
    region: tuple[slice, slice, slice]
    is_whole: bool


def choose_held_out(cases: Sequence[Case]) -> tuple[HeldOut, ...]:
    """Hold out the newest case (the newest fifth of many) from three on; else about a third of the only scans."""
    whole = slice(0, None)
    if len(cases) >= 3:
        n = min(4, max(1, len(cases) // 5))
        usable = [k for k, case in enumerate(cases) if (case.truth[case.seen] > 0).any()]
        return tuple(HeldOut(k, (whole, whole, whole), is_whole=True) for k in usable[-n:])
    blocks = [(k, _block(case)) for k, case in enumerate(cases)]
    return tuple(HeldOut(k, block, is_whole=False) for k, block in blocks if block is not None)


def describe(held_out: Sequence[HeldOut], n_cases: int) -> str:
    """What figures are measured on, for a person."""
    if not held_out:
        return "nothing was held out: the masks are too small"
    if held_out[0].is_whole:
        return f"{len(held_out)} of {n_cases} corrected cases, held out"
    return f"a held-out third of {'the only corrected case' if n_cases == 1 else 'each corrected case'}"


def weights_without(cases: Sequence[Case], held_out: Sequence[HeldOut]) -> list[Tensor]:
    """Voxel weights of all cases, 0 in what is held out."""
    weights = [case.weight for case in cases]
    for held in held_out:
        hidden = np.zeros(cases[held.index].truth.shape, np.float32)
        hidden[held.region] = 1.0
        shape = tuple(weights[held.index].shape)
        share = resized(torch.from_numpy(hidden), shape)
        weights[held.index] = torch.where(share > 0, 0.0, weights[held.index])
    return weights


def _block(case: Case) -> tuple[slice, slice, slice] | None:
    """End of the scan, along some axis, that holds about a third of every label; None where no end does."""
    truth = np.where(case.seen, case.truth, 0)
    counts = [np.bincount(truth[truth > 0].ravel(), minlength=2)]
    labels = np.flatnonzero(counts[0])
    least, chosen = _MOST_OFF, None
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        profiles = np.stack([(truth == k).sum(others) for k in labels]) if len(labels) else np.zeros((0, 1))
        for backwards in (False, True):
            ordered = profiles[:, ::-1] if backwards else profiles
            shares = ordered.cumsum(1) / np.maximum(ordered.sum(1, keepdims=True), 1)
            if shares.shape[1] < 3 or not len(labels):
                continue
            off = np.abs(shares - _BLOCK).max(0)
            at = int(off.argmin())
            if off[at] < least:
                n = truth.shape[axis]
                part = slice(n - 1 - at, n) if backwards else slice(0, at + 1)
                least = float(off[at])
                chosen = tuple(part if a == axis else slice(0, None) for a in range(3))
    return None if chosen is None else (chosen[0], chosen[1], chosen[2])


def automatic_dice(
    checkpoint: Checkpoint, cases: Sequence[Case], held_out: Sequence[HeldOut], device: torch.device, stop: Stop
) -> float | None:
    """Mean Dice over labels and held-out cases without any prompt; None where nothing is held out."""
    from napari_medseg.segmentation.segmenter import Segmenter

    segmenter, found = Segmenter(checkpoint, str(device)), []
    values = list(checkpoint.card.labels)
    for held in held_out:
        case = cases[held.index]
        answer = segmenter.segment(case.volume, should_stop=stop).data[held.region]
        truth, seen = case.truth[held.region], case.seen[held.region]
        dices = [
            dice((answer == values[k]) & seen, (truth == k + 1) & seen)
            for k in np.flatnonzero(case.taught.numpy())
            if k < len(values)
        ]
        found += [d for d in dices if d is not None]
    return float(np.mean(found)) if found else None


def one_click_dice(
    checkpoint: Checkpoint,
    cases: Sequence[Case],
    held_out: Sequence[HeldOut],
    device: torch.device,
    stop: Stop,
    *,
    n_clicks: int = 3,
) -> float | None:
    """Mean Dice after one click into each held-out case's largest lesion; None where there is none.

    The answers to several single clicks are averaged: one in the lesion's middle, the others elsewhere inside.
    """
    from napari_medseg.segmentation.segmenter import Segmenter

    segmenter, found = Segmenter(checkpoint, str(device)), []
    for held in held_out:
        case = cases[held.index]
        targets = click_targets(case, held.region)
        if targets:
            target = max(targets, key=lambda mask: int(mask.sum()))
            seen = case.seen[held.region]
            for click in _clicks(case.volume, target, n_clicks):
                answer = segmenter.segment(case.volume, [click], should_stop=stop)
                reached = dice((answer.data[held.region] > 0) & seen, target[held.region] & seen)
                found.append(reached or 0.0)
    return float(np.mean(found)) if found else None


def click_targets(case: Case, region: tuple[slice, slice, slice] | None = None) -> list[NDArray[np.bool_]]:
    """Masks that a user would ask for with a click: connected lesions that touch the region, on the scan's grid.

    Labels that touch are one target where they are parts of one structure (of comparable size); a small lesion in a
    large organ is a target of its own.
    """
    seen = np.where(case.seen, case.truth, 0)
    parts = cc3d.connected_components(seen > 0, connectivity=26)
    targets = []
    for number in range(1, int(parts.max()) + 1):
        mask = parts == number
        counts = np.bincount(seen[mask])[1:]
        counts = counts[counts > 0]
        if len(counts) > 1 and counts.min() < _PART_OF_ONE_STRUCTURE * counts.max():
            targets += [mask & (seen == k) for k in np.unique(seen[mask])]
        else:
            targets.append(mask)
    inside = region if region is not None else (slice(None),) * 3
    return [mask for mask in targets if mask[inside].sum() >= 8]


def reviewed_scans(case: Case, held: HeldOut | None = None) -> list[LabelledScan]:
    """The case's click targets in the longest run of reviewed slices that is not held out, for clicks."""
    axis = case.correction.axis
    others = tuple(a for a in range(3) if a != axis)
    cut = (
        [_left_of(part, n) for part, n in zip(held.region, case.truth.shape, strict=True)]
        if held
        else [slice(None)] * 3
    )
    free = np.zeros(case.truth.shape[axis], bool)
    free[cut[axis]] = True
    cut[axis] = _longest_run(case.seen.any(others) & free)
    image = case.volume.data[tuple(cut)]
    targets = [mask[tuple(cut)] for mask in click_targets(case)]
    spacing = case.volume.spacing_mm
    return [LabelledScan(image, mask, spacing, "corrections", "") for mask in targets if mask.sum() >= 8]


def _left_of(part: slice, n: int) -> slice:
    """What remains of an axis without a part at one of its ends; all of it where the part is all of it."""
    start, stop, _ = part.indices(n)
    if stop - start == n:
        return slice(0, n)
    return slice(stop, n) if start == 0 else slice(0, start)


def _longest_run(flags: NDArray[np.bool_]) -> slice:
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    starts, stops = edges[::2], edges[1::2]
    k = int(np.argmax(stops - starts))
    return slice(int(starts[k]), int(stops[k]))


def guard_samples() -> list[Sample]:
    """Fixed views of synthetic lesions with fixed prompts: what a version must not forget."""
    batches = range(_GUARD_BATCHES)
    rngs = [np.random.default_rng((GUARD_SEED, k)) for k in batches]
    return [s for rng in rngs for s in draw_samples(rng, [], n=_GUARD_VIEWS, size=_GUARD_SIZE)]


@torch.inference_mode()
def guard_dice(network: ClickUNet, samples: Sequence[Sample], device: torch.device, dtype: torch.dtype) -> float:
    """Mean Dice in the guard set's views."""
    found = []
    low = dtype is not torch.float32
    for sample in samples:
        inputs = torch.from_numpy(sample.inputs)[None].to(device)
        with torch.autocast(device.type, dtype if low else None, enabled=low):
            logits, _ = network(inputs)
        mask = ((logits[0, 0] > 0) & (inputs[0, VALID] > 0)).cpu().numpy()
        found.append(dice(mask, sample.truth > 0.5) or 0.0)
    return float(np.mean(found))


def _clicks(volume: Volume, mask: NDArray[np.bool_], n: int) -> list[Click]:
    """Clicks inside a mask: the first in its middle, the others in its deeper half; always the same ones."""
    depth = edt.edt(np.ascontiguousarray(mask), anisotropy=volume.spacing_mm, black_border=True)
    deep = np.argwhere(depth > 0.5 * depth.max())
    others = deep[np.random.default_rng(GUARD_SEED).integers(len(deep), size=n - 1)]
    indices = [np.array(np.unravel_index(int(depth.argmax()), mask.shape)), *others]
    positions = [volume.position_of(index.astype(float)) for index in indices]
    return [Click((float(x), float(y), float(z))) for x, y, z in positions]


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    """Dice of two masks; None where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else None
