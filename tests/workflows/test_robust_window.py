"""What users do to a window: delete, rename, close, hurry, cancel, open the wrong thing. It stays usable."""

import threading

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton

from napari_medseg.session.session import Session
from napari_medseg.widgets.layer_bridge import LAYER_REMOVED
from napari_medseg.widgets.prompt_tools import Tool
from napari_medseg.widgets.sentences import sentence


class Gated:
    """A model that answers when the test opens the gate."""

    name, version, needs_click, labels = "gated", 1, True, {}

    def __init__(self, inner):
        self.inner, self.gate, self.n_calls = inner, threading.Event(), 0

    def segment(self, volume, prompts=(), **kwargs):
        self.n_calls += 1
        assert self.gate.wait(20)
        return self.inner.segment(volume, prompts)


@pytest.fixture
def gated(window):
    window.session.model = Gated(window.session.model)
    yield window.session.model
    window.session.model.gate.set()


def middle(window):
    return tuple(n // 2 for n in window.labels.shape)


def click_middle(window):
    at = middle(window)
    window.show(at)
    window.dock.tools.choose(Tool.CLICK)
    window.click(at)
    return at


def visible_texts(window):
    return [label.text() for label in window.dock.findChildren(QLabel) if label.isVisible()]


def test_a_deleted_lesions_layer_comes_back_with_the_lesions(window, scan):
    window.open(scan)
    at = click_middle(window)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    first = window.layer
    first.name = "mine"
    window.viewer.layers.move(0, 2)
    window.viewer.layers.remove(first)
    assert window.session.message == LAYER_REMOVED
    assert len(window.session.lesions) == 1
    window.press("Brush")
    assert window.layer is not first
    assert window.layer.data[at] == 1
    window.drag(at, (at[0], at[1] + 15, at[2]))
    window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not window.labels.any()


def test_clicks_faster_than_the_model_all_count_and_the_newest_answer_stays(window, scan, gated):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.dock.tools.choose(Tool.CLICK)
    spots = [at, (at[0], at[1] + 12, at[2]), (at[0], at[1], at[2] + 14)]
    for spot in spots:
        window.click(spot)
    assert len(window.session.prompts) == 3
    gated.gate.set()
    window.wait(lambda: all(window.labels[spot] == 1 for spot in spots))
    window.settled()
    assert gated.n_calls <= 2, "the waiting requests collapse to the newest"


def test_closing_the_scan_while_the_model_works(window, scan, gated):
    window.open(scan)
    click_middle(window)
    window.wait(lambda: gated.n_calls == 1)
    window.viewer.layers.remove(window.dock.bridge.image)
    assert window.session.volume is None
    assert window.session.busy is None
    gated.gate.set()
    window.qtbot.wait(100)
    assert [layer.name for layer in window.viewer.layers] == []
    assert "Drop a scan here\nor press Open" in visible_texts(window)
    window.open(scan)
    window.settled()
    at = click_middle(window)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()


def test_cancel_is_offered_after_a_second_and_works(window, scan, gated):
    window.open(scan)
    at = click_middle(window)
    cancel = next(each for each in window.dock.findChildren(QPushButton) if each.toolTip() == "Stop waiting")
    assert not cancel.isVisible()
    window.wait(cancel.isVisible)
    window.qtbot.mouseClick(cancel, Qt.MouseButton.LeftButton)
    assert window.session.busy is None
    assert window.session.message == "Stopped."
    assert not cancel.isVisible()
    gated.gate.set()
    window.qtbot.wait(50)
    assert not window.labels.any()
    window.click((at[0], at[1] + 6, at[2]))
    window.wait(lambda: window.labels[at] == 1)
    window.settled()


def test_bad_files_are_one_sentence_in_the_dock_and_the_scan_stays(window, scan, tmp_path):
    volume = window.open(scan)
    (tmp_path / "text.nii.gz").write_text("no scan")
    (tmp_path / "cut.nii.gz").write_bytes(scan.read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    for name in ("text.nii.gz", "cut.nii.gz", "empty"):
        window.session.message = ""
        window.dock.services.opening.open(tmp_path / name)
        window.wait(lambda: window.session.busy is None and bool(window.session.message))
        assert name in window.session.message
        assert sentence(window.session.message) in visible_texts(window)
        assert window.session.volume is volume
    assert not window.dock.services.failures.seen


def test_a_scan_opened_by_napari_itself_is_adopted(window, scan):
    window.viewer.open(str(scan), plugin="napari-medseg")
    window.wait(lambda: window.session.volume is not None)
    assert window.dock.bridge.image is window.viewer.layers[0]
    assert len(window.viewer.layers) == 2
    at = click_middle(window)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()


def test_a_dock_that_is_closed_and_opened_again_finds_its_work(window, scan):
    window.open(scan)
    at = click_middle(window)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    before = window.session
    window.viewer.window.remove_dock_widget(window.dock)
    _, window.dock = window.viewer.window.add_plugin_dock_widget("napari-medseg", "MedSeg")
    assert isinstance(window.dock.session, Session)
    assert window.dock.session is before
    window.qtbot.wait(20)
    window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not window.labels.any(), "one dock, one undo"
    window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert window.labels[at] == 1


def test_both_themes(window, scan):
    window.open(scan)
    dark = window.dock.styleSheet()
    window.viewer.theme = "light"
    assert window.dock.styleSheet() != dark
    window.viewer.theme = "dark"
    assert window.dock.styleSheet() == dark
