"""Dice of the first answer by the kind of the first prompt, on patients that the click model never saw.

    python tests/benchmarks/first_prompts.py [DATA] [--model M]

DATA holds folders of pairs as `napari-medseg train-click-model` reads them. The click is the deepest point of the
lesion; box and lasso are drawn on its slice: the smallest box, the reference's outline half a voxel and two voxels wide
of it. The last two correct the answer to the click: a click into its largest error, a lasso on the slice of most error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edt
import numpy as np
from click_model import SHARED
from numpy.typing import NDArray
from skimage.measure import find_contours

import napari_medseg as ms
from napari_medseg.evaluation.overlap import overlap
from napari_medseg.learning.card_figures import deepest
from napari_medseg.learning.samples import find_pairs, is_held_out

KINDS = ("click", "box", "lasso", "2 voxels wide", "click, then click", "click, then lasso")


def lasso(volume: ms.Volume, truth: NDArray[np.bool_], z: int, wide: float) -> ms.Lasso:
    """The outline of the largest part of a lesion on a slice, so many voxels wide of it."""
    shown = np.pad(truth[z], 4)
    depth = edt.edt(shown, black_border=True) - edt.edt(~shown)
    line = max(find_contours(depth, -wide), key=len)
    last = np.array(truth.shape[1:]) - 0.6
    points = np.clip(line[:: max(1, len(line) // 50)] - 4, -0.4, last)
    return ms.Lasso(tuple(volume.position_of((z, y, x)) for y, x in points))


def measure(model: ms.Segmenter, volume: ms.Volume, truth: NDArray[np.bool_]) -> list[float]:
    """Dice for each of the kinds."""

    def dice(mask: ms.LabelMap) -> float:
        return overlap(np.asarray(mask.data) > 0, truth).dice

    def click_into(error: NDArray[np.bool_]) -> ms.Click:
        found = deepest(error, volume.spacing_mm)
        assert found is not None
        place = tuple(int(k) for k in found[1])
        return ms.Click(volume.position_of(place), bool(truth[place]))

    click = click_into(truth)
    z = round(float(volume.index_of(click.position_mm)[0]))
    y, x = np.nonzero(truth[z])
    box = ms.Box(volume.position_of((z, y.min(), x.min())), volume.position_of((z, y.max(), x.max())))
    first = model.segment(volume, [click])
    rest = [dice(model.segment(volume, [each])) for each in (box, *(lasso(volume, truth, z, w) for w in (0.5, 2.0)))]
    error = (np.asarray(first.data) > 0) ^ truth
    worst = int((error.sum((1, 2)) * truth.any((1, 2))).argmax())
    second = [click_into(error), lasso(volume, truth, worst, 0.5)] if error.any() else []
    again = [dice(model.segment(volume, [click, each], previous=first)) for each in second] or [1.0, 1.0]
    return [dice(first), *rest, *again]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--model")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: there are no labelled scans in {options.data}")
        return
    model, groups = ms.load_model(options.model), {}
    for image, label, group, patient in find_pairs(options.data, ("sarcoma", "lung_nodules")):
        if is_held_out(patient):
            case = measure(model, ms.read_volume(image), np.asarray(ms.read_label_map(label).data) > 0)
            groups.setdefault(group, []).append(case)
    print(" " * 16 + " ".join(f"{kind:>17s}" for kind in KINDS))
    means = {group: np.mean(rows, 0) for group, rows in groups.items()}
    for group, row in {**means, "all alike": np.mean(list(means.values()), 0)}.items():
        print(f"{group:16s}" + " ".join(f"{dice:17.3f}" for dice in row))


if __name__ == "__main__":
    main()
