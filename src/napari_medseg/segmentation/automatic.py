"""Segmentation without prompts: every named label over the whole scan, back on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_medseg.errors import ModelError
from napari_medseg.imaging.volume import Confidence, LabelMap, Volume
from napari_medseg.models.card import AutomaticSettings, Card
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.promptless import PromptlessUNet
from napari_medseg.segmentation.confidence import cropped
from napari_medseg.segmentation.memory import in_smaller_batches
from napari_medseg.segmentation.sliding_window import Shape, sliding_window, window_starts
from napari_medseg.segmentation.views import IMAGE, N_CHANNELS, VALID

_MOST_SAMPLES = 1_000_000
_LABEL_MAP_LIMIT = 255
_WORTH_COMPILING = 40  # windows


def segment_automatically(
    network: ClickUNet,
    card: Card,
    volume: Volume,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LabelMap:
    """Segment all labels that a fine-tuned model knows.

    Parameters
    ----------
    network : ClickUNet
        In evaluation mode, on `device`.
    card : Card
        Says the labels and the grid that the network learned on.
    volume : Volume
        The scan; one slice is enough.
    device, dtype : device, dtype
        Where to run, and in which precision (bfloat16 and float16 by autocast).
    progress, should_stop : callable, optional
        Told the fraction done; asked whether to go on.

    Returns
    -------
    LabelMap
        On the volume's grid, with the names of the card.

    Raises
    ------
    ModelError
        If the model segments only what is clicked, or its answer is not a number.
    Cancelled
        If `should_stop` said so.
    """
    if card.automatic is None or not card.labels or network.label_head is None:
        raise ModelError(f"{card.title} segments only what you click on: click on the lesion")
    probabilities = label_probabilities(
        network, card.automatic, volume, device=device, dtype=dtype, progress=progress, should_stop=should_stop
    )
    values = list(card.labels)
    data, confidence = labels_with_confidence(probabilities, volume.data.shape, values, card.automatic.threshold)
    return LabelMap(
        data, volume.affine, dict(card.labels), grid=volume.grid, metadata=volume.metadata, confidence=confidence
    )


def label_probabilities(
    network: ClickUNet,
    settings: AutomaticSettings,
    volume: Volume,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Tensor:
    """Probabilities (K, z, y, x) of each label on the network's grid (see `network_shape`)."""
    return predict_labels(
        network,
        settings,
        marked(network_image(volume, settings.spacing_mm)),
        device=device,
        dtype=dtype,
        progress=progress,
        should_stop=should_stop,
    )


