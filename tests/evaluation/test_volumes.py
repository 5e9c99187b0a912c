"""Agreement of volumes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.evaluation.volumes import agreement


def test_bias_and_limits_are_those_of_bland_and_altman() -> None:
    reference = np.array([10.0, 20.0, 30.0, 40.0])
    bias, low, high = agreement(reference + np.array([1.0, 3.0, 1.0, 3.0]), reference)
    assert bias == pytest.approx(2.0)
    assert high - bias == pytest.approx(bias - low) == pytest.approx(1.96 * np.sqrt(4 / 3))


def test_one_case_has_a_bias_and_no_limits() -> None:
    bias, low, high = agreement(np.array([5.0]), np.array([4.0]))
    assert bias == 1.0
    assert np.isnan([low, high]).all()
    assert np.isnan(agreement(np.zeros(0), np.zeros(0))).all()
