"""Dice after simulated clicks on patients that the click model never saw, beside the geodesic method and a ball.

    python tests/benchmarks/click_model.py [DATA] [--collections sarcoma lung_nodules] [--clicks 5] [--all] [--model M]
        [--each-label IMAGE LABELS]

DATA holds folders of pairs as `napari-medseg train-click-model` reads them. Only held-out patients are measured; --all
takes every patient, for collections that nothing was trained on. Click 1 is the deepest point of the lesion, each
later one that of the largest error, negative where the mask spilled over. Prints a row a group. --each-label takes
one scan whose mask has many labels (organs), and measures each of at least a millilitre by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import napari_medseg as ms
from napari_medseg.evaluation.overlap import overlap
from napari_medseg.learning.card_figures import deepest, dice_after_clicks
from napari_medseg.learning.samples import find_pairs, is_held_out

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def ball(volume: ms.Volume, truth: NDArray[np.bool_], radius_mm: float) -> float:
    """Dice of a ball round the first click."""
    found = deepest(truth, volume.spacing_mm)
    assert found is not None
    grid = np.ogrid[tuple(slice(0, n) for n in truth.shape)]
    squared = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, found[1], volume.spacing_mm, strict=True))
    return overlap(squared <= radius_mm**2, truth).dice


def labels_of(image: Path, mask: Path) -> list[tuple[ms.Volume, NDArray[np.bool_]]]:
    """A case for each label of at least a millilitre."""
    volume, labels = ms.read_volume(image), np.asarray(ms.read_label_map(mask).data)
    voxels = 1000 / np.prod(volume.spacing_mm)
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    return [(volume, labels == k) for k in values[counts >= voxels]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--collections", nargs="+", default=["sarcoma", "lung_nodules"])
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--model")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--each-label", type=Path, nargs=2, metavar=("IMAGE", "LABELS"))
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: there are no labelled scans in {options.data}")
        return
    models = {"model": ms.load_model(options.model), "geodesic": ms.load_model("geodesic")}
    groups: dict[str, list[tuple[ms.Volume, NDArray[np.bool_]]]] = {}
    if options.each_label:
        groups[options.each_label[0].name] = labels_of(*options.each_label)
    pairs = [] if options.each_label else find_pairs(options.data, options.collections)
    for image, label, group, patient in pairs:
        if options.all or is_held_out(patient):
            pair = (ms.read_volume(image), np.asarray(ms.read_label_map(label).data) > 0)
            groups.setdefault(group, []).append(pair)
    for group, cases in groups.items():
        radii = [(t.sum() * np.prod(v.spacing_mm) * 0.75 / np.pi) ** (1 / 3) for v, t in cases]
        print(f"{group}: {len(cases)} scans; ball {np.mean([ball(v, t, np.median(radii)) for v, t in cases]):.3f}")
        for name, model in models.items():
            rows = [dice_after_clicks(model, v, t, options.clicks) for v, t in cases]
            dice = np.mean([d for d, _ in rows], 0)
            slowest = np.quantile([s for _, seconds in rows for s in seconds], 0.95)
            print(f"  {name:9s} " + " ".join(f"{d:.3f}" for d in dice) + f"   p95 {slowest:.2f} s")


if __name__ == "__main__":
    main()
