"""Losses of labels that are learned from corrected masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def label_loss(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor,
    taught: Tensor,
    *,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Tensor:
    """Dice + binary cross-entropy of each label, over the voxels that a person has seen.

    Parameters
    ----------
    logits : Tensor, shape (B, K, D, H, W)
        One output a label.
    labels : Tensor of int, shape (B, D, H, W)
        0 background, k + 1 for output k.
    weight : Tensor, shape (B, D, H, W)
        How much each voxel counts: 0 where nobody reviewed the slice, more than 1 where somebody corrected it.
    taught : Tensor of bool, shape (B, K)
        Whether output k means something in this case: a mask without livers says nothing of livers.
    total : callable
        Adds the sums (6, K) of all processes that share the batch.

    Returns
    -------
    Tensor, scalar
        Mean over the outputs that are taught in this batch.
    """
    n = logits.shape[1]
    target = F.one_hot(labels.long(), n + 1)[..., 1:].movedim(-1, 1).to(logits.dtype)
    weights = weight[:, None] * taught[:, :, None, None, None]
    axes = (0, 2, 3, 4)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid() * weights
    parts = ((bce * weights), weights, (p * target), p, (target * weights))
    sums = total(torch.stack([part.sum(axes) for part in parts] + [taught.sum(0).to(logits.dtype)]))
    bce, weighed, both, given, wanted, n_taught = sums
    dice = 1 - (2 * both + 1.0) / (given + wanted + 1.0)
    present = (n_taught > 0) & (weighed > 0)
    loss = dice + 2.0 * bce / weighed.clamp_min(1.0)
    mean: Tensor = torch.where(present, loss, 0.0 * given).sum() / present.sum().clamp_min(1)
    return mean
