"""Teach the quality head to tell, among views of growing size round one click, which found the lesion.

The last stage of training the click model: everything else is frozen, so the head sees what it will see in use. What
rays from the click say is added to its estimates as in use, so that it learns what they do not know.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from numpy.random import Generator as Random
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from napari_medseg.learning.click_simulation import place_click
from napari_medseg.learning.samples import LabelledScan, draw_target
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.click import AGREEMENT, ladder, widths_in_ladder
from napari_medseg.segmentation.precision import computing_in
from napari_medseg.segmentation.rays import search_rays
from napari_medseg.segmentation.views import VALID, Prompts, render, sample

_STEPS = 600
_LADDERS_A_STEP = 64
_SHARPNESS = 4.0


def fit_quality(
    network: ClickUNet,
    scans: Sequence[LabelledScan],
    rng: Random,
    *,
    n_clicks: int = 400,
    dtype: torch.dtype = torch.float32,
    synthetic_share: float = 0.3,
    region_share: float = 0.3,
) -> Generator[int, None, float]:
    """Fit the quality head on `n_clicks` ladders of views; everything else stays as it is.

    Of the real ladders `region_share` start in regions that nobody outlined (of scans that have them): they are small
    things in large scans, where a lesion mostly is the largest thing of a crop.

    Yields
    ------
    int
        How many ladders are done: nearly all the time goes into these.

    Returns
    -------
    float
        Mean absolute error of the estimated Dice on the last fifth of the clicks, which the fit never saw.
    """
    device = next(network.parameters()).device
    shares = (synthetic_share if scans else 1.0, region_share)
    described = []
    for n_done in range(1, n_clicks + 1):
        described.append(_describe(network, rng, scans, shares, dtype))
        yield n_done
    kept = described[: max(1, n_clicks * 4 // 5)]
    descriptions = torch.cat([d for d, _, _ in kept])
    mean, deviation = descriptions.mean(0), descriptions.std(0).clamp_min(1e-3)
    x = pad_sequence([(d - mean) / deviation for d, _, _ in kept], batch_first=True)
    said = pad_sequence([r for _, r, _ in kept], batch_first=True)
    y = pad_sequence([t for _, _, t in kept], batch_first=True, padding_value=-1.0)
    head = network.quality_head.mlp
    with torch.no_grad():
        for layer in head:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=3e-2)
    for _ in range(_STEPS):
        pick = torch.from_numpy(rng.integers(0, len(x), _LADDERS_A_STEP)).to(device)
        loss = choice_loss(head(x[pick]).squeeze(2) + said[pick], y[pick])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    _absorb(head[0], mean, deviation)
    with torch.no_grad():
        test = described[len(kept) :] or kept
        errors = [((head(d).squeeze(1) + r).sigmoid() - t).abs().mean() for d, r, t in test]
    return float(torch.stack(errors).mean())


def choice_loss(estimate: Tensor, reached: Tensor) -> Tensor:
    """Dice lost by choosing among the views of a ladder by their estimates, and the estimates' own error.

    Parameters
    ----------
    estimate : Tensor, shape (B, V)
        Logits of the estimated Dice of each view of each ladder.
    reached : Tensor, shape (B, V)
        Dice that each view's mask reaches; -1 where a ladder has no such view.
    """
    there = reached >= 0
    chosen = (_SHARPNESS * estimate).masked_fill(~there, -torch.inf).softmax(1)
    lost = 1 - (chosen * reached.clamp_min(0)).sum(1)
    error = F.binary_cross_entropy_with_logits(estimate, reached.clamp_min(0), reduction="none")
    return lost.mean() + 0.3 * error[there].mean()


def _absorb(layer: torch.nn.Module, mean: Tensor, deviation: Tensor) -> None:
    """Fold the standardisation of the inputs into the first layer."""
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.div_(deviation)
        layer.bias.sub_(layer.weight @ mean)


@torch.no_grad()
def _describe(
    network: ClickUNet,
    rng: Random,
    scans: Sequence[LabelledScan],
    shares: tuple[float, float],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """One click: descriptions of its ladder of views, what rays say of each, and the Dice that each mask reaches."""
    device = next(network.parameters()).device
    image, mask, spacing = draw_target(rng, scans, *shares)
    point = place_click(mask, rng, spacing, centred=0.7)
    assert point is not None
    point = point + rng.uniform(-0.5, 0.5, 3)
    prompts = Prompts(point[None], np.array([True]), np.zeros(1, np.int64))
    views = ladder(prompts, image.shape, np.asarray(spacing))
    inputs = torch.from_numpy(np.stack([render(image, v, spacing, prompts) for v in views])).to(device)
    with computing_in(dtype, device):
        logits, _ = network(inputs)
    widths = torch.from_numpy(widths_in_ladder(views)).to(device)
    description = network.quality_head.describe(logits, widths)
    rays = search_rays(image, point, spacing)
    masks = logits[:, 0].float().sigmoid().mul(inputs[:, VALID]).cpu().numpy()
    said = [AGREEMENT * rays.agreement(p, v, spacing) for p, v in zip(masks, views, strict=True)]
    inside = inputs[:, VALID] > 0
    given = (logits[:, 0] > 0) & inside
    wanted = torch.from_numpy(np.stack([sample(mask, v, spacing) for v in views])).to(device) * inside
    voxel = torch.tensor([(v.extent_mm / v.size) ** 3 for v in views], device=device)
    total = float(mask.sum() * np.prod(spacing)) / voxel
    reached = 2 * (given * wanted).sum((1, 2, 3)) / (given.sum((1, 2, 3)) + total).clamp_min(1e-6)
    return description.float(), torch.tensor(said, dtype=torch.float32, device=device), reached.clamp(0, 1)
