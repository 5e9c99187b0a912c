"""Which arithmetic a network runs in on this machine."""

from __future__ import annotations

import torch

from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.speed import speed_of


def faster_dtype(network: torch.nn.Module, device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster than float32 here and agrees with it, float32 elsewhere."""
    return speed_of(device.type).dtype if isinstance(network, ClickUNet) else torch.float32
