import json
import os
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_medseg.errors import LearningError
from napari_medseg.imaging.files import read_volume
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning import corrections as corrections_module
from napari_medseg.learning.corrections import Correction, CorrectionStore, content_hash
from napari_medseg.learning.corrections_folder import choose_corrections_folder, corrections_folder, why_gone
from napari_medseg.segmentation.prompts import Box, Click, Lasso, Scribble

PROMPTS = (
    Click((1.0, 2.0, 3.0)),
    Click((4.0, 5.0, 6.5), positive=False),
    Box((0.0, 0.0, 0.0), (9.0, 8.0, 7.0)),
    Scribble(((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))),
    Lasso(((1.0, 1.0, 1.0), (2.0, 2.0, 1.0), (1.0, 2.0, 1.0)), positive=False),
)


@pytest.fixture
def scan(tmp_path):
    """A scan on disk: unequal axes, anisotropic, stored in another order than memory's."""
    rng = np.random.default_rng(0)
    affine = np.array([[0, -1.5, 0, 20], [0.8, 0, 0, -9], [0, 0, 3.0, 4], [0, 0, 0, 1]], float)
    path = tmp_path / "scan of somebody.nii.gz"
    nib.Nifti1Image(rng.integers(0, 1000, (10, 8, 6)).astype(np.int16), affine).to_filename(path)
    return read_volume(path)


def correction_of(volume, **fields):
    corrected = np.zeros(volume.data.shape, np.uint8)
    corrected[1:4, 2:5, 3:7] = 2
    proposed = np.zeros_like(corrected)
    proposed[1:3, 2:5, 3:7] = 2
    names = {2: "tumour"}
    return Correction(
        volume=volume,
        proposed=LabelMap(proposed, volume.affine, names, grid=volume.grid),
        corrected=LabelMap(corrected, volume.affine, names, grid=volume.grid),
        **fields,
    )


def test_a_scan_that_changed_before_it_was_accepted_is_kept_as_it_was_seen(scan, tmp_path):
    image = nib.load(scan.path)
    nib.Nifti1Image(np.asarray(image.dataobj) + 5, image.affine).to_filename(scan.path)
    CorrectionStore(tmp_path / "corrections").add(correction_of(scan))
    (stored,) = CorrectionStore(tmp_path / "corrections").list()
    assert stored.scan.path is None
    again = stored.load()
    assert np.array_equal(again.volume.data, scan.data)
    assert np.allclose(again.volume.affine, scan.affine)


def test_a_correction_comes_back_as_it_was_stored(scan, tmp_path):
    painted = np.zeros(scan.data.shape, bool)
    painted[2, 3, 4] = True
    correction = correction_of(
        scan,
        reviewed=(1, 2, 4),
        corrected_voxels=painted,
        prompts=PROMPTS,
        model="click 3",
        seconds=41.5,
        edited_voxels=12,
    )
    folder = CorrectionStore(tmp_path / "corrections").add(correction)
    (stored,) = CorrectionStore(tmp_path / "corrections").list()
    again = stored.load()
    assert stored.folder == folder
    assert {p.name for p in folder.iterdir()} == {
        "scan.json",
        "card.json",
        "corrected.nii.gz",
        "proposed.nii.gz",
        "painted.nii.gz",
    }
    assert np.array_equal(again.volume.data, scan.data)
    assert np.array_equal(again.corrected.data, correction.corrected.data)
    assert np.array_equal(again.proposed.data, correction.proposed.data)
    assert np.array_equal(again.corrected_voxels, painted)
    assert dict(again.corrected.names) == {2: "tumour"}
    for field in ("reviewed", "axis", "prompts", "model", "seconds", "edited_voxels", "pinned"):
        assert getattr(again, field) == getattr(correction, field), field


def test_masks_in_the_folder_lie_on_the_scans_own_grid(scan, tmp_path):
    folder = CorrectionStore(tmp_path / "c").add(correction_of(scan))
    mask, image = nib.load(folder / "corrected.nii.gz"), nib.load(scan.path)
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, image.affine)
    assert json.loads((folder / "scan.json").read_text())["path"] == str(scan.path)


