"""Asking a classifier about labelled cases: which are asked, which are left out, and what is said of it."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest
import torch

from napari_medseg.classification import CaseLibrary, Classifier, Subject
from napari_medseg.classification.learned import case_mark, patient_mark
from napari_medseg.classification.table import read_table
from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.image_classifier import ImageClassifier
from napari_medseg.session.services import build

AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])
NAMES = ("benign", "malignant")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (20, 28)).astype(np.float32)


def image(seed: int, patient: str) -> Subject:
    return Subject.image(Volume(picture(seed)[None], AFFINE, f"scan {seed}", "DX"), patient=patient)


def classifier(data=(), classes=NAMES) -> Classifier:
    """An untrained network whose card says what it has learned from; in the library as 'mine'."""
    torch.manual_seed(0)
    network = ImageClassifier(dims=2, widths=(8, 8, 8, 8), n_classes=len(classes)).eval()
    card = Card(
        name="mine",
        architecture="image_classifier",
        config=network.config,
        labels=dict(enumerate(classes)),
        needs_click=False,
        looks_at=ClassifierInput(task="image", size=32),
        data=list(data),
    )
    library = Library()
    checkpoint = Checkpoint(network, card)
    library.activate("mine", library.add("mine", checkpoint))
    return Classifier(checkpoint)


@pytest.fixture
def asked():
    """Ask 'mine', and return what was evaluated, or what was said."""

    def ask(table=None, **options):
        services, outcomes = build(), []
        services.evaluating.evaluated.connect(outcomes.append)
        services.evaluating.classifier("mine", table, **options)
        assert services.session.busy is None
        return outcomes[0] if outcomes else services.session.message

    return ask


@pytest.fixture
def cases():
    """Eight images of four patients, two each."""
    library = CaseLibrary()
    return [library.add(image(k, f"P{k // 2}"), NAMES[k % 2]) for k in range(8)]


@pytest.fixture
def table(tmp_path):
    """The same in a table; the last patient is nobody's name."""
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["scan", "class", "patient"])
        for k in range(8):
            nibabel.save(nibabel.Nifti1Image(picture(k).T[:, :, None], np.eye(4)), tmp_path / f"{k}.nii.gz")
            writer.writerow([f"{k}.nii.gz", NAMES[k % 2], f"P{k // 2}" if k < 6 else ""])
    return tmp_path / "cases.csv"


def names(evaluated) -> list[str]:
    return [row["case"] for row in evaluated.cases]


def test_another_case_of_a_learned_patient_is_not_asked(asked, cases) -> None:
    mark = case_mark(classifier().crop(cases[2].subject()).inputs)
    classifier([mark, patient_mark("P1")])
    evaluated = asked()
    assert names(evaluated) == [cases[k].id for k in (0, 1, 4, 5, 6, 7)]
    sentence = (
        "6 cases of 3 patients that it has not learned from; 2 that it knows, or whose patient it knows, left out."
    )
    assert evaluated.sentence == sentence


def test_a_card_without_patients_leaves_out_those_that_the_library_knows(asked, cases) -> None:
    classifier([case_mark(classifier().crop(cases[2].subject()).inputs)])
    evaluated = asked()
    assert cases[3].id not in names(evaluated)
    assert len(names(evaluated)) == 6
    assert "Its card names no patients" in evaluated.sentence


def test_a_case_that_lost_its_class_still_tells_its_patient(asked, cases) -> None:
    classifier([case_mark(classifier().crop(cases[2].subject()).inputs)])
    CaseLibrary().relabel(cases[2].id, "")
    assert cases[3].id not in names(asked())


def test_where_all_is_known_it_is_said(asked, cases) -> None:
    classifier([patient_mark(f"P{k}") for k in range(4)])
    assert "has learned from all 8 labelled cases, or from their patients: label others" in asked()


def test_a_table_is_asked_without_what_was_learned(asked, table) -> None:
    first = read_table(table)[0].subject()
    classifier([case_mark(classifier().crop(first).inputs), patient_mark("P2")])
    evaluated = asked(table)
    assert names(evaluated) == ["2.nii.gz", "3.nii.gz", "6.nii.gz", "7.nii.gz"]
    sentence = (
        "4 cases of 3 patients that it has not learned from; 4 that it knows, or whose patient it knows, left out."
    )
    assert evaluated.sentence == sentence
    classifier([patient_mark(each) for each in ("P0", "P1", "P2")] + [patient_mark(str(table.parent / "6.nii.gz"))])
    assert names(asked(table)) == ["7.nii.gz"]


def test_a_table_of_scans_that_the_library_knows(asked, table) -> None:
    """The library calls the patient otherwise than the table does: the scan's file tells."""
    kept = CaseLibrary().add(image(50, "hash of somebody"), "benign", paths=[table.parent / "2.nii.gz"])
    classifier([case_mark(classifier().crop(kept.subject()).inputs)])
    assert names(asked(table)) == [f"{k}.nii.gz" for k in (0, 1, 4, 5, 6, 7)]


def test_a_table_that_is_all_known_is_refused(asked, table) -> None:
    rows = read_table(table)
    classifier([patient_mark(row.person) for row in rows])
    assert "has learned from all 8 cases of cases.csv, or their patients: choose a table of others" in asked(table)


def test_a_card_that_says_nothing_is_no_promise(asked, table) -> None:
    classifier()
    evaluated = asked(table)
    assert len(evaluated.cases) == 8
    assert "that it has not learned from" not in evaluated.sentence
    assert "does not say what it has learned from" in evaluated.sentence


def test_the_answers_are_figures_rows_plots_and_files(asked, cases) -> None:
    mine = classifier([patient_mark("P9"), "case sha256 0"])
    evaluated = asked(threshold=0.999)
    figures = {row["figure"]: row["value (95 % interval)"] for row in evaluated.means}
    assert figures["sensitivity (malignant)"].startswith("0.000 (0.000 to ")
    assert figures["specificity (malignant)"].startswith("1.000 (")
    assert "nan" in figures["precision (malignant)"]
    [first, *_] = evaluated.cases
    assert float(first["benign"]) == pytest.approx(mine.classify(cases[0].subject()).probabilities["benign"], abs=1e-3)
    assert evaluated.picture.startswith(b"\x89PNG")
    assert len(evaluated.table.read_text().splitlines()) == 9
    assert "called &#x27;malignant&#x27; from a probability of 0.999 on" in evaluated.page.read_text()


def test_of_three_classes_the_threshold_is_not_used(asked, cases) -> None:
    classifier([patient_mark("P9"), "case sha256 0"], classes=(*NAMES, "unsure"))
    assert asked(threshold=0.999).means == asked().means


def test_a_class_that_it_does_not_know_and_a_name_that_is_none(asked, table, cases) -> None:
    classifier(classes=("a", "b"))
    assert "has no class 'benign': it knows a, b" in asked(table)
    services = build()
    services.evaluating.classifier("nobody")
    assert "nobody" in services.session.message
