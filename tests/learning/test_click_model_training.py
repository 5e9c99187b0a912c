"""Synthetic scans, simulated clicks, and a training run that repeats, resumes and learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_medseg.errors import Cancelled, ImagingError, LearningError
from napari_medseg.imaging import durable
from napari_medseg.learning import train_click_model as module
from napari_medseg.learning.click_simulation import correcting_click, damaged, place_click
from napari_medseg.learning.samples import (
    collections_in,
    draw_samples,
    find_pairs,
    is_held_out,
    read_pairs,
)
from napari_medseg.learning.synthetic import make_scan
from napari_medseg.learning.train_click_model import (
    ClickTraining,
    _Run,
    _workers,
    click_loss,
    next_round,
    train_click_model,
)
from napari_medseg.models.checkpoint import load_checkpoint, read_card
from napari_medseg.segmentation.speed import Speed
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


def put_pair(path: Path, patient: int = 0) -> None:
    """A scan ``path_image.nii.gz`` of noise with a bright ball, and its mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ball = np.linalg.norm(np.moveaxis(np.indices((20, 24, 16)), 0, -1) - (9, 12, 8), axis=-1) < 5
    data = np.random.default_rng(patient).normal(50, 9, ball.shape) + 90 * ball
    for kind, values in (("image", data.astype(np.int16)), ("mask", ball.astype(np.uint8))):
        nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.2, 2.0, 1.0])), f"{path}_{kind}.nii.gz")


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
    with pytest.raises(LearningError, match=r"found no pair .* for nothing$"):
        find_pairs(tmp_path, ("a", "nothing"))
    (tmp_path / "notes").mkdir()
    assert collections_in(tmp_path) == ("a", "b")
    with pytest.raises(LearningError, match=r"found no pair .* in any folder of"):
        collections_in(tmp_path / "notes")
    share = np.mean([is_held_out(f"c/{k}") for k in range(400)])
    assert 0.18 < share < 0.32


def test_a_gpu_is_fed_by_all_cores_and_a_cpu_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "cpu_count", lambda: 16)
    settings = ClickTraining()
    assert _workers(settings, torch.device("cuda")) == 15
    assert _workers(settings, torch.device("cpu")) == 1
    assert _workers(settings.model_copy(update={"workers": 3}), torch.device("cuda")) == 3
    monkeypatch.setattr(module.os, "cpu_count", lambda: None)
    assert _workers(settings, torch.device("cuda")) == 1


def test_a_run_stopped_and_resumed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    finish(tmp_path / "whole", TINY)
    finish(tmp_path / "broken", TINY, stop_after=2)
    finish(tmp_path / "broken", TINY, resume=True)
    whole, broken = (load_checkpoint(tmp_path / n).network.state_dict() for n in ("whole", "broken"))
    for name, value in whole.items():
        torch.testing.assert_close(value, broken[name], msg=name)


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"float32": "bfloat16", "bfloat16": "float32"}
    for begun, now in other.items():
        monkeypatch.setattr(module, "speed_of", lambda _, p=begun: Speed(machine="", precision=p))
        run = _Run(ClickTraining(widths=(8, 8, 8, 8)), torch.device("cpu"))
        assert run.dtype is getattr(torch, begun)
        run.save(tmp_path / begun)
        monkeypatch.setattr(module, "speed_of", lambda _, p=now: Speed(machine="", precision=p))
        resumed = _Run(ClickTraining(widths=(8, 8, 8, 8)), torch.device("cpu"))
        assert resumed.dtype is getattr(torch, now)
        resumed.load(tmp_path / begun)
        assert resumed.dtype is getattr(torch, begun)
        assert resumed.settings.precision == begun, "which the card and its command say"
        resumed.load(tmp_path / begun, begun)
        with pytest.raises(LearningError, match=f"begun with --precision {begun}"):
            resumed.load(tmp_path / begun, now)


