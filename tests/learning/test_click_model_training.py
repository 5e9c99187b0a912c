"""Synthetic scans, simulated clicks, and a training run that repeats, resumes and learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.errors import LearningError
from napari_medseg.learning.click_simulation import correcting_click, damaged, place_click
from napari_medseg.learning.samples import draw_samples, find_pairs, is_held_out
from napari_medseg.learning.synthetic import make_scan
from napari_medseg.learning.train_click_model import ClickTraining, click_loss, next_round, train_click_model
from napari_medseg.models.checkpoint import load_checkpoint
from napari_medseg.segmentation.views import NEGATIVE, POSITIVE, PREVIOUS

TINY = ClickTraining(
    steps=6, collections=(), synthetic_share=1.0, sizes=((32, 2),), widths=(8, 8, 8, 8), workers=0, ladders=3, seed=5
)


def finish(out: Path, settings: ClickTraining, *, stop_after: int | None = None, resume: bool = False) -> list:
    reports = []
    for report in train_click_model(out, out, settings, device="cpu", save_every=2, resume=resume):
        reports.append(report)
        if stop_after is not None and report.step >= stop_after:
            break
    return reports


def test_a_seed_makes_a_scan_again() -> None:
    a, b, c = (make_scan(np.random.default_rng(s), 48) for s in (7, 7, 8))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.objects, b.objects)
    assert a.image.shape != c.image.shape or not np.array_equal(a.image, c.image)
    assert np.isfinite(a.image).all()


def test_most_scans_have_lesions_that_can_be_clicked() -> None:
    scans = [make_scan(np.random.default_rng(s), 48) for s in range(12)]
    with_lesions = [s for s in scans if np.isin(s.objects, s.lesions).sum() > 8]
    assert len(with_lesions) >= 10
    assert any(max(s.spacing_mm) / min(s.spacing_mm) > 1.9 for s in scans)


def test_clicks_fall_inside_the_largest_component() -> None:
    region = np.zeros((10, 20, 30), bool)
    region[2:8, 3:15, 4:20] = True
    region[9, 19, 29] = True
    rng = np.random.default_rng(0)
    for _ in range(20):
        index = place_click(region, rng)
        assert index is not None
        assert region[2:8, 3:15, 4:20][tuple((index - [2, 3, 4]).astype(int))]
    assert place_click(np.zeros((4, 4, 4), bool), rng) is None


def test_a_correcting_click_says_missed_or_spilled() -> None:
    truth = np.zeros((12, 12, 12), bool)
    truth[2:8, 2:8, 2:8] = True
    rng = np.random.default_rng(0)
    index, positive = correcting_click(truth, np.zeros_like(truth), rng)
    assert positive
    assert truth[tuple(index.astype(int))]
    index, positive = correcting_click(truth, np.ones_like(truth), rng)
    assert not positive
    assert not truth[tuple(index.astype(int))]
    assert correcting_click(truth, truth, rng) is None


def test_damage_is_wrong_but_related() -> None:
    truth = np.zeros((24, 24, 24), bool)
    truth[6:18, 6:18, 6:18] = True
    rng = np.random.default_rng(1)
    overlaps = []
    for _ in range(20):
        mask = damaged(truth, rng)
        overlaps.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    assert min(overlaps) < 0.9
    assert np.mean(overlaps) > 0.5


def test_samples_are_complete_and_clicked_inside() -> None:
    samples = draw_samples(np.random.default_rng(2), [], n=6, size=32)
    for s in samples:
        assert s.inputs.shape == (7, 32, 32, 32)
        assert np.isfinite(s.inputs).all()
        assert 0 <= s.truth.min() <= s.truth.max() <= 1 + 1e-6
        assert s.total > 0


def test_a_round_places_a_click_in_the_error() -> None:
    inputs, truth = torch.zeros(1, 7, 32, 32, 32), torch.zeros(1, 1, 32, 32, 32)
    inputs[:, 6] = 1
    truth[0, 0, 10:20, 10:20, 10:20] = 1
    again = next_round(inputs, truth, torch.full_like(truth, -5.0), np.random.default_rng(0))
    peak = np.unravel_index(int(again[0, POSITIVE].argmax()), (32, 32, 32))
    assert truth[0, 0][peak] == 1
    assert not again[0, NEGATIVE].any()
    assert not again[0, PREVIOUS].any()
    assert not inputs[0, POSITIVE].any()


def test_the_loss_prefers_the_truth_and_measures_dice_on_the_whole_lesion() -> None:
    inputs, truth = torch.zeros(1, 7, 16, 16, 16), torch.zeros(1, 1, 16, 16, 16)
    inputs[:, 6] = 1
    truth[..., 4:12, 4:12, 4:12] = 1
    good, bad = (20 * (2 * t - 1) for t in (truth, 1 - truth))
    total = truth.sum((1, 2, 3, 4)) * 2  # half of the lesion lies outside the view
    loss_good, dice = click_loss(good, torch.zeros(1), inputs, truth, total)
    loss_bad, _ = click_loss(bad, torch.zeros(1), inputs, truth, total)
    assert loss_good < loss_bad
    assert float(dice) == pytest.approx(2 / 3, abs=1e-3)


def test_pairs_are_found_and_patients_never_split(tmp_path: Path) -> None:
    for name in ("a/STS_1/CT_image", "a/STS_1/CT_mask", "b/7_nod1_image", "b/7_nod1_mask", "b/8_nod1_image"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = {(group, patient) for *_, group, patient in find_pairs(tmp_path, ("a", "b"))}
    assert found == {("a/CT", "a/STS_1"), ("b", "b/7")}
    with pytest.raises(LearningError, match="found no pair"):
        find_pairs(tmp_path, ("nothing",))
    share = np.mean([is_held_out(f"c/{k}") for k in range(400)])
    assert 0.18 < share < 0.32


def test_a_run_stopped_and_resumed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    finish(tmp_path / "whole", TINY)
    finish(tmp_path / "broken", TINY, stop_after=2)
    finish(tmp_path / "broken", TINY, resume=True)
    whole, broken = (load_checkpoint(tmp_path / n).network.state_dict() for n in ("whole", "broken"))
    for name, value in whole.items():
        torch.testing.assert_close(value, broken[name], msg=name)


def test_a_run_writes_metrics_and_a_card(tmp_path: Path) -> None:
    reports = finish(tmp_path, TINY)
    assert [r.step for r in reports] == [2, 4, 6, 6]
    assert "choice of scale" in reports[-1].message
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    card = load_checkpoint(tmp_path).card
    assert card.needs_click
    assert card.training["seed"] == 5


def test_more_steps_on_synthetic_scans_lower_the_loss(tmp_path: Path) -> None:
    longer = TINY.model_copy(update={"steps": 30, "learning_rate": 3e-3, "sizes": ((32, 4),)})
    reports = list(train_click_model(tmp_path, tmp_path, longer, device="cpu", save_every=10))
    assert reports[-2].loss < 0.97 * reports[0].loss
