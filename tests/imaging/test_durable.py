"""Saves that are interrupted, that do not fit, and that read back wrong."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from napari_medseg.errors import ImagingError
from napari_medseg.imaging import durable
from napari_medseg.imaging.durable import write_bytes_durably, write_durably


def test_the_new_content_replaces_the_old_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "case.json"
    path.write_text("old")
    assert write_bytes_durably(path, b"new") == path
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["case.json"]


def test_a_failing_verification_keeps_the_old_file(tmp_path):
    path = tmp_path / "mask.nii.gz"
    path.write_text("old")

    def verify(temporary: Path) -> None:
        raise ImagingError(f"{temporary.name} has a voxel that differs")

    with pytest.raises(ImagingError, match=r"^mask\.nii\.gz has a voxel that differs"):
        write_durably(path, lambda temporary: temporary.write_text("new") and None, verify)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "mask.nii.gz"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_durably(path, write, lambda temporary: None)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("Doe.John.1970.nii.gz", ".nii.gz"),
        ("doe_john.seg.nrrd", ".seg.nrrd"),
        ("scan.doe", ""),
        ("doe", ""),
        ("DOE.MHA", ".mha"),
    ],
)
def test_the_temporary_name_ends_like_the_file_and_names_no_patient(tmp_path, name, ending):
    seen: list[Path] = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        temporary.write_bytes(b"x")

    write_durably(tmp_path / name, write, lambda temporary: None)
    assert seen[0].parent == tmp_path
    assert seen[0].name.endswith(ending)
    assert "doe" not in seen[0].name.lower()


def test_a_full_disk_names_the_file_and_the_space(tmp_path):
    path = tmp_path / "mask.nii"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"x" * 2048)
        raise OSError(28, "No space left on device")

    with pytest.raises(ImagingError, match=r"mask.nii could not be saved.*free, more than 2.0 KiB needed.*untouched"):
        write_durably(path, write, lambda temporary: None)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_and_a_folder_as_target_are_named(tmp_path):
    with pytest.raises(ImagingError, match="nowhere does not exist"):
        write_bytes_durably(tmp_path / "nowhere" / "mask.nii", b"")
    with pytest.raises(ImagingError, match="is a folder"):
        write_bytes_durably(tmp_path, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
def test_a_link_is_followed_and_the_mode_is_kept(tmp_path):
    real = tmp_path / "real.json"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(real)
    write_bytes_durably(link, b"new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_what_a_killed_save_left_is_removed_after_a_day(tmp_path):
    old, fresh, foreign = (tmp_path / name for name in (".medseg-12-ab.nii.gz", ".medseg-13-cd.nii.gz", ".medseg-log"))
    for path in (old, fresh, foreign):
        path.write_text("x")
    long_ago = time.time() - durable._STALE_AFTER_S - 60
    os.utime(old, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    write_bytes_durably(tmp_path / "a.json", b"{}")
    assert not old.exists()
    assert fresh.exists()
    assert foreign.exists()
