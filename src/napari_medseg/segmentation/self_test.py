"""Time the bundled click model in each precision, with several numbers of threads and with OpenVINO; keep the best.

``python -m napari_medseg.segmentation.self_test`` prints a table; the window starts it once by itself.
"""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray

from napari_medseg.models.checkpoint import load_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.openvino_graph import OpenVinoClicks, has_openvino
from napari_medseg.segmentation.speed import Speed, keep, lock_path, machine
from napari_medseg.segmentation.views import Prompts, View, render

Answer = Callable[[torch.Tensor], torch.Tensor]
_SIZES = ((48, 2), (64, 1))
_ROUNDS = 3
_BUSY_PERCENT, _WATCHED_S = 30.0, 1.0
_TRIES, _PAUSE_S = 30, 10.0
_CLEARLY = 0.9
_LEAST_AGREEMENT = 0.98


def measure(network: ClickUNet, device_type: str = "cpu", *, rounds: int = _ROUNDS) -> Speed:
    """Choose precision and number of threads for clicks on one kind of device.

    Settings take turns; the best of several rounds counts. 16 bits are chosen where they are clearly faster and their
    masks agree with those of 32 bits; another number of threads than torch's own where it is clearly faster.
    """
    inputs = [_lesion(size).repeat(n, 1, 1, 1, 1) for size, n in _SIZES]
    exact = copy.deepcopy(network).eval().to(device_type)
    networks = {"float32": _by_torch(exact), "bfloat16": _by_torch(copy.deepcopy(exact).to(torch.bfloat16))}
    usual = torch.get_num_threads()
    threads = [usual] if device_type != "cpu" else sorted({usual, os.cpu_count() or usual, max(1, usual // 2)})
    best: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for n in threads:
            torch.set_num_threads(n)
            for name, each in networks.items():
                best[name, n] = min(best.get((name, n), np.inf), _seconds(each, inputs))
    torch.set_num_threads(usual)
    agreement = _dice(*(_masks(each, inputs[-1]) for each in networks.values()))
    is_low = best["bfloat16", usual] < _CLEARLY * best["float32", usual] and agreement >= _LEAST_AGREEMENT
    precision: Literal["float32", "bfloat16"] = "bfloat16" if is_low else "float32"
    fastest = min(threads, key=lambda n: best[precision, n] * (1.0 if n != usual else _CLEARLY))
    return Speed(
        machine=machine(device_type),
        precision=precision,
        threads=fastest if fastest != usual else None,
        agreement=agreement,
        seconds={f"{name}, {n} threads": round(s, 4) for (name, n), s in best.items()},
    )


def with_openvino(network: ClickUNet, speed: Speed, *, rounds: int = _ROUNDS) -> Speed:
    """Choose OpenVINO in place of torch where it is clearly faster in the same precision, and its masks agree.

    Parameters
    ----------
    network : ClickUNet
        The click model.
    speed : Speed
        What `measure` chose for the processor.
    rounds : int
        How often both take turns.
    """
    usual = torch.get_num_threads()
    threads = speed.threads or usual
    inputs = [_lesion(size).repeat(n, 1, 1, 1, 1) for size, n in _SIZES]
    exact = copy.deepcopy(network).eval()
    same = _by_torch(copy.deepcopy(exact).to(speed.dtype))
    other = OpenVinoClicks(exact, speed.dtype, threads)
    torch.set_num_threads(threads)
    _seconds(other, inputs)  # compiles
    by_torch = by_openvino = np.inf
    for _ in range(rounds):
        by_torch, by_openvino = min(by_torch, _seconds(same, inputs)), min(by_openvino, _seconds(other, inputs))
    torch.set_num_threads(usual)
    agreement = _dice(_masks(_by_torch(exact), inputs[-1]), _masks(other, inputs[-1]))
    is_better = by_openvino < _CLEARLY * by_torch and agreement >= _LEAST_AGREEMENT
    seconds = {**speed.seconds, f"OpenVINO {speed.precision}, {threads} threads": round(by_openvino, 4)}
    found = {"seconds": seconds, "engine": "openvino" if is_better else "torch"}
    return speed.model_copy(update=found | ({"agreement": agreement} if is_better else {}))


def _lesion(size: int) -> torch.Tensor:
    """A view (1, C, N, N, N) of a bright ball in noise with a click in it."""
    grid = np.indices((size,) * 3) - size / 2
    ball = (grid**2).sum(0) < (size / 4) ** 2
    scan = 100 * ball + np.random.default_rng(0).normal(0, 20, ball.shape)
    middle = np.full((1, 3), size / 2)
    prompts = Prompts(middle, np.ones(1, bool), np.zeros(1, np.int64))
    return torch.from_numpy(render(scan, View(middle[0], float(size), size), (1.0, 1.0, 1.0), prompts))[None]


def _by_torch(network: ClickUNet) -> Answer:
    dtype, device = next((p.dtype, p.device) for p in network.parameters())

    def logits(x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = network(x.to(device, dtype))[0]
        return answer.float().cpu()

    return logits


def _seconds(answer: Answer, inputs: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        for x in inputs:
            answer(x)
    return time.perf_counter() - start


def _masks(answer: Answer, x: torch.Tensor) -> NDArray[np.bool_]:
    with torch.inference_mode():
        return np.asarray((answer(x) > 0).numpy(), bool)


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    total = int(a.sum() + b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def in_peace(measurement: Callable[[], Speed]) -> Speed | None:
    """A measurement before and after which nothing else wanted the processor; None where that never happened.

    What was measured beside other work would slow this machine down until its torch or processor changes.
    """
    for _ in range(_TRIES):
        if not _is_busy():
            found = measurement()
            if not _is_busy():
                return found
        time.sleep(_PAUSE_S)
    return None


def _is_busy() -> bool:
    return bool(psutil.cpu_percent(_WATCHED_S) > _BUSY_PERCENT)


def main() -> None:
    """Measure at low priority, keep what was found, print it."""
    with suppress(psutil.Error, OSError, ValueError):
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 10)
    try:
        network = load_checkpoint(Library().path()).network
        if not isinstance(network, ClickUNet):
            return
        for device_type in sys.argv[1:] or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            speed = in_peace(partial(measure, network, device_type))
            if speed is not None:
                keep(device_type, speed)  # at once: another engine may end this process
                if device_type == "cpu" and has_openvino():
                    speed = in_peace(partial(with_openvino, network, speed)) or speed
                    keep(device_type, speed)
            told = speed.model_dump_json(indent=1) if speed is not None else "the machine was busy: nothing was kept"
            sys.stdout.write(told + "\n")
    finally:
        lock_path().unlink(missing_ok=True)


if __name__ == "__main__":
    main()
