"""The box round what is there: as plain numpy finds it, for every kind of mask."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.imaging.filled_box import filled_box


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.float32])
def test_it_is_the_smallest_that_holds_all(kind: type) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((7, 9, 11), kind)
        points = rng.integers(0, mask.shape, (3, 3))
        mask[tuple(points.T)] = 1
        wanted = tuple(slice(a, b + 1) for a, b in zip(points.min(0), points.max(0), strict=True))
        assert filled_box(mask) == wanted


def test_what_is_below_zero_is_there_too() -> None:
    mask = np.zeros((4, 4, 4), np.int16)
    mask[1, 2, 3] = -1
    assert filled_box(mask) == (slice(1, 2), slice(2, 3), slice(3, 4))


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4, 5), (3, 0, 5)])
def test_nothing_has_no_box(shape: tuple[int, ...]) -> None:
    assert filled_box(np.zeros(shape, np.uint8)) is None
