"""What learning bought, and two versions on one case, as a user meets them."""

import csv

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QSlider, QTableWidget

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.corrections import CorrectionStore
from napari_medseg.learning.corrections_folder import corrections_folder
from napari_medseg.models import library as library_module
from napari_medseg.models.card import AutomaticSettings
from napari_medseg.models.checkpoint import Card, Checkpoint, save_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.prompts import Click
from napari_medseg.session.services import build
from napari_medseg.widgets import effort_panel
from napari_medseg.widgets.comparison_view import ComparisonView
from napari_medseg.widgets.effort_panel import PIN, SCAN, SECONDS, EffortPanel
from napari_medseg.widgets.effort_plot import EffortPlot
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.learn_panel import LearnPanel
from napari_medseg.widgets.look import Look

AFFINE = np.array([[0, 0, -1, 15], [0, -1.5, 0, 13], [3, 0, 0, -12], [0, 0, 0, 1]], float)


def correction(seed, model, seconds):
    rng = np.random.default_rng(seed)
    mask = np.zeros((6, 20, 24), np.uint8)
    mask[2:4, 6:14, 5:15] = 1
    volume = Volume(rng.normal(0, 1, mask.shape).astype(np.float32) + 3 * mask, AFFINE, name=f"scan {seed}")
    corrected = LabelMap(mask, AFFINE, {1: "Lesion"})
    x, y, z = volume.position_of(np.array([2.0, 9.0, 9.0]))
    clicks = (Click((float(x), float(y), float(z))),)
    return Correction(volume, None, corrected, prompts=clicks, model=model, seconds=seconds, edited_voxels=40)


