"""Where the lesions of the phantoms lie."""

from __future__ import annotations

import numpy as np

AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])
SHAPE = (12, 30, 40)
CENTRE = (6, 14, 22)


def ball(centre: tuple[int, int, int], radius_mm: float) -> np.ndarray:
    steps = np.array([2.5, 1.2, 1.0])
    offset = (np.moveaxis(np.indices(SHAPE), 0, -1) - np.asarray(centre)) * steps
    return np.linalg.norm(offset, axis=-1) <= radius_mm


def marks(seed: int) -> int:
    return 1 + seed % 7
