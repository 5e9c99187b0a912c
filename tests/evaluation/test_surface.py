"""Surface figures against MONAI and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.surface import surface_distances, surface_figures

SHAPE = (9, 14, 17)
SPACING_MM = (3.3, 0.8, 1.1)


def _blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping blobs, some of which touch the border of the image."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(2, *SHAPE)), (0, 1, 2, 2))
    return tuple(field[k] + 0.3 * field[0] > 0.01 for k in range(2))


@pytest.mark.parametrize("seed", range(6))
def test_distances_agree_with_monai(seed: int) -> None:
    mask, reference = _blobs(seed)
    tolerance_mm = 1.7
    ours = surface_figures(mask, reference, spacing_mm=SPACING_MM, tolerance_mm=tolerance_mm)
    a, b = (torch.from_numpy(m)[None, None].float() for m in (mask, reference))
    space = list(SPACING_MM)
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=space)
    assd = compute_average_surface_distance(a, b, include_background=True, symmetric=True, spacing=space)
    nsd = compute_surface_dice(a, b, [tolerance_mm], include_background=True, spacing=space)
    assert ours.hd95_mm == pytest.approx(float(hd95), rel=1e-4)
    assert ours.assd_mm == pytest.approx(float(assd), rel=1e-4)
    assert ours.nsd == pytest.approx(float(nsd), rel=1e-4)
    assert 0 < ours.nsd < 1


def test_shifted_box_by_hand() -> None:
    mask, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    reference[2:5, 3:8, 4:9] = True
    mask[3:6, 3:8, 4:9] = True
    there, back = surface_distances(mask, reference, spacing_mm=SPACING_MM)
    assert there.max() == pytest.approx(3.3, rel=1e-5)
    assert back.max() == pytest.approx(3.3, rel=1e-5)
    exact = surface_figures(mask, reference, spacing_mm=SPACING_MM, tolerance_mm=3.3)
    assert exact.nsd == 1.0
    assert exact.hd95_mm == pytest.approx(3.3, rel=1e-5)


def test_one_voxel_apart_along_each_axis() -> None:
    for axis, spacing in enumerate(SPACING_MM):
        mask, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
        reference[4, 6, 8] = True
        mask[tuple(np.array([4, 6, 8]) + (np.arange(3) == axis))] = True
        assert surface_figures(mask, reference, spacing_mm=SPACING_MM).assd_mm == pytest.approx(spacing, rel=1e-5)


def test_one_slice_is_measured_by_its_outline() -> None:
    mask, reference = np.zeros((1, 20, 30), bool), np.zeros((1, 20, 30), bool)
    reference[0, 4:15, 5:25] = True
    mask[0, 4:15, 5:22] = True
    flat = surface_figures(mask, reference, spacing_mm=(5.0, 0.8, 1.1))
    plane = surface_figures(mask[0], reference[0], spacing_mm=(0.8, 1.1))
    assert flat == plane
    there, _ = surface_distances(mask, reference, spacing_mm=(5.0, 0.8, 1.1))
    assert there.size == 2 * 11 + 2 * 17 - 4


def test_identical_and_empty_masks() -> None:
    some, none = _blobs(0)[0], np.zeros(SHAPE, bool)
    same = surface_figures(some, some, spacing_mm=SPACING_MM)
    assert (same.hd95_mm, same.assd_mm, same.nsd) == (0.0, 0.0, 1.0)
    neither = surface_figures(none, none, spacing_mm=SPACING_MM)
    assert (neither.hd95_mm, neither.assd_mm, neither.nsd) == (0.0, 0.0, 1.0)
    for one in (surface_figures(some, none, spacing_mm=SPACING_MM), surface_figures(none, some, spacing_mm=SPACING_MM)):
        assert math.isinf(one.hd95_mm)
        assert math.isinf(one.assd_mm)
        assert one.nsd == 0.0


def test_bad_lengths_are_refused() -> None:
    mask = np.ones(SHAPE, bool)
    with pytest.raises(EvaluationError, match=r"\(3.0, 0.0, 1.0\)"):
        surface_figures(mask, mask, spacing_mm=(3.0, 0.0, 1.0))
    with pytest.raises(EvaluationError, match="tolerance not negative"):
        surface_figures(mask, mask, spacing_mm=SPACING_MM, tolerance_mm=-1)
