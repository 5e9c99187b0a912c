"""The command line as a user calls it: exit status, one line on stderr, JSON and nothing else on stdout."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_medseg import __version__
from napari_medseg.cli import main
from napari_medseg.imaging.files import read_volume
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import Card
from napari_medseg.segmentation.prompts import Box, Click, Lasso, Prompt, Scribble
from napari_medseg.terminal import with_joined_values

SHAPE = (18, 22, 14)
# x and y are flipped and the spacing differs along each axis, as a scanner writes it.
AFFINE = np.array([[-1.2, 0, 0, 11.0], [0, -0.9, 0, 8.0], [0, 0, 2.5, -16.0], [0, 0, 0, 1.0]])
CENTRE_IJK = (6, 9, 7)
COMMANDS = (
    "demo", "segment", "convert", "fine-tune", "evaluate", "corrections", "compare", "classify", "similar",
    "train-classifier", "models", "train-click-model", "train-siamese",
)  # fmt: skip


def _ball(radius_mm: float, centre: tuple[int, int, int] = CENTRE_IJK) -> np.ndarray:
    index = np.moveaxis(np.indices(SHAPE), 0, -1) - np.asarray(centre)
    return np.linalg.norm(index * np.array([1.2, 0.9, 2.5]), axis=-1) <= radius_mm


def _save(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, AFFINE), path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return _save(tmp_path / "ct.nii.gz", (40 + 80 * _ball(6) + noise).astype(np.int16))


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return _save(tmp_path / "truth.nii.gz", _ball(6).astype(np.uint8))


@pytest.fixture
def click() -> str:
    return ",".join(f"{v:.2f}" for v in (AFFINE @ [*CENTRE_IJK, 1])[:3])


Answers = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def answers(capfd: pytest.CaptureFixture[str]) -> Answers:
    def run(*words: object) -> list[dict[str, Any]]:
        assert main([str(word) for word in words]) == 0
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return run


def _fails(words: list[object], capfd: pytest.CaptureFixture[str]) -> str:
    assert main([str(word) for word in words]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("napari-medseg: ")
    assert said.err.count("\n") == 1, said.err
    return said.err


class Threshold:
    """A model of one line that remembers what it was asked."""

    card = Card(name="threshold", version=3, sha256="abc")
    name, needs_click = "threshold", False

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.previous: LabelMap | None = None
        self.meanwhile: Callable[[Callable[[float], None]], None] = lambda progress: None

    def segment(
        self,
        volume: Volume,
        prompts: Sequence[Prompt] = (),
        *,
        previous: LabelMap | None,
        progress: Callable[[float], None],
        should_stop: Callable[[], bool],
    ) -> LabelMap:
        self.prompts += prompts
        self.previous = previous
        self.meanwhile(progress)
        return LabelMap((volume.data > 80).astype(np.uint8), volume.affine, grid=volume.grid)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Threshold:
    threshold = Threshold()
    monkeypatch.setattr("napari_medseg.segmentation.load.load_model", lambda name: threshold)
    return threshold


def test_segment_saves_on_the_scans_own_grid(
    scan: Path, truth: Path, click: str, model: Threshold, answers: Answers
) -> None:
    out = scan.with_name("mask.nii.gz")
    (said,) = answers("segment", scan, "--click", click, "--out", out, "--json")
    mask = nib.load(out)
    assert mask.shape == SHAPE
    assert np.allclose(mask.affine, AFFINE, atol=1e-4)
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(nib.load(truth).dataobj))
    assert (said["mask"], said["model"], said["version"], said["sha256"]) == (str(out), "threshold", 3, "abc")
    assert said["n_voxels"] == _ball(6).sum()
    assert said["volume_ml"] == pytest.approx(_ball(6).sum() * 1.2 * 0.9 * 2.5 / 1000)


def test_segment_says_what_it_did(scan: Path, model: Threshold, click: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = scan.with_name("mask.nii.gz")
    assert main(["segment", str(scan), "--click", click, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 0.915 ml" in said
    assert "by model threshold version 3; saved, verified" in said


def test_the_scan_itself_is_never_written_over(
    scan: Path, truth: Path, click: str, model: Threshold, capfd: pytest.CaptureFixture[str]
) -> None:
    before = scan.read_bytes()
    for words in (["segment", scan, "--click", click], ["convert", truth, "--scan", scan]):
        said = _fails([*words, "--out", scan], capfd)
        assert said == f"napari-medseg: {scan.name} is the scan itself and stays as it is: choose another name\n"
    assert scan.read_bytes() == before


def test_positions_that_begin_with_a_minus_are_values() -> None:
    words = ["ct.nii.gz", "--click", "-1.5,2,-3", "--click", "-.5,0,1e1", "--box", "-1,-2,-3,4,5,6", "--json"]
    assert with_joined_values(words) == [
        "ct.nii.gz",
        "--click=-1.5,2,-3",
        "--click=-.5,0,1e1",
        "--box=-1,-2,-3,4,5,6",
        "--json",
    ]


def test_every_prompt_reaches_the_model_in_the_order_given(scan: Path, model: Threshold, answers: Answers) -> None:
    places = [
        ("--background", "-9,-5,10"), ("--click", "1,2,3"), ("--scribble", "-1,2,3,4,5,6,7,8,9"),
        ("--background-box", "-9,-9,-9,-5,-5,-5"), ("--box", "-3,-8,-8,9,8,9"), ("--click", "3,2,1"),
        ("--background-scribble", "-9,-5,10,-8,-5,10"), ("--lasso", "-1,-1,0,1,-1,0,0,2,0"),
        ("--background-lasso", "-9,-9,0,-8,-9,0,-8,-8,0"),
    ]  # fmt: skip
    answers("segment", scan, *(word for place in places for word in place), "--out", scan.with_name("m.nii"), "--json")
    assert model.prompts == [
        Click((-9, -5, 10), positive=False),
        Click((1, 2, 3)),
        Scribble(((-1, 2, 3), (4, 5, 6), (7, 8, 9))),
        Box((-9, -9, -9), (-5, -5, -5), positive=False),
        Box((-3, -8, -8), (9, 8, 9)),
        Click((3, 2, 1)),
        Scribble(((-9, -5, 10), (-8, -5, 10)), positive=False),
        Lasso(((-1, -1, 0), (1, -1, 0), (0, 2, 0))),
        Lasso(((-9, -9, 0), (-8, -9, 0), (-8, -8, 0)), positive=False),
    ]


def test_the_mask_so_far_is_put_onto_the_scan(
    scan: Path, click: str, model: Threshold, answers: Answers, capfd: pytest.CaptureFixture[str]
) -> None:
    before, out = scan.with_name("before.nii.gz"), scan.with_name("m.nii.gz")
    moved = AFFINE.copy()
    moved[:3, 3] = (AFFINE @ [1, 2, 3, 1])[:3]
    nib.save(nib.Nifti1Image(_ball(6)[1:, 2:, 3:].astype(np.uint8), moved), before)
    words = ["segment", scan, "--previous", before, "--out", out]
    answers(*words, "--click", click, "--json")
    assert model.previous is not None
    assert model.previous.data.shape == SHAPE[::-1]
    assert np.count_nonzero(model.previous.data) == _ball(6).sum()
    assert np.array_equal(model.previous.affine, read_volume(scan).affine)
    assert "nothing says what to correct in before.nii.gz" in _fails(words, capfd)
    nib.save(nib.Nifti1Image(_ball(6).astype(np.uint8), AFFINE + 0.3 * np.eye(4, k=3)), before)
    said = _fails([*words, "--click", click], capfd)
    assert "before.nii.gz lies on a grid" in said
    assert "convert --scan --resample" in said


def test_the_mask_so_far_is_corrected(scan: Path, answers: Answers) -> None:
    before, out = _ball(6) | _ball(3, (15, 19, 7)), scan.with_name("m.nii.gz")
    previous = _save(scan.with_name("before.nii.gz"), before.astype(np.uint8))
    spilt = ",".join(f"{v:.2f}" for v in (AFFINE @ [15, 19, 7, 1])[:3])
    words = ["segment", scan, "--previous", previous, "--model", "geodesic", "--background", spilt]
    answers(*words, "--out", out, "--json")
    after = np.asarray(nib.load(out).dataobj) > 0
    assert not after[15, 19, 7]
    assert (after <= before).all()
    assert np.array_equal(after & _ball(6), _ball(6))


def test_work_over_a_second_tells_how_far_it_is(
    scan: Path, model: Threshold, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def meanwhile(progress: Callable[[float], None]) -> None:
        for part, clock.now in ((0.2, 0.5), (0.4, 1.25), (0.5, 1.5), (0.9, 2.5)):
            progress(part)

    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, perf_counter=lambda: clock.now)
    monkeypatch.setattr("napari_medseg.cli.time", clock)
    words = ["segment", str(scan), "--out", str(scan.with_name("m.nii.gz"))]
    assert main(words) == 0
    assert capfd.readouterr().err == ""
    model.meanwhile = meanwhile
    clock.now = 0.0
    assert main(words) == 0
    assert capfd.readouterr().err == "40% segmented\n90% segmented\n"
    clock.now = 0.0
    assert main([*words, "--json"]) == 0
    said = capfd.readouterr()
    *progress, last = (json.loads(line) for line in said.out.splitlines())
    assert progress == [{"kind": "progress", "progress": part} for part in (0.4, 0.9)]
    assert (last["model"], said.err) == ("threshold", "")


def test_an_interrupt_stops_segmenting_and_writes_nothing(
    scan: Path, model: Threshold, capfd: pytest.CaptureFixture[str]
) -> None:
    model.meanwhile = lambda progress: signal.raise_signal(signal.SIGINT)
    out = scan.with_name("m.nii.gz")
    assert "stopped: nothing was written" in _fails(["segment", scan, "--out", out], capfd)
    assert not out.exists()


def test_evaluate_prints_one_object(scan: Path, truth: Path, answers: Answers) -> None:
    mask = _save(scan.with_name("smaller.nii.gz"), _ball(5).astype(np.uint8))
    (said,) = answers("evaluate", mask, truth, "--json")
    n, m = _ball(5).sum(), _ball(6).sum()
    assert said["dice"] == pytest.approx(2 * n / (n + m))
    assert said["reference_ml"] == pytest.approx(m * 2.7 / 1000, rel=1e-4)
    assert said["lesion_recall"] == 1.0
    assert len(said["labels"]) == 1


def test_evaluate_names_what_is_not_defined_as_null(truth: Path, answers: Answers) -> None:
    empty = _save(truth.with_name("empty.nii.gz"), np.zeros(SHAPE, np.uint8))
    (said,) = answers("evaluate", empty, truth, "--json")
    assert (said["dice"], said["hd95_mm"], said["precision"]) == (0.0, None, None)


def test_evaluate_prints_a_table(truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = _save(truth.with_name("two.nii.gz"), _ball(6).astype(np.uint8) + _ball(3))
    assert main(["evaluate", str(two), str(two), "--tolerance-mm", "1.5"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["all", "labels", "label", "1", "label", "2"]
    assert ["Dice", "1.000", "1.000", "1.000"] in lines
    assert ["NSD", "at", "1.5", "mm", "1.000", "1.000", "1.000"] in lines


def test_evaluate_folders_with_a_report(tmp_path: Path, answers: Answers) -> None:
    masks, references = tmp_path / "masks", tmp_path / "references"
    for folder, radius in ((masks, 5), (references, 6)):
        folder.mkdir()
        for name in ("P1_a", "P1_b", "P2_a"):
            _save(folder / f"{name}.nii.gz", _ball(radius).astype(np.uint8))
    report = tmp_path / "report"
    words = ["evaluate", masks, references, "--patients", r"(P\d+)", "--report", report, "--json"]
    (said,) = answers(*words)
    assert [case["patient"] for case in said["cases"]] == ["P1", "P1", "P2"]
    dice = said["means"][0]["means"]["dice"]
    assert dice["n_patients"] == 2
    assert dice["low"] <= dice["value"] <= dice["high"] < 1
    assert (report / "figures.csv").read_text().count("\n") == 4
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "P1_a.nii.gz" in page


def test_convert_makes_a_surface_in_patient_millimetres(truth: Path, tmp_path: Path, answers: Answers) -> None:
    (answer,) = answers("convert", truth, "--out", tmp_path / "lesion.obj", "--json")
    lines = Path(answer["mask"]).read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    centre = (AFFINE @ [*CENTRE_IJK, 1])[:3]
    assert np.abs((vertices.min(0) + vertices.max(0)) / 2 - centre).max() < 1.3
    assert 5 < np.linalg.norm(vertices - centre, axis=1).max() < 7.5


def test_convert_asks_before_it_resamples(
    scan: Path, tmp_path: Path, answers: Answers, capfd: pytest.CaptureFixture[str]
) -> None:
    coarse = tmp_path / "coarse.nii.gz"
    nib.save(nib.Nifti1Image(_ball(6)[::2, ::2].astype(np.uint8), AFFINE @ np.diag([2, 2, 1, 1])), coarse)
    out = tmp_path / "fine.nii.gz"
    assert main(["convert", str(coarse), "--scan", str(scan), "--out", str(out)]) == 1
    said = capfd.readouterr().err
    assert "coarse.nii.gz lies on a grid of 14 x 11 x 9 voxels of 2.5 x 1.8 x 2.4 mm" in said
    assert "Give --resample nearest or --resample smooth." in said
    assert not out.exists()
    answers("convert", coarse, "--scan", scan, "--resample", "smooth", "--out", out, "--json")
    saved = nib.load(out)
    assert np.allclose(saved.affine, AFFINE)
    found = np.asarray(saved.dataobj) > 0
    assert 2 * (found & _ball(6)).sum() / (found.sum() + _ball(6).sum()) > 0.85


def test_convert_refuses_what_the_scan_cannot_give(truth: Path, scan: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(truth), "--scan", str(scan), "--out", str(truth.with_name("rs.dcm"))]
    assert main([*words, "--format", "rtstruct"]) == 1
    assert "not opened from a DICOM series" in capfd.readouterr().err
    assert main([*words[:2], "--label", "9", "--out", str(truth.with_name("a.nii"))]) == 1
    assert "has label 9" in capfd.readouterr().err


def test_a_folder_without_a_mask_is_named(tmp_path: Path, truth: Path, capfd: pytest.CaptureFixture[str]) -> None:
    masks, references = tmp_path / "masks", tmp_path / "references"
    masks.mkdir()
    references.mkdir()
    truth.rename(references / truth.name)
    assert "has no truth.nii.gz" in _fails(["evaluate", masks, references], capfd)


def test_masks_on_different_grids_are_not_compared(truth: Path, capfd: pytest.CaptureFixture[str]) -> None:
    moved = truth.with_name("moved.nii.gz")
    nib.save(nib.Nifti1Image(_ball(6).astype(np.uint8), AFFINE + np.eye(4, k=3)), moved)
    said = _fails(["evaluate", moved, truth], capfd)
    assert "moved.nii.gz" in said
    assert "different grids" in said


@pytest.mark.parametrize("name", ["missing.nii.gz", "text.nii.gz"])
def test_a_bad_scan_is_one_line(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.nii.gz").write_text("not a scan")
    words = ["segment", tmp_path / name, "--click", "0,0,0", "--out", tmp_path / "m.nii.gz"]
    assert name in _fails(words, capfd)
    assert not (tmp_path / "m.nii.gz").exists()


def test_fine_tune_without_cases_says_what_to_give(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "--pair SCAN MASK" in _fails(["fine-tune", "--out", tmp_path / "model"], capfd)


def test_fine_tune_leaves_a_version_with_its_verdict(scan: Path, truth: Path, answers: Answers) -> None:
    from napari_medseg.models.checkpoint import save_checkpoint
    from napari_medseg.models.library import Library
    from napari_medseg.networks.click_unet import ClickUNet
    from napari_medseg.segmentation.load import load_model

    start = save_checkpoint(scan.parent / "start", ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"))
    out = scan.parent / "tuned"
    words = ["--pair", scan, truth, "--model", start, "--out", out, "--adopt", "click", "--steps", "2", "--json"]
    reports = answers("fine-tune", *words)
    verdict = reports[-1]["verdict"]
    assert [report["kind"] for report in reports].count("done") == 1
    assert reports[-1]["kind"] == "done"
    assert load_model(out).card.gate is not None
    assert verdict["sentence"]
    assert Library().versions("click")[-1].labels == load_model(out).card.labels


def test_fine_tune_needs_the_mask_on_the_scans_grid(
    scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved.nii.gz"
    nib.save(nib.Nifti1Image(_ball(6).astype(np.uint8), AFFINE + np.eye(4, k=3)), moved)
    said = _fails(["fine-tune", "--pair", scan, moved, "--out", tmp_path / "model"], capfd)
    assert "ct.nii.gz" in said
    assert "moved.nii.gz" in said
    assert "different grids" in said


def test_a_click_model_is_trained_on_ones_own_folders_and_its_card_tells_how(tmp_path: Path, answers: Answers) -> None:
    from napari_medseg.models.checkpoint import read_card

    data = tmp_path / "data"
    for name in ("liver CT", "liver CT/p2", "brain"):
        (data / name).mkdir(parents=True)
        for number in range(3):
            _save(data / name / f"{number}_image.nii.gz", (40 + 80 * _ball(6)).astype(np.int16))
            _save(data / name / f"{number}_mask.nii.gz", _ball(6).astype(np.uint8))
    (data / "empty").mkdir()
    common = ["--data", data, "--device", "cpu", "--json", "--out"]
    words = "--sizes 16x1 32x2 --widths 8 8 8 8 --steps 4 --rounds 1 --ladders 1 --learning-rate 0.002 --workers 0"
    answers("train-click-model", *common, tmp_path / "one", *words.split(), "--licence", "ours alone")
    card = read_card(tmp_path / "one")
    assert card.training["collections"] == ["brain", "liver CT"]
    assert card.training["sizes"] == [[16, 1], [32, 2]]
    assert card.licence == "ours alone"
    program, command, *told = shlex.split(card.command)
    assert (program, command) == ("napari-medseg", "train-click-model")
    answers("train-click-model", *common, tmp_path / "again", *told)
    assert read_card(tmp_path / "again").sha256 == card.sha256
    assert read_card(tmp_path / "again").command == card.command


def test_a_click_model_says_what_it_cannot_train_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["train-click-model", "--data", tmp_path, "--out", tmp_path / "out", "--steps", "1"]
    assert "in any folder of" in _fails(words, capfd)
    assert "for missing" in _fails([*words, "--collections", "missing"], capfd)
    assert "--sizes cannot be 50" in _fails([*words, "--collections", "--sizes", "50x2"], capfd)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "training_state.pt").touch()
    assert "--resume" in _fails([*words, "--collections"], capfd)


def test_a_setting_out_of_range_names_its_option(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "--steps cannot be 0" in _fails(["fine-tune", "--out", tmp_path, "--steps", "0"], capfd)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["segment", "ct.nii.gz", "--click", "1,2", "--out", "m.nii.gz"], "3 numbers with commas"),
        (["segment", "ct.nii.gz", "--scribble", "1,2,3,4", "--out", "m.nii.gz"], "6 numbers with commas"),
        (["segment", "ct.nii.gz", "--click", "here", "--out", "m.nii.gz"], "--click"),
        (["segment", "ct.nii.gz", "--out", "m.docx"], "m.docx has none of the endings"),
        (["segment", "ct.nii.gz"], "--out"),
        (["fine-tune", "--out", "d", "--strategy", "magic"], "magic"),
        (["train-click-model", "--data", "d", "--out", "o", "--sizes", "48"], "like 48x8, got '48'"),
        (["models"], "list"),
        (["sgment", "ct.nii.gz"], "sgment is neither a file nor a command"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_usage_is_status_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_models_import_list_activate_roll_back_export(tmp_path: Path, answers: Answers) -> None:
    from napari_medseg.models.checkpoint import load_checkpoint, save_checkpoint
    from napari_medseg.networks.click_unet import ClickUNet

    folder = save_checkpoint(tmp_path / "mine", ClickUNet(widths=(8, 8, 8, 8)), Card(name="liver", labels={1: "liver"}))
    (first,) = answers("models", "import", folder, "--json")
    (second,) = answers("models", "import", folder, "--json")
    assert [first["version"], second["version"]] == [1, 2]
    assert answers("models", "activate", "liver", "--version", "2", "--json") == [{"name": "liver", "active": 2}]
    listed = [m for m in answers("models", "list", "--json") if m["name"] == "liver"]
    assert [(m["version"], m["active"]) for m in listed] == [(1, False), (2, True)]
    assert answers("models", "rollback", "liver", "--json") == [{"name": "liver", "active": 1}]
    (shown,) = answers("models", "show", "liver", "--json")
    assert shown["labels"] == {"1": "liver"}
    answers("models", "export", "liver", "--version", "2", "--out", tmp_path / "copy", "--json")
    copy = load_checkpoint(tmp_path / "copy")
    assert copy.card.sha256 == shown["sha256"]


def test_models_of_an_unknown_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert "no model 'liver'" in _fails(["models", "show", "liver"], capfd)


def test_stray_prints_stay_out_of_json(
    truth: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from napari_medseg.evaluation import study

    def noisy(*paths: Path, **options: Any) -> Any:
        print("a library says hello")
        os.write(1, b"and so does its C code\n")
        return quiet(*paths, **options)

    quiet = study.compare_files
    monkeypatch.setattr(study, "compare_files", noisy)
    assert main(["evaluate", str(truth), str(truth), "--json"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["dice"] == 1.0
    assert "library says hello" in said.err
    assert "C code" in said.err


def test_the_module_is_the_command(truth: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "napari_medseg"]
    done = subprocess.run([*command, "evaluate", truth, truth, "--json"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["dice"] == 1.0
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
    assert version.stdout.strip() == f"napari-medseg {__version__}"
    failed = subprocess.run([*command, "evaluate", tmp_path / "no", truth], capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in said


def test_the_demo_without_a_display_is_told_and_says_where_its_pictures_are(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("napari_medseg.demo.has_screen", lambda: False)
    monkeypatch.setattr("napari_medseg.demo.show_demo", lambda: pytest.fail("a window needs a display"))
    monkeypatch.setattr("napari_medseg.demo.tell_demo", lambda folder: iter([f"1. Opened {folder.name}"]))
    assert main(["demo", "--out", str(tmp_path / "story")]) == 0
    told = capsys.readouterr().out
    assert str(tmp_path / "story") in told.splitlines()[0]
    assert "1. Opened story" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: napari-medseg {name}" in capsys.readouterr().out
