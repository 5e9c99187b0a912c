"""Axis orders in and out of memory, layer placement, grids compared and resampled."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.orientation import (
    acquisition_axis,
    corner_distance_mm,
    describe_grid,
    grid_affine,
    is_axis_aligned,
    layer_transform,
    memory_grid,
    resample_label_map,
    resample_volume,
    same_grid,
    to_disk,
    to_memory,
)
from napari_medseg.imaging.volume import LabelMap, Volume

SHAPE = (6, 8, 10)
ORDERS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def order_affine(order: tuple[int, ...], signs: tuple[int, ...], tilt_degrees: float = 0.0) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for disk_axis, (world_axis, sign, spacing) in enumerate(zip(order, signs, (0.7, 1.3, 2.9), strict=True)):
        affine[world_axis, disk_axis] = sign * spacing
    angle = np.radians(tilt_degrees)
    tilt = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3, :3] = tilt @ affine[:3, :3]
    affine[:3, 3] = (-31.0, 12.5, 77.0)
    return affine


@pytest.mark.parametrize("tilt", [0.0, 17.0, 44.0])
@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_every_axis_order_keeps_world_positions_and_comes_back(order, signs, tilt):
    affine = order_affine(order, signs, tilt)
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    memory, memory_affine, grid = to_memory(data, affine)

    assert np.shares_memory(memory, data)
    for index in itertools.product((0, 5), (0, 3, 7), (0, 9)):
        position = affine @ (*index, 1)
        at = np.rint(np.linalg.solve(memory_affine, position))[:3].astype(int)
        np.testing.assert_allclose(memory_affine @ (*at, 1), position, atol=1e-9)
        assert memory[tuple(at)] == data[index]
    directions = memory_affine[:3, :3] / np.linalg.norm(memory_affine[:3, :3], axis=0)
    superior, posterior, left = directions[2, 0], -directions[1, 1], -directions[0, 2]
    assert min(superior, posterior, left) > np.cos(np.radians(45))
    back = to_disk(memory, grid)
    assert np.shares_memory(back, data)
    np.testing.assert_array_equal(back, data)
    np.testing.assert_array_equal(grid_affine(grid), memory_affine)
    assert grid.shape == SHAPE


def test_memory_grid_reverses_the_axes_and_nothing_else():
    _, affine, _ = to_memory(np.zeros(SHAPE, np.uint8), order_affine((2, 0, 1), (1, -1, -1), 10))
    data = np.arange(480, dtype=np.uint8).reshape(10, 6, 8)
    grid = memory_grid(data.shape, affine)
    np.testing.assert_array_equal(to_disk(data, grid), data.transpose(2, 1, 0))
    np.testing.assert_allclose(grid_affine(grid), affine)


def test_layer_transform_places_voxels_in_superior_posterior_left():
    data, affine, _ = to_memory(np.zeros(SHAPE, np.uint8), order_affine((1, 2, 0), (1, -1, 1)))
    scale, translate = layer_transform(affine)
    index = np.array([1, 2, 3])
    right, anterior, superior = (affine @ (*index, 1))[:3]
    np.testing.assert_allclose(translate + scale * index, (superior, -anterior, -right))
    assert is_axis_aligned(affine)
    assert data.ndim == 3


def test_layer_transform_of_an_oblique_grid_keeps_voxel_size_and_overlays_scans_of_one_orientation():
    _, affine, _ = to_memory(np.zeros(SHAPE, np.uint8), order_affine((0, 1, 2), (-1, -1, 1), 20))
    scale, translate = layer_transform(affine)
    np.testing.assert_allclose(scale, (2.9, 1.3, 0.7))
    assert not is_axis_aligned(affine)

    cropped = affine.copy()  # a smaller field of view with half the voxel size, first voxel at (1, 2, 3)
    cropped[:3, :3] /= 2
    cropped[:3, 3] = (affine @ (1, 2, 3, 1))[:3]
    half, moved = layer_transform(cropped)
    np.testing.assert_allclose(half, scale / 2)
    np.testing.assert_allclose(moved, translate + scale * (1, 2, 3))


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((6, 8, 10), (5, 1, 1), 0),
        ((6, 8, 10), (1, 5, 1), 1),
        ((6, 8, 10), (1, 1, 5), 2),
        ((6, 8, 10), (1, 1, 1.1), 0),
        ((6, 8, 10), (1, 5, 5), 0),
        ((6, 1, 10), (9, 1, 1), 1),
        ((6, 8, 1), (1, 1, 1), 2),
        ((1, 8, 10), (1, 9, 1), 0),
    ],
)
def test_acquisition_axis(shape, spacing, expected):
    assert acquisition_axis(Volume(np.zeros(shape, np.int16), np.diag([*spacing, 1.0]))) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([[1, 0, 0], [2, 0, 0], [0, 0, 1]], "one plane"),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], "one plane"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 0]], "zero"),
        ([[1, 0, 0], [0, np.nan, 0], [0, 0, 1]], "finite"),
        ([[1e-5, 0, 0], [0, 1e-5, 0], [0, 0, 1e-5]], "too small"),
    ],
)
def test_an_affine_that_does_not_span_space_is_refused(columns, message):
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns, float).T
    with pytest.raises(ImagingError, match=message):
        to_memory(np.zeros(SHAPE, np.uint8), affine)


def test_to_disk_refuses_a_mask_of_another_shape():
    _, _, grid = to_memory(np.zeros(SHAPE, np.uint8), order_affine((0, 1, 2), (1, 1, 1)))
    with pytest.raises(ImagingError, match=r"\(6, 8, 10\).*\(10, 8, 6\).*resample"):
        to_disk(np.zeros((6, 8, 10), np.uint8), grid)


def test_same_grid_compares_shape_and_every_corner():
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    volume = Volume(np.zeros(SHAPE, np.int16), affine)
    turned = affine.copy()
    turned[0, 2] = 2e-4
    assert same_grid(volume, LabelMap(np.zeros(SHAPE, np.uint8), affine.copy()))
    assert not same_grid(volume, LabelMap(np.zeros(SHAPE, np.uint8), turned))
    assert same_grid(volume, LabelMap(np.zeros(SHAPE, np.uint8), turned), tol_mm=2e-3)
    assert not same_grid(volume, LabelMap(np.zeros((6, 8, 11), np.uint8), affine))
    assert corner_distance_mm(affine, turned, SHAPE) == pytest.approx(9 * 2e-4)


def test_resampling_onto_the_same_grid_changes_no_voxel_and_onto_another_keeps_positions():
    rng = np.random.default_rng(3)
    data = rng.integers(0, 4, (10, 8, 6)).astype(np.uint8)
    _, affine, _ = to_memory(np.zeros(SHAPE, np.uint8), order_affine((0, 1, 2), (-1, -1, 1), 12))
    mask = LabelMap(data, affine, names={1: "lesion"})
    same = resample_label_map(mask, Volume(np.zeros(data.shape, np.int16), affine))
    np.testing.assert_array_equal(same.data, data)

    finer = affine @ np.diag([0.5, 1.0, 0.25, 1.0])
    finer[:3, 3] += affine[:3, :3] @ (2.0, -1.0, 1.0)
    like = Volume(np.zeros((18, 9, 20), np.int16), finer)
    result = resample_label_map(mask, like)
    assert result.names == {1: "lesion"}
    for index in itertools.product((0, 7, 16), (0, 4, 8), (0, 11, 19)):
        at = np.floor(mask.index_of(like.position_of(index)) + 0.5 + 1e-6).astype(int)
        inside = ((at >= 0) & (at < data.shape)).all()
        assert result.data[index] == (data[tuple(at)] if inside else 0)
    assert describe_grid(mask) in result.warnings[-1]
    assert describe_grid(like) in result.warnings[-1]


def test_a_scan_on_another_oblique_grid_keeps_its_intensities_in_place():
    _, affine, _ = to_memory(np.zeros((20, 24, 28), np.int16), order_affine((0, 1, 2), (-1, -1, 1), 12))
    shape = (28, 24, 20)
    z, y, x = np.indices(shape)
    right, anterior, superior = np.moveaxis(np.stack([z, y, x, np.ones(shape)], axis=-1) @ affine[:3].T, -1, 0)
    volume = Volume((2 * right - 3 * anterior + superior).astype(np.float32), affine, name="mr")
    _, other, _ = to_memory(np.zeros((9, 9, 9), np.int16), order_affine((0, 1, 2), (1, -1, 1), -20))
    other[:3, 3] += volume.position_of((14, 12, 10)) - other[:3] @ (4, 4, 4, 1)
    like = Volume(np.zeros((9, 9, 9), np.int16), other)
    result = resample_volume(volume, like)
    for index in itertools.product((2, 4, 6), (2, 4, 6), (2, 4, 6)):
        right, anterior, superior = like.position_of(index)
        assert result.data[index] == pytest.approx(2 * right - 3 * anterior + superior, abs=1e-3)
    assert result.name == "mr"
    assert describe_grid(like) in result.warnings[-1]
