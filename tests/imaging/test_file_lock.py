"""One at a time, and no lock outlives its process."""

import errno
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from napari_medseg.errors import ImagingError, JobFailed
from napari_medseg.imaging.file_lock import FileLock, holding

HOLD = """
import sys, time
from pathlib import Path
from napari_medseg.imaging.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.hold(), flush=True)
time.sleep(60)
"""


def test_a_killed_process_holds_no_lock(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        with pytest.raises(JobFailed, match="busy"), holding(path, otherwise=JobFailed("busy")):
            pass
        process.kill()
    with holding(path, otherwise=JobFailed("busy"), wait_s=5.0):
        assert FileLock(path).is_held_by_somebody()


def test_a_lock_is_given_back_after_an_error_and_others_may_wait_for_it(tmp_path):
    path, inside = tmp_path / "made" / "lock", threading.Event()

    def work():
        with suppress(ValueError), holding(path, otherwise=JobFailed("busy")):
            inside.set()
            raise ValueError

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    with holding(path, otherwise=JobFailed("busy"), wait_s=10.0):
        thread.join()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ImagingError, match=r"file cannot be changed .*choose another folder"),
        holding(tmp_path / "file" / "lock", otherwise=JobFailed("busy")),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="flock is a matter of POSIX systems")
def test_a_file_system_without_locks_keeps_nobody_from_working(tmp_path, monkeypatch):
    def refuse(_file, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with holding(tmp_path / "lock", otherwise=JobFailed("busy")):
        assert FileLock(tmp_path / "lock").is_held_by_somebody()
