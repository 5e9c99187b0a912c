"""Reading, saving and evaluating never stand in each other's way, and nothing that is being saved is lost."""

import threading

import nibabel as nib
import numpy as np
import pytest

from napari_medseg.session.runner import ThreadRunner
from napari_medseg.session.services import build


@pytest.fixture
def scans(tmp_path):
    paths = [tmp_path / f"{name}.nii.gz" for name in "abc"]
    for number, path in enumerate(paths):
        data = np.random.default_rng(number).integers(-500, 500, (12, 10, 6 + number)).astype(np.int16)
        nib.save(nib.Nifti1Image(data, np.diag([0.8, 1.0, 3.0, 1.0])), path)
    return paths


def mark(services, index: int = 3) -> None:
    services.session.work.labels.data[index, 2:5, 2:5] = 1
    services.correcting.take_stroke()


def test_a_scan_is_read_on_while_others_save_and_evaluate(runner, scans, store, tmp_path):
    services = build(files=runner, store=store)
    services.opening.open(scans[0])
    runner.finish()
    mark(services)
    services.opening.open(scans[1])
    services.exporting.export(tmp_path / "mask.nii.gz")
    services.correcting.accept()
    services.evaluating.masks(tmp_path / "mask.nii.gz", tmp_path / "mask.nii.gz")
    assert services.session.message.endswith("1 case of 1 patient.")
    assert len(store.corrections) == 1
    assert services.opening.is_reading
    runner.finish()
    assert services.session.volume.name == "b"
    assert not services.opening.is_reading
    assert services.session.busy is None


def test_a_read_that_another_request_replaced_or_cancelled_does_not_block_the_next(runner, scans):
    services = build(files=runner)
    services.opening.open(scans[0])
    runner.submit(lambda _: None, done=lambda _: None, failed=pytest.fail)
    assert not services.opening.is_reading
    assert services.session.busy is None
    services.opening.open(scans[1])
    services.opening.open(scans[2])
    runner.cancel()
    assert services.session.busy.name == "Reading c.nii.gz", "what waited is read instead"
    runner.finish()
    assert services.session.volume.name == "c"


def test_the_offer_that_was_chosen_last_is_still_being_read_when_the_one_before_is_dropped(runner, scans):
    services = build(files=runner)
    services.opening.open(scans[0].parent)
    runner.finish()
    first, second, _ = services.session.offers
    services.opening.open_offer(first)
    services.opening.open_offer(second)
    assert services.opening.is_reading
    assert services.session.busy.name == "Reading b"
    runner.finish()
    assert services.session.volume.name == "b"


@pytest.fixture
def writer():
    made = ThreadRunner(lambda call: call(), keeps_all=True)
    yield made
    made.close()


def test_what_waits_to_be_saved_is_saved_although_the_next_scan_was_opened_meanwhile(scans, store, tmp_path, writer):
    services, gate = build(writer=writer, store=store), threading.Event()
    writer.submit(lambda _: gate.wait(10), done=lambda _: None, failed=pytest.fail)
    services.opening.open(scans[0])
    mark(services)
    services.session.reviewed = frozenset({3, 4})
    services.exporting.export(tmp_path / "mask.nii.gz")
    services.correcting.accept()
    services.opening.open(scans[1])
    gate.set()
    writer.close()
    assert nib.load(tmp_path / "mask.nii.gz").shape == (12, 10, 6)
    [correction] = store.corrections
    assert correction.volume.name == "a"
    assert services.session.message == "Accepted: 2 corrected or reviewed slices will teach the model."
    services.recovery.close()
    assert build().session.unsaved == (), "the journal of the scan that is not in view knows that it was saved"


def test_what_is_painted_while_the_correction_is_being_saved_stays_unsaved(scans, store, runner):
    services = build(writer=runner, store=store)
    services.opening.open(scans[0])
    mark(services)
    services.correcting.accept()
    mark(services, 1)
    runner.finish()
    assert services.session.message.startswith("Accepted")
    services.recovery.close()
    assert len(build().session.unsaved) == 1


def test_export_anyway_saves_the_scan_that_was_asked_about_not_the_one_in_view(scans, tmp_path):
    services = build()
    services.opening.open(scans[0])
    mark(services)
    scans[0].write_bytes(scans[0].read_bytes()[:-1] + b"\0")
    services.exporting.export(tmp_path / "mask.nii.gz")
    services.opening.open(scans[1])
    mark(services, 5)
    assert services.session.question.startswith("The scan's file was changed")
    services.exporting.export_anyway()
    saved = nib.load(tmp_path / "mask.nii.gz")
    assert saved.shape == (12, 10, 6)
    assert np.count_nonzero(saved.dataobj) == 9


def test_every_export_asks_its_own_question(scans, tmp_path, writer):
    services, gate = build(writer=writer), threading.Event()
    services.opening.open(scans[0])
    mark(services)
    theirs = tmp_path / "theirs.nii.gz"
    theirs.write_bytes(b"a mask")
    writer.submit(lambda _: gate.wait(10), done=lambda _: None, failed=pytest.fail)
    services.exporting.export(theirs)
    services.exporting.export(tmp_path / "ours.nii.gz")
    gate.set()
    both = threading.Event()
    writer.submit(lambda _: None, done=lambda _: both.set(), failed=pytest.fail)
    assert both.wait(10)
    assert (tmp_path / "ours.nii.gz").exists()
    assert services.session.question == "theirs.nii.gz is there already. Replace it?"
    assert theirs.read_bytes() == b"a mask"
    services.exporting.export_anyway()
    writer.close()
    assert np.count_nonzero(nib.load(theirs).dataobj) == 9
