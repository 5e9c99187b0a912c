"""The way from one doubtful region to the next, and what is said about unusual scans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.library import Library
from napari_medseg.segmentation.confidence import confidence_of
from napari_medseg.session.doubt import NO_DOUBT, NOTHING_ASKED, DoubtController
from napari_medseg.session.prompts import SegmentController
from napari_medseg.session.runner import InlineRunner
from napari_medseg.session.session import Session
from napari_medseg.session.work import Editor, ScanWork

AFFINE = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
SHAPE = (20, 40, 44)
BIG, SMALL = (slice(4, 12), slice(6, 18), slice(4, 16)), (slice(14, 18), slice(28, 34), slice(30, 36))


class Unsure:
    """Segments a block; has no idea of two places, which a click may settle."""

    name, version, needs_click, labels = "unsure", 1, False, {1: "Block"}

    def __init__(self) -> None:
        self.warnings: tuple[str, ...] = ()
        self.is_sure = False

    def segment(self, volume, prompts=(), *, previous=None, progress=None, should_stop=None) -> LabelMap:
        probability = np.zeros(SHAPE)
        probability[3:18, 5:35, 3:40] = 1
        if not self.is_sure:
            probability[BIG] = probability[SMALL] = 0.55
        region = tuple(slice(0, n) for n in SHAPE)
        data = (probability > 0.5).astype(np.uint8)
        confidence = confidence_of(probability, data, region)
        return LabelMap(data, volume.affine, warnings=self.warnings, confidence=confidence)


@pytest.fixture
def session() -> Session:
    values = np.random.default_rng(0).normal(0, 1, SHAPE).cumsum(2)
    made = Session(model=Unsure())
    made.work = ScanWork(Volume((20 * values).astype(np.int16), AFFINE, name="scan"))
    made.volume = made.work.volume
    return made


@pytest.fixture
def editor(session) -> Editor:
    return Editor(session)


@pytest.fixture
def doubt(editor, tmp_path) -> DoubtController:
    return DoubtController(editor, Library(tmp_path))


@pytest.fixture
def seen(doubt) -> list[tuple[int, int, int]]:
    places: list[tuple[int, int, int]] = []
    doubt.jumped.connect(places.append)
    return places


def ask(editor: Editor, *, clicked: bool = True) -> None:
    segmenting = SegmentController(editor, InlineRunner())
    if clicked:
        segmenting.click(tuple(map(float, editor.work.volume.position_of((15, 10, 25)))))
    else:
        segmenting.segment()


def holds(region: tuple[slice, ...], index: tuple[int, ...]) -> bool:
    return all(part.start <= i < part.stop for part, i in zip(region, index, strict=True))


def test_before_any_answer_it_says_what_to_do_first(session, doubt, seen):
    doubt.next_region()
    assert session.message == NOTHING_ASKED
    assert seen == []


@pytest.mark.parametrize("clicked", [True, False], ids=["after a click", "after the automatic mode"])
def test_it_leads_from_the_largest_to_the_next_and_round(session, editor, doubt, seen, clicked):
    ask(editor, clicked=clicked)
    for _ in range(3):
        doubt.next_region()
    assert holds(BIG, seen[0])
    assert holds(SMALL, seen[1])
    assert seen[2] == seen[0]
    assert session.message.startswith("Doubtful region 1 of 2: ")
    assert float(session.message.split(": ")[1].split()[0]) == pytest.approx(8 * 12 * 12 * 2 / 1000, rel=0.3)
    assert session.message.endswith(" ml at the right border of the lesion.")


def test_what_was_painted_is_settled(session, editor, doubt, seen):
    ask(editor)
    editor.work.labels.locked[BIG] = True
    doubt.next_region()
    assert holds(SMALL, seen[0])


def test_a_new_answer_starts_anew_and_undo_brings_the_old_doubt_back(session, editor, doubt, seen):
    ask(editor)
    doubt.next_region()
    session.model.is_sure = True
    ask(editor)
    doubt.next_region()
    assert session.message == NO_DOUBT
    editor.undo()
    doubt.next_region()
    assert holds(BIG, seen[-1])


def test_the_picture_of_doubt_is_bright_where_the_model_is_unsure(session, editor, doubt):
    assert doubt.doubt() is None
    ask(editor)
    values, box = doubt.doubt()
    whole = np.zeros(SHAPE, np.uint8)
    whole[box] = values
    assert whole[8, 10, 10] > 100
    assert whole[1, 1, 1] == 0


def test_a_caution_of_the_model_follows_its_answer(session, editor):
    session.model.warnings = ("the model has learned from CT, not from US: check every slice",)
    ask(editor)
    assert "Careful: the model has learned from CT, not from US" in session.message


def test_unusual_scans_are_named_when_they_open_and_ordinary_ones_are_not(session, doubt):
    assert doubt.caution() == ""
    session.volume = replace(session.volume, modality="US")
    assert doubt.caution().startswith("The model has learned from CT, MR, PT, not from US")
    session.model_name = "nobody"
    assert doubt.caution() == ""
    session.volume = None
    assert doubt.caution() == ""
