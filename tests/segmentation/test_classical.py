"""The classical segmenter: balls of any size and contrast, corrections obeyed, little time, no torch."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.classical import GeodesicSegmenter
from napari_medseg.segmentation.prompts import Box, Click, Scribble
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


def test_scribbles_and_pictures_are_welcome_and_refusals_are_sentences() -> None:
    model = GeodesicSegmenter()
    picture = Volume((100 * ball((1, 90, 100), (0, 40, 50), 15.0)).astype(np.uint8), AFFINE)
    line = tuple(tuple(float(v) for v in picture.position_of((0, 40, x))) for x in (45, 50, 55))
    mask = model.segment(picture, [Scribble(line)])
    assert dice(mask.data, picture.data > 0) > 0.9
    assert "needs a click" in model.segment(picture).warnings[0]
    with pytest.raises(ModelError, match="boxes alone"):
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
    code = "import sys, napari_medseg.segmentation.classical; sys.exit('torch' in sys.modules)"
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