@pytest.fixture
def services(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(library_module, "BUNDLED", tmp_path / "weights")
    monkeypatch.setenv("NAPARI_MEDSEG_HOME", str(tmp_path / "home"))
    save_checkpoint(tmp_path / "weights" / "click", ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"))
    store, library = CorrectionStore(tmp_path / "corrections"), Library(tmp_path / "models")
    for seed, (model, seconds) in enumerate((("click 1", 120.0), ("click 1", 80.0), ("click 2", 25.0))):
        store.add(correction(seed, model, seconds))
    made = build(store=store, library=library)
    yield made
    made.recovery.close()


def learned(services):
    """A version 2 that needs no click."""
    network = ClickUNet(widths=(8, 8, 8, 8), n_labels=1, own_label_body=True)
    automatic = AutomaticSettings(spacing_mm=(3.0, 1.5, 1.0), patch=(16, 32, 32))
    card = Card(name="click", labels={1: "Lesion"}, needs_click=False, automatic=automatic)
    return services.library.add("click", Checkpoint(network, card))


@pytest.fixture
def panel(services, qtbot):
    made = EffortPanel(services.comparing, services.learning)
    made.set_look(Look.of("dark"))
    qtbot.addWidget(made)
    made.resize(330, 600)
    made.show()
    press(qtbot, made, "Corrections and what they bought")
    return made


def press(qtbot, panel, text):
    (found,) = [b for b in panel.findChildren(QPushButton) if b.text() == text and b.isVisible()]
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def test_each_correction_is_a_row_and_each_version_a_bar(panel):
    (table,) = panel.findChildren(QTableWidget)
    assert [table.item(row, SECONDS).text() for row in range(3)] == ["25", "80", "120"]
    assert table.item(0, SCAN).text() == "correction-0003"
    plot = panel.findChild(EffortPlot)
    assert [(mean.model, mean.n_cases, mean.seconds) for mean in plot.means] == [
        ("click 1", 2, 100),
        ("click 2", 1, 25),
    ]
    drawn = plot.grab().toImage()
    colours = {drawn.pixelColor(x, y).name() for x in range(drawn.width()) for y in range(drawn.height())}
    assert {Look.of("dark").accent, Look.of("dark").faint} <= colours


def test_a_click_pins_a_case_and_another_lets_it_teach(panel, services, qtbot):
    (table,) = panel.findChildren(QTableWidget)
    table.cellClicked.emit(0, PIN)
    assert [stored.card.pinned for stored in services.store.list()] == [False, False, True]
    assert services.session.message == "correction-0003 is pinned: no new version may get worse on it."
    table.cellClicked.emit(0, PIN)
    assert not any(stored.card.pinned for stored in services.store.list())


def test_a_removed_case_teaches_no_more_and_is_kept(panel, services, qtbot):
    (table,) = panel.findChildren(QTableWidget)
    table.setCurrentCell(1, 1)
    press(qtbot, panel, "Remove")
    assert [stored.id for stored in services.store.list()] == ["correction-0001", "correction-0003"]
    assert table.rowCount() == 2
    assert (services.store.root / "removed" / "correction-0002" / "card.json").is_file()
    assert services.session.message.startswith("correction-0002 teaches no more; it is kept in ")


def test_the_table_is_saved_as_csv(panel, services, qtbot, tmp_path, monkeypatch):
    path = tmp_path / "took.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    press(qtbot, panel, "Save as CSV")
    with path.open(newline="") as stream:
        assert [row["seconds"] for row in csv.DictReader(stream)] == ["120.0", "80.0", "25.0"]
    assert services.session.message == "took.csv: 3 corrections, saved, verified."


def test_one_version_alone_cannot_be_compared(panel, services):
    (compare,) = [b for b in panel.findChildren(QPushButton) if b.text() == "Compare versions"]
    assert not compare.isEnabled()
    services.comparing.compare("correction-0001")
    assert services.session.message.startswith("There is nothing to compare")


def test_two_versions_are_two_outlines_with_a_slider_and_side_by_side(panel, services, qtbot):
    number = learned(services)
    viewer = ViewerModel()
    bridge = LayerBridge(viewer, services)
    view = ComparisonView(viewer, services)
    qtbot.addWidget(view)
    panel.draw()
    press(qtbot, panel, "Compare versions")
    assert bridge.image is not None
    corrected, old, new = view.layers
    assert "Dice" in services.session.message
    assert services.session.busy is None
    assert old.name.startswith("Version 1: Dice")
    assert new.name.startswith(f"Version {number}: Dice")
    assert old.contour == new.contour == 2
    assert all(str(unit) in ("mm", "millimeter") for layer in view.layers for unit in layer.units)
    assert np.allclose(new.translate, bridge.image.translate)
    assert corrected.data.sum() == 2 * 8 * 10

    (slider,) = view.findChildren(QSlider)
    slider.setValue(0)
    assert (old.opacity, new.opacity) == (1.0, 0.0)
    slider.setValue(100)
    assert (old.opacity, new.opacity) == (0.0, 1.0)

    view.show()
    n_layers = len(viewer.layers)
    press(qtbot, view, "Side by side")
    assert len(viewer.layers) == n_layers + 2
    assert new.translate[2] > old.translate[2] + 20
    (beside,) = [layer for layer in viewer.layers if layer.name == "Corrected, beside"]
    assert beside.contour == corrected.contour == 1
    assert (old.opacity, new.opacity) == (1.0, 1.0)
    press(qtbot, view, "Side by side")
    assert len(viewer.layers) == n_layers
    assert np.allclose(new.translate, old.translate)
    press(qtbot, view, "Done")
    assert view.layers == ()
    assert len(viewer.layers) == n_layers - 3
    assert view.isHidden()


def test_corrections_can_be_kept_elsewhere(services, qtbot, tmp_path, monkeypatch):
    panel = EffortPanel(services.comparing, services.learning)
    qtbot.addWidget(panel)
    panel.findChild(QPushButton).click()
    shared, opened = tmp_path / "shared drive", []
    shared.mkdir()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(shared))
    monkeypatch.setattr(effort_panel.QDesktopServices, "openUrl", lambda url: bool(opened.append(url.toLocalFile())))
    buttons = {b.text(): b for b in panel.findChildren(QPushButton)}
    buttons["Keep elsewhere…"].click()
    assert services.session.message == f"Corrections are kept in {shared} from now on; there is none yet."
    assert services.learning.n_corrections() == 0
    assert panel.findChild(QTableWidget).rowCount() == 0
    assert corrections_folder() == shared
    services.store.add(correction(7, "click 1", 10.0))
    assert services.learning.n_corrections() == 1
    buttons["Open folder"].click()
    assert opened == [str(shared)]
    assert services.session.message == f"The corrections lie in {shared}."
    fresh = build(library=services.library)
    assert [case.scan for case in fresh.comparing.cases()] == ["correction-0001"]
    fresh.recovery.close()


def test_a_folder_that_cannot_be_written_is_refused(services, tmp_path):
    before = services.store.root
    services.comparing.keep_in(tmp_path / "nowhere")
    assert services.session.message.startswith(f"nothing can be written to {tmp_path / 'nowhere'} (")
    assert services.session.message.endswith("): choose another folder")
    assert services.store.root == before
    assert not services.comparing.keeps_elsewhere


def said(panel):
    labels = [label for label in panel.findChildren(QLabel) if label.isVisible()]
    return " ".join(label.text().replace("\u200b", "") for label in labels)


def test_a_correction_that_cannot_be_read_is_named_and_no_training_starts(panel, services):
    (services.store.root / "correction-0001" / "card.json").write_bytes(b"")
    panel.draw()
    assert f"{services.store.root / 'correction-0001'} cannot be read, and may be pinned: restore it or" in said(panel)
    assert panel.findChild(QTableWidget).rowCount() == 2
    services.learning.run_to_the_end()
    assert "correction-0001 cannot be read, and may be pinned" in services.session.message


def test_a_chosen_folder_that_is_gone_is_said_where_corrections_would_be(panel, services, qtbot, tmp_path):
    learn = LearnPanel(services.learning)
    learn.set_look(Look.of("dark"))
    qtbot.addWidget(learn)
    learn.show()
    shared = tmp_path / "shared"
    shared.mkdir()
    services.comparing.keep_in(shared)
    assert "No correction yet" in said(panel)
    assert "No correction yet" in said(learn)
    shared.rename(tmp_path / "away")
    for each in (panel, learn):
        each.draw()
        assert f"The folder for corrections, {shared}, is not there or cannot be read: bring it back" in said(each)
        assert "No correction yet" not in said(each)
