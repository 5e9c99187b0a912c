"""The encoder that all classifiers share: the click network's, in three dimensions or flattened to two."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medseg.networks.channels import N_CHANNELS, POSITIVE, PREVIOUS

CLICK_WIDTHS = (32, 64, 96, 160)
SMALL_WIDTHS = (16, 32, 48, 64)
_GRID_LEVELS = (1, 2)
_LEAST_MARK = 0.1
_WRONG_DEPTH = 2


class Conv3d(nn.Conv3d):
    """A convolution that learns rightly in 16 bits too, and is fast for a single view.

    On a CPU, torch 2.13 gives the weights of a 3 x 3 x 3 convolution over two slices a gradient from memory that nobody
    wrote; those are computed in 32 bits. And a batch of one with few values goes a way that is up to 40 times as slow
    as oneDNN's; where nothing is learned, oneDNN is asked itself.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        is_single = len(x) == 1 and x.device.type == "cpu" and x.dtype == torch.float32
        if is_single and not torch.is_grad_enabled() and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            assert not isinstance(self.padding, str)
            one: Tensor = torch.mkldnn_convolution(
                x, weight, bias, self.padding, self.stride, self.dilation, self.groups
            )
            return one
        is_at_risk = torch.is_grad_enabled() and x.shape[2] == _WRONG_DEPTH and torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False) if is_at_risk else nullcontext():
            y: Tensor = super()._conv_forward(x.float() if is_at_risk else x, weight, bias)
        return y


