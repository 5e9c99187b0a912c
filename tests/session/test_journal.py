"""The journal survives kills, damage and full disks."""

import errno
import signal
import subprocess
import sys
import textwrap
import time

import nibabel as nib
import numpy as np
import pytest

from napari_medseg.imaging.file_lock import FileLock
from napari_medseg.session import recovery
from napari_medseg.session.journal import Entry, Journal, Patch, last_table, pack, replay
from napari_medseg.session.lesions import Proposal
from napari_medseg.session.recovery import lesion_from, lesion_to
from napari_medseg.session.services import build

SHAPE = (6, 8, 10)


def entry(number: int) -> Entry:
    rng = np.random.default_rng(number)
    low = rng.integers(0, (3, 4, 5))
    region = tuple(slice(int(a), int(a) + 3) for a in low)
    labels = rng.integers(0, 4, (3, 3, 3)).astype(np.uint8)
    return Entry({"lesions": [], "reviewed": [number]}, (Patch(region, labels, labels == 2),))


def expected(numbers) -> tuple[np.ndarray, np.ndarray]:
    labels, locked = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    for number in numbers:
        [patch] = entry(number).patches
        labels[patch.region], locked[patch.region] = patch.labels, patch.locked
    return labels, locked


def write(folder, numbers, **settings) -> None:
    journal = Journal(folder, SHAPE, **settings)
    for number in numbers:
        journal.append(entry(number))
    journal.close()


def assert_holds(folder, numbers, n_damaged=0) -> None:
    found = replay(folder, SHAPE)
    labels, locked = expected(numbers)
    assert np.array_equal(found.labels, labels)
    assert np.array_equal(found.locked, locked)
    assert found.n_damaged == n_damaged
    assert found.table["reviewed"] == [list(numbers)[-1]]


def test_what_was_appended_comes_back(tmp_path):
    write(tmp_path, range(30))
    assert_holds(tmp_path, range(30))
    assert last_table(tmp_path)["reviewed"] == [29]


def test_the_models_own_answer_is_kept_through_generations(tmp_path):
    region, mask = (slice(1, 4), slice(0, 5), slice(2, 9)), np.random.default_rng(0).random((3, 5, 7)) > 0.5
    journal = Journal(tmp_path, SHAPE, max_bytes=4000)
    journal.append(Entry({"lesions": []}, proposals=((3, Proposal(region, mask, model="click 2")),)))
    for number in range(150):
        journal.append(entry(number))
    journal.close()
    assert not (tmp_path / "1.log").exists()
    kept = replay(tmp_path, SHAPE).proposals
    assert list(kept) == [3]
    assert kept[3].region == region
    assert np.array_equal(kept[3].mask, mask)
    assert kept[3].model == "click 2"


def test_a_second_session_goes_on_in_a_new_generation(tmp_path):
    write(tmp_path, range(5))
    write(tmp_path, range(5, 9))
    assert_holds(tmp_path, range(9))


def test_a_full_file_is_followed_by_the_next_and_two_generations_stay(tmp_path):
    write(tmp_path, range(200), max_bytes=4000)
    names = sorted(path.name for path in tmp_path.glob("*.log"))
    assert len(names) == 2
    assert names[0] != "1.log"
    assert_holds(tmp_path, range(200))


def test_a_damaged_new_generation_leaves_the_one_before(tmp_path):
    write(tmp_path, range(200), max_bytes=4000)
    newest = max(tmp_path.glob("*.log"), key=lambda path: int(path.stem))
    content = bytearray(newest.read_bytes())
    content[60] ^= 0xFF  # inside the first frame: everything so far
    newest.write_bytes(bytes(content))
    found = replay(tmp_path, SHAPE)
    labels, locked = expected(range(200))
    assert found.n_damaged == 1
    assert np.array_equal(found.labels, labels)
    assert np.array_equal(found.locked, locked)


def test_a_damaged_entry_costs_that_entry_alone(tmp_path):
    frames = [pack(entry(number)) for number in range(10)]
    broken = bytearray(frames[4])
    broken[-5] ^= 0xFF
    frames[4] = bytes(broken)
    (tmp_path / "1.log").write_bytes(b"".join(frames))
    assert_holds(tmp_path, [0, 1, 2, 3, 5, 6, 7, 8, 9], n_damaged=1)


