"""Figures that a person can trust: measured on what the weights have not learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import edt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medseg.imaging.volume import Volume
from napari_medseg.learning.cases import Case
from napari_medseg.learning.held_out import HeldOut, hidden_part
from napari_medseg.learning.samples import Sample, draw_samples
from napari_medseg.learning.targets import Target, click_targets
from napari_medseg.models.checkpoint import AutomaticSettings, Checkpoint
from napari_medseg.segmentation.automatic import best_labels, predict_labels, promptless
from napari_medseg.segmentation.precision import computing_in
from napari_medseg.segmentation.prompts import Click
from napari_medseg.segmentation.views import VALID

if TYPE_CHECKING:
    from napari_medseg.networks.click_unet import ClickUNet

GUARD_SEED = 50_000_017
_GUARD_BATCHES, _GUARD_VIEWS, _GUARD_SIZE = 12, 3, 48
_GUARD_VIEWS_AT_ONCE = 6
_CLICKS = 3
Stop = Callable[[], bool]


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
        found += [
            dice((answer == values[k]) & seen, (truth == k + 1) & seen)
            for k in np.flatnonzero(case.taught.numpy())
            if k < len(values)
        ]
    return _mean(found)


def quick_dice(
    network: ClickUNet,
    settings: AutomaticSettings,
    cases: Sequence[Case],
    held_out: Sequence[HeldOut],
    dtype: torch.dtype,
) -> float | None:
    """`automatic_dice` while a network still learns: on its own grid, round the labels alone."""
    found = []
    for held in held_out:
        case = cases[held.index]
        part = (hidden_part(case, held) > 0) & (case.weight > 0)
        cut = _box_round(part & (case.labels > 0), settings.patch)
        if cut is not None:
            image = promptless(case.image[cut])
            answer = best_labels(predict_labels(network, settings, image, dtype=dtype), settings.threshold)
            truth, seen = case.labels[cut].numpy(), part[cut].numpy()
            outputs = np.flatnonzero(case.taught.numpy())
            found += [dice((answer == k + 1) & seen, (truth == k + 1) & seen) for k in outputs]
    return _mean(found)


def one_click_dice(
    checkpoint: Checkpoint,
    cases: Sequence[Case],
    held_out: Sequence[HeldOut],
    device: torch.device,
    stop: Stop,
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
            target = max(targets, key=lambda t: int(t.mask.sum()))
            seen, truth = case.seen[held.region], target.on(case.truth.shape)[held.region]
            for click in _clicks(case.volume, target):
                answer = segmenter.segment(case.volume, [click], should_stop=stop)
                found.append(dice((answer.data[held.region] > 0) & seen, truth & seen))
    return _mean(found)


def guard_samples() -> list[Sample]:
    """Fixed views of synthetic lesions with fixed prompts: what a version must not forget."""
    batches = range(_GUARD_BATCHES)
    rngs = [np.random.default_rng((GUARD_SEED, k)) for k in batches]
    return [s for rng in rngs for s in draw_samples(rng, [], n=_GUARD_VIEWS, size=_GUARD_SIZE)]


@torch.inference_mode()
def guard_dice(network: ClickUNet, samples: Sequence[Sample], device: torch.device, dtype: torch.dtype) -> float:
    """Mean Dice in the guard set's views."""
    found = []
    for start in range(0, len(samples), _GUARD_VIEWS_AT_ONCE):
        batch = samples[start : start + _GUARD_VIEWS_AT_ONCE]
        inputs = torch.from_numpy(np.stack([s.inputs for s in batch])).to(device)
        with computing_in(dtype, device):
            logits, _ = network(inputs)
        masks = ((logits[:, 0] > 0) & (inputs[:, VALID] > 0)).cpu().numpy()
        found += [dice(mask, s.truth > 0.5) or 0.0 for mask, s in zip(masks, batch, strict=True)]
    return float(np.mean(found))


def _clicks(volume: Volume, target: Target) -> list[Click]:
    """Clicks inside a target: the first in its middle, the others in its deeper half; always the same ones."""
    depth = edt.edt(np.ascontiguousarray(target.mask), anisotropy=volume.spacing_mm, black_border=True)
    deep = np.argwhere(depth > 0.5 * depth.max())
    others = deep[np.random.default_rng(GUARD_SEED).integers(len(deep), size=_CLICKS - 1)]
    corner = np.array([s.start for s in target.cut], float)
    indices = [np.array(np.unravel_index(int(depth.argmax()), depth.shape)), *others]
    positions = [volume.position_of(corner + index) for index in indices]
    return [Click((float(x), float(y), float(z))) for x, y, z in positions]


def _box_round(mask: Tensor, margin: Sequence[int]) -> tuple[slice, ...] | None:
    """Box round a mask with half a margin on each side; None where it is empty."""
    where = torch.nonzero(mask)
    if not len(where):
        return None
    low, high = where.amin(0).tolist(), where.amax(0).tolist()
    bounds = zip(low, high, margin, mask.shape, strict=True)
    return tuple(slice(max(0, a - m // 2), min(n, b + 1 + m // 2)) for a, b, m, n in bounds)


def _mean(dices: Sequence[float | None]) -> float | None:
    measured = [d for d in dices if d is not None]
    return float(np.mean(measured)) if measured else None


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    """Dice of two masks; None where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else None