def _conv(dims: int, n_in: int, n_out: int, size: int, **options: int | bool) -> nn.Module:
    kind = Conv3d if dims == 3 else nn.Conv2d
    return kind(n_in, n_out, size, **options)  # type: ignore[arg-type]


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, min(8, width // 4)), width)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; group norm, which keeps its meaning in batches of one."""

    def __init__(self, dims: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = _conv(dims, n_in, n_out, 3, padding=1, bias=False)
        self.norm1 = _norm(n_out)
        self.conv2 = _conv(dims, n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = _norm(n_out)
        self.shortcut = nn.Identity() if n_in == n_out else _conv(dims, n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.1)
        y = self.norm2(self.conv2(y))
        return F.leaky_relu(y + self.shortcut(x), 0.1)


class Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8 and 1/16 of the view's resolution, from those that a stem made at 1/2.

    Parameters
    ----------
    widths : tuple of int
        Channels of the four levels, multiples of 8.
    dims : int
        3 for volumes, 2 for images and slices.
    """

    def __init__(self, widths: tuple[int, ...], dims: int = 3) -> None:
        super().__init__()
        self.dims, self.widths = dims, tuple(widths)
        self.levels = nn.ModuleList([ResidualBlock(dims, widths[0], widths[0])])
        self.downs = nn.ModuleList()
        for n_in, n_out in pairwise(widths):
            self.downs.append(_conv(dims, n_in, n_out, 2, stride=2))
            self.levels.append(ResidualBlock(dims, n_out, n_out))
        self.bottom = ResidualBlock(dims, widths[-1], widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.levels[0](x)]
        for down, level in zip(self.downs, list(self.levels)[1:], strict=True):
            features.append(level(down(features[-1])))
        features[-1] = self.bottom(features[-1])
        return features


class ImageEncoder(Encoder):
    """An encoder with its stem: what classifiers are built on.

    Parameters
    ----------
    dims : int
        3 for volumes, 2 for images.
    widths : tuple of int
        Channels of the four levels, multiples of 8.
    """

    def __init__(self, *, dims: int = 3, widths: tuple[int, ...] = CLICK_WIDTHS) -> None:
        if dims not in (2, 3):
            raise ValueError(f"an encoder has 2 or 3 dimensions, not {dims}")
        super().__init__(widths, dims)
        self.stem = _conv(dims, N_CHANNELS * 2**dims, widths[0], 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features (B, width, ...), fine to coarse, of views (B, 7, [D,] H, W) with sides divisible by 16."""
        return super().forward(F.leaky_relu(self.stem(fold(x)), 0.1))

    def take_over(self, click: Mapping[str, Tensor]) -> None:
        """Take the weights of a click network's encoder; in two dimensions its kernels are summed along z.

        The sum is what the 3-D network computes for a scan that does not change along z, away from its ends.

        Raises
        ------
        ValueError
            If its widths are others.
        """
        state = {}
        for name, own in self.state_dict().items():
            source = name if name.startswith("stem") else f"encoder.{name}"
            state[name] = _flattened(click[source], is_stem=name == "stem.weight") if self.dims == 2 else click[source]
            if state[name].shape != own.shape:
                raise ValueError(f"'{name}' has shape {tuple(state[name].shape)}, not {tuple(own.shape)}")
        self.load_state_dict(state)

    def depth(self, prefix: str = "encoder.") -> list[tuple[str, tuple[str, ...]]]:
        """Names of the layer groups and the parameters they hold, from the last layer down to the first."""
        n = len(self.widths)
        groups: list[tuple[str, tuple[str, ...]]] = [("encoder bottom", (f"{prefix}bottom.",))]
        groups += [(f"encoder {k}", (f"{prefix}levels.{k}.", f"{prefix}downs.{k - 1}.")) for k in range(n - 1, 0, -1)]
        return [*groups, ("encoder 0", (f"{prefix}levels.0.",)), ("stem", (f"{prefix}stem.",))]


def pooled(features: list[Tensor], x: Tensor, levels: tuple[int, ...], grid: int = 0) -> Tensor:
    """Mean, maximum and mean over the marked part of some levels' features; or means of cells where layout matters.

    Parameters
    ----------
    features : list of Tensor
        As the encoder makes them.
    x : Tensor, shape (B, 7, ...)
        The views: what their mask channel covers is marked, else what their click covers, else everything.
    levels : tuple of int
        Which of the features.
    grid : int
        Where the layout of an image matters: instead the means of so many cells a side, of the levels 1/4 and 1/8.

    Returns
    -------
    Tensor, shape (B, n_pooled)
    """
    if grid:
        cells = F.adaptive_avg_pool3d if x.ndim == 5 else F.adaptive_avg_pool2d
        return torch.cat([cells(features[level], grid).flatten(1) for level in _GRID_LEVELS], 1)
    mask, click = x[:, PREVIOUS : PREVIOUS + 1], x[:, POSITIVE : POSITIVE + 1]
    axes = tuple(range(2, x.ndim))
    # A mask of hardly a tenth of a point says less than the click, and is too little to divide by.
    is_seen = (mask.amax(axes, keepdim=True) >= _LEAST_MARK).to(x.dtype)
    marked = mask * is_seen + click * (1 - is_seen)
    marked = marked + (marked.amax(axes, keepdim=True) < _LEAST_MARK).to(x.dtype)
    pool = F.adaptive_max_pool3d if x.ndim == 5 else F.adaptive_max_pool2d
    parts = []
    for level in levels:
        y = features[level]
        weight = pool(marked, y.shape[2:])
        inside = (y * weight).sum(axes) / weight.sum(axes)
        parts += [y.mean(axes), y.amax(axes), inside]
    return torch.cat(parts, 1)


def n_pooled(widths: tuple[int, ...], levels: tuple[int, ...], *, dims: int = 3, grid: int = 0) -> int:
    """Length of what `pooled` returns."""
    if grid:
        return sum(widths[level] for level in _GRID_LEVELS) * int(grid**dims)
    return 3 * sum(widths[level] for level in levels)


def fold(x: Tensor) -> Tensor:
    """Each block of 2 voxels a side becomes channels: (B, C, D, H, W) -> (B, 8 C, D/2, H/2, W/2), in 2-D alike."""
    b, c, *sizes = x.shape
    dims = len(sizes)
    halves = [part for size in sizes for part in (size // 2, 2)]
    inner, outer = [3 + 2 * k for k in range(dims)], [2 + 2 * k for k in range(dims)]
    return x.reshape(b, c, *halves).permute(0, 1, *inner, *outer).reshape(b, c * 2**dims, *(s // 2 for s in sizes))


def _flattened(weight: Tensor, *, is_stem: bool) -> Tensor:
    """Sum a kernel along z; the stem's channels are blocks of 2 x 2 x 2 voxels, whose z is summed too."""
    if weight.ndim != 5:
        return weight
    if is_stem:
        n_out, n_in = weight.shape[:2]
        weight = weight.reshape(n_out, n_in // 8, 2, 4, *weight.shape[2:]).sum(2).flatten(1, 2)
    return weight.sum(2)
