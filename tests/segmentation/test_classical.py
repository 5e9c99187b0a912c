"""The classical segmenter: balls of any size and contrast, corrections obeyed, little time, no torch."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.classical import GeodesicSegmenter
from napari_medseg.segmentation.prompts import Box, Click, Lasso, Scribble
from napari_medseg.segmentation.random_walk import random_walk
from napari_medseg.segmentation.rays import search_rays

SPACING = (2.5, 0.9, 0.9)
AFFINE = np.array([[0, 0, -0.9, 40.0], [0, -0.9, 0, 31.0], [2.5, 0, 0, -80.0], [0, 0, 0, 1.0]])


def ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius_mm: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING, strict=True)) <= radius_mm**2


def scan(lesion: np.ndarray, *, contrast: float = 60.0, noise: float = 8.0) -> Volume:
    values = 40 + contrast * lesion + np.random.default_rng(3).normal(0, noise, lesion.shape)
    return Volume(values.astype(np.int16), AFFINE, name="phantom")


def at(volume: Volume, index: tuple[float, float, float], *, positive: bool = True) -> Click:
    x, y, z = volume.position_of(index)
    return Click((float(x), float(y), float(z)), positive=positive)


def box(volume: Volume, low: tuple[int, ...], high: tuple[int, ...], *, positive: bool = True) -> Box:
    corner, opposite = (tuple(float(v) for v in volume.position_of(index)) for index in (low, high))
    return Box(corner, opposite, positive=positive)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2.0 * ((mask > 0) & truth).sum() / ((mask > 0).sum() + truth.sum())


@pytest.mark.parametrize("radius_mm", [4.0, 11.0, 30.0])
@pytest.mark.parametrize("contrast", [60.0, -60.0])
def test_one_click_finds_balls_of_any_size(radius_mm: float, contrast: float) -> None:
    lesion = ball((44, 120, 130), (20, 62, 58), radius_mm)
    volume = scan(lesion, contrast=contrast)
    mask = GeodesicSegmenter().segment(volume, [at(volume, (20, 62, 58))])
    assert dice(mask.data, lesion) > (0.75 if radius_mm < 5 else 0.88)
    assert np.array_equal(mask.affine, volume.affine)
    assert mask.data.dtype == np.uint8


def test_a_click_off_the_middle_still_finds_the_whole() -> None:
    lesion = ball((44, 120, 130), (20, 62, 58), 20.0)
    volume = scan(lesion)
    mask = GeodesicSegmenter().segment(volume, [at(volume, (22, 70, 64))])
    assert dice(mask.data, lesion) > 0.85


def test_corrections_add_and_take_away_and_are_obeyed() -> None:
    lesion, neighbour = (ball((30, 100, 110), (15, 50, x), 12.0) for x in (35, 72))
    volume = scan(lesion | neighbour)
    model = GeodesicSegmenter()
    clicks = [at(volume, (15, 50, 35))]
    first = model.segment(volume, clicks)
    clicks.append(at(volume, (15, 50, 72)))
    both = model.segment(volume, clicks, previous=first)
    assert dice(both.data, lesion | neighbour) > 0.8
    assert ((both.data > 0) >= (first.data > 0)).all()
    clicks.append(at(volume, (15, 50, 80), positive=False))
    less = model.segment(volume, clicks, previous=both)
    assert less.data[15, 50, 80] == 0
    assert less.data[15, 50, 35] == less.data[15, 50, 72] == 1
    assert ((less.data > 0) <= (both.data > 0)).all()


def test_a_correction_leaves_other_parts_as_they_were() -> None:
    one, other = (ball((30, 100, 110), (15, 50, x), 11.0) for x in (30, 80))
    volume = scan(one | other)
    before = LabelMap((one | other).astype(np.uint8), AFFINE)
    before.data[15, 50, 42:48] = 1  # spilt out of the first
    model = GeodesicSegmenter()
    for index, positive in (((15, 50, 30), True), ((15, 50, 46), False)):
        after = model.segment(volume, [at(volume, index, positive=positive)], previous=before).data
        assert np.array_equal(after[..., 60:], before.data[..., 60:])
        assert after[15, 50, 46] == positive
        assert dice(after[..., :60], one[..., :60]) > 0.95


def test_background_alone_takes_away_from_a_mask_and_needs_one() -> None:
    lesion, spilt = ball((30, 100, 110), (15, 50, 40), 14.0), ball((30, 100, 110), (15, 50, 60), 8.0)
    volume = scan(lesion)
    too_much = LabelMap((lesion | spilt).astype(np.uint8), AFFINE)
    away = [at(volume, (15, 50, 63), positive=False)]
    less = GeodesicSegmenter().segment(volume, away, previous=too_much).data > 0
    assert (less <= (too_much.data > 0)).all()
    assert dice(less, lesion) > 0.97
    with pytest.raises(ModelError, match="only background"):
        GeodesicSegmenter().segment(volume, away)


def test_boxes_beside_a_click_cut_the_answer_off() -> None:
    lesion = ball((30, 100, 110), (15, 50, 50), 20.0)
    volume = scan(lesion)
    model, click = GeodesicSegmenter(), at(volume, (15, 50, 50))
    whole = model.segment(volume, [click]).data > 0
    held, empty = np.zeros_like(whole), np.zeros_like(whole)
    held[9:20, 40:61, 38:63], empty[9:20, 55:71, 30:71] = True, True
    assert (whole & ~held).any()
    assert (whole & empty).any()
    round_it, beside_it = box(volume, (9, 40, 38), (19, 60, 62)), box(volume, (9, 55, 30), (19, 70, 70), positive=False)
    assert np.array_equal(model.segment(volume, [round_it, click]).data > 0, whole & held)
    rest = model.segment(volume, [click, beside_it]).data > 0
    assert not (rest & empty).any()
    assert dice(rest, whole & ~empty) > 0.99


def test_a_box_corrects_the_mask_so_far_only_where_it_is() -> None:
    one, other = (ball((30, 100, 110), (15, 50, x), 11.0) for x in (30, 80))
    volume = scan(one | other)
    before = LabelMap((one | other).astype(np.uint8), AFFINE)
    model, low, high = GeodesicSegmenter(), (12, 45, 20), (18, 55, 36)
    inside = np.zeros_like(one)
    inside[12:19, 45:56, 20:37] = True
    emptied = model.segment(volume, [box(volume, low, high, positive=False)], previous=before).data > 0
    assert np.array_equal(emptied, (one | other) & ~inside)
    cut = model.segment(volume, [box(volume, low, high)], previous=before).data > 0
    assert np.array_equal(cut & ~inside, other)
    assert dice(cut & inside, one & inside) > 0.95


def test_a_click_outside_the_box_adds_what_is_there_and_nothing_between() -> None:
    one, other = (ball((30, 100, 110), (15, 50, x), 11.0) for x in (30, 80))
    volume = scan(one | other)
    prompts = [box(volume, (9, 40, 20), (21, 60, 36)), at(volume, (15, 50, 30))]
    first = GeodesicSegmenter().segment(volume, prompts)
    both = GeodesicSegmenter().segment(volume, [*prompts, at(volume, (15, 50, 80))], previous=first).data > 0
    assert np.array_equal(both[..., :55], first.data[..., :55] > 0)
    assert dice(both[..., 55:], other[..., 55:]) > 0.8


def test_a_lasso_ends_the_lesion_on_its_slice_alone() -> None:
    lesion = ball((30, 80, 90), (15, 40, 45), 12.0)
    volume = scan(lesion)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = [(11, 40 + 4 * np.sin(t), 45 + 4 * np.cos(t)) for t in turn]
    lasso = Lasso(tuple(tuple(map(float, volume.position_of(p))) for p in points))
    prompts = [Click(tuple(map(float, volume.position_of((15, 40, 45))))), lasso]
    before = LabelMap(lesion.astype(np.uint8), AFFINE)
    after = GeodesicSegmenter().segment(volume, prompts, previous=before).data > 0
    assert 0 < after[11].sum() <= 70
    overlap = 2 * (after & lesion).sum() / (after.sum() + lesion.sum())
    assert overlap > 0.85


def test_a_box_drawn_on_one_slice_does_not_end_the_lesion_there() -> None:
    volume = scan(ball((30, 100, 110), (15, 50, 50), 20.0))
    click, flat = at(volume, (15, 50, 50)), box(volume, (15, 40, 40), (15, 60, 60))
    found = np.argwhere(GeodesicSegmenter().segment(volume, [flat, click]).data)
    assert found[:, 0].min() < 10 < 20 < found[:, 0].max()
    assert (found.min(0)[1:] >= 40).all()
    assert (found.max(0)[1:] <= 60).all()


def test_what_no_segmenter_can_answer_is_refused() -> None:
    volume = scan(ball((12, 40, 44), (6, 20, 20), 8.0))
    other_grid = LabelMap(np.ones((12, 40, 40), np.uint8), AFFINE)
    click = at(volume, (6, 20, 20))
    with pytest.raises(ModelError, match="another grid"):
        GeodesicSegmenter().segment(volume, [click], previous=other_grid)
    for outside in (Click((5000.0, 0.0, 0.0)), Click((float("nan"), 0.0, 0.0))):
        with pytest.raises(ModelError, match="outside the scan"):
            GeodesicSegmenter().segment(volume, [click, outside])
    with pytest.raises(ModelError, match="corner of the box"):
        GeodesicSegmenter().segment(volume, [click, Box((float("nan"), 0.0, 0.0), (1.0, 1.0, 1.0))])


def test_scribbles_and_pictures_are_welcome_and_refusals_are_sentences() -> None:
    model = GeodesicSegmenter()
    picture = Volume((100 * ball((1, 90, 100), (0, 40, 50), 15.0)).astype(np.uint8), AFFINE)
    line = tuple(tuple(float(v) for v in picture.position_of((0, 40, x))) for x in (45, 50, 55))
    mask = model.segment(picture, [Scribble(line)])
    assert dice(mask.data, picture.data > 0) > 0.9
    assert "needs a click" in model.segment(picture).warnings[0]
    with pytest.raises(ModelError, match="boxes and lassos"):
        model.segment(picture, [Box(line[0], line[2])])
    with pytest.raises(Cancelled):
        model.segment(picture, [Scribble(line)], should_stop=lambda: True)


def test_a_scan_without_any_contrast_still_gives_the_clicked_voxel() -> None:
    flat = Volume(np.zeros((12, 40, 44), np.int16), AFFINE)
    assert GeodesicSegmenter().segment(flat, [at(flat, (6, 20, 20))]).data[6, 20, 20] == 1


def test_it_answers_in_half_a_second_of_processor_time_on_a_large_scan() -> None:
    lesion = np.zeros((150, 320, 320), np.int16)
    lesion[60:80, 100:150, 100:150] = 100
    volume = Volume(lesion, AFFINE)
    model, click = GeodesicSegmenter(), at(volume, (70, 125, 125))
    model.segment(volume, [click])
    start = time.process_time()
    model.segment(volume, [click])
    assert time.process_time() - start < 0.5


def test_it_needs_no_torch() -> None:
    code = """
