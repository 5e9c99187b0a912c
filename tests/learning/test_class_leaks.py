"""What a classifier must not have seen before it is asked about it."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest
from test_train_classifier import cases, image, lesion, picture, run

from napari_medseg.classification import Classifier, Head
from napari_medseg.classification.heads import fit_words
from napari_medseg.classification.learned import patient_mark
from napari_medseg.cli import main
from napari_medseg.learning.class_lesson import unknown_to
from napari_medseg.learning.class_settings import ClassTraining

KINDS = ["bright", "dark"] * 4


def of_patients(first: int, patients: list[str]):
    return [image(kind, first + k, p) for k, (kind, p) in enumerate(zip(KINDS, patients, strict=False))], KINDS


def test_cases_of_learned_patients_are_not_held_out_for_the_old_version() -> None:
    people = [f"P{k}" for k in range(8)]
    _, first = run(*of_patients(0, people), strategy="features")
    old = Classifier(first.checkpoint)
    assert "P0" not in old.card.model_dump_json()
    held = np.arange(8)
    fresh = [f"case sha256 {k}" for k in held]
    assert unknown_to(old, fresh, [(f"Q{k}",) for k in held], held).tolist() == held.tolist()
    assert unknown_to(old, fresh, [("P3",), ("Q1",), *((f"R{k}",) for k in range(6))], held).tolist() == [*range(1, 8)]
    learned, *rest = old.card.data
    assert learned.startswith("case sha256")
    known_by_case = unknown_to(old, [learned, *fresh[1:]], [("X",), ("X",), *(() for _ in rest[:6])], held)
    assert known_by_case.tolist() == [*range(2, 8)], "another case of that patient is known with it"
    _, again = run(*of_patients(50, people), start=old, strategy="features")
    recorded = first.checkpoint.card.figures["auc"]
    assert again.verdict.before.auc == pytest.approx(recorded), "no case of another patient: its recorded figures"


def test_a_version_knows_what_the_one_before_learned() -> None:
    _, first = run(*of_patients(0, [f"P{k}" for k in range(8)]), strategy="features")
    _, second = run(
        *of_patients(20, [f"Q{k}" for k in range(8)]), start=Classifier(first.checkpoint), strategy="features"
    )
    assert {patient_mark("P1"), patient_mark("Q1")} < set(second.checkpoint.card.data)
    assert set(first.checkpoint.card.data) < set(second.checkpoint.card.data)


def test_visual_words_are_made_of_teaching_cases_alone(monkeypatch) -> None:
    made_of = []

    def watched(network, local, **options):
        made_of.append(len(local))
        fit_words(network, local, **options)

    monkeypatch.setattr("napari_medseg.learning.train_classifier.fit_words", watched)
    subjects, answers = cases(image, 12)
    _, result = run(subjects, answers, strategy="features", settings=ClassTraining(head=Head.WORDS, n_words=8))
    *folds, last = made_of
    assert last == 12, "the version that is kept learns from all"
    assert len(folds) == 5
    assert max(folds) < 12
    assert Classifier(result.checkpoint).classify(image("dark", 99)).best == "dark"


def test_lesions_of_one_scan_do_not_teach_and_test(tmp_path) -> None:
    """Four scans with a bright and a dark lesion each: by scan there are four patients, not eight."""
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["scan", "position_mm", "class"])
        for k in range(4):
            data = lesion("bright", k).scans[0].data.T
            nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 1.2, 2.5, 1.0])), tmp_path / f"{k}.nii.gz")
            writer.writerow([f"{k}.nii.gz", "14;15;12", "bright"])
            writer.writerow([f"{k}.nii.gz", "4;5;12", "dark"])
    out = tmp_path / "model"
    words = ["train-classifier", "--table", str(tmp_path / "cases.csv"), "--out", str(out)]
    assert main(words) == 0
    marks = [mark for mark in json.loads((out / "card.json").read_text())["data"] if mark.startswith("patient")]
    assert len(marks) == 4


@pytest.fixture
def spots(tmp_path, capsys):
    """A classifier that learned from ten images in a table."""
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["scan", "class"])
        for k, kind in enumerate(["bright", "dark"] * 10):
            nibabel.save(nibabel.Nifti1Image(picture(kind, k).T[:, :, None], np.eye(4)), tmp_path / f"{k}.nii.gz")
            writer.writerow([f"{k}.nii.gz", kind])
    lines = (tmp_path / "cases.csv").read_text().splitlines()
    (tmp_path / "learned.csv").write_text("\n".join(lines[:11]) + "\n")
    (tmp_path / "fresh.csv").write_text("\n".join([lines[0], *lines[11:]]) + "\n")
    assert main(["train-classifier", "--table", str(tmp_path / "learned.csv"), "--out", str(tmp_path / "model")]) == 0
    capsys.readouterr()
    return tmp_path


def test_the_report_of_a_table_says_its_figures(spots, capsys) -> None:
    words = ["classify", "--model", str(spots / "model"), "--report", str(spots / "report"), "--table"]
    assert main([*words, str(spots / "fresh.csv")]) == 0
    told = capsys.readouterr().out
    for name in ("accuracy", "balanced accuracy", "AUC", "sensitivity (dark)", "specificity (dark)"):
        assert f"\n{name} " in told
    assert "1.000 (0.692 to 1.000)" in told, "ten patients, all right"
    assert "It has learned from" not in told
    assert main([*words, str(spots / "cases.csv"), "--json"]) == 0
    *answers, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == last["cases"] == last["patients"] == 20
    assert last["learned_from"] == 10
    assert last["threshold"] == 0.5
    assert last["figures"]["auc"]["value"] == 1.0
    assert last["figures"]["auc"]["low"] < last["figures"]["auc"]["high"] == 1.0
    assert {"sensitivity (dark)", "specificity (dark)", "precision (dark)"} < set(last["figures"])


def test_a_threshold_decides_what_is_called(spots, capsys) -> None:
    words = ["classify", "--model", str(spots / "model"), "--report", str(spots / "report"), "--json"]
    words += ["--table", str(spots / "fresh.csv"), "--threshold"]
    assert main([*words, "0.999999"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert figures["sensitivity (dark)"]["value"] == 0.0
    assert figures["specificity (dark)"]["value"] == 1.0
    assert figures["precision (dark)"]["value"] is None
    assert figures["accuracy"]["value"] == 0.5
    assert "from a probability of 0.999999 on" in (spots / "report" / "report.html").read_text()
    assert main([*words, "1.5"]) == 1
    assert "--threshold lies between 0 and 1, got 1.5" in capsys.readouterr().err


def test_a_threshold_is_refused_where_there_are_more_than_two_classes(spots, capsys) -> None:
    with (spots / "three.csv").open("w") as stream:
        stream.write("scan,class\n" + "".join(f"{k}.nii.gz,{'abc'[k % 3]}\n" for k in range(12)))
    out = str(spots / "three")
    assert main(["train-classifier", "--table", str(spots / "three.csv"), "--out", out]) == 0
    capsys.readouterr()
    words = ["classify", "--model", out, "--table", str(spots / "three.csv"), "--report", str(spots / "r")]
    assert main([*words, "--threshold", "0.3"]) == 1
    assert "--threshold is for two classes and classifier version 1 has 3: leave it out" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert {f"sensitivity ({name})" for name in "abc"} < set(figures)
