"""The dock as a user sees it: steps, panels, table, series, recovery, export."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QListWidget, QSlider, QTableWidget

from napari_medseg.imaging.amounts import millilitres
from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.prompts import Click
from napari_medseg.session.measures import measure_of
from napari_medseg.session.services import build
from napari_medseg.session.session import Job
from napari_medseg.widgets.dock import MedSegDock
from napari_medseg.widgets.lesion_table import DELETE, LOCKED, NAME, VISIBLE, VOLUME

AT = (3, 10, 12)


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "ct.nii.gz"
    data = np.random.default_rng(1).integers(-500, 500, (24, 20, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([0.8, 1.0, 3.0, 1.0])), path)
    return path


@pytest.fixture
def dock(qtbot, model):
    """The dock on a viewer without a window, everything inline."""
    from napari.components import ViewerModel

    services = build()
    services.session.model = model
    made = MedSegDock(ViewerModel(), services)
    qtbot.addWidget(made)
    made.resize(340, 1200)
    made.show()
    return made


@pytest.fixture
def opened(dock, scan):
    dock.services.opening.open(scan)
    return dock


def click(dock, index=AT):
    dock.services.segmenting.click(tuple(map(float, dock.session.volume.position_of(index))))


def texts(dock):
    return [label.text() for label in dock.findChildren(QLabel) if label.isVisible()]


def press(dock, qtbot, text):
    [found] = [each for each in dock.findChildren(QAbstractButton) if each.text() == text and each.isVisible()]
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def open_steps(dock):
    return [name for name, step in dock.steps.items() if step.is_open]


def test_the_empty_dock_says_what_to_do_first(dock, qtbot):
    assert "Drop a scan here\nor press Open" in texts(dock)
    assert open_steps(dock) == ["Open"]
    assert dock.steps["Segment"].hint == "Open a scan first."
    assert dock.steps["Export"].hint == "There is nothing to export yet."
    press(dock, qtbot, "Try the sample")
    assert dock.session.volume.name == "chest CT 1"


def test_steps_open_as_they_make_sense(opened):
    assert open_steps(opened) == ["Segment"]
    assert opened.steps["Open"].hint == "ct\n24×20×7 · 0.8×1×3 mm"
    click(opened)
    assert open_steps(opened) == ["Segment", "Correct", "Export"]
    opened.services.table.delete(1)
    assert open_steps(opened) == ["Segment"]


def test_a_step_folds_and_unfolds_when_its_title_is_clicked(opened, qtbot):
    segment = opened.steps["Segment"]
    title = next(label for label in segment.findChildren(QLabel) if label.text() == "Segment")
    qtbot.mouseClick(title.parentWidget(), Qt.MouseButton.LeftButton)
    assert not segment.is_open
    click(opened)
    assert not segment.is_open, "what the user folded stays folded"
    qtbot.mouseClick(title.parentWidget(), Qt.MouseButton.LeftButton)
    assert segment.is_open


def test_dropping_a_file_opens_it(dock, scan):
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(scan))])
    no_keys, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
    dock.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, left, no_keys))
    assert dock.session.volume.name == "ct"


def test_a_scan_and_its_mask_are_dropped_together(dock, scan):
    mask = np.zeros((24, 20, 7), np.uint8)
    mask[4:9, 4:9, 2:5] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([0.8, 1.0, 3.0, 1.0])), scan.with_name("a_mask.nii.gz"))
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(scan.with_name(name))) for name in ("a_mask.nii.gz", "ct.nii.gz")])
    no_keys, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
    dock.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, left, no_keys))
    assert dock.session.volume.name == "ct"
    assert dock.session.work.labels.n_voxels[1] == 75


def test_several_series_are_offered_with_pictures(dock, scan, qtbot):
    (scan.parent / "second.nii.gz").write_bytes(scan.read_bytes())
    dock.services.opening.open(scan.parent)
    series = dock.findChild(QListWidget)
    assert series.isVisible()
    assert series.count() == 2
    assert series.item(0).text() == "ct\n7 slices of 24×20\n0.8×1×3 mm"
    assert not series.item(0).icon().isNull()
    assert dock.session.volume is None
    at = series.visualItemRect(series.item(1)).center()
    qtbot.mouseClick(series.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert dock.session.volume is None, "one click selects"
    qtbot.mouseDClick(series.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert dock.session.volume.name == "second"
    series.setCurrentRow(0)
    qtbot.keyClick(series, Qt.Key.Key_Return)
    assert dock.session.volume.name == "ct"
    assert len(dock.services.opening.scans) == 2


def test_what_the_reader_had_to_assume_is_shown(dock):
    dock.viewer.add_image(np.zeros((5, 6, 7)))
    assert any("Units unknown" in text for text in texts(dock))


def test_models_can_be_chosen(opened):
    models = opened.panels["Segment"].findChild(QComboBox)
    assert [models.itemData(index) for index in range(models.count())][-1] == "geodesic"
    models.setCurrentIndex(models.count() - 1)
    models.activated.emit(models.count() - 1)
    assert opened.session.model_name == "geodesic"
    click(opened)
    assert opened.session.model.name == "geodesic"


def test_the_table_shows_and_changes_lesions(opened, qtbot):
    click(opened)
    opened.services.segmenting.new_lesion()
    click(opened, (1, 4, 4))
    table = opened.findChild(QTableWidget)
    assert table.rowCount() == 2
    ml = opened.services.table.volume_ml(1)
    assert table.item(0, VOLUME).text() == millilitres(ml)
    table.item(0, NAME).setText("metastasis")
    assert opened.session.lesions[0].name == "metastasis"
    for column, field in ((VISIBLE, "visible"), (LOCKED, "locked")):
        before = getattr(opened.session.lesions[0], field)
        table.cellClicked.emit(0, column)
        assert getattr(opened.session.lesions[0], field) is not before
    table.cellClicked.emit(0, NAME)
    assert opened.session.active_label == 1
    assert opened.bridge.slice_shown() == AT[0]
    table.cellClicked.emit(1, DELETE)
    assert table.rowCount() == 1
    opened.services.correcting.undo()
    assert table.rowCount() == 2


def test_a_litre_fits_into_the_table(dock):
    affine = np.array([[0, 0, -10, 0], [0, -10, 0, 0], [10, 0, 0, 0], [0, 0, 0, 1]], float)
    dock.services.opening.choose(Volume(np.zeros((12, 20, 24), np.int16), affine, modality="CT"))
    dock.session.work.labels.data[1:10, 2:12, 3:15] = 1
    dock.session.work.labels.data[10, 2, :3] = 1
    dock.services.correcting.take_stroke()
    table = dock.findChild(QTableWidget)
    cell = table.item(0, VOLUME)
    assert cell.text() == "1080 ml"
    assert table.columnWidth(VOLUME) >= table.fontMetrics().horizontalAdvance(cell.text()) + 8
    assert table.columnWidth(NAME) > 100


def test_the_tooltip_of_a_row_says_what_the_lesion_measures(opened, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "napari_medseg.session.table.measure_of", lambda *about: asked.append(about) or measure_of(*about)
    )
    opened.session.work.labels.data[2, 5, 3:13] = 1
    opened.services.correcting.take_stroke()
    table = opened.findChild(QTableWidget)
    assert asked == [], "worked out when it is asked for"
    tip = table.item(0, VOLUME).toolTip()
    assert tip.startswith("0.024 ml, 8.0 x 1.0 mm (long and short axis, RECIST 1.1), mean ")
    assert " HU, " in tip
    assert table.item(0, NAME).toolTip() == f"{tip}\nDouble click to rename"
    assert len(asked) == 1
    opened.services.correcting.undo()
    opened.services.segmenting.new_lesion()
    assert table.item(0, VOLUME).text() == "empty"
    assert table.item(0, VOLUME).toolTip().startswith("Empty: ")


def test_the_size_slider_speaks_millimetres(opened):
    click(opened)
    slider = opened.findChild(QSlider)
    slider.setValue(20)
    assert opened.bridge.labels.brush_size == 20
    assert "16.0 mm" in texts(opened)
    opened.bridge.labels.brush_size = 5
    assert slider.value() == 5
    assert "4.0 mm" in texts(opened)


def test_flat_and_solid_brushes(opened, qtbot):
    click(opened)
    press(opened, qtbot, "2-D")
    assert opened.bridge.labels.n_edit_dimensions == 3
    press(opened, qtbot, "3-D")
    assert opened.bridge.labels.n_edit_dimensions == 2


def test_the_strip_shows_and_finds_slices(opened, qtbot):
    click(opened)
    opened.services.correcting.toggle_reviewed(6)
    strip = opened.panels["Correct"].findChild(type(opened.panels["Correct"]._strip))
    assert strip.states.tolist() == opened.services.correcting.slice_states().tolist()
    x = int((5 + 0.5) / 7 * strip.width())
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=strip.rect().center().__class__(x, 10))
    assert opened.bridge.slice_shown() == 5
    press(opened, qtbot, "Mark all")
    assert opened.session.reviewed == set(range(7))


def test_accept_opens_the_learn_step(opened, qtbot):
    click(opened)
    press(opened, qtbot, "Mark all")
    assert not opened.steps["Learn"].is_open
    press(opened, qtbot, "Accept")
    assert opened.session.message.startswith("Accepted: 7 corrected or reviewed slices")
    assert opened.steps["Learn"].is_open


def test_undo_says_what_it_would_undo(opened):
    click(opened)
    [undo] = [each for each in opened.findChildren(QAbstractButton) if each.text() == "Undo"]
    assert undo.toolTip().startswith("Undo click")
    undo.click()
    assert opened.session.prompts == ()
    assert not undo.isEnabled()


def test_export_suggests_a_path_beside_the_scan_and_says_what_was_saved(opened, qtbot, scan):
    click(opened)
    panel = opened.panels["Export"]
    path, formats = panel.findChild(QLineEdit), panel.findChild(QComboBox)
    assert path.text() == str(scan.with_name("ct_lesions.nii.gz"))
    formats.setCurrentIndex(2)
    formats.activated.emit(2)
    assert path.text() == str(scan.with_name("ct_lesions.seg.nrrd"))
    press(opened, qtbot, "Export")
    assert "Saved, verified: ct_lesions.seg.nrrd" in texts(opened)
    assert opened.session.message == f"Saved, verified: {path.text()}"
    assert any(text.replace("\u200b", "") == str(scan.parent) for text in texts(opened))


def test_what_does_not_suit_the_scan_is_shown_disabled_and_says_why(opened):
    click(opened)
    formats = opened.panels["Export"].findChild(QComboBox)
    names = [formats.itemText(index) for index in range(formats.count())]
    assert names[4:6] == ["DICOM SEG (.dcm)", "DICOM RTSTRUCT (.dcm)"]
    assert [formats.model().item(index).isEnabled() for index in range(8)] == [True] * 4 + [False] * 2 + [True] * 2
    assert "not opened from DICOM" in formats.itemData(5, Qt.ItemDataRole.ToolTipRole)
    assert "RAS" in formats.itemData(6, Qt.ItemDataRole.ToolTipRole)


def test_a_mask_of_another_grid_is_asked_about_in_the_panel(opened, qtbot, scan):
    mask = np.zeros((24, 20, 7), np.uint8)
    mask[4:9, 4:9, 2:5] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([0.8, 1.0, 2.0, 1.0])), scan.with_name("mask.nii.gz"))
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(scan.with_name("mask.nii.gz")))])
    no_keys, left = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.LeftButton
    opened.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, left, no_keys))
    assert any("7 x 20 x 24 voxels of 2 x 1 x 0.8 mm" in text for text in texts(opened))
    assert opened.session.lesions == ()
    press(opened, qtbot, "Smooth")
    assert len(opened.session.lesions) == 1
    assert not any(text.startswith("This mask does not lie on the scan") for text in texts(opened))


def test_a_changed_scan_is_asked_about_in_the_panel(opened, qtbot, scan):
    click(opened)
    scan.write_bytes(scan.read_bytes() + b"\0")
    press(opened, qtbot, "Export")
    assert any(text.startswith("The scan's file was changed") for text in texts(opened))
    press(opened, qtbot, "Export anyway")
    assert "Saved, verified: ct_lesions.nii.gz" in texts(opened)
    assert not any(text.startswith("The scan's file was changed") for text in texts(opened))


def test_unsaved_work_is_offered_at_the_next_start(opened, qtbot, model):
    from napari.components import ViewerModel

    click(opened)
    opened.services.recovery.close()
    services = build()
    again = MedSegDock(ViewerModel(), services)
    qtbot.addWidget(again)
    again.show()
    assert "Unsaved work on ct" in texts(again)
    press(again, qtbot, "Recover")
    assert isinstance(again.session.prompts[0], Click)
    assert again.bridge.labels.data[AT] == 1
    assert "Unsaved work on ct" not in texts(again)


def test_waiting_shows_a_bar_and_the_name_of_the_work(dock):
    dock.session.busy = Job("Reading ct.nii.gz")
    assert "Reading ct.nii.gz…" in texts(dock)
    dock.session.busy = dock.session.busy.at(0.5)
    dock.session.busy = None
    dock.session.message = "Done."
    assert "Done." in texts(dock)


def test_the_dock_reads_well_in_both_themes(opened):
    click(opened)
    sheets = set()
    for theme in ("light", "dark"):
        opened.viewer.theme = theme
        sheets.add(opened.styleSheet())
    assert len(sheets) == 2
    assert opened.minimumSizeHint().height() < 400, "the dock scrolls on a small screen"
    assert opened.minimumSizeHint().width() <= 340
