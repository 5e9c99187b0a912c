"""What each part of the click model's training is worth: networks trained from nothing, alike but for one thing.

    python tests/benchmarks/click_ablation.py [DATA] [--minutes 10] [--seed 0] [--only NAME ...]

Every variant has the same minutes of the same machine. Printed is the mean Dice of the mask within its view, of fixed
views 0.3 to 6 times as wide as the lesion, after a click in the lesion and one and two corrections: on held-out
patients of the collections that train, and on organs and hippocampi, which none has seen. So the choice of scale has no
part in it, and neither have the corrections' safeguards: this compares networks, it does not say what the product does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader

import napari_medseg as ms
from napari_medseg.learning import samples
from napari_medseg.learning.samples import LabelledScan, find_pairs, is_held_out, read_pairs
from napari_medseg.learning.train_click_model import ClickTraining, _Batches, _Run, collate, next_round
from napari_medseg.networks.channels import BOX, NEGATIVE, POSITIVE, PREVIOUS, VALID, WINDOW
from napari_medseg.networks.click_unet import ClickUNet

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CLICKS, VIEWS = 3, 160
Change = Callable[[Tensor], Tensor]


def same(inputs: Tensor) -> Tensor:
    """Inputs as the product makes them."""
    return inputs


def no_window(inputs: Tensor) -> Tensor:
    """Without the channel that shows intensities relative to those round the click."""
    inputs = inputs.clone()
    inputs[:, WINDOW] = 0
    return inputs


def balls(inputs: Tensor) -> Tensor:
    """Prompts as plain balls: no distance from the click, and old prompts as strong as new ones."""
    inputs = inputs.clone()
    inputs[:, POSITIVE : BOX + 1] = (inputs[:, POSITIVE : BOX + 1].abs() > 0).float()
    return inputs


def one_point(inputs: Tensor) -> Tensor:
    """Prompts as single voxels."""
    inputs = inputs.clone()
    inputs[:, POSITIVE : NEGATIVE + 1] = (inputs[:, POSITIVE : NEGATIVE + 1] > 0.8).float()
    return inputs


@dataclass(frozen=True)
class Variant:
    """What differs from the product's training: settings, what the network sees, and how wide the views are."""

    settings: dict[str, Any]
    change: Change = same
    narrow: bool = False


VARIANTS = {
    "as shipped": Variant({}),
    "synthetic alone": Variant({"synthetic_share": 1.0}),
    "real alone": Variant({"synthetic_share": 0.0}),
    "one round a batch": Variant({"rounds": 1}),
    "no appearance": Variant({}, no_window),
    "balls": Variant({}, balls),
    "points": Variant({}, one_point),
    "views of 1-2 lesions": Variant({}, narrow=True),
    "views of 64 alone": Variant({"sizes": ((64, 4),)}),
    "half the channels": Variant({"widths": (16, 32, 48, 80)}),
    "1.5 times the channels": Variant({"widths": (48, 96, 144, 240)}),
}


def unseen_scans(data: Path) -> list[LabelledScan]:
    """Organs of at least 4 ml in the example CT and MR, and both parts of hippocampi: never trained on."""
    found = []
    pairs = [
        *((data / "hippocampus" / p.name.replace("_labels", "_image"), p, "hippocampus") for p in _hippocampi(data)),
        *((data / "totalsegmentator_example" / a, data / "totalsegmentator_example" / b, g) for a, b, g in _bodies()),
    ]
    for image, labels, group in pairs:
        volume, truth = ms.read_volume(image), np.asarray(ms.read_label_map(labels).data)
        least = 4000 / np.prod(volume.spacing_mm) if group != "hippocampus" else 1
        values, counts = np.unique(truth[truth > 0], return_counts=True)
        for k in values[counts >= least]:
            found.append(LabelledScan(volume.data, truth == k, volume.spacing_mm, group, image.name))
    return found


def _hippocampi(data: Path) -> list[Path]:
    return sorted((data / "hippocampus").glob("*_labels.nii.gz"))[:24]


def _bodies() -> list[tuple[str, str, str]]:
    return [
        ("example_ct_sm.nii.gz", "example_seg.nii.gz", "organs in CT"),
        ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz", "organs in MR"),
    ]


