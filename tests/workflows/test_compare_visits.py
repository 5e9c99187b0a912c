"""Two visits in a real window: both opened, lesions marked, compared, the table read, the map looked at."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QTableWidget

from napari_medseg.imaging.files import write_label_map

sys.path.insert(0, str(Path(__file__).parents[1] / "followup"))

from followup_phantom import LESIONS, MOTION, scanned


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Prior, its mask, current scan, its mask."""
    paths = []
    for visit, tilt, motion in ((0, (0, 0, 0), np.eye(4)), (1, (5, -3, 0), MOTION)):
        scan, mask = scanned(visit, (3.5, 1.8, 1.8), tilt, motion)
        path = tmp_path / f"visit{visit + 1}_FLAIR.nii.gz"
        order = np.eye(4)[[2, 1, 0, 3]]
        nib.save(nib.Nifti1Image(scan.data.transpose(2, 1, 0), scan.affine @ order), path)
        paths += [path, write_label_map(tmp_path / f"visit{visit + 1}_lesions.nii.gz", mask)]
    return paths


def names(window) -> list[str]:
    return [layer.name for layer in window.viewer.layers]


def tick(window, page, text: str) -> None:
    box = next(each for each in page.findChildren(QCheckBox) if each.text() == text)
    window.qtbot.waitUntil(box.isVisible)
    box.click()


def cells(table: QTableWidget) -> list[list[str]]:
    return [[table.item(r, c).text() for c in range(table.columnCount())] for r in range(table.rowCount())]


def test_compare_two_visits(window, files) -> None:
    prior_path, prior_mask, path, mask = files
    prior = window.open(prior_path)
    window.dock.services.opening.open_mask(prior_mask)
    window.wait(lambda: len(window.session.lesions) == 4)
    current = window.open(path)
    page = window.dock.pages.choose("Compare")
    window.press("Compare")
    window.wait(lambda: window.dock.services.following.found is not None)
    found = window.dock.services.following.found
    assert found.proposed_on == "current"
    assert "are proposals" in window.session.message
    window.press("Take proposal over")
    window.wait(lambda: len(window.session.lesions) == 4)
    window.dock.services.correcting.undo()
    window.dock.services.opening.open_mask(mask)
    window.wait(lambda: len(window.session.lesions) == 4 and window.session.volume is current)
    window.press("Compare")
    window.wait(lambda: window.dock.services.following.found not in (None, found) and window.session.busy is None)
    table = page.findChild(QTableWidget)
    assert {line[0]: line[1].split()[0] for line in cells(table)} == {
        f"Lesion {label}": state for label, state in enumerate(LESIONS, 1)
    }
    assert "Change map" in names(window)
    line = next(r for r, texts in enumerate(cells(table)) if texts[1] == "new")
    at = table.visualItemRect(table.item(line, 0)).center()
    window.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    shown = [round(v) for v in window.layer.world_to_data(window.viewer.dims.point)]
    assert window.labels[tuple(shown)] == 4
    tick(window, page, "Side by side")
    assert "Prior, beside" in names(window)
    if "NAPARI_MEDSEG_PICTURES" in os.environ:
        window.qtbot.wait(300)
        path = Path(os.environ["NAPARI_MEDSEG_PICTURES"]) / "compare.png"
        window.viewer.screenshot(path, canvas_only=False, flash=False)
    tick(window, page, "Change map")
    assert "Change map" not in names(window)
    window.dock.services.opening.choose(prior)
    window.wait(lambda: "Prior, beside" not in names(window))
    window.dock.services.opening.choose(current)
    window.wait(lambda: "Prior, beside" in names(window))
