"""The bundled weights do what their card says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.card_figures import KEY, N_CLICKS, dice_after_clicks, fixed_set, main, measure
from napari_medseg.learning.samples import is_held_out
from napari_medseg.models.checkpoint import read_card
from napari_medseg.models.library import BUNDLED, CLICK
from napari_medseg.segmentation.load import load_model
from napari_medseg.segmentation.prompts import Click

# Other processors and 16-bit arithmetic move single lesions; the mean of a group moves less, that of all least.
OF_ALL, OF_A_GROUP = 0.02, 0.05


def test_the_bundled_weights_reproduce_their_cards_figures(shared_data: Path) -> None:
    card = read_card(BUNDLED / CLICK)
    told = card.figures.get(KEY)
    assert told, "the card has no figures: run python -m napari_medseg.learning.card_figures DATA"
    found = measure(load_model(BUNDLED / CLICK, device="cpu"), shared_data)
    assert found.keys() == told.keys()
    for group, row in found.items():
        assert row == pytest.approx(told[group], abs=OF_ALL if group == "mean" else OF_A_GROUP), group


def test_the_fixed_set_is_of_held_out_patients_in_every_group(shared_data: Path) -> None:
    cases = fixed_set(shared_data)
    assert {group for *_, group in cases} == {"sarcoma/CT", "sarcoma/MR_T1", "sarcoma/PET", "lung_nodules"}
    for image, _, group in cases:
        collection = group.split("/")[0]
        patient = image.parent.name if "/" in group else image.name.split("_")[0]
        assert is_held_out(f"{collection}/{patient}")


def test_one_command_writes_them_into_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BUNDLED / CLICK, tmp_path / "click")
    figures = {"mean": [0.1, 0.2, 0.3]}
    monkeypatch.setattr("napari_medseg.learning.card_figures.measure", lambda model, data: figures)
    before = read_card(tmp_path / "click")
    main([str(tmp_path), "--model", str(tmp_path / "click")])
    after = read_card(tmp_path / "click")
    assert after.figures[KEY] == figures
    assert after.sha256 == before.sha256
    assert {k: v for k, v in after.figures.items() if k != KEY} == {k: v for k, v in before.figures.items() if k != KEY}


class OneVoxel:
    """Answers with the clicked voxels and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Click] = []

    def segment(self, volume, prompts=(), *, previous=None, progress=None, should_stop=None) -> LabelMap:
        self.asked.append(prompts[-1])
        data = np.zeros(volume.data.shape, np.uint8)
        for prompt in prompts:
            data[tuple(np.rint(volume.index_of(prompt.position_mm)).astype(int))] = prompt.positive
        return LabelMap(data, volume.affine)


def test_later_clicks_go_where_the_error_is() -> None:
    model = OneVoxel()
    truth = np.zeros((12, 30, 32), bool)
    truth[3:9, 5:12, 5:12] = truth[3:9, 18:25, 20:27] = True
    volume = Volume(truth.astype(np.int16), np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float))
    dice, seconds = dice_after_clicks(model, volume, truth, N_CLICKS)
    assert dice == sorted(dice)
    assert len(seconds) == N_CLICKS
    assert all(click.positive for click in model.asked)
    assert len({click.position_mm for click in model.asked}) == N_CLICKS