def fixed_views(scans: Sequence[LabelledScan]) -> list[tuple[Tensor, Tensor]]:
    """First clicks: the same views for all variants."""
    rng, found = np.random.default_rng(7), []
    while len(found) < VIEWS // 8:
        inputs, truth, _ = collate(_first_clicks(rng, scans))
        found.append((inputs, truth))
    return found


def _first_clicks(rng: Generator, scans: Sequence[LabelledScan]) -> list[samples.Sample]:
    kept: list[samples.Sample] = []
    while len(kept) < 8:
        for s in samples.draw_samples(rng, scans, n=8, size=48, synthetic_share=0.0):
            if not s.inputs[PREVIOUS].any() and len(kept) < 8:
                kept.append(s)
    return kept


@torch.no_grad()
def dice(network: ClickUNet, views: Sequence[tuple[Tensor, Tensor]], change: Change) -> list[float]:
    """Mean Dice in the view after each click."""
    rng, reached = np.random.default_rng(11), np.zeros(CLICKS)
    for inputs, truth in views:
        wanted = (truth > 0.5).float()
        for k in range(CLICKS):
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = network(change(inputs))
            mask = (logits > 0).float() * inputs[:, VALID : VALID + 1]
            axes = (1, 2, 3, 4)
            both = 2 * (mask * wanted).sum(axes) + 1e-3
            reached[k] += float((both / (mask.sum(axes) + wanted.sum(axes) + 1e-3)).mean())
            inputs = next_round(inputs, truth, logits.float(), rng)
    return [float(x) for x in reached / len(views)]


def trained(variant: Variant, scans: Sequence[LabelledScan], minutes: float, seed: int) -> _Run:
    """Train a variant from nothing, as `train_click_model` does."""
    settings = ClickTraining(**{"minutes": minutes, "seed": seed, "rounds": 3, "steps": 1_000_000, **variant.settings})
    run = _Run(settings, torch.device("cpu"))
    drawn = samples.make_sample
    if variant.narrow:
        samples.make_sample = _narrow(drawn)
    try:
        loader = DataLoader(_Batches(scans, settings, seed, 0, settings.steps), batch_size=None, num_workers=1)
        batches, since = iter(loader), time.perf_counter()
        while run.progress() < 1.0:
            inputs, truth, total = next(batches)
            rng = np.random.default_rng((seed, run.step, 1))
            for k in range(settings.rounds):
                _, logits = run.learn(variant.change(inputs), truth, total)
                if k < settings.rounds - 1:
                    inputs = next_round(inputs, truth, logits, rng)
            run.seconds, since = run.seconds + time.perf_counter() - since, time.perf_counter()
    finally:
        samples.make_sample = drawn
    return run


def _narrow(drawn: Callable[..., samples.Sample]) -> Callable[..., samples.Sample]:
    """Only views that frame the lesion: what a network sees that is asked once, at a good guess of its size."""

    def make(rng: Generator, image: Any, mask: Any, spacing_mm: Sequence[float], size: int) -> samples.Sample:
        wide = samples.View

        def framed(centre: Any, extent: float, size: int) -> Any:
            low, high = samples._bounding_box(mask)
            diameter = float(((high - low) * np.asarray(spacing_mm)).max())
            return wide(centre, float(np.clip(extent, diameter, 2 * diameter)), size)

        samples.View = framed  # type: ignore[assignment,misc]
        try:
            return drawn(rng, image, mask, spacing_mm, size)
        finally:
            samples.View = wide  # type: ignore[misc]

    return make


def main() -> None:
    """Train, measure and print, a row a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: there are no labelled scans in {options.data}")
        return
    torch.set_num_threads(1)
    pairs = find_pairs(options.data, ["sarcoma", "lung_nodules"])
    scans = read_pairs(p for p in pairs if not is_held_out(p[3]))
    held_out = fixed_views(read_pairs(p for p in pairs if is_held_out(p[3])))
    unseen = fixed_views(unseen_scans(options.data))
    print(f"{'':24s} {'steps':>6s}  held-out patients, clicks 1-3    organs and hippocampi, clicks 1-3")
    for name in options.only:
        run = trained(VARIANTS[name], scans, options.minutes, options.seed)
        figures = [dice(run.average.eval(), views, VARIANTS[name].change) for views in (held_out, unseen)]
        told = "   ".join(" ".join(f"{d:8.3f}" for d in row) for row in figures)
        print(f"{name:24s} {run.step:6d}  {told}", flush=True)


if __name__ == "__main__":
    main()
