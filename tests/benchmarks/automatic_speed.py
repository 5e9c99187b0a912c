"""Whole-volume segmentation beside `monai.inferers.sliding_window_inference`: same network, overlap and precision.

    python tests/benchmarks/automatic_speed.py [--threads 2] [--rounds 2] [--precision bf16 fp32] [--small]

Two scans of one shape: a chest CT with the air round the body, and the same body filling the whole field. Both methods
take turns in one process; each row gives the best round of either, in processor seconds where there is one thread and
wall seconds otherwise, and the part of voxels on which their masks agree, of all and of those that are not air (where
air is skipped here, and an untrained network may find things in its noise).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch

import napari_medseg as ms
from napari_medseg.imaging.phantom import chest_ct
from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import AutomaticSettings
from napari_medseg.networks.click_unet import ClickUNet, unfold
from napari_medseg.segmentation.automatic import network_image, predict_labels, promptless

SETTINGS = AutomaticSettings(spacing_mm=(1.5, 1.5, 1.5), patch=(64, 64, 64), overlap=0.5)


def scans(small: bool) -> dict[str, torch.Tensor]:
    """Images on the network's grid: a body with air round it, and one that fills the field."""
    volume = chest_ct().volume
    chest = volume.data[: 24 if small else None]
    room = [(0, 0), *((n // 3, n // 3) for n in chest.shape[1:])]  # a field of view that the body does not fill
    noise = np.random.default_rng(0).normal(0, 15, [n + a + b for n, (a, b) in zip(chest.shape, room, strict=True)])
    wide = Volume((np.pad(chest, room, constant_values=-1000) + noise).astype(np.int16), volume.affine)
    with_air = network_image(wide, SETTINGS.spacing_mm)
    body = (with_air > with_air.min() + 0.25 * (with_air.max() - with_air.min())).float()
    rows, columns = (torch.nonzero(body.sum(dims) > 0.12 * body.sum(dims).max()).ravel() for dims in ((0, 2), (0, 1)))
    inner = with_air[:, rows[0] : rows[-1], columns[0] : columns[-1]]
    full = torch.nn.functional.interpolate(inner[None, None], size=with_air.shape, mode="trilinear")[0, 0]
    return {"with air": with_air, "without air": full}


def teach(network: ClickUNet) -> None:
    """Give the network two labels and teach its last layer what is bright and what is soft: sure answers, not noise."""
    network.set_labels(2)
    air = [(a, b) for a in (0, 200) for b in (0, 100, 200, 280)]  # it holds nothing: that too is learned
    corners = [*air, *((a, b) for a in (60, 120) for b in (80, 160))]
    images = [image[:64, a : a + 64, b : b + 64] for image in scans(small=True).values() for a, b in corners]
    windows = torch.stack([promptless(image) for image in images])
    smooth = torch.nn.functional.avg_pool3d(torch.stack(images)[:, None], 7, 1, 3)
    truth = torch.cat([smooth > 0.6, smooth.abs() < 0.3], 1).float()
    with torch.no_grad():
        fine = torch.cat([network.features(x[None])[1] for x in windows])
    head = network.label_head
    assert head is not None
    adam = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(120):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(unfold(head(fine)), truth)
        adam.zero_grad()
        loss.backward()
        adam.step()


def measured(run: Callable[[], torch.Tensor], clock: Callable[[], float]) -> tuple[torch.Tensor, float]:
    """Result and seconds of one run."""
    start = clock()
    return run(), clock() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--small", action="store_true", help="a part of the scan, for a quick look")
    options = parser.parse_args()
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        print("skipped: needs monai (pip install monai)")
        return
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    exact = ms.load_model(device="cpu").network
    teach(exact)
    print(
        f"{'scan':12s} {'grid':>14s} {'precision':>9s} {'MONAI s':>8s} {'here s':>7s} {'times':>6s} {'agreement':>9s}"
    )
    for name, image in scans(options.small).items():
        for precision in options.precision:
            network = copy.deepcopy(exact).eval()
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            network = network.to(dtype)
            whole = promptless(image)

            def theirs(network=network, whole=whole, dtype=dtype) -> torch.Tensor:
                with torch.inference_mode():
                    return sliding_window_inference(
                        whole[None],  # in 32 bits: it adds windows up in the precision of its input
                        SETTINGS.patch,
                        sw_batch_size=1,
                        predictor=lambda x: network.segment_labels(x.to(dtype)).float().sigmoid(),
                        overlap=SETTINGS.overlap,
                        mode="gaussian",
                    )[0]

            def ours(network=network, whole=whole, dtype=dtype) -> torch.Tensor:
                return predict_labels(network, SETTINGS, whole, dtype=dtype)

            pairs = [(measured(theirs, clock), measured(ours, clock)) for _ in range(options.rounds)]
            (a, _), (b, _) = pairs[-1]
            same = ((a > SETTINGS.threshold) == (b > SETTINGS.threshold)).all(0)
            body = image > image.min() + 0.1 * (image.max() - image.min())
            agreement, in_body = float(same.float().mean()), float(same[body].float().mean())
            slow, fast = min(p[0][1] for p in pairs), min(p[1][1] for p in pairs)
            grid = "x".join(map(str, image.shape))
            figures = " ".join(f"{v:9.4f}" for v in (agreement, in_body))
            times = f"{slow:9.2f} {fast:9.2f} {slow / fast:9.2f}"
            print(f"{name:12s} {grid:>14s} {precision:>9s} {times} {figures}", flush=True)


if __name__ == "__main__":
    main()
