"""The Learn controller, without a window: start, watch, cancel, versions."""

import threading
import time

import pytest

from napari_medseg.errors import Cancelled, JobFailed
from napari_medseg.learning.reports import Figures, Report, Verdict
from napari_medseg.models import library as library_module
from napari_medseg.models.checkpoint import Card, save_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.session.learn import LearnController
from napari_medseg.session.session import Session


class FakeStore:
    """Three corrections in a folder."""

    def __init__(self, root, n=3):
        self.root, self.n = root, n
        root.mkdir()

    def list(self):
        return list(range(self.n))

    def snapshot(self, folder):
        folder.mkdir(parents=True)
        (folder / "snapshot").write_text("as it was")


class FullStore(FakeStore):
    """Corrections on a disk that has no room for a copy."""

    def snapshot(self, folder):
        raise OSError(28, "No space left on device")


def verdict(adopted=True, dice=0.84):
    said = f"Dice on your corrections 0.71 -> {dice:.2f}"
    sentence = f"{said}, nothing forgotten: version 2 is active" if adopted else f"{said}, but that is no gain"
    return Verdict(
        adopted=adopted,
        sentence=sentence,
        dice_before=0.71,
        dice_after=dice,
        guard_before=0.7,
        guard_after=0.7,
        before=Figures(),
        after=Figures(),
    )


def trains(said, seen=None):
    """Something that trains in the place of the process: writes a version and reports."""

    def launch(arguments, *, should_stop):
        if seen is not None:
            seen.append(list(arguments))
        yield Report(message="Preparing 3 corrected cases")
        yield Report(step=50, n_steps=100, loss=0.8, remaining_s=30.0)
        yield Report(kind="validation", step=60, n_steps=100, loss=0.6, dice=0.8, dice_before=0.71)
        folder = arguments[arguments.index("--out") + 1]
        card = Card(name="click", version=2, gate=said.model_dump(), labels={1: "Lesion"})
        save_checkpoint(folder, ClickUNet(widths=(8, 8, 8, 8), n_labels=1), card)
        last = Report(kind="done", step=100, n_steps=100, dice=said.dice_after, verdict=said, message=said.sentence)
        yield last
        return last

    return launch


