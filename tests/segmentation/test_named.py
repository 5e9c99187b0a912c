"""Clicks into what a fine-tuned model knows by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import AutomaticSettings, Card
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation import named, segmenter
from napari_medseg.segmentation.named import named_structure, with_named
from napari_medseg.segmentation.prompts import Click
from napari_medseg.segmentation.views import Prompts

SHAPE = (40, 40, 40)
AFFINE = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
SETTINGS = AutomaticSettings(spacing_mm=(1.0, 1.0, 1.0), patch=(32, 32, 32))


def ball(centre: tuple[float, ...], radius: float) -> NDArray[np.bool_]:
    z, y, x = (g - c for g, c in zip(np.ogrid[:40, :40, :40], centre, strict=True))
    return np.asarray(z**2 + y**2 + x**2 <= radius**2)


def clicks(*points: tuple[int, int, int], signs: tuple[bool, ...] | None = None) -> Prompts:
    n = len(points)
    return Prompts(np.array(points, float), np.array(signs or (True,) * n), np.zeros(n, np.int64))


@pytest.fixture
def volume() -> Volume:
    """Intensity 1 and 2 are the labels of that number."""
    data = np.zeros(SHAPE, np.float32)
    data[ball((18, 18, 14), 5)] = 1
    data[ball((18, 18, 23), 5)] = 2
    data[ball((34, 34, 34), 3)] = 1
    return Volume(data, AFFINE)


@pytest.fixture(autouse=True)
def labels_by_intensity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that knows the labels for certain."""

    def known(_network: object, _settings: object, image: torch.Tensor, **_options: object) -> torch.Tensor:
        return torch.stack([(image[0] - k).abs() < 0.5 for k in (1, 2)]).float()

    monkeypatch.setattr(named, "predict_labels", known)
    monkeypatch.setattr(named, "intensity_scale", lambda _seen: (0.0, 2.0, 0.0, 1.0))


def structure_at(volume: Volume, prompts: Prompts) -> NDArray[np.bool_] | None:
    found = named_structure(None, SETTINGS, volume, prompts, torch.float32)  # type: ignore[arg-type]
    if found is None:
        return None
    mask = np.zeros(SHAPE, bool)
    mask[found[1]] = found[0] > 0.5
    return mask


def test_touching_labels_of_like_size_are_one_structure(volume: Volume) -> None:
    mask = structure_at(volume, clicks((18, 18, 14)))
    assert mask is not None
    assert np.array_equal(mask, (volume.data > 0) & ~ball((34, 34, 34), 4))


def test_a_small_label_in_a_large_one_is_itself(volume: Volume) -> None:
    data = np.where(ball((18, 18, 18), 9), 1, 0).astype(np.float32)
    data[ball((18, 18, 18), 3)] = 2
    mask = structure_at(Volume(data, AFFINE), clicks((18, 18, 18)))
    assert mask is not None
    assert np.array_equal(mask, data == 2)


def test_nothing_where_no_label_is(volume: Volume) -> None:
    assert structure_at(volume, clicks((5, 5, 5))) is None


def test_a_click_that_contradicts_it_leaves_it_out(volume: Volume) -> None:
    assert structure_at(volume, clicks((18, 18, 14), (18, 18, 23), signs=(True, False))) is None
    assert structure_at(volume, clicks((18, 18, 14), (5, 5, 5), signs=(True, False))) is not None
    assert structure_at(volume, clicks((18, 18, 14), (5, 5, 5))) is None


def test_what_is_longer_than_a_window_is_looked_at_in_a_longer_one(volume: Volume) -> None:
    data = np.zeros(SHAPE, np.float32)
    data[:, 18:22, 18:22] = 1
    mask = structure_at(Volume(data, AFFINE), clicks((20, 20, 20)))
    assert mask is not None
    assert np.array_equal(mask, data == 1)


@pytest.mark.parametrize(
    "where",
    [(slice(0, 90), slice(18, 22), slice(18, 22)), (slice(20, 60), slice(20, 60), slice(20, 60))],
    ids=["longer than two windows", "too large along all axes"],
)
def test_what_longer_windows_cut_off_is_left_to_the_click(where: tuple[slice, ...]) -> None:
    data = np.zeros((90, 90, 90), np.float32)
    data[where] = 1
    middle = tuple((part.start + part.stop) // 2 for part in where)
    found = named_structure(None, SETTINGS, Volume(data, AFFINE), clicks(middle), torch.float32)  # type: ignore[arg-type]
    assert found is None


def test_a_box_says_itself_how_large_it_is(volume: Volume) -> None:
    box = (np.array([10.0, 10, 10]), np.array([20.0, 20, 20]), True)
    prompts = Prompts(np.array([[18.0, 18, 14]]), np.array([True]), np.array([0]), (box,))
    assert structure_at(volume, prompts) is None


def test_both_answers_are_one_where_they_overlap() -> None:
    clicked = np.full((4, 4, 4), 0.9, np.float32), (slice(0, 4), slice(0, 4), slice(0, 4))
    named_one = np.full((6, 4, 4), 1.0, np.float32), (slice(1, 7), slice(0, 4), slice(0, 4))
    probability, region = with_named(clicked, named_one, 0.7)
    assert region == (slice(0, 7), slice(0, 4), slice(0, 4))
    assert probability[:, 0, 0] == pytest.approx([0.27, *[0.97] * 3, *[0.7] * 3])


def test_the_click_alone_counts_where_they_speak_of_different_things() -> None:
    clicked = np.full((4, 4, 4), 0.9, np.float32), (slice(0, 4), slice(0, 4), slice(0, 4))
    elsewhere = np.full((20, 20, 20), 1.0, np.float32), (slice(3, 23), slice(3, 23), slice(3, 23))
    assert with_named(clicked, elsewhere, 0.7) is clicked


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_label_has_the_share_that_the_card_says(
    share: float, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = (slice(0, 40),) * 3

    def clicked(_scene: object) -> tuple[NDArray[np.float32], tuple[slice, ...]]:
        return ball((18, 18, 14), 5).astype(np.float32), everywhere

    monkeypatch.setattr(segmenter, "segment_first", clicked)
    network = ClickUNet(widths=(8, 8, 8, 8), n_labels=2)
    automatic = SETTINGS.model_copy(update={"share_in_clicks": share})
    card = Card(name="tuned", labels={1: "a", 2: "b"}, needs_click=False, automatic=automatic)
    model = segmenter.Segmenter(Checkpoint(network, card), "cpu")
    x, y, z = volume.position_of((18, 18, 14))
    mask = model.segment(volume, [Click((x, y, z))]).data > 0
    both = (volume.data > 0) & ~ball((34, 34, 34), 4)
    assert np.array_equal(mask, both if share else ball((18, 18, 14), 5))
