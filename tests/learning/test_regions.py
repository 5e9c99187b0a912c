"""Regions that nobody outlined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_medseg.evaluation.overlap import overlap
from napari_medseg.learning.regions import draw_region, find_regions
from napari_medseg.learning.samples import LabelledScan, draw_samples

SPACING = (3.0, 1.0, 1.0)


def ball(centre: tuple[float, float, float], radius_mm: float) -> NDArray[np.bool_]:
    grid = np.ogrid[:20, :60, :60]
    squared = [((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING, strict=True)]
    return squared[0] + squared[1] + squared[2] <= radius_mm**2


@pytest.fixture
def organ() -> NDArray[np.bool_]:
    return ball((10, 20, 20), 12)


@pytest.fixture
def lesion() -> NDArray[np.bool_]:
    return ball((10, 42, 42), 9)


@pytest.fixture
def image(organ: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(0, 3, organ.shape)
    return np.where(organ, 200, np.where(lesion, 260, 120)).astype(np.float32) + noise.astype(np.float32)


def test_an_edge_encloses_a_region(image: NDArray[np.float32], organ: NDArray[np.bool_]) -> None:
    found = find_regions(image, np.zeros(image.shape, bool), SPACING)
    drawn = [draw_region(np.random.default_rng(k), found, image.shape) for k in range(20)]
    assert all(mask.shape == image.shape and mask.any() for mask in drawn)
    assert max(overlap(mask, organ).dice for mask in drawn) > 0.85


def test_lesions_are_no_regions(image: NDArray[np.float32], lesion: NDArray[np.bool_]) -> None:
    found = find_regions(image, lesion, SPACING)
    drawn = [draw_region(np.random.default_rng(k), found, image.shape) for k in range(20)]
    assert max(overlap(mask, lesion).dice for mask in drawn) < 0.2


def test_noise_has_no_regions() -> None:
    noise = np.random.default_rng(1).normal(100, 1, (20, 40, 40)).astype(np.float32)
    assert sum(len(found.usable) for found in find_regions(noise, noise > np.inf, SPACING)) < 5


def test_real_views_ask_for_regions_too(image: NDArray[np.float32], lesion: NDArray[np.bool_]) -> None:
    plain = LabelledScan(image, lesion, SPACING, "group", "patient")
    rich = replace(plain, regions=find_regions(image, lesion, SPACING))

    def truths(scan: LabelledScan, region_share: float) -> NDArray[np.float32]:
        rng = np.random.default_rng(0)
        drawn = draw_samples(rng, [scan], n=12, size=32, synthetic_share=0.0, region_share=region_share)
        return np.stack([s.truth for s in drawn])

    lesions = truths(plain, 0.0)
    assert np.array_equal(truths(plain, 1.0), lesions)  # a scan without regions asks for its lesion
    assert np.array_equal(truths(rich, 0.0), lesions)
    assert not np.array_equal(truths(rich, 1.0), lesions)
