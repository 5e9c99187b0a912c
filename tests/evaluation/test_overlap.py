"""Overlap figures against MONAI and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_iou

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.overlap import dice, overlap

SHAPE = (6, 8, 10)


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_iou_agree_with_monai(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, reference = rng.random((2, *SHAPE)) < rng.uniform(0.1, 0.9)
    ours = overlap(mask, reference)
    a, b = torch.from_numpy(mask)[None, None].float(), torch.from_numpy(reference)[None, None].float()
    assert ours.dice == pytest.approx(float(compute_dice(a, b)))
    assert ours.iou == pytest.approx(float(compute_iou(a, b)))


def test_ratios_by_hand() -> None:
    mask, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[0, 0, :8] = 1
    mask[0, 0, 6:10] = 3
    ours = overlap(mask, reference)
    assert (ours.n_common, ours.n_mask, ours.n_reference) == (2, 4, 8)
    assert ours.dice == pytest.approx(4 / 12)
    assert ours.iou == pytest.approx(2 / 10)
    assert ours.sensitivity == pytest.approx(2 / 8)
    assert ours.precision == pytest.approx(2 / 4)
    assert ours.volume_difference_percent == pytest.approx(-50)


def test_two_empty_masks_agree() -> None:
    ours = overlap(np.zeros(SHAPE), np.zeros(SHAPE))
    assert (ours.dice, ours.iou, ours.volume_difference_percent) == (1.0, 1.0, 0.0)
    assert math.isnan(ours.sensitivity)
    assert math.isnan(ours.precision)


def test_an_empty_mask_overlaps_with_nothing() -> None:
    full = np.ones(SHAPE)
    assert dice(np.zeros(SHAPE), full) == dice(full, np.zeros(SHAPE)) == 0.0
    assert overlap(np.zeros(SHAPE), full).volume_difference_percent == -100.0
    assert math.isnan(overlap(full, np.zeros(SHAPE)).volume_difference_percent)


def test_other_shape_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"shape \(6, 8, 10\).*reference of \(6, 10, 8\)"):
        dice(np.zeros(SHAPE), np.zeros((6, 10, 8)))
