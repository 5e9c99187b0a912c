"""Views: where they look, what they draw, and the way back onto the scan's grid."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.imaging.view import reach_of
from napari_medseg.segmentation.prompts import Box, Click, Lasso, Scribble
from napari_medseg.segmentation.views import (
    BOX,
    IMAGE,
    NEGATIVE,
    POSITIVE,
    PREVIOUS,
    VALID,
    WINDOW,
    View,
    paste,
    prompts_in_array,
    render,
    sample,
)

SPACING = (3.0, 1.0, 0.8)
SHAPE = (14, 40, 52)
AFFINE = np.array([[0, 0, -0.8, 30.0], [0, -1.0, 0, 12.0], [3.0, 0, 0, -50.0], [0, 0, 0, 1.0]])


def ball(centre: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    grid = np.indices(SHAPE).astype(float)
    squared = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING, strict=True))
    return squared <= radius_mm**2


def test_a_sampled_ramp_keeps_its_world_positions() -> None:
    z, y, x = np.indices(SHAPE).astype(float)
    ramp = 3.0 * z + 1.0 * y + 0.8 * x
    view = View(np.array([7.0, 20.0, 26.0]), 20.0, 16)
    expected = sum(
        (c * s).reshape(shape)
        for c, s, shape in zip(view.coordinates(SPACING), SPACING, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    )
    np.testing.assert_allclose(sample(ramp, view, SPACING), expected, atol=0.1)


def test_zooming_out_averages_instead_of_skipping() -> None:
    noise = np.random.default_rng(0).standard_normal((64, 64, 64)).astype(np.float32)
    far = sample(noise, View(np.full(3, 31.5), 64.0, 16), (1.0, 1.0, 1.0))
    assert far.std() < 0.35
    assert abs(float(far.mean()) - float(noise.mean())) < 0.02


@pytest.mark.parametrize("extent", [9.0, 60.0])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_axes_are_averaged_in_any_order_and_in_pieces_alike(
    extent: float, dtype: type[np.generic], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    view = View(np.array([7.0, 20.0, 26.0]), extent, 16)
    for array in (scan, scan.T.copy().T, np.asfortranarray(scan)):
        monkeypatch.setattr("napari_medseg.imaging.view._CACHED_VALUES", 1 << 18)
        whole, spread = sample(array, view, SPACING), paste(sample(array, view, SPACING), view, SHAPE, SPACING)[0]
        monkeypatch.setattr("napari_medseg.imaging.view._CACHED_VALUES", 100)
        np.testing.assert_array_equal(sample(array, view, SPACING), whole)
        np.testing.assert_array_equal(paste(whole, view, SHAPE, SPACING)[0], spread)
        turned = View(view.centre[::-1], extent, 16)
        np.testing.assert_allclose(sample(array.T, turned, SPACING[::-1]), whole.T, atol=1e-3)
        np.testing.assert_allclose(paste(whole.T, turned, SHAPE[::-1], SPACING[::-1])[0], spread.T, atol=1e-3)


def test_a_mask_survives_the_way_into_a_view_and_back() -> None:
    mask = ball((7, 20, 26), 9.0)
    view = View(np.array([7.0, 20.0, 26.0]), 26.0, 64)
    back, region = paste(sample(mask, view, SPACING), view, SHAPE, SPACING)
    again = np.zeros(SHAPE, bool)
    again[region] = back > 0.5
    overlap = 2 * (again & mask).sum() / (again.sum() + mask.sum())
    assert overlap > 0.98


def test_only_what_lies_in_a_box_is_pasted() -> None:
    view = View(np.array([20.0, 20.0, 20.0]), 24.0, 32)
    values = np.random.default_rng(0).random((32, 32, 32)).astype(np.float32)
    whole, region = paste(values, view, (40, 40, 40), (1.0, 1.0, 1.0))
    box = (slice(15, 20), slice(0, 25), slice(30, 40))
    part, where = paste(values, view, (40, 40, 40), (1.0, 1.0, 1.0), box)
    assert where == tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(region, box, strict=True))
    inner = tuple(slice(w.start - r.start, w.stop - r.start) for w, r in zip(where, region, strict=True))
    np.testing.assert_allclose(part, whole[inner], rtol=1e-6)


@pytest.mark.parametrize("extent", [6.0, 24.0, 90.0])
def test_the_reach_of_points_holds_all_that_they_have_a_say_in(extent: float) -> None:
    view, spacing = View(np.array([20.0, 18.0, 22.0]), extent, 32), (1.0, 1.5, 0.7)
    wanted = np.zeros((32, 32, 32), bool)
    wanted[10:14, 20, 9:30] = True
    whole, region = paste(wanted.astype(np.float32), view, (40, 40, 40), spacing)
    array = np.zeros((40, 40, 40), np.float32)
    array[region] = whole
    whole_array = tuple(slice(0, n) for n in array.shape)
    reach = reach_of(wanted, view, whole_array, spacing)
    assert reach is not None
    assert array[reach].sum() == array.sum() > 0
    assert reach_of(np.zeros_like(wanted), view, whole_array, spacing) is None
    assert reach_of(wanted, view, (slice(39, 40),) * 3, spacing) is None or extent > 30


def test_prompts_are_drawn_where_they_are() -> None:
    volume = np.random.default_rng(1).normal(100, 5, SHAPE).astype(np.float32)
    positive, negative = (7, 20, 26), (9, 30, 40)
    position = [tuple((AFFINE @ np.append(i, 1.0))[:3]) for i in (positive, negative)]
    prompts = prompts_in_array([Click(position[0]), Click(position[1], positive=False)], AFFINE)
    np.testing.assert_allclose(prompts.points[prompts.signs], [positive], atol=1e-9)
    view = View(np.array(positive, float), 40.0, 48)
    out = render(volume, view, SPACING, prompts, ball(positive, 5.0))
    for channel, index in ((POSITIVE, positive), (NEGATIVE, negative)):
        hottest = np.unravel_index(out[channel].argmax(), out[channel].shape)
        np.testing.assert_allclose(hottest, view.point_of(np.array(index, float), SPACING), atol=0.51)
    assert out[PREVIOUS].max() > 0.9
    assert abs(out[WINDOW][24, 24, 24]) < 0.9


def test_nothing_is_seen_outside_the_scan() -> None:
    out = render(np.full(SHAPE, 7.0, np.float32), View(np.zeros(3), 200.0, 32), SPACING)
    outside = out[VALID] == 0
    assert outside.mean() > 0.8
    assert not out[IMAGE][outside].any()
    assert out[VALID].sum() == pytest.approx((42 / 200 * 32) * (40 / 200 * 32) * (41.6 / 200 * 32), rel=0.35)


def test_a_box_on_one_slice_has_no_end_across_it() -> None:
    corner, opposite = ((AFFINE @ np.array([7, y, x, 1.0]))[:3] for y, x in ((10, 15), (30, 40)))
    prompts = prompts_in_array([Box(tuple(corner), tuple(opposite))], AFFINE)
    out = render(np.zeros(SHAPE, np.float32), View(np.array([7.0, 20.0, 26.0]), 60.0, 48), SPACING, prompts)
    assert (out[BOX].max((1, 2)) == 1).all()
    along_y = np.flatnonzero(out[BOX][24].any(1))
    assert (along_y[-1] - along_y[0] + 1) * 60 / 48 == pytest.approx(21.6, abs=1.5)


def test_a_scribble_becomes_points_a_voxel_apart() -> None:
    ends = [tuple((AFFINE @ np.append(i, 1.0))[:3]) for i in ((7, 20, 10), (7, 20, 30))]
    prompts = prompts_in_array([Scribble(tuple(ends), positive=False)], AFFINE)
    assert len(prompts.points) == 21
    assert not prompts.signs.any()
    np.testing.assert_allclose(np.diff(prompts.points[:, 2]), 1.0)


@pytest.mark.parametrize("axis", range(3))
def test_a_lasso_is_seen_as_the_box_round_it_in_every_slice(axis: int) -> None:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    middle = np.array([7.0, 20.0, 26.0])
    ring = np.insert(np.stack([np.sin(turn), np.cos(turn)], 1) * 9.0, axis, 0.0, axis=1) / SPACING + middle
    lasso = Lasso(tuple(tuple(p) for p in (AFFINE @ np.c_[ring, np.ones(40)].T)[:3].T))
    prompts = prompts_in_array([lasso], AFFINE)
    out = render(np.zeros(SHAPE, np.float32), View(middle, 60.0, 48), SPACING, prompts)
    held = out[BOX] > 0
    assert (held == held.take([24], axis)).all()
    assert held.take(24, axis).sum() == pytest.approx((18 * 48 / 60) ** 2, rel=0.25)
    np.testing.assert_allclose(prompts.areas[0].middle(SPACING) * SPACING, middle * SPACING, atol=1.6)
    enclosed = prompts.areas[0].within([slice(0, n) for n in SHAPE]).take(round(middle[axis]), axis)
    pitch = np.prod(np.delete(SPACING, axis))
    assert enclosed.sum() * pitch == pytest.approx(np.pi * 9**2, rel=0.1)


def test_older_prompts_fade() -> None:
    position = tuple((AFFINE @ np.array([7, 20, 26, 1.0]))[:3])
    prompts = prompts_in_array([Click(position), Click((0.0, 0.0, -30.0), positive=False)], AFFINE)
    assert prompts.ages.tolist() == [0, 1] or prompts.ages.tolist() == [1, 0]
    assert prompts.ages[prompts.signs].tolist() == [1]
