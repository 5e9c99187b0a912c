"""Other looks at the same view: turned, shifted, scaled, brighter, noisier, coarser."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from napari_medseg.networks.channels import IMAGE, VALID, WINDOW


def augmented(x: Tensor, rng: Generator, *, is_lesion: bool, strength: float = 1.0) -> Tensor:
    """Change every view of a batch at random.

    Parameters
    ----------
    x : Tensor, shape (B, 7, [D,] H, W)
        Views.
    rng : Generator
        Of all random choices.
    is_lesion : bool
        A lesion may be turned in any direction and mirrored; an image or a slice only a little.
    strength : float
        1 for classifiers; more for contrastive learning.
    """
    return recoloured(turned(x, rng, is_lesion=is_lesion, strength=strength), rng, strength=strength)


def turned(
    x: Tensor,
    rng: Generator,
    *,
    is_lesion: bool,
    strength: float = 1.0,
    most_degrees: float | None = None,
    size: int | None = None,
) -> Tensor:
    """Rotate, mirror, scale and shift views; points from outside the view are outside the scan.

    With `most_degrees`, no view is turned by more, or mirrored. With a `size`, only that many points a side are
    returned, from the middle.
    """
    n, dims = len(x), x.ndim - 2
    degrees = most_degrees if most_degrees is not None else 180.0 if is_lesion else 8.0 * strength
    angle = math.radians(degrees)
    matrix = _rotations(n, dims, angle, rng)
    if is_lesion and most_degrees is None:
        matrix *= _signs(n, dims, rng)[:, None, :]
    scale = 1.0 + 0.1 * strength * _uniform((n, 1, 1), rng)
    shift = 0.05 * strength * _uniform((n, dims, 1), rng)
    shape = list(x.shape) if size is None else [*x.shape[:2], *[size] * dims]
    part = shape[-1] / x.shape[-1]
    grid = F.affine_grid(torch.cat([matrix * scale, shift], 2) * part, shape, align_corners=False)
    return F.grid_sample(x, grid.to(x), mode="bilinear", padding_mode="zeros", align_corners=False)


def recoloured(x: Tensor, rng: Generator, *, strength: float = 1.0) -> Tensor:
    """Change gain, offset and gamma of the image and its window, and add noise."""
    n, ones = len(x), [1] * (x.ndim - 2)
    out = x.clone()
    gain = torch.exp(0.2 * strength * _uniform((n, *ones), rng)).to(x)
    offset = (0.2 * strength * _uniform((n, *ones), rng)).to(x)
    level = (0.1 * strength * torch.rand((n, *ones), generator=rng)).to(x)
    noise = torch.randn(x[:, 0].shape, generator=rng).to(x)
    inside = x[:, VALID]
    out[:, IMAGE] = (x[:, IMAGE] * gain + offset + level * noise) * inside
    out[:, WINDOW] = (x[:, WINDOW] * gain + level * noise).clamp(-1, 1) * inside * _is_used(x[:, WINDOW])
    return out


def _is_used(channel: Tensor) -> Tensor:
    axes = tuple(range(1, channel.ndim))
    return (channel.abs().amax(axes, keepdim=True) > 0).to(channel)


def _uniform(shape: tuple[int, ...], rng: Generator) -> Tensor:
    return 2 * torch.rand(shape, generator=rng) - 1


def _signs(n: int, dims: int, rng: Generator) -> Tensor:
    return 1.0 - 2.0 * (torch.rand((n, dims), generator=rng) < 0.5).float()


def _rotations(n: int, dims: int, angle: float, rng: Generator) -> Tensor:
    """Rotation matrices (n, dims, dims) of up to `angle`."""
    if dims == 2:
        turn = angle * _uniform((n,), rng)
        cos, sin = turn.cos(), turn.sin()
        return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    axis = F.normalize(torch.randn((n, 3), generator=rng), dim=1)
    turn = angle * torch.rand((n,), generator=rng)
    cross = torch.zeros(n, 3, 3)
    for i, j, k, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 2, 0, -1)):
        cross[:, i, j] = sign * axis[:, k]
        cross[:, j, i] = -sign * axis[:, k]
    # Rodrigues' formula.
    return torch.eye(3) + turn.sin()[:, None, None] * cross + (1 - turn.cos())[:, None, None] * (cross @ cross)
