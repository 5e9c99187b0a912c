"""The page 'Evaluate' as a user meets it, and what the pages of the dock cost."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QDoubleSpinBox, QLineEdit, QTableWidget

from napari_medseg.imaging.files import write_label_map
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.session.services import build
from napari_medseg.widgets.dock import MedSegDock

AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])


@pytest.fixture
def dock(qtbot):
    from napari.components import ViewerModel

    made = MedSegDock(ViewerModel(), build())
    qtbot.addWidget(made)
    made.resize(340, 900)
    made.show()
    return made


@pytest.fixture
def page(dock):
    return dock.pages.choose("Evaluate")


@pytest.fixture
def folders(tmp_path):
    """Three masks, and references that are one slice larger."""
    for name, stop in (("masks", 5), ("references", 6)):
        (tmp_path / name).mkdir()
        for patient in range(3):
            data = np.zeros((7, 14, 18), np.uint8)
            data[2:stop, 4:8, 5 : 9 + patient] = 1
            write_label_map(tmp_path / name / f"P{patient}.nii.gz", LabelMap(data, AFFINE))
    return tmp_path / "masks", tmp_path / "references"


def press(page, qtbot, text):
    [found] = [each for each in page.findChildren(QAbstractButton) if each.text() == text and each.isVisible()]
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def fill(page, name, text):
    [line] = [each for each in page.findChildren(QLineEdit) if each.accessibleName() == name]
    line.setText(str(text))


def test_masks_against_references_are_figures_plots_a_table_and_a_page(page, qtbot, folders, tmp_path):
    fill(page, "Masks", folders[0])
    fill(page, "References", folders[1])
    press(page, qtbot, "Compare masks")
    window = page.window_shown
    assert window is not None
    assert window.isVisible()
    tables = {each.accessibleName(): each for each in window.findChildren(QTableWidget)}
    assert tables["Figures"].item(0, 0).text() == "Dice"
    assert float(tables["Figures"].item(0, 1).text().split()[0]) == pytest.approx(6 / 7, abs=1e-3)
    assert tables["Cases"].item(0, 0).text() == "P0.nii.gz"
    assert "<html" in window.evaluated.page.read_text()
    window.save(tmp_path / "kept.csv")
    with (tmp_path / "kept.csv").open() as stream:
        assert {row["patient"] for row in csv.DictReader(stream)} == {"P0.nii.gz", "P1.nii.gz", "P2.nii.gz"}


@pytest.mark.parametrize(
    ("masks", "references", "said"),
    [
        ("", "", "Choose masks and references first."),
        ("nowhere", "", "Choose masks and references first."),
        ("nowhere", "nowhere", "There is nothing at nowhere: choose the masks."),
    ],
)
def test_what_is_missing_is_said(page, qtbot, masks, references, said):
    fill(page, "Masks", masks)
    fill(page, "References", references)
    press(page, qtbot, "Compare masks")
    assert page.services.session.message == said


def test_a_file_against_a_folder_is_refused(page, folders):
    page.controller.masks(folders[0], folders[1] / "P0.nii.gz")
    assert "choose two files, or two folders" in page.services.session.message


def test_without_a_classifier_the_step_says_what_to_do(page):
    assert page.steps["Classifier"].hint == "Train a classifier first."
    assert not page.steps["Classifier"].is_open


@pytest.fixture
def lesion_classifier():
    """An untrained classifier of lesions that has learned from one of four cases of three patients."""
    import torch

    from napari_medseg.classification import CaseLibrary, Classifier, Subject
    from napari_medseg.classification.learned import case_mark
    from napari_medseg.imaging.volume import Volume
    from napari_medseg.models.card import Card, ClassifierInput
    from napari_medseg.models.checkpoint import Checkpoint
    from napari_medseg.models.library import Library
    from napari_medseg.networks.image_classifier import ImageClassifier

    torch.manual_seed(0)
    network = ImageClassifier(widths=(8, 8, 8, 8)).eval()
    card = Card(
        name="lesion-classifier",
        architecture="image_classifier",
        config=network.config,
        labels={0: "benign", 1: "malignant"},
        looks_at=ClassifierInput(task="lesion", size=16, extent_mm=20.0),
    )
    cases, mask = CaseLibrary(), np.zeros((7, 14, 18), np.uint8)
    mask[2:5, 4:8, 5:9] = 1
    for seed, patient in enumerate(("P0", "P0", "P1", "P2")):
        scan = Volume(np.random.default_rng(seed).normal(size=mask.shape).astype(np.float32), AFFINE, f"scan {seed}")
        subject = Subject.lesion(scan, LabelMap(mask, AFFINE), patient=patient)
        cases.add(subject, "malignant" if seed % 2 else "benign")
    first = Classifier(Checkpoint(network, card)).crop(cases.list()[0].subject())
    library = Library()
    known = card.model_copy(update={"data": [case_mark(first.inputs)]})
    library.activate("lesion-classifier", library.add("lesion-classifier", Checkpoint(network, known)))


def test_asking_the_classifier_shows_figures_of_patients_that_it_does_not_know(lesion_classifier, page, qtbot):
    [threshold] = [each for each in page.findChildren(QDoubleSpinBox) if each.accessibleName() == "Threshold"]
    assert threshold.value() == 0.5
    assert "With more than two it does not apply" in threshold.toolTip()
    if not page.steps["Classifier"].is_open:
        press(page, qtbot, "Classifier")
    threshold.setValue(0.99)
    press(page, qtbot, "Ask the classifier")
    qtbot.waitUntil(lambda: page.window_shown is not None, timeout=20_000)
    evaluated = page.window_shown.evaluated
    assert evaluated.sentence.startswith("2 cases of 2 patients that it has not learned from; 2 that it knows")
    tables = {each.accessibleName(): each for each in page.window_shown.findChildren(QTableWidget)}
    shown = {tables["Figures"].item(k, 0).text(): tables["Figures"].item(k, 1).text() for k in range(8)}
    assert shown["sensitivity (malignant)"].startswith("0.000"), "nothing is called malignant from 0.99 on"
    assert shown["specificity (malignant)"].startswith("1.000")
    assert [tables["Cases"].item(k, 0).text() for k in range(2)] == ["case-0003", "case-0004"]


def test_asking_about_a_table_that_is_not_there_is_said(lesion_classifier, page, qtbot):
    fill(page, "Cases", "nowhere.csv")
    if not page.steps["Classifier"].is_open:
        press(page, qtbot, "Classifier")
    press(page, qtbot, "Ask the classifier")
    qtbot.waitUntil(lambda: "nowhere.csv cannot be read as a table" in page.services.session.message, timeout=20_000)
    assert page.window_shown is None


def test_the_pages_load_neither_torch_nor_sklearn():
    code = (
        "import sys, napari_medseg.widgets.classify_page, napari_medseg.widgets.evaluate_page\n"
        "print(*sorted({'torch', 'monai', 'sklearn', 'captum', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=170)
    assert done.stdout.split() == []
