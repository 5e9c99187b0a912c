"""Lesions of two kinds in small scans of unequal axes, and untrained classifiers of every kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.classification import Subject
from napari_medseg.imaging.volume import LabelMap, Volume

sys.path.insert(0, str(Path(__file__).parent))

from class_phantom import AFFINE, CENTRE, SHAPE, ball, marks

Make = Callable[..., Subject]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lesion() -> Make:
    def make(kind: str = "bright", *, seed: int = 0, patient: str = "", radius_mm: float = 6.0) -> Subject:
        rng = np.random.default_rng(seed)
        mask = ball(CENTRE, radius_mm)
        data = rng.normal(0, 1, SHAPE) + (6.0 if kind == "bright" else -6.0) * mask
        scan = Volume(data.astype(np.float32), AFFINE, f"{kind} {seed}", "CT")
        return Subject.lesion(scan, LabelMap((2 * mask).astype(np.uint8), AFFINE), 2, patient=patient)

    return make


@pytest.fixture
def image() -> Make:
    def make(kind: str = "bright", *, seed: int = 0, patient: str = "") -> Subject:
        rng = np.random.default_rng(seed)
        y, x = np.indices((28, 36))
        spot = (y - 8) ** 2 + (x - 25) ** 2 < 30 if kind == "bright" else (y - 20) ** 2 + (x - 8) ** 2 < 30
        data = rng.normal(0, 1, (1, 28, 36)) + 4.0 * spot
        return Subject.image(Volume(data.astype(np.float32), AFFINE, f"{kind} {seed}", "DX"), patient=patient)

    return make


@pytest.fixture
def study() -> Make:
    """A stack in which one slice holds a bright square, or none does; `marks` says which."""

    def make(kind: str = "bright", *, seed: int = 0, patient: str = "") -> Subject:
        rng = np.random.default_rng(seed)
        data = rng.normal(0, 1, (9, 30, 34)).astype(np.float32)
        if kind == "bright":
            data[marks(seed), 10:18, 12:22] += 5.0
        return Subject.study(Volume(data, AFFINE, f"{kind} {seed}", "MR"), patient=patient)

    return make
