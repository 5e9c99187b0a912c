"""The page 'Compare' as a user meets it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QTableWidget

from napari_medseg.followup.findings import Finding
from napari_medseg.followup.matching import Row, State
from napari_medseg.imaging.registration import Registration
from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import build
from napari_medseg.widgets.compare_page import LONG, NAME, SCORE
from napari_medseg.widgets.dock import MedSegDock

sys.path.insert(0, str(Path(__file__).parents[1] / "followup"))

from followup_phantom import LESIONS, MOTION, scanned

AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])
NOTES = ("The lesions of the prior scan are proposals made from the other visit: check them before you rely on them.",)


def scan(name: str) -> Volume:
    return Volume(np.zeros((6, 14, 18), np.float32), AFFINE, name, "MR")


@pytest.fixture
def dock(qtbot):
    from napari.components import ViewerModel

    made = MedSegDock(ViewerModel(), build())
    qtbot.addWidget(made)
    made.resize(340, 760)
    made.show()
    return made


def lesion(label: int) -> Finding:
    region = (slice(1, 3), slice(1, 3), slice(1, 3))
    return Finding(label, f"Lesion {label}", region, np.ones((2, 2, 2), bool), (0.0, 0.0, 0.0), 0.5, 4.0, 3.0)


def compared(dock, page, n_rows: int, notes=()) -> None:
    """Put a comparison of so many lesions where a real one would be."""
    following = dock.services.following
    rows = tuple(Row(State.RESOLVED, (lesion(k),), (), (0.0, 0.0, 0.0)) for k in range(1, n_rows + 1))
    following.found = SimpleNamespace(rows=rows, notes=notes, sentence="'now' against 'before'.", proposed_on=None)
    following._scan = dock.session.volume
    page.draw()


def test_without_a_prior_the_page_names_its_own_buttons(dock) -> None:
    page = dock.pages.choose("Compare")
    dock.services.opening.choose(scan("now"))
    [told] = [label.text() for label in page.findChildren(QLabel) if label.text().startswith("Press '")]
    named = re.findall(r"'([^']+)'", told)
    assert named == [each.text() for each in page.findChildren(QPushButton) if each.text() in named]
    assert named[-1] == "Compare"


@pytest.mark.parametrize("n_rows", [(4,), (1, 6), (6, 1, 9)])
def test_nothing_lies_over_the_table(dock, qtbot, n_rows) -> None:
    page = dock.pages.choose("Compare")
    for name in ("before", "now"):
        dock.services.opening.choose(scan(name))
    table = page.findChild(QTableWidget)
    box = next(each for each in page.findChildren(QCheckBox) if each.text() == "Change map")
    for n in n_rows:
        compared(dock, page, n, NOTES * 2)
        qtbot.wait(150)
        assert table.rowCount() == n
        assert table.geometry().bottom() < box.geometry().top()
        step = page.steps["Result"]
        assert step._header.geometry().top() < 20


def test_a_line_tells_the_change_of_both_axes(dock) -> None:
    page = dock.pages.choose("Compare")
    for name in ("before", "now"):
        dock.services.opening.choose(scan(name))
    before, now = lesion(1), replace(lesion(1), long_mm=5.0, short_mm=2.7)
    row = Row(State.STABLE, (before,), (now,), (0.0, 0.0, 0.0))
    following = dock.services.following
    following.found = SimpleNamespace(rows=(row,), notes=(), sentence="'now' against 'before'.", proposed_on=None)
    page.draw()
    told = page.findChild(QTableWidget).item(0, LONG).toolTip()
    assert "long axis +25 %, short axis -10 %" in told


def test_the_box_adds_the_change_scores_of_the_bundled_network(dock, qtbot, monkeypatch) -> None:
    from napari_medseg.followup import compare as room

    monkeypatch.setattr(room, "register_rigid", lambda *_scans, **_how: Registration(MOTION, 0.9, 1.0))
    for visit, motion in ((0, np.eye(4)), (1, MOTION)):
        volume, mask = scanned(visit, (3.5, 1.8, 1.8), (0, 0, 0), motion)
        dock.services.opening.choose(volume)
        dock.services.opening.take_mask(mask)
    page = dock.pages.choose("Compare")
    table = page.findChild(QTableWidget)
    box = next(each for each in page.findChildren(QCheckBox) if each.text() == "Siamese change score")
    button = next(each for each in page.findChildren(QPushButton) if each.text() == "Compare")
    for is_wanted in (False, True):
        box.setChecked(is_wanted)
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        assert table.isColumnHidden(SCORE) is not is_wanted
    scores = {table.item(line, NAME).text(): table.item(line, SCORE).text() for line in range(5)}
    assert set(scores) == set(LESIONS)
    assert {name for name, score in scores.items() if not score} == {"new", "resolved"}
    assert all(0.0 <= float(score) <= 1.0 for score in scores.values() if score)
