"""Clicks, boxes and scribbles: answers as steps, the newest wins, late and stale answers are dropped."""

from dataclasses import replace

import numpy as np
import pytest

from napari_medseg.errors import ModelError
from napari_medseg.imaging.amounts import millilitres
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.segmentation.prompts import Box, Click, Scribble
from napari_medseg.session.services import build
from napari_medseg.session.session import Job

MIDDLE, ELSEWHERE, THIRD = (4, 10, 12), (1, 4, 4), (6, 15, 18)


def at(services, index):
    return tuple(float(value) for value in services.session.volume.position_of(index))


def n_voxels(services, label=1):
    return int(services.session.work.labels.n_voxels[label])


def test_a_click_makes_a_lesion_with_a_mask_in_one_step(services, model):
    services.segmenting.click(at(services, MIDDLE))
    assert services.session.work.labels.data[MIDDLE] == 1
    assert [lesion.name for lesion in services.session.lesions] == ["Lesion 1"]
    assert services.session.prompts == (Click(at(services, MIDDLE)),)
    assert services.session.message.startswith("Lesion 1: ")
    services.correcting.undo()
    assert not services.session.work.labels.data.any()
    assert services.session.lesions == ()
    services.correcting.redo()
    assert n_voxels(services) > 50
    assert services.session.prompts == (Click(at(services, MIDDLE)),)


def test_the_message_gives_volume_and_diameters(services):
    services.segmenting.click(at(services, MIDDLE))
    ml = n_voxels(services) * 3.0 * 1.0 * 0.8 / 1000
    # A ball of 4 mm round a voxel's middle: 9 rows of 1 mm; across them 10 or 11 columns of 0.8 mm, as rounding has it.
    told = (f"Lesion 1: {millilitres(ml)}, 9.0 x {columns * 0.8:.1f} mm." for columns in (10, 11))
    assert services.session.message in told
    assert services.table.volume_ml(1) == pytest.approx(ml)


def test_a_second_click_sends_all_prompts_and_the_previous_mask(services, model):
    services.segmenting.click(at(services, MIDDLE))
    before = (services.session.work.labels.data == 1).copy()
    services.segmenting.click(at(services, THIRD), positive=False)
    prompts, previous = model.calls[-1]
    assert prompts == (Click(at(services, MIDDLE)), Click(at(services, THIRD), positive=False))
    assert np.array_equal(previous.data > 0, before)


def test_boxes_and_scribbles_are_prompts_too(services, model):
    box = Box(at(services, MIDDLE), at(services, (4, 12, 14)))
    services.segmenting.add(box)
    services.segmenting.new_lesion()
    line = Scribble((at(services, ELSEWHERE), at(services, (1, 5, 5))))
    line_prompts = (*services.session.prompts, line)
    model.segment = lambda volume, prompts, **_: LabelMap((volume.data > 300).astype(np.uint8), volume.affine)
    services.segmenting.add(line)
    assert services.session.prompts == line_prompts
    assert services.session.lesions[0].prompts == (box,)


def test_a_negative_first_prompt_is_refused_in_a_sentence(services, model):
    services.segmenting.click(at(services, MIDDLE), positive=False)
    assert services.session.message == "There is nothing to take away yet: click inside the lesion first."
    assert not model.calls
    assert services.session.lesions == ()


def test_a_click_outside_the_scan_is_refused(services, model):
    services.segmenting.click(at(services, (4, 10, 40)))
    assert "outside the scan" in services.session.message
    assert not model.calls


def test_without_a_scan_every_act_is_answered_by_a_sentence(services):
    services.opening.close(services.session.volume)
    for act in (
        lambda: services.segmenting.click((0.0, 0.0, 0.0)),
        services.segmenting.segment,
        services.segmenting.new_lesion,
        services.correcting.accept,
    ):
        services.session.message = ""
        act()
        assert services.session.message == "Open a scan first."


