"""Opening, choosing, adopting and closing scans; masks become lesions."""

import nibabel as nib
import numpy as np
import pytest

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.session.arrays import volume_of_array
from napari_medseg.session.reading import read_path
from napari_medseg.session.runner import Ticket
from napari_medseg.session.services import build
from napari_medseg.session.sources import fingerprint


@pytest.fixture
def scan_file(tmp_path):
    data = np.random.default_rng(1).integers(-500, 500, (12, 10, 6)).astype(np.int16)
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(data, np.diag([0.8, 1.0, 3.0, 1.0])), path)
    return path


def mask_file(scan_file, values, affine=None, shape=None):
    scan = nib.load(scan_file)
    data = np.zeros(shape or scan.shape, np.uint8)
    for number, value in enumerate(values):
        data[number : number + 1] = value
    path = scan_file.with_name("mask.nii.gz")
    nib.save(nib.Nifti1Image(data, scan.affine if affine is None else affine), path)
    return path


def test_a_file_opens_and_becomes_the_scan(scan_file):
    services = build()
    services.opening.open(scan_file)
    assert services.session.volume.data.shape == (6, 10, 12)
    assert services.session.work.volume is services.session.volume
    assert services.session.busy is None
    assert services.session.message.startswith("ct")


def test_several_scans_are_offered(tmp_path, scan_file):
    (tmp_path / "second.nii.gz").write_bytes(scan_file.read_bytes())
    services = build()
    services.opening.open(tmp_path)
    assert services.session.volume is None
    first, second = services.session.offers
    assert services.session.message == "2 scans found: choose one."
    assert (first.name, first.shape) == ("ct", (12, 10, 6))
    assert first.spacing_mm == pytest.approx((0.8, 1.0, 3.0))
    assert services.opening.is_choosing
    services.opening.open_offer(second)
    assert services.session.volume.name == "second"
    assert services.opening.is_open(second)
    assert not services.opening.is_open(first)
    assert not services.opening.is_choosing


