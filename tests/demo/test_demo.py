"""The demo tells the truth: its figures are measured, its files are where it says."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from napari_medseg.demo import story, window
from napari_medseg.demo.pictures import Outline, Panel, draw_slices
from napari_medseg.demo.reader import corrected_slices, middle_mm, worst_slices
from napari_medseg.errors import JobFailed
from napari_medseg.evaluation.overlap import dice
from napari_medseg.imaging.phantom import chest_ct
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.reports import Report
from napari_medseg.models.card import Card
from napari_medseg.segmentation.load import load_model
from napari_medseg.segmentation.prompts import Click, Prompt

AFFINE = np.array([[0, 0, -1.5, 9], [0, -0.5, 0, 3], [4.0, 0, 0, -7], [0, 0, 0, 1.0]])


class Ball:
    """A model whose every answer is a ball round the click, larger after fine-tuning."""

    card = Card(name="ball")
    needs_click = True

    def __init__(self, name_or_path: Path | None = None) -> None:
        self.radius_mm = 8.0 if name_or_path is None else 30.0

    def segment(self, volume: Volume, prompts: Sequence[Prompt] = ()) -> LabelMap:
        (click,) = prompts
        assert isinstance(click, Click)
        middle = volume.index_of(click.position_mm)
        far = [
            np.abs(np.arange(n) - m) * s for n, m, s in zip(volume.data.shape, middle, volume.spacing_mm, strict=True)
        ]
        inside = far[0][:, None, None] ** 2 + far[1][:, None] ** 2 + far[2] ** 2 <= self.radius_mm**2
        return LabelMap(inside.astype(np.uint8), volume.affine, grid=volume.grid)


def _learn(model: Ball, corrections: list[Any], **options: Any) -> Generator[Report, None, None]:
    (_, corrected, reviewed) = corrections[0]
    assert 0 < len(reviewed) < corrected.data.shape[0]
    for step in (1, 2, 3):
        yield Report(step=step, n_steps=3, loss=1 / step)
    yield Report(kind="validation", step=3, n_steps=3, loss=0.3, dice=0.8, message="Dice 0.80")
    yield Report(kind="done", step=3, n_steps=3, message="version 2 is active")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_medseg.segmentation.load.load_model", Ball)
        patch.setattr("napari_medseg.learning.fine_tune.fine_tune", _learn)
        patch.setattr(window, "has_screen", lambda: False)
        return "\n".join(story.tell_demo(folder)), folder


def test_every_step_is_told_with_its_figure(told: tuple[str, Path]) -> None:
    text, _ = told
    assert [int(n) for n in re.findall(r"^(\d)\.", text, flags=re.MULTILINE)] == [1, 2, 3, 4, 5, 6, 7]
    said = dict(re.findall(r"(liver lesion \d|lung nodule \d) (\d\.\d\d)", text.split("3.")[0]))
    truth = chest_ct(1).lesions
    for label, name in truth.names.items():
        lesion = truth.data == label
        answer = Ball().segment(chest_ct(1).volume, [Click(middle_mm(lesion, truth))])
        assert said[f"{name} {label}"] == f"{dice(answer.data, lesion):.2f}"
    corrected = re.findall(r"corrected slices of 40: Dice (\S+) -> (\S+)", text)[0]
    assert float(corrected[1]) > float(corrected[0])
    before, after = (float(value) for value in re.findall(r"one click: Dice (\S+)", text))
    assert after > before
    assert "version 2 is active" in text


def test_the_mask_lies_on_the_scans_grid(told: tuple[str, Path]) -> None:
    _, folder = told
    mask, scan = nib.load(folder / "patient_1_liver.nii.gz"), nib.load(folder / "patient_1.nii.gz")
    assert mask.shape == scan.shape
    assert np.allclose(mask.affine, scan.affine, atol=1e-4)
    assert np.asarray(mask.dataobj).any()


def test_pictures_are_where_it_says(told: tuple[str, Path]) -> None:
    text, folder = told
    named = re.findall(r"\S+\.png", text)
    assert sorted(Path(name).name for name in named) == ["click_to_mask.png", "learning.png", "next_patient.png"]
    for name in named:
        picture = imread(folder / Path(name).name)
        assert min(picture.shape[:2]) > 300
        assert np.ptp(picture[..., :3]) > 0.9


def test_middle_is_the_deepest_voxel() -> None:
    mask = np.zeros((6, 8, 10), bool)
    mask[1:4, 2:7, 1:8] = True
    mask[2, 4, 8:] = True
    grid = LabelMap(mask.astype(np.uint8), AFFINE)
    z, y, x = (round(float(i)) for i in grid.index_of(middle_mm(mask, grid)))
    assert y == 4
    assert mask[z, y, x]
    assert x < 8


def test_the_reader_redraws_the_worst_slices_and_no_other() -> None:
    truth = np.zeros((6, 8, 10), bool)
    truth[1:5, 2:6, 2:6] = True
    data = truth.astype(np.uint8)
    data[2, 2:4, 2:6] = 0
    data[3, 2, 2] = 0
    data[4, 2:5, 2:5] = 0
    assert worst_slices(data, truth, 2) == (2, 4)
    assert worst_slices(truth, truth, 2) == ()
    corrected = corrected_slices(LabelMap(data, AFFINE), truth, (2, 4))
    assert np.array_equal(corrected.data[[2, 4]] > 0, truth[[2, 4]])
    assert np.array_equal(corrected.data[3], data[3])


def test_slices_are_drawn_patient_right_on_the_left(tmp_path: Path) -> None:
    data = np.full((3, 90, 120), -500, np.int16)
    data[1, :, :32] = 300  # x points to the left of the patient: low indices are the patient's right
    mask = np.zeros(data.shape, np.uint8)
    mask[1, 40:50, 50:70] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    panel = Panel("slice", Volume(data, affine), 1, (Outline(mask, "#ff0000", "mask"),))
    picture = imread(draw_slices(tmp_path / "slice.png", [panel]))[..., :3].mean(axis=-1)
    row = picture[picture.shape[0] // 2 + 60]
    assert row[: len(row) // 8].max() > 0.95
    assert row[-len(row) // 8 :].max() < 0.5


def test_a_window_that_cannot_open_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "no-such-platform")
    with pytest.raises(JobFailed, match="could not be drawn"):
        window.picture_window(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_click_finds_each_lesion_of_the_first_patient(tmp_path: Path) -> None:
    """By the bundled model: lesions within a liver of other size, and a nodule; the README shows them."""
    answers = story._clicked(load_model(), story._patient(1, tmp_path))
    assert len(answers.dice) == 3
    assert min(answers.dice.values()) > 0.8
