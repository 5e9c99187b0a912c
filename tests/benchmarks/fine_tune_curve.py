"""What corrected cases buy: Dice on unseen cases after fine-tuning on 1, 3, 5, ... of them.

    python tests/benchmarks/fine_tune_curve.py [DATA] [--collection hippocampus] [--cases 1 3 5] [--strategy auto ...]
        [--reviewed 1.0] [--test 20] [--scratch] [--steps N] [--threads 2]

A row for each number of cases and strategy: mean Dice over the labels without a click, Dice of all labels together
after one click into the deepest point, processor seconds of the training and its examinations, seconds by the clock,
the guard's loss and the gate's verdict. Several strategies make the table that compares them. --scratch trains a MONAI
UNet from nothing on the same cases for as many processor seconds, twice: by MONAI's own means (crops of the scans on
their own grid, turned, scaled and with random intensities, DiceCELoss, Adam), and on the very patches drawn here.
--reviewed 0.33 marks every third slice alone as reviewed and leaves the others wrong. Collections whose patients have
taught the bundled weights (lung_nodules, sarcoma/MR_T1, ...) use their held-out patients alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edt
import numpy as np
import torch

import napari_medseg as ms
from napari_medseg.evaluation.overlap import dice
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.fine_tune import fine_tune
from napari_medseg.learning.lesson import Lesson, prepare_lesson
from napari_medseg.learning.losses import label_loss
from napari_medseg.learning.patches import draw_patches
from napari_medseg.learning.samples import find_pairs, is_held_out
from napari_medseg.learning.settings import FineTuneSettings, Strategy
from napari_medseg.segmentation.automatic import largest_label, network_image, promptless
from napari_medseg.segmentation.sliding_window import sliding_window

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CROP = (48, 64, 48)
Pair = tuple[ms.Volume, ms.LabelMap]


@dataclass(frozen=True)
class Row:
    """Figures of one training."""

    name: str
    automatic: float
    one_click: float | None
    seconds: float
    by_clock: float = 0.0
    said: str = ""

    def __str__(self) -> str:
        click = "      " if self.one_click is None else f"{self.one_click:6.3f}"
        return (
            f"{self.name:24s} {self.automatic:9.3f} {click:>9s} {self.seconds:9.0f} {self.by_clock:9.0f}  {self.said}"
        )


def read_cases(data: Path, collection: str, n_test: int) -> tuple[list[Path], list[Path]]:
    """Images to learn from and images to measure on; never the same patient, never one that taught the weights."""
    folder = collection.split("/")[0]
    if folder == "hippocampus":
        images = sorted((data / folder).glob("*_image.nii.gz"))
    else:
        pairs = find_pairs(data, [folder])
        images = [image for image, _, group, patient in pairs if group == collection and is_held_out(patient)]
    n_test = min(n_test, max(1, len(images) * 2 // 3))
    return images[:-n_test], images[-n_test:]


def read(image: Path) -> Pair:
    """Scan and mask."""
    masks = [image.with_name(image.name.replace("_image", f"_{kind}")) for kind in ("labels", "mask")]
    return ms.read_volume(image), ms.read_label_map(next(m for m in masks if m.exists()))


def half_corrected(pair: Pair, part: float) -> Correction:
    """The mask with only a part of its slices reviewed, evenly spread, and the others left wrong."""
    volume, truth = pair
    n = truth.data.shape[0]
    if part >= 1:
        return Correction(volume, None, truth)
    wanted = np.unique(np.linspace(0, n - 1, max(1, round(n * part))).round().astype(int))
    wrong = np.roll(truth.data, (4, 5), (1, 2))
    wrong[wanted] = truth.data[wanted]
    return Correction(volume, None, ms.LabelMap(wrong, truth.affine, truth.names), tuple(int(k) for k in wanted))


def automatic_dice(answer: Any, truth: ms.LabelMap) -> float:
    """Mean Dice over the labels."""
    return float(np.mean([dice(answer == k, truth.data == k) for k in np.unique(truth.data) if k]))


def one_click_dice(model: Any, pair: Pair) -> float:
    """Dice of all labels together after a click into the deepest point."""
    volume, truth = pair
    mask = truth.data > 0
    depth = edt.edt(np.ascontiguousarray(mask), anisotropy=volume.spacing_mm, black_border=True)
    x, y, z = volume.position_of(np.array(np.unravel_index(int(depth.argmax()), mask.shape), float))
    return float(dice(model.segment(volume, [ms.Click((float(x), float(y), float(z)))]).data > 0, mask))


def measured(model: Any, test: list[Pair]) -> tuple[float, float]:
    """Mean Dice without a click and after one."""
    automatic = 0.0 if model.needs_click else np.mean([automatic_dice(model.segment(v).data, m) for v, m in test])
    return float(automatic), float(np.mean([one_click_dice(model, pair) for pair in test]))


def learned(cases: list[Correction], test: list[Pair], strategy: str, settings: FineTuneSettings) -> Row:
    """Fine-tune and measure the trained version, whatever the gate says of it."""
    model, start, clock = ms.load_model(), time.process_time(), time.perf_counter()
    steps = fine_tune(model, cases, strategy=strategy, settings=settings)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result = end.value
            break
    seconds, by_clock = time.process_time() - start, time.perf_counter() - clock
    model.checkpoint = result.checkpoint
    verdict = result.verdict
    lost = verdict.guard_before - verdict.guard_after
    said = f"guard loss {lost:+.3f}, {'adopted' if verdict.adopted else verdict.sentence}"
    return Row(f"{len(cases)} cases, {strategy}", *measured(model, test), seconds, by_clock, said)


def by_monais_means(cases: list[Correction], test: list[Pair], seconds: float) -> Row:
    """A MONAI UNet that starts from nothing, by MONAI's transforms and loss, for as many processor seconds."""
    from monai import transforms
    from monai.inferers import sliding_window_inference
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    keys, values = ["image", "label"], np.unique([0, *(v for c in cases for v in np.unique(c.corrected.data))])
    normalised = transforms.NormalizeIntensity()

    def scan(volume: ms.Volume) -> torch.Tensor:
        return torch.as_tensor(normalised(torch.from_numpy(np.ascontiguousarray(volume.data, np.float32))[None]))

    def labels(mask: ms.LabelMap) -> torch.Tensor:
        return torch.from_numpy(np.searchsorted(values, np.ascontiguousarray(mask.data)).astype(np.uint8))[None]

    items = [{"image": scan(c.volume), "label": labels(c.corrected)} for c in cases]
    crop = transforms.Compose(
        [
            transforms.SpatialPadd(keys, CROP),
            transforms.RandCropByPosNegLabeld(keys, "label", CROP, pos=1, neg=1, num_samples=2),
            transforms.RandAffined(
                keys,
                prob=0.5,
                rotate_range=(0.2, 0.2, 0.2),
                scale_range=(0.1, 0.1, 0.1),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            transforms.RandScaleIntensityd("image", 0.1, prob=1.0),
            transforms.RandShiftIntensityd("image", 0.1, prob=1.0),
        ]
    )
    crop.set_random_state(0)
    network = UNet(3, 1, len(values), (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    objective, optimiser = DiceCELoss(to_onehot_y=True, softmax=True), torch.optim.Adam(network.parameters(), 1e-3)
    rng, start, step = np.random.default_rng(0), time.process_time(), 0
    while time.process_time() - start < seconds:
        crops = crop(items[int(rng.integers(len(items)))])
        image, truth = (torch.stack([torch.as_tensor(c[key]) for c in crops]) for key in keys)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image)
        loss = objective(logits.float(), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
    network.eval()
    found = []
    for volume, truth in test:
        with torch.inference_mode():
            answer = sliding_window_inference(scan(volume)[None], CROP, 2, network, overlap=0.5, mode="gaussian")[0]
        found.append(automatic_dice(values[answer.argmax(0).numpy()], truth))
    return Row(f"{len(cases)} cases, MONAI's means", float(np.mean(found)), None, seconds, said=f"UNet, {step} steps")


def from_scratch(cases: list[Correction], test: list[Pair], seconds: float, settings: FineTuneSettings) -> Row:
    """A MONAI UNet that starts from nothing, on the same patches, for as many processor seconds."""
    from monai.networks.nets import UNet

    lesson = prepare_lesson(ms.load_model(), cases, strategy=Strategy.AUTO, settings=settings, seed=0)
    torch.manual_seed(0)
    network = UNet(3, 1, len(lesson.card.labels), (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    material, start, step = lesson.material(with_held_out=True), time.process_time(), 0
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    while (spent := time.process_time() - start) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * min(1.0, spent / seconds)))
        rng = np.random.default_rng((1, step))
        patches = draw_patches(
            rng, material.cases, n=2, shape=lesson.automatic.patch, augment=True, weights=material.weights
        )
        with torch.autocast("cpu", lesson.dtype, enabled=lesson.dtype is not torch.float32):
            logits = network(patches.inputs[:, :1])
        loss = label_loss(logits.float(), patches.labels, patches.weight, patches.taught)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
    network.eval()
    found = np.mean([automatic_dice(unet_answer(network, lesson, volume), truth) for volume, truth in test])
    return Row(f"{len(cases)} cases, from nothing", float(found), None, seconds, said=f"MONAI UNet, {step} steps")


def unet_answer(network: torch.nn.Module, lesson: Lesson, volume: ms.Volume) -> Any:
    """Label values on the scan's grid."""

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network(windows[:, :1]).float().sigmoid()

    image = promptless(network_image(volume, lesson.automatic.spacing_mm))
    probabilities = sliding_window(predict, image, len(lesson.card.labels), window=lesson.automatic.patch)
    return largest_label(probabilities, volume.data.shape, list(lesson.card.labels))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--collection", default="hippocampus")
    parser.add_argument("--cases", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--strategy", nargs="+", default=["auto"], choices=[s.value for s in Strategy])
    parser.add_argument("--reviewed", type=float, nargs="+", default=[1.0])
    parser.add_argument("--test", type=int, default=20)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", action="store_true")
    options = parser.parse_args()
    if not (options.data / options.collection.split("/")[0]).is_dir():
        print(f"skipped: there is no {options.collection} in {options.data}")
        return
    torch.set_num_threads(options.threads)
    settings = FineTuneSettings(steps=options.steps)
    teach, held = read_cases(options.data, options.collection, options.test)
    test = [read(image) for image in held]
    print(
        f"{options.collection}: {len(test)} unseen cases\n{'':24s}  no click one click processor s clock s", flush=True
    )
    print(Row("bundled model", *measured(ms.load_model(), test), 0.0), flush=True)
    for n in options.cases:
        for part in options.reviewed:
            cases = [half_corrected(read(image), part) for image in teach[:n]]
            if part < 1:
                print(f"{part:.0%} of the slices reviewed, the others wrong:")
            rows = [learned(cases, test, strategy, settings) for strategy in options.strategy]
            for row in rows:
                print(row, flush=True)
            if options.scratch:
                print(by_monais_means(cases, test, rows[0].seconds), flush=True)
                print(from_scratch(cases, test, rows[0].seconds, settings), flush=True)


if __name__ == "__main__":
    main()
