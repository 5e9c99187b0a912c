"""The history reads as a list of steps with a cursor."""

import numpy as np
import pytest

from napari_medseg.session.history import History, Step, Table
from napari_medseg.session.labels import BoxEdit

EMPTY = Table((), 1)


def step(text, n_voxels=0):
    box = np.zeros((1, 1, n_voxels), np.uint8)
    region = (slice(0, 1), slice(0, 1), slice(0, n_voxels))
    edits = (BoxEdit(region, box, box, box.astype(bool), box.astype(bool)),) if n_voxels else ()
    return Step(text, EMPTY, EMPTY, edits)


@pytest.fixture
def history():
    return History()


def test_undo_and_redo_walk_over_the_steps(history):
    for text in "abc":
        history.push(step(text))
    assert [history.undo().text, history.undo().text] == ["c", "b"]
    assert (history.last.text, history.next.text) == ("a", "b")
    assert history.redo().text == "b"
    history.push(step("d"))
    assert history.redo() is None
    assert [history.undo().text for _ in range(3)] == ["d", "b", "a"]
    assert history.undo() is None


def test_only_the_newest_step_can_be_amended(history):
    first = history.push(step("a"))
    amended = history.amend(first, step("x", 3).edits, EMPTY)
    assert history.last is amended
    assert len(amended.edits) == 1
    assert history.amend(first, (), EMPTY) is None
    history.undo()
    assert history.amend(amended, (), EMPTY) is None


def test_the_oldest_steps_are_forgotten_first():
    history = History(max_steps=3)
    for text in "abcde":
        history.push(step(text))
    assert [history.undo().text for _ in range(3)] == ["e", "d", "c"]
    assert history.undo() is None


def test_memory_is_bounded_but_the_newest_step_stays():
    history = History(max_bytes=1000)
    for text in "abc":
        history.push(step(text, 100))
    assert [history.undo().text, history.undo().text] == ["c", "b"]
    assert history.undo() is None
    history.push(step("huge", 5000))
    assert history.last.text == "huge"
