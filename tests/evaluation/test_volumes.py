"""Agreement of volumes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.evaluation.masks import compare_masks
from napari_medseg.evaluation.plots import plot_cases
from napari_medseg.evaluation.study import Case
from napari_medseg.evaluation.volumes import agreement
from napari_medseg.imaging.volume import LabelMap


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


def box(n_slices: int) -> LabelMap:
    data = np.zeros((9, 14, 18), np.uint8)
    data[1 : 1 + n_slices, 2:12, 3:13] = 1
    return LabelMap(data, np.array([[0, 0, -1.0, 30], [0, -1.0, 0, 12], [10.0, 0, 0, -5], [0, 0, 0, 1]]))


def test_the_agreement_of_volumes_stands_beside_the_other_plots() -> None:
    found = [
        Case(f"P{k}", f"P{k}", compare_masks(box(n), box(reference)))
        for k, (n, reference) in enumerate([(3, 2), (6, 3), (5, 4), (8, 5)])
    ]
    assert len(plot_cases(found).axes) == 3
    page = plot_cases(found, agrees=True)
    assert len(page.axes) == 4
    shown = page.axes[3]
    dots = next(line for line in shown.lines if line.get_linestyle() == "None")
    np.testing.assert_allclose(dots.get_xdata(), [2.5, 4.5, 4.5, 6.5])
    np.testing.assert_allclose(dots.get_ydata(), [1.0, 3.0, 1.0, 3.0])
    heights = {round(float(line.get_ydata()[0]), 3) for line in shown.lines if line.get_linestyle() != "None"}
    assert heights == {2.0, round(2 - 1.96 * np.sqrt(4 / 3), 3), round(2 + 1.96 * np.sqrt(4 / 3), 3)}
    assert shown.get_title().endswith("+2.00 ml (-0.26 to +4.26)")
