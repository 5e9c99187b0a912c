"""Strokes, one history for everything, reviewed slices, the table, and Accept."""

import numpy as np

from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.prompts import Click
from napari_medseg.session.correct import SliceState
from napari_medseg.session.services import build

MIDDLE = (4, 10, 12)
STROKE = (slice(2, 3), slice(5, 9), slice(5, 9))


def at(services, index):
    return tuple(float(value) for value in services.session.volume.position_of(index))


def paint(services, value=1, region=STROKE):
    services.session.work.labels.data[region] = value
    services.correcting.take_stroke(region)


def click(services, index=MIDDLE):
    services.segmenting.click(at(services, index))


def test_undo_and_redo_run_across_clicks_strokes_and_answers(services):
    labels, session = services.session.work.labels, services.session
    states = [labels.data.copy()]
    for act in (
        lambda: click(services),
        lambda: paint(services),
        lambda: services.segmenting.new_lesion(),
        lambda: click(services, (6, 15, 18)),
        lambda: paint(services, 0, (slice(4, 5), slice(8, 12), slice(10, 14))),
        lambda: services.table.delete(1),
    ):
        act()
        states.append(labels.data.copy())
    assert [lesion.label for lesion in session.lesions] == [2]
    for expected in reversed(states[:-1]):
        services.correcting.undo()
        assert np.array_equal(labels.data, expected)
    assert session.lesions == ()
    assert not labels.locked.any()
    services.correcting.undo()
    assert session.message == "There is nothing to undo."
    for expected in states[1:]:
        services.correcting.redo()
        assert np.array_equal(labels.data, expected)
    services.correcting.redo()
    assert session.message == "There is nothing to redo."
    assert [lesion.label for lesion in session.lesions] == [2]


def test_undoing_a_stroke_unlocks_its_voxels(services):
    click(services)
    paint(services, 0, (slice(4, 5), slice(10, 11), slice(12, 13)))
    services.segmenting.segment()
    assert services.session.work.labels.data[MIDDLE] == 0
    services.correcting.undo()
    services.correcting.undo()
    services.segmenting.segment()
    assert services.session.work.labels.data[MIDDLE] == 1


def test_undo_takes_over_silent_edits_first(services):
    click(services)
    services.session.work.labels.data[0, 0, 0] = 1
    services.correcting.undo()
    assert services.session.work.labels.data[0, 0, 0] == 0
    assert services.session.work.labels.data[MIDDLE] == 1


def test_a_new_act_after_undo_ends_redo(services):
    click(services)
    services.correcting.undo()
    paint(services)
    services.correcting.redo()
    assert services.session.message == "There is nothing to redo."


def test_undo_keeps_names_and_visibility(services):
    click(services)
    paint(services)
    services.table.rename(1, " liver metastasis ")
    services.table.show(1, False)
    services.correcting.undo()
    lesion = services.session.active
    assert (lesion.name, lesion.visible) == ("liver metastasis", False)


def test_painting_a_label_without_a_row_makes_one(services):
    paint(services, 4)
    assert [(lesion.label, lesion.name) for lesion in services.session.lesions] == [(4, "Lesion 4")]


def test_undo_and_redo_of_a_first_stroke_take_its_row_along(services):
    paint(services, 4)
    services.correcting.undo()
    assert services.session.lesions == ()
    services.correcting.redo()
    assert [lesion.label for lesion in services.session.lesions] == [4]