def test_the_newest_request_wins_in_whatever_order_answers_come(slow):
    for index in (MIDDLE, ELSEWHERE, THIRD):
        slow.segmenting.click(at(slow, index))
    for number in (2, 1, 0):
        slow.runner.finish(number)
    labels = slow.session.work.labels.data
    assert labels[THIRD] == labels[MIDDLE] == labels[ELSEWHERE] == 1
    assert slow.session.busy is None
    slow.correcting.undo()
    assert not slow.session.work.labels.data.any(), "the two earlier clicks never had an answer"
    assert len(slow.session.prompts) == 2


def test_an_answer_for_a_scan_that_is_no_longer_open_is_dropped(slow, another_volume):
    slow.segmenting.click(at(slow, MIDDLE))
    first = slow.session.work
    request = slow.runner.requests[0]
    slow.opening.choose(another_volume)
    assert request.ticket.cancelled
    request.run()()  # even an answer that slips through
    assert not first.labels.data.any()
    assert not slow.session.work.labels.data.any()


def test_an_answer_after_undo_is_dropped(slow):
    slow.segmenting.click(at(slow, MIDDLE))
    slow.correcting.undo()
    slow.runner.requests[0].run()()
    assert not slow.session.work.labels.data.any()
    assert slow.session.lesions == ()


def test_cancel_keeps_the_click_and_drops_the_answer(slow):
    slow.segmenting.click(at(slow, MIDDLE))
    assert isinstance(slow.session.busy, Job)
    slow.session.busy.cancel()
    assert slow.session.busy is None
    slow.runner.finish(0)
    assert not slow.session.work.labels.data.any()
    assert slow.session.message == "Stopped."


def test_another_scan_is_opened_without_a_word_of_the_answer_that_nobody_waits_for(slow):
    slow.segmenting.click(at(slow, MIDDLE))
    slow.opening.choose(replace(slow.session.volume, name="another"))
    assert slow.session.busy is None
    assert slow.session.message.startswith("another is open")
    slow.runner.finish(0)
    assert not slow.session.work.labels.data.any()


def test_a_stroke_while_the_model_works_survives_and_makes_its_own_step(slow):
    slow.segmenting.click(at(slow, MIDDLE))
    labels = slow.session.work.labels
    labels.data[MIDDLE] = 7
    slow.correcting.take_stroke((slice(4, 5), slice(10, 11), slice(12, 13)))
    slow.runner.finish(0)
    assert labels.data[MIDDLE] == 7
    assert n_voxels(slow) > 50
    slow.correcting.undo()
    assert n_voxels(slow) == 0
    assert labels.data[MIDDLE] == 7
    slow.correcting.undo()
    assert labels.data[MIDDLE] == 0


def test_painting_that_nobody_announced_survives_an_answer(slow):
    slow.segmenting.click(at(slow, MIDDLE))
    slow.session.work.labels.data[MIDDLE] = 9
    slow.runner.finish(0)
    assert slow.session.work.labels.data[MIDDLE] == 9
    assert slow.session.work.labels.locked[MIDDLE]


def test_a_locked_lesion_takes_no_prompt_and_no_late_answer(slow):
    slow.segmenting.click(at(slow, MIDDLE))
    slow.table.lock(1, True)
    slow.runner.finish(0)
    assert n_voxels(slow) == 0
    slow.segmenting.click(at(slow, ELSEWHERE))
    assert slow.session.message == "'Lesion 1' is locked: unlock it in the table, or start a new lesion."


def test_a_click_inside_another_lesion_leaves_that_one_alone(services):
    services.segmenting.click(at(services, MIDDLE))
    before = n_voxels(services, 1)
    services.segmenting.new_lesion()
    services.segmenting.click(at(services, MIDDLE))
    assert n_voxels(services, 1) == before
    assert n_voxels(services, 2) == 0
    assert services.session.message.startswith("The model found nothing here")


def test_new_lesion_takes_the_next_label_and_can_be_undone(services):
    services.segmenting.click(at(services, MIDDLE))
    services.segmenting.new_lesion()
    services.segmenting.click(at(services, ELSEWHERE))
    assert [lesion.label for lesion in services.session.lesions] == [1, 2]
    assert services.session.work.labels.data[ELSEWHERE] == 2
    services.segmenting.new_lesion()
    services.segmenting.new_lesion()
    assert services.session.message == "'Lesion 3' is still empty: click on it in the scan."
    services.correcting.undo()
    assert services.session.active_label == 2


