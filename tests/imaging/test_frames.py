"""Scans turned against each other, drawn along the axes of one of them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.errors import Cancelled
from napari_medseg.imaging.frames import frame_of, place_in, turned_into
from napari_medseg.imaging.volume import Volume

SLOPE = np.array([3.0, -2.0, 1.5])


def turned(degrees: float, spacing: tuple[float, float, float] = (3.0, 1.0, 0.8)) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine[:3, :3] = turn @ np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]]) @ np.diag(spacing)
    affine[:3, 3] = (-30.0, 20.0, 50.0)
    return affine


def ramp(affine: np.ndarray, shape: tuple[int, int, int] = (14, 20, 24)) -> Volume:
    """A scan whose value is a linear function of the place in the patient: interpolation cannot change it."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume((place @ SLOPE).astype(np.float32), affine, name="ramp")


@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_scans_of_one_orientation_need_no_resampling(degrees: float) -> None:
    first, second = ramp(turned(degrees)), ramp(turned(degrees, (2.0, 1.5, 1.5)))
    frame = frame_of(first.affine)
    for volume in (first, second):
        placed = place_in(volume, frame)
        assert placed is not None
        scale, translate = placed
        assert scale == pytest.approx(volume.spacing_mm)
        index = np.array([3, 4, 5])
        assert frame @ (index * scale + translate) == pytest.approx(volume.position_of(index))


@pytest.mark.parametrize(("a", "b"), [(0, 20), (20, 0), (15, -10), (0, 0.5)])
def test_turned_scans_keep_every_value_at_its_place(a: float, b: float) -> None:
    frame, scan = frame_of(turned(a)), ramp(turned(b))
    assert place_in(scan, frame) is None
    shown = turned_into(scan, frame)
    assert place_in(shown, frame) is not None
    rng = np.random.default_rng(0)
    for index in rng.uniform(1, np.array(scan.data.shape) - 2, (40, 3)):
        place = scan.position_of(index)
        there = shown.index_of(place)
        assert (there >= -1e-6).all()
        assert (there <= np.array(shown.data.shape) - 1 + 1e-6).all()
        voxel = np.rint(there).astype(int)
        if (np.abs(scan.index_of(shown.position_of(voxel)) - index) > 1).any():
            continue
        assert shown.data[tuple(voxel)] == pytest.approx(shown.position_of(voxel) @ SLOPE, abs=0.05)


def test_resampling_can_be_stopped_and_keeps_whole_numbers() -> None:
    scan = Volume(np.full((14, 20, 24), 7, np.int16), turned(20))
    shown = turned_into(scan, frame_of(turned(0)))
    assert shown.data.dtype == np.int16
    assert set(np.unique(shown.data)) == {7}
    with pytest.raises(Cancelled):
        turned_into(scan, frame_of(turned(0)), should_stop=lambda: True)
