"""Lesions found and lesions made up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.detection import detection_figures

SHAPE = (8, 20, 30)


def _with(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        mask[box] = 1
    return mask


FIRST = np.s_[1:4, 2:6, 2:6]
SECOND = np.s_[1:4, 2:6, 12:16]
THIRD = np.s_[5:7, 12:16, 20:25]


def test_found_missed_and_made_up() -> None:
    figures = detection_figures(_with(FIRST, THIRD), _with(FIRST, SECOND))
    assert (figures.n_reference, figures.n_found, figures.n_proposed, figures.n_real) == (2, 1, 2, 1)
    assert figures.recall == figures.precision == figures.f1 == 0.5


def test_labels_are_not_told_apart() -> None:
    assert detection_figures(_with(FIRST) * 7, _with(FIRST)).f1 == 1.0


def test_one_component_over_two_lesions_finds_both() -> None:
    figures = detection_figures(_with(np.s_[1:4, 2:6, 2:16]), _with(FIRST, SECOND))
    assert (figures.recall, figures.precision) == (1.0, 1.0)


def test_drowning_a_small_lesion_is_not_real() -> None:
    figures = detection_figures(np.ones(SHAPE), _with(FIRST))
    assert (figures.recall, figures.precision, figures.f1) == (1.0, 0.0, 0.0)


def test_a_touch_is_not_enough() -> None:
    touch = _with(np.s_[3:4, 5:6, 5:6])
    assert detection_figures(touch, _with(FIRST), min_cover=0.1).n_found == 0
    assert detection_figures(touch, _with(FIRST), min_cover=1 / 48).n_found == 1


def test_corners_join_lesions_only_where_asked() -> None:
    diagonal = _with(np.s_[0:2, 0:2, 0:2], np.s_[2:4, 2:4, 2:4])
    assert detection_figures(diagonal, diagonal).n_reference == 1
    assert detection_figures(diagonal, diagonal, connectivity=6).n_reference == 2


def test_nothing_on_one_side_or_both() -> None:
    none, some = np.zeros(SHAPE), _with(FIRST)
    assert detection_figures(none, none).f1 == 1.0
    missed = detection_figures(none, some)
    assert (missed.recall, missed.f1) == (0.0, 0.0)
    assert math.isnan(missed.precision)
    made_up = detection_figures(some, none)
    assert (made_up.precision, made_up.f1) == (0.0, 0.0)
    assert math.isnan(made_up.recall)


def test_cover_out_of_range_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"got 1\.5"):
        detection_figures(np.zeros(SHAPE), np.zeros(SHAPE), min_cover=1.5)
