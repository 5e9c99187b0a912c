"""The Learn panel as a user meets it: buttons, curve, verdict, versions; the window stays alive."""

import itertools
import threading
import time

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton

from napari_medseg.errors import Cancelled, JobFailed
from napari_medseg.learning.reports import Figures, Report, Verdict
from napari_medseg.learning.settings import Strategy
from napari_medseg.models import library as library_module
from napari_medseg.models.checkpoint import Card, save_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.session.learn import LearnController
from napari_medseg.session.session import Session
from napari_medseg.session.training import Curve
from napari_medseg.widgets.learn_panel import LearnPanel
from napari_medseg.widgets.learning_plot import LearningPlot, nice_ceiling, nice_step
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.run_view import spoken

STEPS = range(1, 41)
SEEN = threading.Event()  # step 15 lasts until the test has seen it


class Store:
    def __init__(self, root, n):
        self.root, self.n = root, n
        root.mkdir()

    def list(self):
        return list(range(self.n))

    def snapshot(self, folder):
        folder.mkdir(parents=True)


def launch(arguments, *, should_stop):
    """Learns in a moment, unless it is asked to stop."""
    strategy = arguments[arguments.index("--strategy") + 1]
    for step in STEPS:
        if should_stop():
            raise Cancelled("fine-tuning was stopped: nothing was changed")
        if step == 16:
            SEEN.wait(20)
        time.sleep(0.01)
        kind = "validation" if step % 10 == 0 else "progress"
        dice = 0.5 + step / 100 if kind == "validation" else None
        yield Report(
            kind=kind, step=step, n_steps=40, loss=1 / step, dice=dice, dice_before=0.5, remaining_s=(40 - step) * 8.0
        )
    sentence = "Dice on your corrections 0.50 -> 0.90, nothing forgotten: version 2 is active"
    said = Verdict(
        adopted=True,
        sentence=sentence,
        dice_before=0.5,
        dice_after=0.9,
        guard_before=0.6,
        guard_after=0.6,
        before=Figures(),
        after=Figures(),
        held_out="1 of 3 corrected cases, held out",
    )
    card = Card(name="click", gate=said.model_dump(), training={"strategy": strategy})
    save_checkpoint(arguments[arguments.index("--out") + 1], ClickUNet(widths=(8, 8, 8, 8)), card)
    last = Report(kind="done", step=40, n_steps=40, dice=0.9, verdict=said, message=sentence)
    yield last
    return last


