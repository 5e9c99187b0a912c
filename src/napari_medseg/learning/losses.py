"""Losses of labels that are learned from corrected masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def label_loss(logits: Tensor, labels: Tensor, weight: Tensor, taught: Tensor) -> Tensor:
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
    bce = (bce * weights).sum(axes) / weights.sum(axes).clamp_min(1.0)
    p = logits.sigmoid() * weights
    dice = 1 - (2 * (p * target).sum(axes) + 1.0) / (p.sum(axes) + (target * weights).sum(axes) + 1.0)
    present = taught.any(0) & (weights.sum(axes) > 0)
    if not present.any():
        return logits.sum() * 0.0
    return torch.where(present, dice + 2.0 * bce, 0.0).sum() / present.sum()
