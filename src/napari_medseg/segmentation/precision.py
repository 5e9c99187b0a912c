"""Which arithmetic and which engine a network runs in on this machine."""

from __future__ import annotations

from contextlib import suppress

import torch

from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.openvino_graph import OpenVinoClicks, has_openvino
from napari_medseg.segmentation.speed import speed_of


def faster_dtype(network: torch.nn.Module, device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster than float32 here and agrees with it, float32 elsewhere."""
    return speed_of(device.type).dtype if isinstance(network, ClickUNet) else torch.float32


def computing_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Where convolutions run in `dtype` and what needs 32 bits stays in them; in 32 bits nothing changes."""
    low = dtype is not torch.float32
    return torch.autocast(device.type, dtype if low else None, enabled=low)


def faster_engine(network: ClickUNet, device: torch.device, dtype: torch.dtype) -> OpenVinoClicks | None:
    """Return the network as OpenVINO runs it where that was measured to be faster here, None elsewhere."""
    if device.type != "cpu" or speed_of("cpu").engine != "openvino" or not has_openvino():
        return None
    with suppress(ImportError, OSError, RuntimeError):
        return OpenVinoClicks(network, dtype, torch.get_num_threads())
    return None