def predict_labels(
    network: ClickUNet,
    settings: AutomaticSettings,
    image: Tensor,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Tensor:
    """Probabilities (K, z, y, x) of each label for an image on the network's grid.

    The image, shape (2, z, y, x), holds intensities and 1 inside the scan; a whole input without prompts, as
    `promptless` makes it, will do too.
    """
    if network.label_head is None:
        raise ModelError("the model has no labels of its own: click on the lesion")
    where = torch.device(device) if device is not None else network.label_head.weight.device
    pair = image if len(image) == 2 else image[IMAGE :: VALID - IMAGE]  # a view: the prompts between are empty
    n = prod(len(window_starts(*sizes, settings.overlap)) for sizes in zip(pair.shape[1:], settings.patch, strict=True))
    is_worth_it = where.type == "cpu" and n >= _WORTH_COMPILING
    labels_of = _labels_of(network, settings.patch, dtype, is_long=is_worth_it)

    def predict(windows: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = in_smaller_batches(labels_of, windows)
            return logits.float().sigmoid_()

    return sliding_window(
        predict,
        pair,
        network.label_head.out_channels // 8,
        window=settings.patch,
        overlap=settings.overlap,
        batch=1 if where.type == "cpu" else 8,
        device=where,
        progress=progress,
        should_stop=should_stop,
    )


def best_labels(probabilities: Tensor, threshold: float) -> NDArray[np.int64]:
    """Number (from 1) of the most probable output of each voxel, 0 where none reaches the threshold."""
    best, which = probabilities.max(0)
    return np.asarray(torch.where(best > threshold, which + 1, 0).numpy())


def network_shape(shape: Sequence[int], spacing_mm: Sequence[float], wanted_mm: Sequence[float]) -> Shape:
    """Shape of a scan on the network's grid: the same box, in voxels of about `wanted_mm`."""
    z, y, x = (max(1, round(n * s / w)) for n, s, w in zip(shape, spacing_mm, wanted_mm, strict=True))
    return z, y, x


def network_image(volume: Volume, spacing_mm: Sequence[float]) -> Tensor:
    """The scan's intensities as the network sees them, shape (z, y, x) on the network's grid.

    Intensities are clipped to the scan's own 0.5 - 99.5 percentiles and z-scored by its non-air voxels: one scale for
    the whole scan, so that the same tissue looks the same in every window.
    """
    data = volume.data
    step = max(1, int((data.size / _MOST_SAMPLES) ** (1 / 3)))
    seen = np.asarray(data[::step, ::step, ::step] if min(data.shape) > 2 * step else data, np.float32)
    low, high, mean, deviation = intensity_scale(seen)
    image = resized(torch.from_numpy(_as_float(data)), network_shape(data.shape, volume.spacing_mm, spacing_mm))
    return (image.clamp(low, high) - mean) / deviation


def intensity_scale(seen: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """0.5 and 99.5 percentiles of all voxels; mean and deviation, between them, of those that are not air."""
    low, high = (float(v) for v in np.percentile(seen, (0.5, 99.5)))
    clipped = np.clip(seen, low, high)
    body = clipped[clipped > low + 0.01 * (high - low)]
    body = body if body.size else clipped
    return low, high, float(body.mean()), max(float(body.std()), 1e-6)


def _labels_of(network: ClickUNet, patch: Shape, dtype: torch.dtype, *, is_long: bool) -> Callable[[Tensor], Tensor]:
    """From windows (B, 2, z, y, x) to logits of labels: the short way, unless the network is of another kind."""
    if type(network) is ClickUNet:
        own = network.stem.weight.dtype
        short = PromptlessUNet(network, image=IMAGE, valid=VALID, dtype=dtype if own is torch.float32 else own)
        if is_long:
            short.compile_for(torch.ones(1, 2, *patch))
        return short

    def whole(windows: Tensor) -> Tensor:
        x = windows.new_zeros((len(windows), N_CHANNELS, *windows.shape[2:]))
        x[:, IMAGE], x[:, VALID] = windows[:, 0], windows[:, 1]
        return network.segment_labels(x)

    return whole


def marked(image: Tensor) -> Tensor:
    """Intensities (z, y, x) with the channel that marks the scan, shape (2, z, y, x)."""
    return torch.stack([image, torch.ones((), dtype=image.dtype).expand(image.shape)])


def promptless(image: Tensor) -> Tensor:
    """The network's input (7, z, y, x) for an image without prompts."""
    channels = torch.zeros((N_CHANNELS, *image.shape), dtype=torch.float32)
    channels[IMAGE], channels[VALID] = image, 1.0
    return channels


def resized(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample (z, y, x) so that the same box has another shape: averages where coarser, linear where finer."""
    out = image[None, None]
    z, y, x = (min(n, m) for n, m in zip(image.shape, shape, strict=True))
    coarser = (z, y, x)
    if coarser != tuple(image.shape):
        out = F.adaptive_avg_pool3d(out, coarser)
    if coarser != tuple(shape):
        out = F.interpolate(out, size=tuple(shape), mode="trilinear", align_corners=False)
    return out[0, 0]


def largest_label(
    probabilities: Tensor, shape: Sequence[int], values: Sequence[int], threshold: float = 0.5
) -> NDArray[Any]:
    """Value of the most probable label of each voxel of a scan of this shape, 0 where none reaches the threshold."""
    return labels_with_confidence(probabilities, shape, values, threshold)[0]


def labels_with_confidence(
    probabilities: Tensor, shape: Sequence[int], values: Sequence[int], threshold: float = 0.5
) -> tuple[NDArray[Any], Confidence]:
    """Value of the most probable label of each voxel of a scan, and how sure that is.

    The confidence in a label is its probability, or how improbable the next best one is where that is less; in
    background, how improbable the best label is. Works slice by slice, so that probabilities on the scan's grid never
    lie in memory all at once.
    """
    kind = np.uint8 if max(values) <= _LABEL_MAP_LIMIT else np.uint16
    lookup = np.array([0, *values], kind)
    out, sure = np.zeros(tuple(shape), kind), np.zeros(tuple(shape), np.uint8)
    depth, n = probabilities.shape[1], min(2, len(probabilities))
    for z in range(shape[0]):
        at = min(max((z + 0.5) * depth / shape[0] - 0.5, 0.0), depth - 1.0)
        below = int(at)
        above, t = min(below + 1, depth - 1), at - below
        plane = probabilities[:, below].float() * (1 - t) + probabilities[:, above].float() * t
        plane = F.interpolate(plane[None], size=tuple(shape[1:]), mode="bilinear", align_corners=False)[0]
        best, which = plane.topk(n, 0)
        found = best[0] > threshold
        out[z] = lookup[torch.where(found, which[0] + 1, 0).numpy()]
        chosen = torch.minimum(best[0], 1 - best[1]) if n == 2 else best[0]
        sure[z] = (255 * torch.where(found, chosen, 1 - best[0]) + 0.5).clamp(0, 255).to(torch.uint8).numpy()
    return out, cropped(Confidence(sure, (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))))


def _as_float(data: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(data, np.float32)
