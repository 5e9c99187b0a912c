"""Saves that are killed at any moment, and saves onto a full disk: the old mask or the new one, whole, every time."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, SIGKILL and RLIMIT_FSIZE")

PREPARE = """
import os, pathlib, random, resource, signal, sys, time
import numpy as np
import napari_medseg as ms

folder = pathlib.Path(sys.argv[1])
names = ("mask.nii", "mask.nii.gz", "mask.nrrd", "mask.seg.nrrd", "mask.mha")
rng = np.random.default_rng(0)
affine = np.diag([3.0, 1.25, 0.75, 1.0])
old, new = (
    ms.LabelMap(rng.integers(0, top, (24, 40, 50)).astype(np.uint8), affine, {1: "lesion"}) for top in (3, 9)
)
read = lambda path: ms.read_label_map(path).data.tobytes()
whole = [read(ms.write_label_map(folder / "a.nii", mask)) for mask in (old, new)]
(folder / "a.nii").unlink()
for name in names:
    ms.write_label_map(folder / name, old)
"""

KILL = """
random.seed(1)
seen = [0, 0]
for moment in range(100):
    path = folder / names[moment % len(names)]
    saved, saves = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        while True:
            for mask in (new, old):
                ms.write_label_map(path, mask)
                os.write(saves, b".")
    finished = moment % 4
    for _ in range(finished):
        os.read(saved, 1)
    a_save = (time.perf_counter() - began) / max(1, finished)
    time.sleep(random.uniform(0, 1.5 * a_save if finished else 0.005))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(saved)
    os.close(saves)
    seen[whole.index(read(path))] += 1
left = [entry.name for entry in folder.iterdir() if entry.name not in names]
assert all(name.startswith(".medseg-") for name in left), left
print(*seen)
"""

FULL = """
refused = 0
for name in names:
    path = folder / name
    full_size = ms.write_label_map(path, new).stat().st_size
    ms.write_label_map(path, old)
    before = path.read_bytes()
    for limit in (0, 1, 100, full_size // 2, full_size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            ms.write_label_map(path, new)
        except ms.MedSegError as error:
            sentence = str(error)
        else:
            sentence = "nothing was refused"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert sentence.startswith(f"{name} could not be saved") and " free, more than " in sentence, sentence
        assert "previous file is untouched" in sentence, sentence
        assert path.read_bytes() == before
        refused += 1
assert sorted(entry.name for entry in folder.iterdir()) == sorted(names)
print(refused)
"""


def run(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PREPARE + script), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


def test_a_kill_at_any_of_100_moments_leaves_the_old_or_the_new_mask_whole(tmp_path):
    old, new = run(KILL, tmp_path)
    assert old + new == 100
    assert old > 0
    assert new > 0


def test_a_full_disk_is_told_with_the_space_and_the_old_mask_is_untouched(tmp_path):
    assert run(FULL, tmp_path) == [25]
