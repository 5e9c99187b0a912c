"""A network over a scan larger than its window: overlapping windows, blended with a Gaussian, in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from napari_medseg.errors import Cancelled, ModelError

_NO_CONTRAST = 1e-3
Shape = tuple[int, int, int]


def window_starts(n: int, window: int, overlap: float) -> list[int]:
    """Where windows start along one axis so that they cover `n` voxels evenly, at least `overlap` of each shared."""
    if n <= window:
        return [0]
    stride = max(1, int(window * (1 - overlap)))
    count = -(-(n - window) // stride) + 1
    return [round(i * (n - window) / (count - 1)) for i in range(count)]


def blend_weights(window: int) -> Tensor:
    """Weights along one axis of a window: a Gaussian of an eighth of its width, never below 0.1 (float16 adds them)."""
    offsets = torch.arange(window, dtype=torch.float32) - (window - 1) / 2
    return torch.exp(-0.5 * (offsets / (window / 8)) ** 2).clamp_min(0.1)


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
        Windows without contrast (air) are skipped and count as probability 0.

    Raises
    ------
    Cancelled
        If `should_stop` said so.
    ModelError
        If the network's answer is not a number somewhere.
    """
    padded, inner = _padded(image, window)
    starts = [window_starts(n, w, overlap) for n, w in zip(padded.shape[1:], window, strict=True)]
    axes = [blend_weights(w) for w in window]
    weights = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    total = torch.zeros((n_labels, *padded.shape[1:]), dtype=torch.float16)
    corners = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    for done, group in _batches(corners, batch):
        if should_stop is not None and should_stop():
            raise Cancelled("segmentation was stopped: nothing was changed")
        seen = [c for c in group if _has_contrast(padded[_cut(c, window)])]
        if seen:
            answer = predict(torch.stack([padded[_cut(c, window)] for c in seen]).to(device)).float().cpu()
            if not torch.isfinite(answer).all():
                raise ModelError("the model's answer is not a number: choose an earlier version of the model")
            for corner, probabilities in zip(seen, answer, strict=True):
                total[_cut(corner, window)] += (probabilities * weights).half()
        if progress is not None:
            progress(done / len(corners))
    sums = [_summed(n, s, a) for n, s, a in zip(padded.shape[1:], starts, axes, strict=True)]
    for z in range(total.shape[1]):  # slice by slice: a second whole array would double the memory
        total[:, z] /= (sums[0][z] * sums[1][:, None] * sums[2]).half()
    return total[inner]


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


def _has_contrast(window: Tensor) -> bool:
    inside = window[0][window[-1] > 0]
    return bool(inside.numel() and float(inside.max() - inside.min()) > _NO_CONTRAST)


def _summed(n: int, starts: Sequence[int], weights: Tensor) -> Tensor:
    """Sum of all windows' weights along one axis; the sum over a grid of windows is the product of the axes' sums."""
    total = torch.zeros(n)
    for start in starts:
        total[start : start + len(weights)] += weights
    return total
