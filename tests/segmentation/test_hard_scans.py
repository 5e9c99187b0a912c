"""The bundled network on scans unlike a lesion in the middle of a thick one: pictures, thin stacks, neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.errors import JobFailed
from napari_medseg.imaging.view import View, sheets, valid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation import speed
from napari_medseg.segmentation.load import load_model
from napari_medseg.segmentation.prompts import Box, Click
from napari_medseg.segmentation.segmenter import Segmenter


@pytest.fixture(scope="module")
def model() -> Segmenter:
    found = load_model(device="cpu")
    assert isinstance(found, Segmenter)
    return found


def scan_of(lesion: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    z, y, x = spacing
    affine = np.array([[0, 0, -x, 40.0], [0, -y, 0, 31], [z, 0, 0, -80.0], [0, 0, 0, 1]])
    noise = np.random.default_rng(0).normal(0, 10, lesion.shape)
    return Volume((100 * lesion + noise).astype(np.float32), affine)


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> np.ndarray:
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def at(scan: Volume, index: tuple[int, int, int], *, positive: bool = True) -> Click:
    x, y, z = scan.position_of(np.array(index, float))
    return Click((float(x), float(y), float(z)), positive=positive)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum())


@pytest.mark.parametrize(("n", "mm"), [(1, 1.0), (2, 1.0), (5, 1.0), (3, 3.0), (6, 3.0)])
def test_pictures_and_thin_stacks_have_lesions_too(model: Segmenter, n: int, mm: float) -> None:
    lesion = np.repeat(ball((1, 300, 300), (0, 150, 150), 40), n, 0)
    scan = scan_of(lesion, (mm, 1.0, 1.0))
    first = model.segment(scan, [at(scan, (n // 2, 150, 150))])
    assert dice(first.data > 0, lesion) > 0.85
    prompts = [at(scan, (n // 2, 150, 150)), at(scan, (n // 2, 150, 186))]
    assert dice(model.segment(scan, prompts, previous=first).data > 0, lesion) > 0.85


def test_a_view_knows_where_a_scan_is_a_sheet() -> None:
    wide, close = View(np.array([0.0, 150, 150]), 300.0, 48), View(np.array([1.0, 150, 150]), 40.0, 48)
    assert sheets((3, 300, 300), wide, (3.0, 1.0, 1.0)) == (True, False, False)
    assert sheets((3, 300, 300), close, (3.0, 1.0, 1.0)) == (False, False, False)
    assert sheets((51, 51, 51), View(np.full(3, 25.0), 520.0, 48), (1.0, 1.0, 1.0)) == (False, False, False)
    assert valid((1, 300, 300), wide, (1.0, 1.0, 1.0))[:, 20:28, 20:28].all()
    assert not valid((51, 51, 51), View(np.full(3, 25.0), 520.0, 48), (1.0, 1.0, 1.0))[0].any()


@pytest.fixture(scope="module")
def neighbours() -> tuple[Volume, np.ndarray, np.ndarray, np.ndarray]:
    """A lesion, what spilled from it, and another lesion far away."""
    shape = (40, 80, 240)
    lesion, spill = ball(shape, (20, 40, 40), 14), ball(shape, (20, 40, 62), 8)
    other = ball(shape, (20, 40, 200), 4)
    return scan_of(lesion | spill | other), lesion, spill & ~lesion, other


def test_a_correction_leaves_the_other_lesion_alone(model: Segmenter, neighbours: tuple) -> None:
    scan, lesion, spill, other = neighbours
    before = LabelMap((lesion | spill | other).astype(np.uint8), scan.affine)
    less = model.segment(scan, [at(scan, (20, 40, 40)), at(scan, (20, 40, 64), positive=False)], previous=before)
    assert np.array_equal(less.data[other], before.data[other])
    assert less.data[spill].sum() < 0.6 * spill.sum()
    more = model.segment(scan, [at(scan, (20, 40, 40)), at(scan, (20, 40, 30))], previous=before)
    assert np.array_equal(more.data[:, :, 150:], before.data[:, :, 150:])


def test_background_alone_takes_from_a_mask_that_is_there(model: Segmenter, neighbours: tuple) -> None:
    scan, lesion, spill, _ = neighbours
    before = LabelMap((lesion | spill).astype(np.uint8), scan.affine)
    after = model.segment(scan, [at(scan, (20, 40, 66), positive=False)], previous=before)
    assert 0 < after.data.sum() < before.data.sum()
    assert after.data[20, 40, 66] == 0


def test_a_box_that_says_background_is_empty(model: Segmenter, neighbours: tuple) -> None:
    scan, lesion, *_ = neighbours
    corners = [tuple(float(c) for c in scan.position_of(np.array(i, float))) for i in ((5, 20, 48), (35, 60, 70))]
    inside = np.zeros(lesion.shape, bool)
    inside[5:36, 20:61, 48:71] = True
    first = model.segment(scan, [at(scan, (20, 40, 40))])
    assert (first.data[inside] > 0).any()
    prompts = [at(scan, (20, 40, 40)), Box(*corners, positive=False)]
    for previous in (None, first):
        answer = model.segment(scan, prompts, previous=previous)
        assert not answer.data[inside].any()
        assert answer.data[20, 40, 40]


def test_a_self_test_that_ends_between_two_clicks_changes_nothing_until_the_next_start(neighbours: tuple) -> None:
    scan = neighbours[0]
    model = load_model(device="cpu")
    first = model.segment(scan, [at(scan, (20, 40, 40))])
    for precision in ("float32", "bfloat16"):
        speed.keep("cpu", speed.Speed(machine=speed.machine("cpu"), precision=precision))  # type: ignore[arg-type]
        assert np.array_equal(model.segment(scan, [at(scan, (20, 40, 40))]).data, first.data)


def test_memory_that_ran_out_on_the_cpu_is_one_sentence(neighbours: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    model = load_model(device="cpu")
    monkeypatch.setattr(torch.nn.functional, "leaky_relu", full)
    with pytest.raises(JobFailed, match="not enough memory"):
        model.segment(neighbours[0], [at(neighbours[0], (20, 40, 40))])