def test_names_tell_the_modality_where_files_do_not(tmp_path: Path) -> None:
    said = {
        "sarcoma/STS_1/MR_T1": "MR",
        "sarcoma/STS_1/PET": "PT",
        "liver CT/7": "CT",
        "liver/pet_1_ct": "CT",
        "mix_ct_mr/7": "",
        "direct/7": "",
    }
    for name in said:
        put_pair(tmp_path / name)
    for name, modality in said.items():
        collection = name.split("/")[0]
        scans = read_pairs(p for p in find_pairs(tmp_path, (collection,)) if f"{name}_image" in str(p[0]))
        assert [scan.modality for scan in scans] == [modality], name


def test_a_run_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    finish(tmp_path, TINY, stop_after=2)
    before = (tmp_path / "training_state.pt").read_bytes()
    other = TINY.model_copy(update={"seed": 6, "rounds": 1})
    with pytest.raises(LearningError, match="was begun with --seed 5 --rounds 2: resume it with the same"):
        finish(tmp_path, other, resume=True)
    assert (tmp_path / "training_state.pt").read_bytes() == before
    longer = TINY.model_copy(update={"steps": 8, "minutes": 60.0, "licence": "mine"})
    assert finish(tmp_path, longer, resume=True)[-1].step == 8


def test_a_state_that_does_not_tell_its_settings_is_gone_on_with(tmp_path: Path) -> None:
    finish(tmp_path, TINY, stop_after=2)
    path = tmp_path / "training_state.pt"
    state = torch.load(path, weights_only=True)
    del state["settings"]
    torch.save(state, path)
    assert [r.step for r in finish(tmp_path, TINY, resume=True)] == [4, 6, 6]