def test_a_sagittal_scan_is_reviewed_slice_by_slice_along_its_own_plane(model, store):
    affine = np.array([[0, 0, -4, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    services = build(store=store)
    services.session.model = model
    services.opening.choose(Volume(np.zeros((20, 18, 6), np.int16), affine, name="spine"))
    click(services, (10, 9, 3))
    assert len(services.correcting.slice_states()) == 6
    services.correcting.toggle_reviewed(3)
    services.correcting.accept()
    assert (store.corrections[0].axis, store.corrections[0].reviewed) == (2, (3,))


def test_a_locked_lesion_cannot_be_painted_over_or_deleted(services):
    click(services)
    before = services.session.work.labels.data.copy()
    services.table.lock(1, True)
    paint(services, 2, (slice(4, 5), slice(0, 20), slice(0, 24)))
    assert np.array_equal(services.session.work.labels.data == 1, before == 1)
    assert (services.session.work.labels.data == 2).any()
    services.table.delete(1)
    assert services.session.message == "'Lesion 1' is locked: unlock it before you delete it."


def test_the_centre_of_a_lesion_is_one_of_its_voxels(services):
    assert services.table.centre_of(1) is None
    ring = np.zeros((20, 24), np.uint8)
    ring[4:14, 4:14] = 1
    ring[6:12, 6:12] = 0
    services.session.work.labels.data[3] = ring
    services.correcting.take_stroke()
    assert services.session.work.labels.data[services.table.centre_of(1)] == 1


def test_slices_are_untouched_predicted_corrected_reviewed(services):
    click(services)
    paint(services)
    services.correcting.toggle_reviewed(4)
    states = services.correcting.slice_states()
    assert len(states) == 8
    assert states[4] == SliceState.REVIEWED
    assert states[2] == SliceState.CORRECTED
    assert states[3] == SliceState.PREDICTED
    assert states[0] == SliceState.UNTOUCHED
    services.correcting.toggle_reviewed(4)
    assert services.correcting.slice_states()[4] == SliceState.PREDICTED
    services.correcting.mark_all_reviewed()
    assert (services.correcting.slice_states() == SliceState.REVIEWED).all()
    services.correcting.mark_all_reviewed()
    assert services.session.reviewed == frozenset()
    services.correcting.toggle_reviewed(99)
    assert services.session.reviewed == frozenset()


def test_accept_keeps_what_was_proposed_and_what_was_corrected(services, store):
    click(services)
    proposed = services.session.work.labels.data.copy()
    paint(services)
    services.correcting.toggle_reviewed(4)
    services.correcting.accept()
    [correction] = store.corrections
    assert np.array_equal(correction.proposed.data, proposed)
    assert np.array_equal(correction.corrected.data, services.session.work.labels.data)
    assert correction.corrected.data is not services.session.work.labels.data
    assert correction.reviewed == (2, 4)
    assert correction.edited_voxels == 16
    assert correction.corrected_voxels.sum() == 16
    assert correction.prompts == (Click(at(services, MIDDLE)),)
    assert correction.model == "ball 1"
    assert correction.seconds >= 0
    assert correction.corrected.names == {1: "Lesion 1"}
    assert services.session.message == "Accepted: 2 corrected or reviewed slices will teach the model."
    services.correcting.toggle_reviewed(4)
    services.correcting.accept()
    assert services.session.message == "Accepted: 1 corrected or reviewed slice will teach the model."


def test_a_correction_names_the_version_that_proposed_not_the_one_that_came_later(services, store):
    click(services)
    services.session.model = None
    services.session.model_name = "ball of tomorrow"
    services.correcting.mark_all_reviewed()
    services.correcting.accept()
    assert store.corrections[0].model == "ball 1"


def test_all_slices_reviewed_is_everything(services, store):
    click(services)
    services.correcting.mark_all_reviewed()
    services.correcting.accept()
    assert store.corrections[0].reviewed is None


def test_accept_needs_a_lesion_and_a_reviewed_slice(services, store):
    services.correcting.accept()
    assert services.session.message.startswith("There is no lesion to accept")
    click(services)
    services.correcting.accept()
    assert services.session.message.startswith("No slice is reviewed yet")
    assert not store.corrections


def test_a_full_disk_is_said_and_the_work_stays(services, store):
    def fail(_correction):
        raise OSError(28, "No space left on device")

    store.add = fail
    click(services)
    services.correcting.mark_all_reviewed()
    services.correcting.accept()
    assert "No space left on device" in services.session.message
    assert services.session.busy is None
    assert services.session.work.labels.data[MIDDLE] == 1
