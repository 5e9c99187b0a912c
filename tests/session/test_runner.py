"""The worker thread: newest wins, failures are ours, answers arrive where they are posted."""

import queue
import subprocess
import sys
import threading

import pytest

from napari_medseg.errors import Cancelled, JobFailed, ModelError
from napari_medseg.session.runner import InlineRunner, ThreadRunner, explain


class Mailbox:
    """The GUI thread of these tests: runs what was posted when asked."""

    def __init__(self):
        self.calls = queue.Queue()

    def __call__(self, call):
        self.calls.put(call)

    def run_one(self):
        self.calls.get(timeout=10)()


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def runner(mailbox):
    made = ThreadRunner(mailbox)
    yield made
    made.close()


def test_work_runs_elsewhere_and_its_answer_arrives_here(runner, mailbox):
    seen = []
    runner.submit(lambda _: threading.get_ident(), done=seen.append, failed=pytest.fail)
    mailbox.run_one()
    assert seen != [threading.get_ident()]


def test_only_the_running_and_the_newest_request_are_worked_on(runner, mailbox):
    gate, started, worked, answers = threading.Event(), threading.Event(), [], []

    def first(ticket):
        started.set()
        assert gate.wait(10)
        worked.append(("first", ticket.should_stop()))
        return "first"

    runner.submit(first, done=answers.append, failed=pytest.fail)
    assert started.wait(10)
    for name in ("second", "third", "fourth"):
        runner.submit(lambda _, name=name: worked.append(name) or name, done=answers.append, failed=pytest.fail)
    gate.set()
    mailbox.run_one()
    mailbox.run_one()
    assert worked == [("first", True), "fourth"]
    assert answers == ["fourth"]
    assert mailbox.calls.empty()


def test_an_answer_that_is_cancelled_while_it_waits_in_the_mailbox_is_dropped(runner, mailbox):
    answers = []
    runner.submit(lambda _: 1, done=answers.append, failed=pytest.fail)
    call = mailbox.calls.get(timeout=10)
    assert runner.cancel()
    assert not runner.cancel()
    call()
    assert not answers


def test_after_an_answer_there_is_nothing_to_cancel(runner, mailbox):
    runner.submit(lambda _: 1, done=lambda _: None, failed=pytest.fail)
    mailbox.run_one()
    assert not runner.cancel()


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), OSError("disk"), MemoryError(), RuntimeError()])
def test_runtime_errors_leave_as_our_own(runner, mailbox, error):
    def fail(_ticket):
        raise error

    seen = []
    runner.submit(fail, done=pytest.fail, failed=seen.append)
    mailbox.run_one()
    assert isinstance(seen[0], JobFailed)
    assert str(seen[0])


def test_the_thread_survives_a_failure(runner, mailbox):
    seen = []
    runner.submit(lambda _: 1 / 0, done=pytest.fail, failed=seen.append)
    mailbox.run_one()
    runner.submit(lambda _: 2, done=seen.append, failed=pytest.fail)
    mailbox.run_one()
    assert isinstance(seen[0], ZeroDivisionError)
    assert seen[1] == 2


def test_progress_arrives_until_the_request_is_stale(runner, mailbox):
    fractions, go_on = [], threading.Event()

    def work(ticket):
        ticket.report(0.25)
        assert go_on.wait(10)
        ticket.report(0.5)
        return None

    ticket = runner.submit(work, done=lambda _: None, failed=pytest.fail, on_progress=fractions.append)
    mailbox.run_one()
    ticket.cancel()
    go_on.set()
    mailbox.run_one()
    assert fractions == [0.25]


def test_a_request_is_told_once_that_it_was_replaced_or_cancelled(runner, mailbox):
    gate, told = threading.Event(), []
    for name in ("first", "second"):
        runner.submit(
            lambda _: gate.wait(10), done=pytest.fail, failed=pytest.fail, dropped=lambda name=name: told.append(name)
        )
    mailbox.run_one()
    assert told == ["first"]
    assert runner.cancel()
    mailbox.run_one()
    gate.set()
    runner.submit(lambda _: 3, done=told.append, failed=pytest.fail, dropped=pytest.fail)
    while told[-1] != 3:
        mailbox.run_one()
    assert told == ["first", "second", 3]


def test_a_runner_that_keeps_all_works_everything_off_in_turn_even_when_it_is_closed(mailbox):
    gate, answers = threading.Event(), []
    keeping = ThreadRunner(mailbox, keeps_all=True)
    for number in range(4):
        keeping.submit(
            lambda ticket, number=number: gate.wait(10) and not ticket.should_stop() and number,
            done=answers.append,
            failed=pytest.fail,
            dropped=pytest.fail,
        )
    assert not keeping.cancel()
    threading.Timer(0.05, gate.set).start()
    keeping.close()
    for _ in range(4):
        mailbox.run_one()
    assert answers == [0, 1, 2, 3]
    assert mailbox.calls.empty()


def test_inline(capsys):
    seen = []
    runner = InlineRunner()
    assert runner.submit(lambda _: 5, done=seen.append, failed=pytest.fail).number == 1
    assert runner.submit(lambda _: 6, done=seen.append, failed=pytest.fail).number == 2
    assert seen == [5, 6]
    assert not runner.cancel()


def test_explain():
    assert explain(Cancelled("whatever")) == "Stopped."
    assert explain(ModelError("One sentence.")) == "One sentence."
    assert "TypeError" in explain(TypeError("x"))


def test_the_interpreter_waits_for_work_that_is_under_way(tmp_path):
    program = """
import sys, time
from pathlib import Path
from napari_medseg.session.runner import ThreadRunner

def work(ticket):
    time.sleep(0.3)
    Path(sys.argv[1]).write_text(str(ticket.should_stop()))

ThreadRunner(lambda call: call()).submit(work, done=lambda _: None, failed=lambda _: None)
time.sleep(0.1)
"""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "True", "it is asked to stop, and waited for"
