"""The figures in a click model's card that anybody can check: Dice after clicks on a few fixed held-out lesions.

``python -m napari_medseg.learning.card_figures DATA [--model FOLDER]`` measures a model (the bundled one where nothing
is given) and writes the figures into its card: run it whenever weights are replaced.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edt
import numpy as np
from numpy.typing import NDArray

from napari_medseg.evaluation.overlap import overlap
from napari_medseg.imaging.files import read_label_map, read_volume
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.click_simulation import largest_component
from napari_medseg.learning.samples import find_pairs, is_held_out
from napari_medseg.models.checkpoint import read_card, write_card
from napari_medseg.models.library import BUNDLED, CLICK
from napari_medseg.segmentation.prompts import Click

if TYPE_CHECKING:
    from napari_medseg.segmentation.classical import GeodesicSegmenter
    from napari_medseg.segmentation.segmenter import Segmenter

COLLECTIONS = ("sarcoma", "lung_nodules")
KEY = "fixed_set"
N_CLICKS, N_A_GROUP = 3, 3


def deepest(region: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[int, NDArray[np.int64]] | None:
    """Size of a region's largest component and its deepest voxel; None for an empty region."""
    found = largest_component(region)
    if found is None:
        return None
    component, cut = found
    depth = edt.edt(np.ascontiguousarray(component), anisotropy=tuple(spacing_mm), black_border=True)
    index = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(component.sum()), np.array(index) + [s.start for s in cut]


def dice_after_clicks(
    model: Segmenter | GeodesicSegmenter, volume: Volume, truth: NDArray[np.bool_], n: int
) -> tuple[list[float], list[float]]:
    """Dice after each of `n` simulated clicks, and the seconds that each answer took.

    The first click is the lesion's deepest point, each later one that of the largest error: negative where the mask
    spilled over.
    """
    clicks: list[Click] = []
    mask: LabelMap | None = None
    dice, seconds = [], []
    for _ in range(n):
        now = np.zeros_like(truth) if mask is None else mask.data > 0
        errors = [(deepest(truth & ~now, volume.spacing_mm), True), (deepest(now & ~truth, volume.spacing_mm), False)]
        present = [(found, positive) for found, positive in errors if found is not None]
        if present:
            (_, index), positive = max(present, key=lambda e: (e[0][0], e[1]))
            x, y, z = volume.position_of(index.astype(float))
            clicks.append(Click((float(x), float(y), float(z)), positive=positive))
            start = time.perf_counter()
            mask = model.segment(volume, clicks, previous=mask)
            seconds.append(time.perf_counter() - start)
        dice.append(float(overlap(np.zeros_like(truth) if mask is None else mask.data > 0, truth).dice))
    return dice, seconds


def fixed_set(data: Path) -> list[tuple[Path, Path, str]]:
    """Scan, mask and group of a few lesions of held-out patients: the first of each group by name."""
    groups: dict[str, list[tuple[Path, Path, str]]] = {}
    for image, mask, group, patient in find_pairs(data, COLLECTIONS):
        if is_held_out(patient):
            groups.setdefault(group, []).append((image, mask, group))
    return [case for group in sorted(groups) for case in groups[group][:N_A_GROUP]]


def measure(model: Segmenter | GeodesicSegmenter, data: Path) -> dict[str, list[float]]:
    """Mean Dice after clicks 1 to 3 on the fixed set, for each group and over all (``"mean"``)."""
    found: dict[str, list[list[float]]] = {}
    for image, mask, group in fixed_set(data):
        volume, truth = read_volume(image), np.asarray(read_label_map(mask).data) > 0
        found.setdefault(group, []).append(dice_after_clicks(model, volume, truth, N_CLICKS)[0])
    figures: dict[str, Any] = {group: np.mean(rows, 0) for group, rows in found.items()}
    figures["mean"] = np.mean(list(figures.values()), 0)
    return {group: [round(float(v), 4) for v in row] for group, row in figures.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write into the card."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_medseg.learning.card_figures",
        description="Measure a click model on a few fixed held-out lesions and write the figures into its card.",
    )
    parser.add_argument("data", type=Path, help="folder with the collections " + " and ".join(COLLECTIONS))
    parser.add_argument("--model", type=Path, default=BUNDLED / CLICK, help="model folder (default: the bundled one)")
    options = parser.parse_args(words)
    from napari_medseg.segmentation.load import load_model

    figures = measure(load_model(options.model), options.data)
    for group, row in figures.items():
        sys.stdout.write(f"{group:15s} " + " ".join(f"{v:.3f}" for v in row) + "\n")
    card = read_card(options.model)
    write_card(options.model, card.model_copy(update={"figures": {**card.figures, KEY: figures}}))


if __name__ == "__main__":
    main()