def test_a_scan_without_a_file_is_kept_and_its_reviewed_slices_stay_the_same_slices(tmp_path):
    rng = np.random.default_rng(1)
    affine = np.array([[0, 2.0, 0, 5], [0, 0, 1.0, 1], [-3.0, 0, 0, 60], [0, 0, 0, 1]], float)  # not in memory's order
    volume = Volume(rng.normal(size=(6, 8, 10)).astype(np.float32), affine)
    correction = correction_of(volume, reviewed=(1, 2), axis=0)
    CorrectionStore(tmp_path / "c").add(correction)
    again = CorrectionStore(tmp_path / "c").list()[0].load()

    def where(c, mask):
        index = np.c_[np.argwhere(mask), np.ones(int(mask.sum()))]
        return {tuple(p) for p in np.round(index @ c.volume.affine.T, 3)[:, :3]}

    assert where(again, again.seen()) == where(correction, correction.seen())
    assert where(again, again.corrected.data == 2) == where(correction, correction.corrected.data == 2)
    assert again.corrected.data.sum() == 2 * 36


def test_the_newest_correction_of_a_scan_replaces_older_ones(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    store.add(correction_of(scan, seconds=1.0))
    store.add(correction_of(scan, seconds=2.0))
    assert [s.card.seconds for s in store.list()] == [2.0]
    assert [s.card.seconds for s in store.list(superseded=True)] == [1.0, 2.0]


def test_a_changed_or_missing_scan_is_refused(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    store.add(correction_of(scan))
    image = nib.load(scan.path)
    nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine).to_filename(scan.path)
    with pytest.raises(LearningError, match="is not the scan that correction-0001 was made on"):
        store.list()[0].load()
    scan.path.unlink()
    with pytest.raises(LearningError, match="is no longer at"):
        store.list()[0].load()


def test_a_snapshot_does_not_see_later_edits(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    store.add(correction_of(scan))
    snapshot = store.snapshot(tmp_path / "snapshot")
    store.pin("correction-0001")
    (store.root / "correction-0001" / "corrected.nii.gz").unlink()
    assert not snapshot.list()[0].card.pinned
    assert snapshot.list()[0].load().corrected.data.sum() == 2 * 36
    assert store.list()[0].card.pinned


def test_a_half_written_or_damaged_folder_is_not_listed(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    store.add(correction_of(scan))
    (store.root / ".adding-abc").mkdir()
    (store.root / "correction-0007").mkdir()
    (store.root / "correction-0007" / "card.json").write_text("{")
    assert [s.id for s in store.list()] == ["correction-0001"]
    assert store.add(correction_of(scan)).name == "correction-0008"


def test_a_failed_add_leaves_nothing(scan, tmp_path, monkeypatch):
    store = CorrectionStore(tmp_path / "c")

    def full(path, mask):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_medseg.imaging.files.write_label_map", full)
    with pytest.raises(OSError, match="No space"):
        store.add(correction_of(scan))
    assert list(store.root.iterdir()) == []


def test_a_correction_that_cannot_be_read_is_told_and_no_training_starts_without_it(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    pinned = store.add(correction_of(scan, pinned=True))
    other = store.add(correction_of(Volume(scan.data + 1, scan.affine)))
    assert (store.unreadable(), store.trouble()) == ((), "")
    card = (pinned / "card.json").read_bytes()
    (pinned / "card.json").write_bytes(b"")
    (store.root / "correction-0003-2").mkdir()
    assert (store.list()[0].id, store.unreadable()) == (other.name, (pinned,))
    said = "cannot be read, and may be pinned: restore it or move it away, as no training starts before that"
    assert store.trouble() == f"{pinned} {said}"
    with pytest.raises(LearningError, match="correction-0001 cannot be read, and may be pinned: restore it or move"):
        store.snapshot(tmp_path / "snapshot")
    assert not (tmp_path / "snapshot").exists()
    (other / "scan.json").unlink()
    assert f"{pinned} and 1 more cannot be read" in store.trouble()
    (pinned / "card.json").write_bytes(card)
    store.remove(other.name)
    assert [stored.card.pinned for stored in store.snapshot(tmp_path / "snapshot").list()] == [True]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_corrections_in_a_shared_folder_can_be_read_by_colleagues(scan, tmp_path):
    before = os.umask(0o027)
    try:
        folder = CorrectionStore(tmp_path / "c").add(correction_of(scan))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_remove(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    name = store.add(correction_of(scan)).name
    with pytest.raises(LearningError, match=r"no correction '\.\./c'"):
        store.remove("../c")
    kept = store.remove(name)
    assert store.list() == ()
    assert (kept / "corrected.nii.gz").is_file(), "nothing is lost"
    again = CorrectionStore(store.root).add(correction_of(scan))
    assert again.name == "correction-0002", "a number is not given again"
    store.remove(again.rename(again.with_name(name)).name)
    assert sorted(p.name for p in kept.parent.iterdir()) == [name, f"{name}-2"]
    assert store.add(correction_of(scan)).name == "correction-0002"


def test_a_pinned_scan_stays_pinned_when_it_is_corrected_again(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    store.pin(store.add(correction_of(scan)).name)
    store.add(correction_of(scan))
    assert [(stored.id, stored.card.pinned) for stored in store.list()] == [("correction-0002", True)]


def test_a_folder_that_was_copied_with_its_scans_still_teaches(scan, tmp_path):
    store = CorrectionStore(tmp_path / "c")
    store.add(correction_of(scan))
    copied = CorrectionStore(shutil.copytree(store.root, tmp_path / "elsewhere"))
    scan.path.rename(copied.root / scan.path.name)
    assert np.array_equal(copied.list()[0].load().volume.data, scan.data)
    snapshot = copied.snapshot(tmp_path / "snapshot")
    assert np.array_equal(snapshot.list()[0].load().volume.data, scan.data)


def test_masks_of_another_shape_are_refused(scan):
    wrong = LabelMap(np.zeros((6, 8, 11), np.uint8), scan.affine)
    with pytest.raises(LearningError, match=r"has shape \(6, 8, 11\)"):
        Correction(scan, None, wrong)


def test_the_hash_follows_voxels_and_place_not_the_name(scan):
    assert content_hash(scan) == content_hash(replace(scan, name="other", path=None))
    moved = scan.affine.copy()
    moved[0, 3] += 1
    assert content_hash(scan) != content_hash(replace(scan, affine=moved))
    assert content_hash(scan) != content_hash(replace(scan, data=scan.data + 1))


def test_a_folder_on_a_drive_that_was_unplugged_is_not_made_anew(scan, tmp_path):
    store = CorrectionStore(tmp_path / "stick" / "corrections")
    with pytest.raises(LearningError, match="is not there or cannot be read: bring it back, or choose another"):
        store.add(correction_of(scan))
    assert not (tmp_path / "stick").exists()
    (tmp_path / "stick").mkdir()
    assert store.add(correction_of(scan)).is_dir()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_MEDSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_chosen_folder_that_is_gone_is_never_made_anew_and_the_own_one_is(scan, tmp_path, home):
    own = CorrectionStore(corrections_folder())
    assert why_gone(own.root) == ""
    assert own.add(correction_of(scan)).parent == home / "corrections"
    for shared in (tmp_path / "shared", home / "chosen"):
        shared.mkdir()
        choose_corrections_folder(shared)
        store = CorrectionStore(corrections_folder())
        assert store.trouble() == ""
        shared.rmdir()
        with pytest.raises(LearningError, match=f"{shared.name}, is not there or cannot be read: bring it back"):
            store.add(correction_of(scan))
        with pytest.raises(LearningError, match="is not there"):
            store.snapshot(tmp_path / "snapshot")
        assert "is not there" in store.trouble()
        assert not shared.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows has not")
@pytest.mark.parametrize("name", [b"ends in a space ", b"ends in a line\n", b"k\xf6rper"])
def test_a_folder_of_any_name_is_chosen(scan, tmp_path, home, name):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    choose_corrections_folder(folder)
    assert corrections_folder() == folder
    (CorrectionStore(corrections_folder()).add(correction_of(scan)) / "card.json").write_text("")
    assert "correction-0001 cannot be read" in CorrectionStore(folder).trouble().encode("utf-8").decode()


def test_another_folder_that_is_chosen_while_a_correction_is_written_is_for_the_next(scan, tmp_path, monkeypatch):
    store, write = CorrectionStore(tmp_path / "a"), corrections_module._write

    def slow(folder, correction):
        write(folder, correction)
        store.root = tmp_path / "b"

    monkeypatch.setattr(corrections_module, "_write", slow)
    assert store.add(correction_of(scan)) == tmp_path / "a" / "correction-0001"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["correction-0001"]
