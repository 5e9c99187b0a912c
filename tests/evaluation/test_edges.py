"""Masks at the edge of what can be measured, and figures against an independent few lines of SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from napari_medseg.evaluation.detection import detection_figures
from napari_medseg.evaluation.masks import compare_masks
from napari_medseg.evaluation.overlap import overlap
from napari_medseg.imaging.volume import LabelMap

SHAPE = (6, 8, 10)
AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])


def label_map(data: np.ndarray) -> LabelMap:
    return LabelMap(data.astype(np.uint8), AFFINE)


def whole(mask: np.ndarray, reference: np.ndarray):
    return compare_masks(label_map(mask), label_map(reference), tolerance_mm=2.0)[0]


def one_voxel(z: int = 3, y: int = 4, x: int = 5) -> np.ndarray:
    data = np.zeros(SHAPE)
    data[z, y, x] = 1
    return data


def test_empty_against_empty_agrees() -> None:
    figures = whole(np.zeros(SHAPE), np.zeros(SHAPE))
    assert (figures.dice, figures.iou, figures.nsd, figures.hd95_mm, figures.assd_mm) == (1.0, 1.0, 1.0, 0.0, 0.0)
    assert (figures.volume_ml, figures.reference_ml, figures.volume_difference_percent) == (0.0, 0.0, 0.0)
    assert (figures.n_lesions, figures.n_reference_lesions) == (0, 0)
    assert math.isnan(figures.lesion_recall)
    assert math.isnan(figures.lesion_precision)


@pytest.mark.parametrize("is_mask_full", [False, True])
def test_empty_against_full_shares_nothing(is_mask_full: bool) -> None:
    full, empty = np.ones(SHAPE), np.zeros(SHAPE)
    figures = whole(full, empty) if is_mask_full else whole(empty, full)
    assert (figures.dice, figures.iou, figures.nsd) == (0.0, 0.0, 0.0)
    assert math.isinf(figures.hd95_mm)
    assert math.isinf(figures.assd_mm)
    assert max(figures.volume_ml, figures.reference_ml) == pytest.approx(480 * 3.0 / 1000)
    undefined = {name: math.isnan(getattr(figures, name)) for name in ("lesion_recall", "lesion_precision")}
    assert undefined == {"lesion_recall": is_mask_full, "lesion_precision": not is_mask_full}
    assert math.isnan(figures.sensitivity) is is_mask_full
    assert math.isnan(figures.precision) is not is_mask_full
    json = figures.as_json()
    assert (json["hd95_mm"], json["dice"]) == (None, 0.0)
    if is_mask_full:
        assert json["volume_difference_percent"] is None
    else:
        assert json["volume_difference_percent"] == -100.0


def test_a_single_voxel_against_itself_and_its_neighbours() -> None:
    same = whole(one_voxel(), one_voxel())
    assert (same.dice, same.hd95_mm, same.assd_mm, same.nsd) == (1.0, 0.0, 0.0, 1.0)
    assert (same.volume_ml, same.n_lesions, same.lesion_recall) == (pytest.approx(0.003), 1, 1.0)
    for there, away_mm in ((one_voxel(z=4), 2.5), (one_voxel(y=5), 1.2), (one_voxel(x=6), 1.0)):
        beside = whole(there, one_voxel())
        assert (beside.dice, beside.volume_difference_percent, beside.lesion_recall) == (0.0, 0.0, 0.0)
        assert beside.hd95_mm == beside.assd_mm == pytest.approx(away_mm)
        assert beside.nsd == float(away_mm <= 2.0)


def test_a_single_voxel_in_a_full_mask() -> None:
    figures = whole(np.ones(SHAPE), one_voxel())
    assert (figures.sensitivity, figures.lesion_recall, figures.lesion_precision) == (1.0, 1.0, 0.0)
    assert figures.precision == pytest.approx(1 / 480)
    assert figures.volume_difference_percent == pytest.approx(47_900)


def test_one_slice_is_measured_in_its_plane() -> None:
    mask, reference = np.zeros((1, 12, 14)), np.zeros((1, 12, 14))
    reference[0, 2:9, 3:10] = 1
    mask[0, 2:9, 5:12] = 1
    figures = whole(mask, reference)
    assert figures.dice == pytest.approx(5 / 7)
    assert figures.hd95_mm == pytest.approx(2.0)
    assert 0 < figures.assd_mm < 2.0, "the outline is the surface, not every pixel"
    same = whole(reference, reference)
    assert (same.dice, same.hd95_mm, same.nsd) == (1.0, 0.0, 1.0)


def one_slice_of_a_volume(first: int) -> np.ndarray:
    data = np.zeros(SHAPE)
    data[first, 2:6, 2:7] = 1
    return data


def test_one_slice_of_a_volume_against_the_next() -> None:
    figures = whole(one_slice_of_a_volume(2), one_slice_of_a_volume(3))
    assert (figures.dice, figures.lesion_recall) == (0.0, 0.0)
    assert figures.hd95_mm == figures.assd_mm == pytest.approx(2.5)


def by_scipy(mask: np.ndarray, reference: np.ndarray, min_cover: float, rank: int) -> tuple[float, float]:
    """Recall and precision of lesions, one lesion at a time."""
    joined = ndimage.generate_binary_structure(3, rank)

    def share(lesions: np.ndarray, cover: np.ndarray) -> float:
        numbered, n = ndimage.label(lesions, joined)
        covered = [cover[numbered == k].mean() >= min_cover for k in range(1, n + 1)]
        return float(np.mean(covered)) if covered else float("nan")

    return share(reference, mask), share(mask, reference)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
def test_lesions_agree_with_scipy_on_random_masks(seed: int, connectivity, rank: int) -> None:
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.normal(size=(2, 9, 16, 22)), (0, 0.7, 1, 1))
    mask, reference = blobs > np.quantile(blobs, rng.uniform(0.75, 0.95))
    for min_cover in (0.1, 0.5):
        ours = detection_figures(mask, reference, min_cover=min_cover, connectivity=connectivity)
        recall, precision = by_scipy(mask, reference, min_cover, rank)
        assert ours.recall == pytest.approx(recall)
        assert ours.precision == pytest.approx(precision)
        assert ours.n_reference > 1
    masses = [float(ndimage.sum_labels(each, each, 1)) for each in (mask, reference)]
    difference = 100 * (masses[0] / masses[1] - 1)
    assert overlap(mask, reference).volume_difference_percent == pytest.approx(difference)
    measured = whole(mask, reference)
    assert measured.volume_difference_percent == pytest.approx(difference)
    assert measured.volume_ml == pytest.approx(masses[0] * 2.5 * 1.2 / 1000)