@pytest.mark.parametrize("cut", [1, 5, 11, 40])
def test_a_frame_that_was_cut_off_ends_the_file(tmp_path, cut):
    frames = [pack(entry(number)) for number in range(4)]
    content = b"".join(frames)
    (tmp_path / "1.log").write_bytes(content[: len(content) - len(frames[3]) + cut])
    found = replay(tmp_path, SHAPE)
    assert found.n_entries == 3
    assert np.array_equal(found.labels, expected(range(3))[0])


def test_a_box_outside_the_scan_is_damage(tmp_path):
    far = Patch((slice(4, 7), slice(0, 3), slice(0, 3)), np.ones((3, 3, 3), np.uint8), np.ones((3, 3, 3), bool))
    (tmp_path / "1.log").write_bytes(pack(Entry({}, (far,))) + pack(entry(1)))
    found = replay(tmp_path, SHAPE)
    assert (found.n_entries, found.n_damaged) == (1, 1)


def test_a_full_disk_is_told_once_and_nothing_else_happens(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    journal = Journal(tmp_path / "file" / "journal", SHAPE, on_failed=told.append)
    for number in range(3):
        journal.append(entry(number))
    journal.close()
    journal.append(entry(3))
    journal.close()
    assert [error.errno for error in told] == [errno.ENOTDIR]


def test_a_lock_is_held_once(tmp_path):
    lock = FileLock(tmp_path / "alive")
    assert not lock.is_held_by_somebody()
    assert lock.hold()
    assert FileLock(tmp_path / "alive").is_held_by_somebody()
    assert not FileLock(tmp_path / "alive").hold()
    lock.release()
    assert not lock.is_held_by_somebody()


def work_on(services) -> None:
    position = services.session.volume.position_of
    services.segmenting.click(tuple(position((4, 10, 12))))
    services.session.work.labels.data[2, 5:9, 5:9] = 1
    services.correcting.take_stroke((slice(2, 3), slice(5, 9), slice(5, 9)))
    services.table.rename(1, "liver")
    services.correcting.toggle_reviewed(3)


def test_unsaved_work_is_offered_and_comes_back(services, volume):
    work_on(services)
    labels, before = services.session.work.labels, services.session.lesions
    services.recovery.close()
    again = build()
    [unsaved] = again.session.unsaved
    assert (unsaved.name, unsaved.n_lesions) == ("scan", 1)
    again.recovery.recover(unsaved)
    assert again.session.message.startswith("The scan 'scan' is not where it was")
    again.opening.choose(volume)
    again.recovery.recover(unsaved)
    assert np.array_equal(again.session.work.labels.data, labels.data)
    assert np.array_equal(again.session.work.labels.locked, labels.locked)
    assert again.session.work.labels.n_voxels.tolist() == labels.n_voxels.tolist()
    [lesion] = again.session.lesions
    assert (lesion.name, lesion.prompts) == ("liver", before[0].prompts)
    assert lesion.proposal.region == before[0].proposal.region
    assert np.array_equal(lesion.proposal.mask, before[0].proposal.mask)
    proposed = again.session.work.proposed_label_map(again.session.lesions).data
    assert np.array_equal(proposed, services.session.work.proposed_label_map(before).data)
    assert again.session.reviewed == {3}
    assert again.session.unsaved == ()
    assert again.session.message == "Recovered: 1 lesions of 'scan'."
    again.recovery.close()
    assert len(build().session.unsaved) == 1, "what was recovered is journalled again"


def test_undone_work_stays_undone(services, volume):
    work_on(services)
    services.correcting.undo()
    expected_labels = services.session.work.labels.data.copy()
    services.recovery.close()
    again = build()
    again.opening.choose(volume)
    again.recovery.recover(again.session.unsaved[0])
    assert np.array_equal(again.session.work.labels.data, expected_labels)
    assert not again.session.work.labels.locked.any()


def test_saved_discarded_and_running_work_is_not_offered(services, tmp_path):
    work_on(services)
    assert build().session.unsaved == (), "this session still runs"
    services.exporting.export(tmp_path / "out.nii.gz")
    services.recovery.close()
    assert build().session.unsaved == ()
    assert not list(services.recovery.root.iterdir()), "what was saved is cleared away"


def test_work_after_the_export_is_unsaved_again(services, tmp_path):
    work_on(services)
    services.exporting.export(tmp_path / "out.nii.gz")
    services.table.delete(1)
    services.segmenting.click(tuple(services.session.volume.position_of((4, 10, 12))))
    services.recovery.close()
    again = build()
    [unsaved] = again.session.unsaved
    again.recovery.discard(unsaved)
    assert again.session.unsaved == ()
    assert not unsaved.folder.exists()
    assert build().session.unsaved == ()


def test_another_scan_in_its_place_is_refused(tmp_path, model):
    scan = tmp_path / "ct.nii.gz"
    data = np.random.default_rng(0).integers(0, 99, (24, 20, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([0.8, 1.0, 3.0, 1.0])), scan)
    services = build()
    services.session.model = model
    services.opening.open(scan)
    services.segmenting.click(tuple(services.session.volume.position_of((4, 10, 12))))
    services.recovery.close()
    nib.save(nib.Nifti1Image(data + 1, np.diag([0.8, 1.0, 3.0, 1.0])), scan)
    again = build()
    again.recovery.recover(again.session.unsaved[0])
    assert again.session.message == "'ct' is no longer the scan that the unsaved work was done on."
    assert again.session.lesions == ()
    assert len(again.session.unsaved) == 1
    nib.save(nib.Nifti1Image(data, np.diag([0.8, 1.0, 3.0, 1.0])), scan)
    third = build()
    third.recovery.recover(third.session.unsaved[0])
    assert len(third.session.lesions) == 1


def recoverable(services, volume):
    """Another session with the same scan, which the first one left unsaved work on."""
    work_on(services)
    services.recovery.close()
    again = build()
    again.opening.choose(volume)
    return again


def paint(services, label: int, *region: slice) -> None:
    services.session.work.labels.data[region] = label
    services.correcting.take_stroke()


def test_what_is_recovered_never_merges_with_what_was_marked_since(services, volume):
    again = recoverable(services, volume)
    old, labels = services.session.work.labels, again.session.work.labels
    new = slice(2, 3), slice(6, 20), slice(0, 24)  # the second half of the old stroke lies in it
    paint(again, 1, *new)
    marked = labels.data.copy()
    again.correcting.toggle_reviewed(6)
    again.recovery.recover(again.session.unsaved[0])
    assert again.session.message == "Recovered: 1 lesions of 'scan', beside what was marked since."
    assert [(each.label, each.name) for each in again.session.lesions] == [(1, "Lesion 1"), (2, "liver")]
    assert again.session.lesions[1].prompts == services.session.lesions[0].prompts
    assert np.array_equal(labels.data == 2, old.data == 1), "all that was recovered is there"
    assert np.array_equal(labels.data == 1, (marked == 1) & (old.data == 0))
    assert again.session.reviewed == {3, 6}
    again.correcting.undo()
    assert np.array_equal(labels.data, marked)
    assert [each.name for each in again.session.lesions] == ["Lesion 1"]
    again.correcting.redo()
    again.recovery.close()
    [unsaved] = build().session.unsaved
    assert unsaved.n_lesions == 2


def test_what_was_erased_then_takes_nothing_away_that_was_marked_since(services, volume):
    services.segmenting.click(tuple(services.session.volume.position_of((4, 10, 12))))
    erased = slice(4, 5), slice(8, 12), slice(10, 14)
    paint(services, 0, *erased)
    services.recovery.close()
    again = build()
    again.opening.choose(volume)
    paint(again, 1, slice(4, 5), slice(8, 9), slice(10, 14))
    again.recovery.recover(again.session.unsaved[0])
    labels = again.session.work.labels
    assert (labels.data[4, 8, 10:14] == 1).all()
    assert (labels.data[4, 9:12, 10:14] == 0).all()
    assert labels.locked[erased].all()


def test_recovered_lesions_of_the_same_name_can_be_told_apart(services, volume):
    work_on(services)
    services.table.rename(1, "Lesion 1")
    services.recovery.close()
    again = build()
    again.opening.choose(volume)
    paint(again, 1, slice(7, 8), slice(0, 3), slice(0, 3))
    again.recovery.recover(again.session.unsaved[0])
    assert [each.name for each in again.session.lesions] == ["Lesion 1", "Lesion 1 (recovered)"]


def test_work_that_another_window_recovered_is_no_longer_there(services, volume):
    again = recoverable(services, volume)
    other = build()
    again.recovery.recover(again.session.unsaved[0])
    other.opening.choose(volume)
    paint(other, 1, slice(7, 8), slice(0, 3), slice(0, 3))
    lesions, marked = other.session.lesions, other.session.work.labels.data.copy()
    other.recovery.recover(other.session.unsaved[0])
    sentence = "The unsaved work on 'scan' is no longer there: another window has it."
    assert other.session.message == sentence
    assert other.session.lesions == lesions
    assert np.array_equal(other.session.work.labels.data, marked)
    assert other.session.unsaved == ()


def test_the_old_journal_stays_until_the_new_one_is_on_the_disk(services, volume, monkeypatch):
    again = recoverable(services, volume)
    [unsaved] = again.session.unsaved

    def fail(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", fail)
        again.recovery.recover(unsaved)
        again.recovery.close()
    assert len(again.session.lesions) == 1
    assert replay(unsaved.folder, volume.data.shape).n_entries


def test_a_journal_that_lost_what_is_said_of_it_is_offered_with_its_scan(services, volume):
    work_on(services)
    expected_labels = services.session.work.labels.data.copy()
    services.recovery.close()
    [folder] = services.recovery.root.iterdir()
    (folder / "about.json").write_bytes(b"")  # as a power cut leaves it
    again = build()
    [unsaved] = again.session.unsaved
    assert (unsaved.path, unsaved.fingerprint) == (None, services.session.work.fingerprint)
    again.opening.choose(volume)
    again.recovery.recover(unsaved)
    assert np.array_equal(again.session.work.labels.data, expected_labels)


@pytest.mark.parametrize("name", ["about.json", "1.log"])
def test_a_journal_that_cannot_be_read_now_is_kept(services, monkeypatch, name):
    work_on(services)
    services.recovery.close()
    kept = type(services.recovery.root).open

    def fail(path, *arguments, **settings):
        if path.name == name:
            raise OSError(errno.EIO, "Input/output error")
        return kept(path, *arguments, **settings)

    with monkeypatch.context() as disk:
        disk.setattr(recovery, "KEPT", recovery.KEPT * 0)
        disk.setattr("pathlib.Path.open", fail)
        build()
    [unsaved] = build().session.unsaved
    assert unsaved.name == "scan"


def test_a_journal_of_damaged_entries_alone_is_kept(services):
    work_on(services)
    services.recovery.close()
    [folder] = services.recovery.root.iterdir()
    (folder / "1.log").write_bytes(b"\0" * 4096)
    assert build().session.unsaved == ()
    assert (folder / "1.log").exists()


def test_a_closed_scan_ends_its_journal_and_the_same_scan_opened_again_begins_another(services, volume):
    work_on(services)
    services.opening.close(volume)
    [unsaved] = build().session.unsaved
    services.opening.choose(volume)
    paint(services, 7, slice(0, 1), slice(0, 2), slice(0, 2))
    services.recovery.close()
    assert len(build().session.unsaved) == 2
    assert not (replay(unsaved.folder, volume.data.shape).labels == 7).any()


def test_turning_to_another_scan_writes_nothing_of_it_into_the_journal(services, volume, another_volume):
    services.segmenting.click(tuple(volume.position_of((4, 10, 12))))
    services.correcting.toggle_reviewed(3)
    services.opening.choose(another_volume)
    paint(services, 9, slice(0, 1), slice(0, 2), slice(0, 2))
    services.opening.choose(volume)
    services.opening.choose(another_volume)
    services.recovery.close()
    [folder] = services.recovery.root.glob(f"{services.session.work.fingerprint}-*")
    found = replay(folder, another_volume.data.shape)
    assert found.n_damaged == 0
    assert [each["label"] for each in found.table["lesions"]] == [9]


def test_lesions_survive_json(services):
    work_on(services)
    [lesion] = services.session.lesions
    again = lesion_from(lesion_to(lesion))
    assert (again.label, again.name, again.colour, again.prompts) == (1, "liver", lesion.colour, lesion.prompts)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a matter of POSIX systems")
def test_kill_9_loses_nothing_that_is_older_than_a_moment(tmp_path):
    """A process that works on and on is killed; what it had done a second before is there."""
    script = textwrap.dedent(
        """
        import sys, time
        import numpy as np
        from napari_medseg.imaging.volume import Volume
        from napari_medseg.session.services import build
        affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
        services = build()
        services.opening.choose(Volume(np.zeros((6, 8, 10), np.int16), affine, name="scan"))
        for number in range(1, 100):
            services.session.work.labels.data.reshape(-1)[number] = 1
            services.correcting.take_stroke()
            print(number, flush=True)
            time.sleep(1.0 if number == 40 else 0.002)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "40":
                time.sleep(0.5)
                process.send_signal(signal.SIGKILL)
                break
    services = build()
    [unsaved] = services.session.unsaved
    assert replay(unsaved.folder, (6, 8, 10)).labels.reshape(-1)[1:41].all()
