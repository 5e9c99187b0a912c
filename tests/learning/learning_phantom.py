"""Tiny cases with known truth, and settings that learn them in seconds."""

from __future__ import annotations

import numpy as np

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.settings import FineTuneSettings

SPACING = (2.0, 1.0, 1.0)
SHAPE = (12, 26, 30)
QUICK = FineTuneSettings(
    steps=40,
    learning_rate=1e-2,
    patch=(16, 32, 32),
    validations=2,
    average=0.9,
    replay_share=0.0,
    click_share=0.0,
    largest_loss=1.0,
    precision="float32",
    device="cpu",
)


def phantom(seed: int, *, two: bool = False) -> tuple[Volume, LabelMap]:
    """A bright ellipsoid (label 1) and, if asked for, a dark one (label 2) in noise; unequal axes, thick slices."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE).astype(float)
    centre = np.array([5.5, 12.0, 10.0]) + rng.uniform(-1.5, 1.5, 3)
    radii = np.array([3.0, 6.0, 5.0]) * rng.uniform(0.85, 1.15, 3)
    labels = np.zeros(SHAPE, np.uint8)
    labels[(((grid - centre[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0) < 1] = 1
    if two:
        other = centre + np.array([0.0, 1.0, 13.0])
        labels[(((grid - other[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0) < 0.7] = 2
    image = rng.normal(0, 0.25, SHAPE) + np.array([0.0, 2.0, -2.0])[labels]
    affine = np.array([[0, 0, -1, 15], [0, -1, 0, 13], [2, 0, 0, -12], [0, 0, 0, 1]], float)
    return Volume((100 * image).astype(np.float32), affine, name=f"phantom {seed}"), LabelMap(labels, affine)


def dice(a, b):
    return 2 * int((a & b).sum()) / max(1, int(a.sum()) + int(b.sum()))


def weights_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}
