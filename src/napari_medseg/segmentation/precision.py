"""Which arithmetic is faster on this machine, and still right: measured once a process."""

from __future__ import annotations

import time
from functools import cache

import torch

from napari_medseg.networks.click_unet import ClickUNet


def faster_dtype(network: torch.nn.Module, device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is faster than float32 here and agrees with it, float32 elsewhere."""
    return _measured(device.type) if isinstance(network, ClickUNet) else torch.float32


@cache
def _measured(device_type: str) -> torch.dtype:
    """Time one small pass in each precision, on a network with random weights from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ClickUNet().eval().to(device_type)
        x = torch.randn(1, 7, 32, 32, 32, device=device_type)
    exact, seconds = _run(network, x)
    low, low_seconds = _run(network.to(torch.bfloat16), x.to(torch.bfloat16))
    error = float((low - exact).norm() / exact.norm())
    return torch.bfloat16 if low_seconds < 0.9 * seconds and error < 0.05 else torch.float32


def _run(network: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    with torch.inference_mode():
        network(x)
        start = time.perf_counter()
        for _ in range(3):
            logits = network(x)[0].float().cpu()
        return logits, time.perf_counter() - start