def test_automatic_segmentation_names_lesions_after_the_models_labels(services, model):
    model.needs_click, model.labels = False, {1: "liver", 2: "tumour"}
    services.segmenting.segment()
    assert [lesion.name for lesion in services.session.lesions] == ["liver", "tumour"]
    assert services.session.message.startswith("2 labels: ")
    services.correcting.undo()
    assert services.session.lesions == ()
    assert not services.session.work.labels.data.any()


def test_a_model_that_needs_a_click_says_so(services, model):
    services.segmenting.segment()
    assert services.session.message == (
        "The model 'ball' needs a click: choose the click tool and click inside the lesion."
    )
    assert not model.calls


def test_segment_with_prompts_asks_again(services, model):
    services.segmenting.click(at(services, MIDDLE))
    services.segmenting.segment()
    assert len(model.calls) == 2
    assert model.calls[1][1] is None


def test_the_model_is_loaded_once_and_kept(volume, model):
    loaded = []
    services = build(loader=lambda name: loaded.append(name) or model)
    services.opening.choose(volume)
    services.segmenting.click(at(services, MIDDLE))
    services.segmenting.click(at(services, THIRD))
    assert loaded == ["click"]
    assert services.session.model is model


def test_a_model_that_is_loaded_ahead_serves_the_click_that_did_not_wait(volume, model, runner):
    loaded = []
    services = build(answers=runner, loader=lambda name: loaded.append(name) or model)
    services.opening.choose(volume)
    services.segmenting.warm_up()
    services.segmenting.click(at(services, MIDDLE))
    runner.finish(0)
    runner.finish(1)
    assert loaded == ["click"]
    assert services.session.model is model
    assert n_voxels(services) > 50
    services.segmenting.warm_up()
    assert len(runner.requests) == 2, "it is loaded already"


def test_another_model_answers_from_the_next_request_on(volume, model):
    loaded = []
    services = build(loader=lambda name: loaded.append(name) or model)
    services.opening.choose(volume)
    services.segmenting.click(at(services, MIDDLE))
    services.segmenting.choose_model("geodesic")
    services.segmenting.choose_model("geodesic")
    assert services.session.model is None
    services.segmenting.segment()
    assert loaded == ["click", "geodesic"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModelError("The answer holds NaN: choose another model."), "The answer holds NaN: choose another model."),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Not enough memory for this"),
        (MemoryError(), "Not enough memory for this"),
        (RuntimeError("the graph is broken\ndetails"), "the graph is broken"),
    ],
)
def test_failures_are_one_sentence_and_the_session_goes_on(services, model, error, sentence):
    def fail(*_args, **_kwargs):
        raise error

    works, model.segment = model.segment, fail
    services.segmenting.click(at(services, MIDDLE))
    assert services.session.message.startswith(sentence)
    assert "\n" not in services.session.message
    assert services.session.busy is None
    assert not services.failures.seen
    model.segment = works
    services.segmenting.click(at(services, THIRD))
    assert n_voxels(services) > 50


def test_an_unexpected_failure_is_reported_with_its_traceback(services, model):
    def fail(*_args, **_kwargs):
        raise KeyError("oops")

    model.segment = fail
    services.segmenting.click(at(services, MIDDLE))
    assert [type(error) for error in services.failures.seen] == [KeyError]
    assert services.failures.seen[0].__traceback__ is not None
    assert "KeyError" in services.session.message


def test_an_answer_of_another_shape_is_refused(services, model):
    model.segment = lambda volume, *_, **__: LabelMap(np.zeros((2, 3, 4), np.uint8), volume.affine)
    services.segmenting.click(at(services, MIDDLE))
    assert "(2, 3, 4)" in services.session.message
    assert n_voxels(services) == 0


def test_an_empty_answer_is_said(services, model):
    model.segment = lambda volume, *_, **__: LabelMap(np.zeros(volume.data.shape, np.uint8), volume.affine)
    services.segmenting.click(at(services, MIDDLE))
    assert services.session.message.startswith("The model found nothing here")
