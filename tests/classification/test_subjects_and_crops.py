"""What a classifier sees, and the way back onto the scan's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from class_phantom import AFFINE, CENTRE, SHAPE

from napari_medseg.classification import Subject
from napari_medseg.classification.crops import crop, place_back
from napari_medseg.classification.excerpt import excerpt, thumbnail
from napari_medseg.errors import ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.class_cases import choose_input
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.models.card import ClassifierInput
from napari_medseg.networks.channels import BOX, IMAGE, POSITIVE, PREVIOUS, VALID, WINDOW

LESION = ClassifierInput(task="lesion", size=32, extent_mm=32.0)


def test_a_crop_is_in_millimetres_round_the_lesion(lesion) -> None:
    seen = crop(lesion(), LESION)
    assert seen.inputs.shape == (7, 32, 32, 32)
    mask = seen.inputs[PREVIOUS] > 0.5
    # A ball of 6 mm radius at 1 mm a point, whatever the voxels were.
    sides = [np.ptp(np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))) + 1 for axis in range(3)]
    assert all(10 <= side <= 15 for side in sides)
    assert np.allclose(np.argwhere(mask).mean(0), 15.5, atol=1.0)
    assert seen.inputs[POSITIVE].max() > 0.8
    # The scan ends 13.75 mm above the lesion's middle: the last points lie outside.
    assert seen.inputs[VALID, -1].max() == 0
    assert seen.inputs[VALID, 16].min() == 1


def test_a_click_is_seen_like_the_lesion_it_is_in_but_without_its_mask(lesion) -> None:
    marked = lesion()
    clicked = Subject.at(marked.scans[0], tuple(marked.scans[0].position_of(np.array(CENTRE, float))))
    seen, alike = crop(clicked, LESION).inputs, crop(marked, LESION).inputs
    assert seen[PREVIOUS].max() == 0
    assert np.abs(seen[IMAGE] - alike[IMAGE]).max() < 0.2


def test_values_come_back_to_where_they_were(lesion) -> None:
    subject = lesion()
    seen = crop(subject, LESION)
    back = place_back(seen.inputs[PREVIOUS], seen, subject.scans[0])
    marked = subject.marked()
    assert back.shape == SHAPE
    assert back[marked].mean() > 0.75 > 0.1 > back[~marked].mean()


def test_an_image_fills_its_view_and_comes_back(image) -> None:
    subject = image()
    looks_at = ClassifierInput(task="image", size=48)
    seen = crop(subject, looks_at, dims=2)
    assert seen.inputs.shape == (7, 48, 48)
    assert seen.inputs[BOX].max() == 1
    assert seen.inputs[POSITIVE].max() == 0
    back = place_back(seen.inputs[IMAGE], seen, subject.scans[0])
    assert np.corrcoef(back.ravel(), subject.scans[0].data.ravel())[0, 1] > 0.9


def test_a_study_is_looked_at_slice_by_slice_along_its_thick_axis(study) -> None:
    subject = study(seed=3)
    seen = crop(subject, ClassifierInput(task="study", size=32, n_slices=5, inputs=("MR",)), dims=2)
    assert seen.inputs.shape == (5, 7, 32, 32)
    assert [place.index for place in seen.places] == [0, 2, 4, 6, 8]
    # The same scan with its slices along x.
    turned = Volume(np.ascontiguousarray(np.moveaxis(subject.scans[0].data, 0, 2)), AFFINE[:, [1, 2, 0, 3]], "t", "MR")
    sideways = crop(Subject.study(turned), ClassifierInput(task="study", size=32, n_slices=5, inputs=("MR",)), dims=2)
    assert {place.axis for place in sideways.places} == {2}
    assert np.allclose(sideways.inputs, seen.inputs, atol=1e-4)


def test_slices_of_another_modality_than_learned_are_refused(study) -> None:
    with pytest.raises(ModelError, match="learned studies of PT, CT, and 'bright 0' is MR"):
        crop(study(), ClassifierInput(task="study", size=32, inputs=("PT", "CT")), dims=2)


@pytest.mark.parametrize(
    ("of", "task", "dims", "says"),
    [
        ("image", "lesion", 3, "looks at lesions: mark one"),
        ("study", "image", 2, "learned single 2-D images and 'bright 0' has 9 slices: open one image"),
        ("flat lesion", "lesion", 3, "learned volumes and 'bright 0' is a single 2-D image: open a volume"),
        ("two scans", "image", 2, "looks at one scan and got 2"),
    ],
)
def test_another_kind_or_dimensionality_is_refused_in_one_sentence(of, task, dims, says, image, study) -> None:
    flat = image().scans[0]
    subject = {
        "image": image(),
        "study": study(),
        "flat lesion": Subject.at(flat, tuple(flat.position_of((0.0, 9.0, 9.0)))),
        "two scans": Subject.study(flat, flat),
    }[of]
    with pytest.raises(ModelError, match=says) as caught:
        crop(subject, ClassifierInput(task=task, size=32), dims=dims)
    assert "\n" not in str(caught.value)


def test_a_lone_picture_is_no_study_of_stacks(image, study) -> None:
    flat = replace(image().scans[0], modality="MR")
    stacks = choose_input([study(seed=k) for k in range(2)], ClassTraining())
    with pytest.raises(ModelError, match="learned stacks of slices and 'bright 0' is a single 2-D image") as caught:
        crop(Subject.study(flat), stacks, dims=2)
    assert "\n" not in str(caught.value)
    assert len(crop(Subject.study(flat, study().scans[0]), stacks, dims=2).places) == 10, "one scan may be a picture"
    pairs = choose_input([Subject.study(flat, flat)] * 2, ClassTraining())
    assert len(crop(Subject.study(flat), pairs, dims=2).places) == 1, "one of two radiographs"


def test_subjects_refuse_what_cannot_be_looked_at(lesion) -> None:
    scan = lesion().scans[0]
    with pytest.raises(ModelError, match="has no label 7: mark the lesion first"):
        Subject.lesion(scan, LabelMap(np.ones(SHAPE, np.uint8), AFFINE), 7)
    with pytest.raises(ModelError, match="lie on different grids"):
        Subject.lesion(scan, LabelMap(np.ones((3, 4, 5), np.uint8), AFFINE))
    with pytest.raises(ModelError, match=r"the point \(500.0, 0.0, 0.0\) mm lies outside the scan"):
        Subject.at(scan, (500.0, 0.0, 0.0))
    with pytest.raises(ModelError, match="no scan to classify"):
        Subject.study()


def test_an_excerpt_is_seen_as_the_whole_scan_is() -> None:
    rng = np.random.default_rng(0)
    affine = AFFINE @ np.diag([1.0, 1.0, 1.0, 1.0])
    data = rng.normal(0, 1, (70, 200, 220)).astype(np.float32)
    mask = np.zeros(data.shape, np.uint8)
    mask[30:34, 90:100, 100:112] = 1
    subject = Subject.lesion(Volume(data, affine, "large"), LabelMap(mask, affine))
    small = excerpt(subject)
    assert small.scans[0].data.size < 0.5 * data.size
    wide = LESION.model_copy(update={"extent_mm": 50.0})
    assert np.allclose(crop(small, wide).inputs, crop(subject, wide).inputs, atol=1e-4)
    assert thumbnail(subject).shape == (96, 96)


def test_a_large_study_is_kept_smaller_where_it_was() -> None:
    data = np.random.default_rng(0).normal(0, 1, (130, 8, 400)).astype(np.float32)
    scan = Volume(data, AFFINE, "long")
    kept = excerpt(Subject.study(scan, patient="p"))
    reduced = kept.scans[0]
    assert reduced.data.shape == (43, 8, 133)
    # The middle of the first block of 3 x 1 x 3 voxels.
    first = scan.position_of((1.0, 0.0, 1.0))
    assert np.allclose(reduced.position_of((0.0, 0.0, 0.0)), first)
    assert kept.patient == "p"


def test_a_subject_without_name_is_still_told(study) -> None:
    nameless = Subject.study(replace(study().scans[0], name=""))
    with pytest.raises(ModelError, match="and the scan has 9 slices"):
        crop(nameless, ClassifierInput(task="image", size=32), dims=2)


def test_values_that_are_no_numbers_are_refused(image) -> None:
    scan = image().scans[0]
    broken = scan.data.copy()
    broken[0, 3, 3] = np.nan
    with pytest.raises(ModelError, match="'bright 0' holds values that are not numbers"):
        crop(Subject.image(replace(scan, data=broken)), ClassifierInput(task="image", size=32), dims=2)


def test_a_modality_whose_values_mean_something_keeps_them(study) -> None:
    """A dark scan must not look like a bright one: normalised by itself it would."""
    dim, bright = (
        replace(study(seed=3).scans[0], modality="PT", data=np.full((9, 30, 34), v, np.float32)) for v in (1, 5)
    )
    for scan in (dim, bright):
        scan.data[4, 10:18, 12:22] *= 2
    look = ClassifierInput(task="study", size=32, inputs=("PT",))
    own = [crop(Subject.study(scan), look, dims=2).inputs for scan in (dim, bright)]
    np.testing.assert_allclose(own[0], own[1], atol=1e-3)
    known = look.model_copy(update={"windows": ((1.0, 1.5),)})
    kept = [crop(Subject.study(scan), known, dims=2).inputs for scan in (dim, bright)]
    assert kept[1][:, IMAGE].max() > 3 * kept[0][:, IMAGE].max()
    assert kept[1][:, WINDOW].max() > 2 * kept[0][:, WINDOW].max()


def test_a_lesion_of_known_size_is_seen_at_its_own_size(lesion) -> None:
    look = ClassifierInput(size=16, extent_mm=40.0, own_size=True)
    small, large = (crop(lesion(radius_mm=r), look).places[0].view.extent_mm for r in (3.0, 9.0))
    assert small == 24.0
    assert large == pytest.approx(2 * lesion(radius_mm=9.0).diameter_mm())
    clicked = Subject.at(lesion().scans[0], lesion().scans[0].position_of(lesion().centre()))
    assert crop(clicked, look).places[0].view.extent_mm == 40.0


def test_sequences_of_one_modality_have_places_of_their_own(study) -> None:
    look = ClassifierInput(task="study", size=32, inputs=("MR", "MR", "PT"))
    mr, pet = study().scans[0], replace(study().scans[0], modality="PT")
    kinds = crop(Subject.study(mr, pet, mr, mr), look, dims=2).kinds
    assert kinds == (0,) * 9 + (2,) * 9 + (1,) * 18
