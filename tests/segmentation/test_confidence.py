"""Confidence: what is kept with an answer, and where a second look is worth most."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.automatic import labels_with_confidence
from napari_medseg.segmentation.classical import GeodesicSegmenter
from napari_medseg.segmentation.confidence import confidence_of, without_doubt_at
from napari_medseg.segmentation.doubt import doubtful_regions, reach_of
from napari_medseg.segmentation.prompts import Click

SPACING = (2.0, 1.0, 1.0)
AFFINE = np.array([[0, 0, -1, 40], [0, -1, 0, 31], [2, 0, 0, -80], [0, 0, 0, 1]], float)


def soft_ball(shape: tuple[int, int, int] = (30, 60, 70), radius_mm: float = 15.0) -> np.ndarray:
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = sum(((g - c) * s) ** 2 for g, c, s in zip(grid, (15, 30, 35), SPACING, strict=True)) ** 0.5
    return 1 / (1 + np.exp(distance - radius_mm))


def whole(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def test_confidence_is_the_probability_of_the_answer_that_was_given() -> None:
    probability = np.array([[[0.9, 0.6, 0.2, 0.0]]])
    confidence = confidence_of(probability, np.array([[[1, 0, 0, 1]]]), whole((1, 1, 4)))
    np.testing.assert_allclose(confidence.whole((1, 1, 4)).ravel(), [0.9, 0.4, 0.8, 0.0], atol=0.005)


def test_outside_of_its_region_there_is_no_doubt() -> None:
    confidence = confidence_of(np.full((1, 2, 2), 0.5), np.ones((1, 2, 2)), (slice(1, 2), slice(0, 2), slice(2, 4)))
    everywhere = confidence.whole((3, 4, 5))
    assert (everywhere < 1).sum() == 4
    assert (everywhere[1, 0:2, 2:4] < 0.51).all()


def test_the_thick_doubt_comes_first_and_the_thin_border_is_no_region() -> None:
    probability = soft_ball()
    probability[10:18, 40:52, 20:34] = 0.5
    probability[22:25, 8:14, 40:46] = 0.45
    confidence = confidence_of(probability, probability > 0.5, whole(probability.shape))
    found = doubtful_regions(confidence, SPACING)
    assert len(found) >= 2
    z, y, x = found[0].index
    assert 10 <= z < 18
    assert 40 <= y < 52
    assert 20 <= x < 34
    assert found[0].volume_ml == pytest.approx(8 * 12 * 14 * 2 / 1000, rel=0.5)
    assert any(22 <= r.index[0] < 25 and 8 <= r.index[1] < 14 for r in found[1:])
    sizes = [r.volume_ml for r in found]
    assert sizes == sorted(sizes, reverse=True)


def test_what_the_user_settled_is_not_doubtful() -> None:
    probability = soft_ball()
    probability[10:18, 40:52, 20:34] = 0.5
    confidence = confidence_of(probability, probability > 0.5, whole(probability.shape))
    settled = np.zeros(probability.shape, bool)
    settled[9:19, 38:54, 18:36] = True
    assert all(not settled[r.index] for r in doubtful_regions(confidence, SPACING, settled=settled))
    assert doubtful_regions(confidence, SPACING, settled=np.ones(probability.shape, bool)) == ()


def test_an_answer_without_doubt_has_no_doubtful_regions() -> None:
    sharp = np.zeros((8, 9, 10))
    sharp[2:5, 2:5, 2:5] = 1.0
    assert doubtful_regions(confidence_of(sharp, sharp > 0.5, whole(sharp.shape)), SPACING) == ()


def test_there_is_no_doubt_where_the_user_clicked() -> None:
    confidence = confidence_of(np.full((20, 30, 40), 0.5), np.ones((20, 30, 40)), whole((20, 30, 40)))
    x, y, z = (AFFINE @ (10, 15, 20, 1))[:3]
    sure = without_doubt_at(confidence, [Click((x, y, z))], AFFINE, SPACING)
    assert sure.values[10, 15, 20] == 255
    assert sure.values[2, 2, 2] == 128
    assert confidence.values[10, 15, 20] == 128


def test_several_labels_doubt_each_other() -> None:
    probabilities = torch.zeros(2, 1, 1, 4)
    probabilities[:, 0, 0, :] = torch.tensor([[0.9, 0.6, 0.3, 0.0], [0.0, 0.55, 0.0, 0.0]])
    data, confidence = labels_with_confidence(probabilities, (1, 1, 4), [3, 7])
    assert data.ravel().tolist() == [3, 3, 0, 0]
    np.testing.assert_allclose(confidence.whole((1, 1, 4)).ravel(), [0.9, 0.45, 0.7, 1.0], atol=0.005)


def test_answers_carry_their_confidence() -> None:
    truth = soft_ball() > 0.5
    noisy = 40 + 60 * truth + np.random.default_rng(0).normal(0, 10, truth.shape)
    volume = Volume(noisy.astype(np.int16), AFFINE)
    x, y, z = volume.position_of((15, 30, 35))
    mask = GeodesicSegmenter().segment(volume, [Click((x, y, z))])
    assert mask.confidence is not None
    sure = mask.confidence.whole(mask.data.shape)
    assert sure[15, 30, 35] == 1
    assert sure.min() < 0.8 < np.median(sure)


def test_doubt_round_a_large_lesion_falls_into_places_that_an_eye_can_judge() -> None:
    shape, spacing = (50, 70, 70), (3.0, 2.0, 2.0)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = (((z - 25) * 3) ** 2 + ((y - 35) * 2) ** 2 + ((x - 35) * 2) ** 2) ** 0.5
    probability = np.clip(1 - (distance - 30) / 30, 0, 1)  # a border 30 mm wide all round
    probability[40:44, 30:40, 30:40] = 0.5
    mask = probability > 0.5
    found = doubtful_regions(confidence_of(probability, mask, whole(shape)), spacing, reach_mm=reach_of(380.0))
    assert 2 < len(found) <= 9
    assert max(region.volume_ml for region in found) < 60, "one of at most 1.5 times the reach"
    gains = [region.gain_ml for region in found]
    assert gains == sorted(gains, reverse=True)
    assert 0 < gains[0] < 0.5 * found[0].volume_ml


def test_the_slice_with_most_doubt_is_shown() -> None:
    probability = np.zeros((20, 30, 30))
    probability[5:15, 5:25, 5:25] = 1.0
    probability[8:12, 10:16, 10:16] = 0.75
    probability[10, 10:16, 10:16] = 0.5
    confidence = confidence_of(probability, probability > 0.5, whole(probability.shape))
    assert doubtful_regions(confidence, (2.0, 1.0, 1.0))[0].index[0] == 10


@pytest.mark.parametrize(("lesion_ml", "expected"), [(0.0, 5.0), (33.5, 10.0), (620.0, 18.0)])
def test_a_place_is_half_as_wide_as_its_lesion_within_limits(lesion_ml: float, expected: float) -> None:
    assert reach_of(lesion_ml) == pytest.approx(expected, rel=0.01)