@pytest.fixture
def make(qtbot, tmp_path, monkeypatch):
    SEEN.clear()
    monkeypatch.setattr(library_module, "BUNDLED", tmp_path / "weights")
    save_checkpoint(tmp_path / "weights" / "click", ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"))

    def build(n=3, launch=launch):
        library = Library(tmp_path / "models")
        controller = LearnController(Session(), Store(tmp_path / "corrections", n), library, launch=launch)
        panel = LearnPanel(controller)
        panel.set_look(Look.of("dark"))
        qtbot.addWidget(panel)
        panel.resize(330, 500)
        panel.show()
        return panel, library

    return build


def press(qtbot, panel, text):
    def buttons():
        named = [b for b in panel.findChildren(QPushButton) if text in (b.text(), b.accessibleName())]
        return [b for b in named if b.isVisible() and b.isEnabled()]

    qtbot.waitUntil(lambda: len(buttons()) == 1)
    qtbot.mouseClick(buttons()[0], Qt.MouseButton.LeftButton)


def shows(panel, *words):
    seen = [label.text() for label in panel.findChildren(QLabel) if label.isVisible()]
    return all(any(word in text for text in seen) for word in words)


def test_the_story_learn_see_and_roll_back(make, qtbot):
    panel, library = make()
    assert shows(panel, "3 corrected scans to learn from.", "Version 1", "in use")
    press(qtbot, panel, "Fine-tune on corrections")
    qtbot.waitUntil(lambda: shows(panel, "Step 15 of 40 · about 3 min left"))
    SEEN.set()
    qtbot.waitUntil(lambda: shows(panel, "0.50 → 0.90, nothing forgotten: version 2 is active"), timeout=8000)
    plot = panel.findChild(LearningPlot)
    assert plot.isVisible()
    assert len(plot.curve.losses) == 40
    assert [step for step, _ in plot.curve.dices] == [10, 20, 30, 40]
    qtbot.waitUntil(lambda: shows(panel, "Version 2", "Dice 0.90"))
    assert library.active("click") == 2
    press(qtbot, panel, "Roll back")
    assert library.active("click") == 1
    press(qtbot, panel, "Use version 2")
    assert library.active("click") == 2


def test_cancel_and_start_again(make, qtbot):
    panel, library = make()
    press(qtbot, panel, "Fine-tune on corrections")
    qtbot.waitUntil(lambda: shows(panel, "Step 15 of 40"))
    press(qtbot, panel, "Cancel")
    SEEN.set()
    qtbot.waitUntil(lambda: shows(panel, "was stopped: nothing was changed"))
    assert len(library.versions("click")) == 1
    press(qtbot, panel, "Fine-tune on corrections")
    qtbot.waitUntil(lambda: shows(panel, "version 2 is active"), timeout=8000)


def test_a_failure_is_one_sentence_and_the_button_is_back(make, qtbot):
    def dies(arguments, *, should_stop):
        yield Report(step=1, n_steps=9, loss=1.0)
        raise JobFailed("there is not enough memory to learn: close other programs, then try again")

    panel, _ = make(launch=dies)
    press(qtbot, panel, "Fine-tune on corrections")
    qtbot.waitUntil(lambda: shows(panel, "not enough memory to learn"))
    (start,) = [b for b in panel.findChildren(QPushButton) if b.text() == "Fine-tune on corrections"]
    assert start.isVisible()
    assert start.isEnabled()


def test_the_strategy_is_automatic_unless_another_is_chosen(make, qtbot):
    panel, library = make()
    (chooser,) = panel.findChildren(QComboBox)
    assert chooser.currentText() == "Automatic"
    chooser.setCurrentIndex(chooser.findText(Strategy.GRADUAL.caption))
    assert chooser.toolTip() == Strategy.GRADUAL.description
    SEEN.set()
    press(qtbot, panel, "Fine-tune on corrections")
    qtbot.waitUntil(lambda: shows(panel, "version 2 is active"), timeout=8000)
    assert library.versions("click")[1].training["strategy"] == "gradual"


def test_without_corrections_there_is_nothing_to_press(make):
    panel, _ = make(n=0)
    assert shows(panel, "No correction yet: accept one first.")
    (start,) = [b for b in panel.findChildren(QPushButton) if b.text() == "Fine-tune on corrections"]
    assert not start.isEnabled()


def test_the_event_loop_never_stalls_while_it_learns(make, qtbot):
    panel, _ = make()
    beats = []
    timer = QTimer(panel)
    timer.setInterval(5)
    timer.timeout.connect(lambda: beats.append(time.thread_time()))  # of this thread: other programs do not count
    timer.start()
    SEEN.set()
    press(qtbot, panel, "Fine-tune on corrections")
    qtbot.waitUntil(lambda: shows(panel, "version 2 is active"), timeout=8000)
    timer.stop()
    stalls = [after - before for before, after in itertools.pairwise(beats)]
    assert len(beats) > 10
    assert max(stalls) < 0.2


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_plot_draws_both_curves_in_the_themes_colours(qtbot, theme):
    plot, look = LearningPlot(), Look.of(theme)
    qtbot.addWidget(plot)
    plot.resize(320, 168)
    plot.set_look(look)
    empty = plot.grab().toImage()
    losses = tuple((step, 1.5 * 0.98**step) for step in range(0, 200, 4))
    plot.show_curve(Curve(200, losses, ((50, 0.4), (100, 0.7), (150, 0.8)), 0.3))
    drawn = plot.grab().toImage()
    assert drawn != empty
    colours = {drawn.pixelColor(x, y).name() for x in range(drawn.width()) for y in range(drawn.height())}
    assert {look.good, look.accent} <= colours
    assert plot.toolTip() == "Held-out Dice 0.800 after 150 steps"


def test_axes_are_round():
    assert [nice_ceiling(v) for v in (0.3, 0.9, 1.3, 2.5)] == pytest.approx([0.4, 1.2, 2.0, 4.0])
    assert [nice_step(n) for n in (3, 40, 300, 500, 700)] == [1, 10, 100, 100, 200]
    assert [spoken(s) for s in (3, 27, 61, 400)] == ["about 5 s", "about 25 s", "about 1 min", "about 7 min"]