import sys
import numpy as np
from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.classical import GeodesicSegmenter
from napari_medseg.segmentation.prompts import Click, Lasso
GeodesicSegmenter().segment(Volume(np.zeros((8, 9, 10), np.int16), np.eye(4)[[2, 1, 0, 3]]), [Click((5, 4, 3))])
sys.exit('torch' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_surface_along_rays_has_the_balls_radius() -> None:
    lesion = ball((44, 120, 130), (20, 62, 58), 20.0)
    surface = search_rays(scan(lesion).data, np.array([20.0, 62.0, 58.0]), SPACING).best()
    assert np.median(surface.radii_mm) == pytest.approx(20.0, rel=0.2)
    inside = surface.signed_distance_mm(np.array([[0.0, 0.0, 1.0], [0.0, 60.0, 0.0]]))
    assert inside[0] > 15
    assert inside[1] < -30


def test_a_random_walk_stops_at_edges_and_keeps_to_its_seeds() -> None:
    image = np.zeros((8, 12, 16), np.float32)
    image[:, :, 9:] = 10.0
    opinion = np.full(image.shape, 0.5, np.float32)
    seeds = np.full(image.shape, 0.5, np.float32)
    seeds[:, :, 1], seeds[:, :, 14] = 1.0, 0.0
    u = random_walk(image, opinion, seeds, strictness=0.5, trust=0.005)
    assert u[4, 6, :8].min() > 0.55
    assert u[4, 6, 9:].max() < 0.45
    assert u[4, 6, 1] == pytest.approx(1.0, abs=0.02)
    assert u[4, 6, 14] == pytest.approx(0.0, abs=0.02)