def test_bad_input_is_one_sentence_and_the_open_scan_stays(services, tmp_path):
    bad = tmp_path / "text.nii.gz"
    bad.write_text("this is not a scan")
    before = services.session.volume
    for path in (bad, tmp_path / "missing.nii", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        services.session.message = ""
        services.opening.open(path)
        assert path.name in services.session.message
        assert "\n" not in services.session.message
        assert services.session.volume is before
        assert not services.failures.seen


def test_every_open_scan_keeps_its_own_lesions_and_history(services, another_volume):
    first = services.session.volume
    services.segmenting.click(tuple(first.position_of((4, 10, 12))))
    services.correcting.toggle_reviewed(3)
    services.opening.choose(another_volume)
    assert services.session.lesions == ()
    assert services.session.reviewed == frozenset()
    services.correcting.undo()
    assert services.session.message == "There is nothing to undo."
    services.opening.choose(first)
    assert len(services.session.lesions) == 1
    assert services.session.reviewed == {3}
    assert services.session.work.labels.data[4, 10, 12] == 1
    services.correcting.undo()
    assert not services.session.work.labels.data.any()


def test_closing_the_open_scan_turns_to_another_one_or_to_none(services, another_volume):
    first = services.session.volume
    services.opening.choose(another_volume)
    services.opening.close(another_volume)
    assert services.session.volume is first
    services.opening.close(first)
    assert services.session.volume is None
    assert services.session.work is None
    assert services.session.lesions == ()


def test_a_mask_file_becomes_lesions_in_one_step(scan_file):
    services = build()
    services.opening.open(scan_file)
    services.opening.open_mask(mask_file(scan_file, [3, 0, 7, 7]))
    assert [lesion.label for lesion in services.session.lesions] == [3, 7]
    assert services.session.work.labels.n_voxels[[3, 7]].tolist() == [60, 120]
    assert not services.session.work.labels.locked.any()
    services.correcting.undo()
    assert services.session.lesions == ()
    assert not services.session.work.labels.data.any()


def test_a_second_mask_gets_other_labels_and_overwrites_nothing(scan_file):
    services = build()
    services.opening.open(scan_file)
    services.opening.open_mask(mask_file(scan_file, [1]))
    services.opening.open_mask(mask_file(scan_file, [1, 1]))
    assert [lesion.label for lesion in services.session.lesions] == [1, 2]
    assert services.session.work.labels.n_voxels[[1, 2]].tolist() == [60, 60]


SHIFTED, SHORTER = (np.diag([0.8, 1.0, 3.1, 1.0]), None), (None, (12, 10, 5))


def test_a_mask_of_another_grid_is_asked_about_with_both_grids(scan_file):
    services = build()
    services.opening.open(scan_file)
    services.opening.open_mask(mask_file(scan_file, [1, 1, 1], *SHIFTED))
    assert services.session.lesions == ()
    reason = services.session.misfit.reason
    assert "mask.nii.gz lies on a grid of 6 x 10 x 12 voxels of 3.1 x 1 x 0.8 mm, axial" in reason
    assert "'ct' on a grid of 6 x 10 x 12 voxels of 3 x 1 x 0.8 mm, axial" in reason
    services.opening.answer_misfit("")
    assert services.session.misfit is None
    assert services.session.lesions == ()
    assert services.session.message == "The mask was left out."


@pytest.mark.parametrize("method", ["nearest", "smooth"])
def test_a_mask_of_another_grid_is_resampled_when_asked(scan_file, method):
    services = build()
    services.opening.open(scan_file)
    services.opening.open_mask(mask_file(scan_file, [1, 1, 1], *SHIFTED))
    services.opening.answer_misfit(method)
    assert [lesion.label for lesion in services.session.lesions] == [1]
    assert services.session.work.labels.n_voxels[1] >= 150
    assert "resampled" in services.session.message
    assert "from a grid of 6 x 10 x 12 voxels of 3.1" in services.session.message
    services.correcting.undo()
    assert not services.session.work.labels.data.any()


def test_a_mask_of_a_part_of_the_grid_is_placed_voxel_for_voxel(scan_file):
    services = build()
    services.opening.open(scan_file)
    services.opening.open(mask_file(scan_file, [1], *SHORTER))
    assert services.session.misfit is None
    assert services.session.work.labels.n_voxels[1] == 50
    assert "1 lesion taken over from mask.nii.gz, voxel for voxel." in services.session.message


def test_a_mask_goes_to_the_open_scan_that_it_lies_on(services, scan_file):
    other = services.session.volume
    services.opening.open(scan_file)
    first = services.session.volume
    services.opening.choose(other)
    services.opening.open(mask_file(scan_file, [1]))
    assert services.session.volume is first
    assert services.session.work.labels.n_voxels[1] == 60


def test_a_mask_without_a_scan_is_no_scan(scan_file):
    services = build()
    services.opening.open_mask(mask_file(scan_file, [1]))
    assert services.session.message.startswith("That is a mask: open its scan first")


def test_what_is_opened_meanwhile_waits_for_its_turn(runner, scan_file):
    services = build(files=runner)
    (scan_file.parent / "second.nii.gz").write_bytes(scan_file.read_bytes())
    services.opening.open(scan_file)
    services.opening.open(scan_file.with_name("second.nii.gz"))
    runner.finish()
    assert services.session.volume.name == "ct"
    runner.finish()
    assert services.session.volume.name == "second"


def test_a_label_beyond_255_is_refused(services):
    data = np.zeros(services.session.volume.data.shape, np.uint16)
    data[0, 0, 0] = 300
    with pytest.raises(ImagingError, match="label 300"):
        services.opening.load(LabelMap(data, services.session.volume.affine), services.session.work)


def test_the_sample_opens():
    services = build()
    services.opening.open_sample()
    assert services.session.volume.modality == "CT"


def test_an_array_of_another_plugin_is_a_scan_with_doubts():
    volume = volume_of_array(
        np.zeros((4, 5), np.uint8), scale=(0.5, 0.25), translate=(10.0, 20.0), name="photo", has_units=False
    )
    assert volume.data.shape == (1, 4, 5)
    assert volume.spacing_mm == (1.0, 0.5, 0.25)
    assert volume.position_of((0, 0, 0)).tolist() == [-20.0, -10.0, 0.0]
    assert volume.position_of((0, 1, 1)).tolist() == [-20.25, -10.5, 0.0]
    assert volume.warnings[0].startswith("Units unknown")
    with pytest.raises(ImagingError, match="'movie' has 4 axes"):
        volume_of_array(np.zeros((1, 2, 3, 4)), scale=(1,) * 4, translate=(0,) * 4, name="movie", has_units=True)


def test_a_fingerprint_tells_scans_apart(volume, another_volume):
    assert fingerprint(volume) == fingerprint(volume)
    assert fingerprint(volume) != fingerprint(another_volume)


def test_reading_tells_how_far_it_is_and_stops_when_it_is_cancelled(scan_file):
    told = []
    ticket = Ticket(1, on_progress=told.append)
    (volume,) = read_path(scan_file, (), ticket)
    assert volume.data.shape == (6, 10, 12)
    assert told
    ticket.cancel()
    with pytest.raises(Cancelled):
        read_path(scan_file, (), ticket)