@pytest.fixture
def library(tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "BUNDLED", tmp_path / "weights")
    save_checkpoint(tmp_path / "weights" / "click", ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"))
    return Library(tmp_path / "models")


@pytest.fixture
def store(tmp_path):
    return FakeStore(tmp_path / "corrections")


def test_an_adopted_version_is_in_use_and_one_step_goes_back(library, store):
    seen, session = [], Session(model=object())
    controller = LearnController(session, store, library, launch=trains(verdict(), seen), arguments=("--steps", "5"))
    assert controller.run_to_the_end("gradual").adopted
    (arguments,) = seen
    assert arguments[:2] == ["fine-tune", "--corrections"]
    assert arguments[arguments.index("--strategy") + 1] == "gradual"
    assert arguments[arguments.index("--model") + 1] == str(library.path("click", 1))
    assert arguments[-3:] == ["--steps", "5", "--json"]
    assert library.active("click") == 2
    assert session.message == "Dice on your corrections 0.71 -> 0.84, nothing forgotten: version 2 is active"
    assert session.model is None
    assert session.job is None
    assert controller.curve.losses == ((50, 0.8), (60, 0.6))
    assert controller.curve.dices == ((60, 0.8),)
    assert controller.curve.dice_before == 0.71
    newest, first = controller.versions()
    assert (newest.number, newest.is_active, newest.dice, newest.was_adopted) == (2, True, 0.84, True)
    assert (first.number, first.is_active, first.dice) == (1, False, None)
    controller.roll_back()
    assert library.active("click") == 1
    assert session.message == "Version 1 is active."
    controller.activate(2)
    assert library.active("click") == 2
    assert not (library.root / ".training").exists()


def test_a_full_disk_is_one_sentence(library, tmp_path):
    session = Session()
    controller = LearnController(session, FullStore(tmp_path / "full"), library, launch=trains(verdict()))
    assert controller.run_to_the_end() is None
    assert session.message.startswith("the training stopped, a file could not be read or written ([Errno 28] No space")
    assert session.message.endswith("nothing was changed")
    assert library.active("click") == 1


def test_the_sentence_names_the_number_that_the_library_gave(library, store):
    session = Session()
    controller = LearnController(session, store, library, launch=trains(verdict()))
    controller.run_to_the_end()
    controller.run_to_the_end()
    assert session.message.endswith("version 3 is active")
    assert library.active("click") == 3


def test_a_refused_version_is_kept_but_not_used(library, store):
    session = Session(model=None)
    controller = LearnController(session, store, library, launch=trains(verdict(adopted=False, dice=0.7)))
    assert not controller.run_to_the_end().adopted
    assert library.active("click") == 1
    assert session.message.endswith("that is no gain")
    newest = controller.versions()[0]
    assert (newest.number, newest.was_adopted, newest.is_active) == (2, False, False)


def test_a_second_window_waits_for_the_first_and_disturbs_nothing(library, store):
    goes_on, seen = threading.Event(), []

    def launch(arguments, *, should_stop):
        yield Report(step=1, n_steps=100)
        assert goes_on.wait(20)
        yield from trains(verdict(), seen)(arguments, should_stop=should_stop)

    first = LearnController(Session(), store, library, launch=launch)
    refused = trains(verdict(adopted=False, dice=0.7))
    second = LearnController(Session(), store, Library(library.root), launch=refused)
    first.start()
    while first.curve.n_steps != 100:
        first.poll()
        time.sleep(0.005)
    assert second.run_to_the_end() is None
    assert second.session.message.startswith("Another window or process is training with this library: wait")
    assert (library.root / ".training" / "corrections" / "snapshot").exists()
    goes_on.set()
    while first.poll():
        time.sleep(0.005)
    assert (library.active("click"), len(library.versions("click"))) == (2, 2)
    assert not second.run_to_the_end("full").adopted
    assert (library.active("click"), len(library.versions("click"))) == (2, 3)


def test_a_version_that_was_not_measured_is_not_taken_over(library, store):
    def mistaken(arguments, *, should_stop):
        for report in trains(verdict(adopted=False, dice=0.7))(arguments, should_stop=should_stop):
            yield report if report.verdict is None else report.model_copy(update={"verdict": verdict()})

    session = Session()
    controller = LearnController(session, store, library, launch=mistaken)
    assert controller.run_to_the_end() is None
    assert "another version than the one that was measured" in session.message
    assert (library.active("click"), len(library.versions("click"))) == (1, 1)


def test_the_job_shows_how_far_it_is_and_cancelling_ends_it(library, store):
    session, goes_on = Session(), threading.Event()

    def launch(arguments, *, should_stop):
        yield Report(step=25, n_steps=100)
        while not should_stop():
            goes_on.wait(0.01)
        raise Cancelled("fine-tuning was stopped: nothing was changed")

    controller = LearnController(session, store, library, launch=launch)
    controller.start()
    controller.start()  # a second press changes nothing
    assert session.job is not None
    while session.job.fraction != 0.25:
        controller.poll()
        time.sleep(0.005)
    session.job.cancel()
    while controller.poll():
        time.sleep(0.005)
    assert session.job is None
    assert session.message == "fine-tuning was stopped: nothing was changed"
    assert library.active("click") == 1
    assert len(library.versions("click")) == 1


def test_a_dead_process_is_said_and_nothing_has_changed(library, store):
    def launch(arguments, *, should_stop):
        yield Report(step=1, n_steps=100)
        raise JobFailed("the training process was ended by the system (SIGKILL)")

    session = Session()
    controller = LearnController(session, store, library, launch=launch)
    assert controller.run_to_the_end() is None
    assert "ended by the system" in session.message
    assert session.job is None
    assert not controller.is_running
    assert library.active("click") == 1


def test_an_unexpected_error_is_reported_with_its_traceback(library, store):
    def launch(arguments, *, should_stop):
        yield Report()
        raise ZeroDivisionError("deep inside")

    controller = LearnController(Session(), store, library, launch=launch)
    seen = []
    controller._failures.unexpected.connect(seen.append)
    controller.run_to_the_end()
    assert isinstance(seen[0], ZeroDivisionError)


def test_training_works_on_a_snapshot(library, store):
    seen = []
    controller = LearnController(Session(), store, library, launch=trains(verdict(), seen))
    controller.run_to_the_end()
    folder = seen[0][seen[0].index("--corrections") + 1]
    assert folder != str(store.root)


def test_without_corrections_it_says_what_to_do(library, tmp_path):
    session = Session()
    controller = LearnController(session, FakeStore(tmp_path / "none", n=0), library)
    controller.start()
    assert not controller.is_running
    assert session.message.startswith("Accept a correction first")


def test_nothing_to_go_back_to_is_said(library, store):
    session = Session()
    LearnController(session, store, library).roll_back()
    assert "no earlier version" in session.message