def test_a_training_is_not_overwritten_unasked(tmp_path: Path) -> None:
    finish(tmp_path, TINY, stop_after=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(LearningError, match="holds a training already: go on with it by --resume"):
        finish(tmp_path, TINY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("left", [0, 1, 400, 0.5], ids=str)
def test_a_torn_state_is_one_sentence(tmp_path: Path, left: float) -> None:
    finish(tmp_path, TINY, stop_after=2)
    path = tmp_path / "training_state.pt"
    stored = path.read_bytes()
    path.write_bytes(stored[: int(left * len(stored)) if left == 0.5 else int(left)])
    with pytest.raises(LearningError, match=r"training_state\.pt is damaged") as refused:
        finish(tmp_path, TINY, resume=True)
    assert "\n" not in str(refused.value)


def test_a_state_that_does_not_read_back_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(tmp_path, TINY, stop_after=2)
    before = (tmp_path / "training_state.pt").read_bytes()
    whole = durable._write_all
    monkeypatch.setattr(durable, "_write_all", lambda path, content: whole(path, content[: len(content) // 2]))
    with pytest.raises(ImagingError, match="did not read back"):
        finish(tmp_path, TINY, resume=True)
    assert (tmp_path / "training_state.pt").read_bytes() == before


PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from napari_medseg.learning import train_click_model as module
module._REPORT_EVERY_S = 0.0
settings = module.ClickTraining.model_validate_json({settings!r})
out = Path(sys.argv[1])
for report in module.train_click_model(out, out, settings, device="cpu", save_every=2, resume=True):
    print(f"{{report.step}} {{report.message}}", flush=True)
"""


def start(tmp_path: Path, out: str) -> subprocess.Popen:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(settings=TINY.model_copy(update={"steps": 10}).model_dump_json()))
    command = [sys.executable, str(program), str(tmp_path / out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is a matter of POSIX systems")
def test_kill_nine_while_it_learns_or_fits_changes_no_weight(tmp_path: Path) -> None:
    whole = start(tmp_path, "whole")
    assert whole.communicate(timeout=120)[0].splitlines()[-1].startswith("10 the choice of scale was fitted")
    for last in ("4 ", "10 fitting the choice of scale: click 2"):
        killed = start(tmp_path, "parts")
        assert any(line.startswith(last) for line in killed.stdout), "it was to be killed before its end"
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
    rest = start(tmp_path, "parts")
    assert "10 fitting the choice of scale: click 1 of 3" in rest.communicate(timeout=120)[0].splitlines()
    assert (whole.returncode, rest.returncode) == (0, 0)
    one, other = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("whole", "parts"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_fitting_the_choice_of_scale_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_EVERY_S", 0.0)
    told = [report.message for report in finish(tmp_path, TINY) if report.step == 6]
    assert told[1:-1] == [f"fitting the choice of scale: click {n} of 3" for n in (1, 2, 3)]


def test_a_run_stops_when_asked_and_goes_on(tmp_path: Path) -> None:
    finish(tmp_path / "whole", TINY)
    out, asked = tmp_path / "parts", []

    def go_on(stop_at: int) -> None:
        asked.clear()
        for _ in train_click_model(
            out, out, TINY, device="cpu", resume=True, should_stop=lambda: asked.append(1) or len(asked) >= stop_at
        ):
            pass

    with pytest.raises(Cancelled, match="stopped at step 2: --resume goes on from there"):
        go_on(1)
    with pytest.raises(Cancelled, match="at click 2 of 3 of the choice of scale"):
        go_on(4)  # two batches, two clicks
    go_on(99)
    whole, parts = (load_checkpoint(tmp_path / n).network.state_dict() for n in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_data_that_cannot_teach_are_named(tmp_path: Path) -> None:
    own = TINY.model_copy(update={"collections": ("c",)})
    held_out, taught = (next(k for k in range(99) if is_held_out(f"c/{k}") is kept) for kept in (True, False))
    put_pair(tmp_path / "c" / f"{held_out}_ct")
    with pytest.raises(LearningError, match=r"no patient in .* is left to learn from"):
        next(train_click_model(tmp_path, tmp_path / "out", own, device="cpu"))
    put_pair(tmp_path / "c" / f"{taught}_mr")
    nib.save(nib.Nifti1Image(np.ones((20, 24, 15), np.uint8), np.eye(4)), tmp_path / "c" / f"{taught}_mr_mask.nii.gz")
    with pytest.raises(LearningError, match=r"_mr_mask.nii.gz has \(15, 24, 20\) voxels and its scan \(16, 24, 20\)"):
        next(train_click_model(tmp_path, tmp_path / "out", own, device="cpu"))


def test_weights_of_ones_own_data_say_so(tmp_path: Path) -> None:
    for number in range(6):
        put_pair(tmp_path / "data" / "mine" / f"{number}_ct", number)
    own = TINY.model_copy(update={"steps": 2, "ladders": 1, "synthetic_share": 0.4, "collections": ("mine",)})
    for _ in train_click_model(tmp_path / "data", tmp_path / "out", own, device="cpu"):
        pass
    card = read_card(tmp_path / "out")
    assert card.licence == "not stated"
    assert card.domain is not None
    assert card.domain.modalities == ["CT"]
    assert "--synthetic-share 0.4" in card.command
    assert "--collections mine" in card.command
    assert str(tmp_path) not in card.model_dump_json()


@pytest.mark.parametrize(
    ("collections", "licence", "said"),
    [
        (("sarcoma",), None, "BSD-3-Clause; trained on CC BY 3.0 data, see NOTICE"),
        (("sarcoma", "lung_nodules"), None, "BSD-3-Clause; trained on CC BY 3.0 data, see NOTICE"),
        (("sarcoma", "mine"), None, "not stated"),
        ((), None, "not stated"),
        (("sarcoma",), "CC0-1.0", "CC0-1.0"),
    ],
)
def test_the_public_licence_is_for_the_public_collections(collections, licence, said) -> None:
    assert module._licence(ClickTraining(collections=collections, licence=licence)) == said


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
