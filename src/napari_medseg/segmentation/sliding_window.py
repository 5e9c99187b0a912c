"""A network over a scan larger than its window: overlapping windows, blended with a Gaussian, in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from napari_medseg.errors import Cancelled, ModelError

_NO_CONTRAST = 1e-3
_SCALE = 4096.0  # so that small weights stay in the range where 16-bit floats are precise
_POOL = 4
_AIR_SPREAD, _AIR_LEVEL = 0.05, 0.08
Shape = tuple[int, int, int]


def window_starts(n: int, window: int, overlap: float) -> list[int]:
    """Where windows start along one axis: a constant stride, the last one moved back so that it ends with the scan."""
    if n <= window:
        return [0]
    stride = max(1, int(window * (1 - overlap)))
    return [min(start, n - window) for start in range(0, n - window + stride, stride)]


def blend_weights(window: Shape) -> Tensor:
    """Weights of a window's voxels: a Gaussian of an eighth of its width, never below a thousandth."""
    axes = []
    for n in window:
        offsets = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
        axes.append(torch.exp(-0.5 * (offsets / (n / 8)) ** 2))
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).clamp_min(1e-3)


def sliding_window(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    n_labels: int,
    *,
    window: Shape,
    overlap: float = 0.5,
    batch: int = 1,
    device: torch.device | str = "cpu",
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Tensor:
    """Probabilities of each label over a whole scan.

    Parameters
    ----------
    predict : callable
        From windows, shape (B, C, d, h, w), to probabilities, shape (B, n_labels, d, h, w).
    image : Tensor, shape (C, D, H, W)
        The scan, its first channel the intensities and its last one 1 inside the scan. Smaller than a window: it is
        padded with zeros.
    n_labels : int
        Number of labels that `predict` answers with.
    window : tuple of int
        Size of a window.
    overlap : float
        Part of a window that it shares with the next one.
    batch : int
        Windows that go through the network at once.
    device : device
        Where `predict` wants its windows; the result stays on the CPU.
    progress, should_stop : callable, optional
        Told the fraction done after each batch; asked before each one whether to go on.

    Returns
    -------
    Tensor of float16, shape (n_labels, D, H, W)
        Windows of air are skipped and count as probability 0: without contrast, or near the scan's lowest intensity
        with no more than noise in them.

    Raises
    ------
    Cancelled
        If `should_stop` said so.
    ModelError
        If the network's answer is not a number somewhere.
    """
    padded, inner = _padded(image, window)
    starts = [window_starts(n, w, overlap) for n, w in zip(padded.shape[1:], window, strict=True)]
    weights = _SCALE * blend_weights(window)
    total = torch.zeros((n_labels, *padded.shape[1:]), dtype=torch.float16)
    corners = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    air = Air(padded)
    for done, group in _batches(corners, batch):
        if should_stop is not None and should_stop():
            raise Cancelled("segmentation was stopped: nothing was changed")
        seen = [c for c in group if not air.fills(c, window)]
        if seen:
            answer = predict(torch.stack([padded[_cut(c, window)] for c in seen]).to(device)).float().cpu()
            if not torch.isfinite(answer.sum()):
                raise ModelError("the model's answer is not a number: choose an earlier version of the model")
            for corner, probabilities in zip(seen, answer, strict=True):
                total[_cut(corner, window)] += (probabilities * weights).half()
        if progress is not None:
            progress(done / len(corners))
    for z in range(total.shape[1]):  # slice by slice: a second whole array would double the memory
        total[:, z] /= _summed(z, total.shape[2:], starts, weights).half()
    return total[inner]


class Air:
    """Tells windows of air from others.

    Parameters
    ----------
    image : Tensor, shape (C, D, H, W)
        The scan as `sliding_window` has it.
    """

    def __init__(self, image: Tensor) -> None:
        self._image = image
        self._low, high = float(image[0].min()), float(image[0].max())
        self._range = max(high - self._low, 1e-6)
        self._pool = [min(_POOL, n) for n in image.shape[1:]]
        self._pooled = torch.nn.functional.avg_pool3d(image[:1], self._pool, ceil_mode=True)[0]  # noise averages out

    def fills(self, corner: Shape, window: Shape) -> bool:
        """Whether a window holds nothing but air."""
        cut = (slice(c // p, -(-(c + w) // p)) for c, w, p in zip(corner, window, self._pool, strict=True))
        low, high = (float(v) for v in torch.aminmax(self._pooled[tuple(cut)]))
        if high - low < _AIR_SPREAD * self._range and high < self._low + _AIR_LEVEL * self._range:
            return True
        if high - low > _NO_CONTRAST:
            return False
        part = self._image[_cut(corner, window)]
        inside = part[0][part[-1] > 0]
        return not (inside.numel() and float(inside.max() - inside.min()) > _NO_CONTRAST)


def _padded(image: Tensor, window: Shape) -> tuple[Tensor, tuple[slice, ...]]:
    """Pad evenly to at least a window, as patches of small scans are in training; also where the scan lies in it."""
    shape = image.shape[1:]
    missing = [max(0, w - n) for w, n in zip(window, shape, strict=True)]
    inner = (slice(None), *(slice(m // 2, m // 2 + n) for m, n in zip(missing, shape, strict=True)))
    pads = [p for m in reversed(missing) for p in (m // 2, m - m // 2)]
    return (torch.nn.functional.pad(image, pads) if any(missing) else image), inner


def _batches(corners: Sequence[Shape], batch: int) -> Iterator[tuple[int, Sequence[Shape]]]:
    for i in range(0, len(corners), batch):
        yield min(i + batch, len(corners)), corners[i : i + batch]


def _cut(corner: Shape, window: Shape) -> tuple[slice, ...]:
    return (slice(None), *(slice(c, c + w) for c, w in zip(corner, window, strict=True)))


def _summed(z: int, shape: Sequence[int], starts: Sequence[Sequence[int]], weights: Tensor) -> Tensor:
    """Sum of all windows' weights in one slice."""
    depth, height, width = weights.shape
    profile = torch.stack([weights[z - s] for s in starts[0] if s <= z < s + depth]).sum(0)
    total = torch.zeros(tuple(shape))
    for y in starts[1]:
        for x in starts[2]:
            total[y : y + height, x : x + width] += profile
    return total
