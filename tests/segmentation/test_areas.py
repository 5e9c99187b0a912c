"""Boxes and lassos: what they hold, what they say of a mask, and how they shape it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.errors import ModelError
from napari_medseg.segmentation.areas import Area, area_of

SHAPE = (12, 50, 60)
ALL = tuple(slice(0, n) for n in SHAPE)
SPACING = (2.5, 0.9, 0.9)


def ring(z: float, y: float, x: float, radius: float, turns: float = 1.0, *, positive: bool = True) -> Area:
    turn = np.linspace(0, 2 * np.pi * turns, round(60 * turns), endpoint=False)
    points = np.stack([np.full_like(turn, z), y + radius * np.sin(turn), x + radius * np.cos(turn)], 1)
    return area_of(points, positive, 0, is_lasso=True).inside(SHAPE)


def box(low: tuple[float, ...], high: tuple[float, ...], *, positive: bool = True) -> Area:
    return area_of(np.array([low, high], float), positive, 0, is_lasso=False).inside(SHAPE)


def ball(middle: tuple[int, int, int], radius: float) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    a, b, c = middle
    return ((z - a) * 2.5) ** 2 + ((y - b) * 0.9) ** 2 + ((x - c) * 0.9) ** 2 < radius**2


def disc(y: int, x: int, radius: float) -> np.ndarray:
    rows, columns = np.indices(SHAPE[1:])
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


@pytest.mark.parametrize("turns", [1.0, 1.1, 2.0, 3.0])
def test_a_line_drawn_round_more_than_once_encloses_the_same(turns: float) -> None:
    held = ring(5, 25, 30, 10, turns).within(ALL)
    assert held[5].sum() == pytest.approx(np.pi * 10**2, rel=0.1)
    assert not held[[4, 6]].any()


def test_a_straight_lasso_holds_its_own_points() -> None:
    line = np.array([[5.0, 10, 10], [5, 10, 15], [5, 10, 20]])
    held = area_of(line, True, 0, is_lasso=True).within(ALL)
    assert held[5, 10, 10:21].all()
    assert held.sum() == 11


def test_a_part_of_a_region_is_the_same_part_of_the_whole() -> None:
    area, region = ring(5, 25, 30, 10), (slice(4, 9), slice(20, 50), slice(0, 31))
    np.testing.assert_array_equal(area.within(region), area.within(ALL)[region])
    assert not area.within((slice(6, 9), slice(20, 50), slice(0, 31))).any()


def test_points_of_a_lasso_need_not_be_exact_but_on_one_slice() -> None:
    turn = np.linspace(0, 2 * np.pi, 30)
    points = np.stack([5 + 0.2 * np.sin(turn), 25 + 8 * np.sin(turn), 30 + 8 * np.cos(turn)], 1)
    assert area_of(points, True, 0, is_lasso=True).within(ALL)[5].sum() > 150
    points[:, 0] = 5 + 3 * np.sin(turn)
    with pytest.raises(ModelError, match="tilted"):
        area_of(points, True, 0, is_lasso=True)


@pytest.mark.parametrize(
    "area",
    [
        ring(11.5, 25, 30, 10),
        ring(5, 49.4, 30, 1e5),
        box((9, 20, 20), (40, 45, 42)),
        box((2, 20, 56), (9, 45, 90)),
        box((-50, -50, -50), (100, 100, 100)),
        box((11.49, 20, 20), (11.49, 45, 42)),
        box((9, 20, 20), (40, 45, 42), positive=False),
    ],
)
def test_what_reaches_beyond_the_scan_is_cut_to_it(area: Area) -> None:
    mask = ball((9, 30, 40), 8)
    area.contradictions(mask, SPACING)
    middle = area.middle(SPACING)
    assert ((middle >= 0) & (middle <= np.array(SHAPE) - 1)).all()
    area.shape(mask, ALL, SPACING, None)
    assert area.within(ALL).any()


@pytest.mark.parametrize("radius", [0.8, 1.2, 1.6, 3.0, 9.0])
def test_a_lasso_round_what_was_missed_says_where(radius: float) -> None:
    other = ball((5, 40, 50), 5)
    [(place, sign)] = ring(5, 20, 20, radius).contradictions(other, SPACING)
    np.testing.assert_allclose(place, (5, 20, 20), atol=1.0)
    assert sign
    mask = other.copy()
    ring(5, 20, 20, radius).shape(mask, ALL, SPACING, other)
    assert mask[5, 20, 20]
    np.testing.assert_array_equal(mask[ball((5, 40, 50), 5)], True)


def test_too_much_and_too_little_are_told_and_what_fits_is_not() -> None:
    mask = ball((5, 25, 30), 9.0)
    assert ring(5, 25, 30, 10).contradictions(mask, SPACING) == []
    assert ring(5, 25, 30, 11.5).contradictions(mask, SPACING) == [], "lines are drawn a little wide"
    assert box((5, 15, 20), (5, 35, 40)).contradictions(mask, SPACING) == [], "a box has corners"
    (missed, is_in), (beyond, is_out) = ring(5, 25, 38, 10).contradictions(mask, SPACING)
    assert (is_in, is_out) == (True, False)
    assert missed[2] > 40
    assert beyond[2] < 28
    [(place, sign)] = box((5, 5, 10), (5, 45, 50)).contradictions(mask, SPACING)
    assert sign
    assert np.abs(place[1:] - (25, 30)).max() > 10
    [(place, sign)] = ring(5, 25, 38, 6, positive=False).contradictions(mask, SPACING)
    assert not sign
    assert ring(9, 25, 38, 6, positive=False).contradictions(mask, SPACING) == []


def test_what_a_lasso_may_be_drawn_round_is_about_as_large() -> None:
    held = np.zeros(SHAPE, bool)
    held[ring(5, 25, 30, 4).surroundings(ALL, SPACING)] = True
    assert held[ring(5, 25, 30, 5).within(ALL)].all()
    size = np.array([np.ptp(np.nonzero(held)[axis]) + 1 for axis in range(3)]) * SPACING
    np.testing.assert_allclose(size, (2 * 7.2 + 2.5, 2 * 5.4 + 0.9, 2 * 5.4 + 0.9), atol=2.6)
    part = (slice(8, 10), slice(0, 20), slice(0, 60))
    inside = np.zeros((2, 20, 60), bool)
    inside[ring(5, 25, 30, 4).surroundings(part, SPACING)] = True
    np.testing.assert_array_equal(inside, held[part])


def test_a_lasso_shapes_its_slice_alone_and_spares_what_it_does_not_meet() -> None:
    before = ball((5, 25, 20), 9.0)
    bridged = before.copy()
    bridged[5, 25, 20:50] = True
    ring(5, 25, 46, 5).shape(bridged, ALL, SPACING, before)
    np.testing.assert_array_equal(bridged[5] & ~disc(25, 46, 6), before[5])
    assert bridged[5][disc(25, 46, 2.5)].all()
    np.testing.assert_array_equal(np.delete(bridged, 5, 0), np.delete(before, 5, 0))
    first = before.copy()
    ring(5, 25, 20, 5).shape(first, ALL, SPACING, None)
    assert not (first[5] & ~disc(25, 20, 6)).any()
    np.testing.assert_array_equal(np.delete(first, 5, 0), np.delete(before, 5, 0))
