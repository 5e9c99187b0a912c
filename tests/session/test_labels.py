"""The working label map: merging answers, locks, counts and exact inverses."""

import numpy as np
import pytest

from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.session.labels import WorkingLabels, relative, shifted, union

SHAPE = (6, 8, 10)
BOX = (slice(1, 4), slice(2, 6), slice(3, 9))


@pytest.fixture
def labels() -> WorkingLabels:
    return WorkingLabels(SHAPE)


def full(region) -> np.ndarray:
    return np.ones([span.stop - span.start for span in region], bool)


def state(labels: WorkingLabels) -> tuple[bytes, bytes, bytes, frozenset, frozenset]:
    arrays = (labels.data.tobytes(), labels.locked.tobytes(), labels.n_voxels.tobytes())
    return (*arrays, labels.predicted_slices, labels.corrected_slices)


def test_an_answer_fills_free_voxels_and_counts_them(labels):
    edit = labels.merge(3, BOX, full(BOX))
    assert edit.region == BOX
    assert labels.n_voxels[3] == (labels.data == 3).sum() == 3 * 4 * 6
    assert labels.predicted_slices == {1, 2, 3}
    assert not labels.locked.any()


def test_a_second_answer_replaces_the_first_one_and_touches_only_the_changed_box(labels):
    labels.merge(3, BOX, full(BOX))
    smaller = (slice(1, 4), slice(2, 6), slice(3, 8))
    edit = labels.merge(3, smaller, full(smaller))
    assert edit.region == (slice(1, 4), slice(2, 6), slice(8, 9))
    assert labels.n_voxels[3] == 3 * 4 * 5


def test_an_answer_never_overwrites_another_lesion(labels):
    labels.merge(1, BOX, full(BOX))
    other = (slice(0, 6), slice(0, 8), slice(0, 10))
    labels.merge(2, other, full(other))
    assert labels.n_voxels[1] == 72
    assert labels.n_voxels[2] == 6 * 8 * 10 - 72


def test_what_was_painted_and_erased_survives_every_answer(labels):
    labels.merge(1, BOX, full(BOX))
    labels.data[2, 3, 4] = 0
    labels.data[0, 0, 0] = 1
    assert labels.absorb((slice(0, 3), slice(0, 8), slice(0, 10))) is not None
    labels.merge(1, BOX, full(BOX))
    assert labels.data[2, 3, 4] == 0
    assert labels.data[0, 0, 0] == 1
    assert labels.locked.sum() == 2
    assert labels.corrected_slices == {0, 2}


def test_a_stroke_over_right_voxels_locks_them(labels):
    labels.merge(1, BOX, full(BOX))
    touched = np.zeros((3, 4, 6), bool)
    touched[1, 1, 1] = True
    edit = labels.absorb(BOX, touched=touched)
    assert edit.region == (slice(2, 3), slice(3, 4), slice(4, 5))
    nothing = (slice(0, 1), slice(0, 1), slice(0, 1))
    labels.merge(1, nothing, np.zeros((1, 1, 1), bool))
    assert labels.n_voxels[1] == 1
    assert labels.data[2, 3, 4] == 1


def test_voxels_of_protected_labels_are_put_back(labels):
    labels.merge(1, BOX, full(BOX))
    labels.data[2] = 2
    labels.absorb((slice(0, 6), slice(0, 8), slice(0, 10)), protected=[1])
    assert labels.n_voxels[1] == 72
    assert labels.n_voxels[2] == 8 * 10 - 4 * 6
    assert (labels.data[2, 2:6, 3:9] == 1).all()


def test_nothing_changed_is_no_edit(labels):
    assert labels.absorb((slice(0, 6), slice(0, 8), slice(0, 10))) is None
    assert labels.merge(1, BOX, np.zeros((3, 4, 6), bool)) is None
    assert labels.clear(1) is None


def test_every_edit_has_an_exact_inverse(labels):
    rng = np.random.default_rng(4)
    states, edits = [state(labels)], []
    for number in range(40):
        low = rng.integers(0, (3, 4, 5))
        box = tuple(slice(int(a), int(a) + int(n)) for a, n in zip(low, rng.integers(1, 4, 3), strict=True))
        if number % 3:
            edit = labels.merge(int(rng.integers(1, 4)), box, rng.random([s.stop - s.start for s in box]) < 0.6)
        else:
            labels.data[box] = rng.integers(0, 4)
            edit = labels.absorb(box)
        if edit is not None:
            edits.append(edit)
            states.append(state(labels))
    assert len(edits) > 20
    for edit, expected in zip(reversed(edits), reversed(states[:-1]), strict=True):
        labels.apply(edit.inverse)
        assert state(labels) == expected
    for edit, expected in zip(edits, states[1:], strict=True):
        labels.apply(edit)
        assert state(labels) == expected


def test_clearing_a_label_frees_its_voxels(labels):
    labels.data[BOX] = 2
    labels.absorb(BOX)
    labels.clear(2)
    assert not labels.data.any()
    assert not labels.locked.any()


def test_slices_are_counted_along_the_reviewed_axis():
    labels = WorkingLabels(SHAPE, axis=2)
    labels.merge(1, BOX, full(BOX))
    assert labels.predicted_slices == set(range(3, 9))


def test_boxes():
    mask = np.zeros(SHAPE, bool)
    mask[2, 3, 4] = mask[4, 3, 9] = True
    found = filled_box(mask)
    assert found == (slice(2, 5), slice(3, 4), slice(4, 10))
    assert union(found, BOX) == (slice(1, 5), slice(2, 6), slice(3, 10))
    assert shifted(relative(BOX, union(found, BOX)), union(found, BOX)) == BOX
