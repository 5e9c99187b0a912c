"""Exports that are killed at any moment, and exports onto a full disk: the old file or the new one, whole, every time.

Label maps in volume formats have the same tests in ``test_interrupted_saving``; these are all the other files that a
mask leaves as.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork, SIGKILL and RLIMIT_FSIZE")

PREPARE = """
import os, pathlib, random, resource, signal, sys, time
import numpy as np
import napari_medseg as ms
from dicom_phantom import ct_slices, save_slices
from napari_medseg.evaluation.page import Section, write_csv, write_html
from napari_medseg.imaging.durable import write_bytes_durably
from napari_medseg.imaging.mask_fit import read_mask_of

folder = pathlib.Path(sys.argv[1])
scan = ms.read_volume(save_slices(folder.parent / "scan", ct_slices(np.full((5, 12, 14), 1000, np.uint16))))

def mask(*box):
    data = np.zeros(scan.data.shape, np.uint8)
    data[tuple(slice(*side) for side in box)] = 1
    return ms.LabelMap(data, scan.affine, {1: "lesion"}, scan.grid, metadata=scan.metadata)

old, new = mask((1, 3), (2, 6), (3, 8)), mask((0, 4), (1, 10), (1, 12))
rows = {id(each): [{"case": n, "dice": n / 7} for n in range(20 + int(each.data.sum()))] for each in (old, new)}
export = lambda key: lambda path, each: ms.write_label_map(path, each, format=key)
exports = {
    "seg.dcm": export("dicom-seg"),
    "contours.dcm": export("rtstruct"),
    "lesion.stl": export("stl"),
    "lesion.obj": export("obj"),
    "figures.csv": lambda path, each: write_csv(path, rows[id(each)]),
    "figures.html": lambda path, each: write_html(path, "Figures", [Section("Cases", rows=rows[id(each)])]),
    "about.json": lambda path, each: write_bytes_durably(path, str(rows[id(each)]).encode()),
}
names = list(exports)

def content(path):
    return read_mask_of(path, (scan,)).data.tobytes() if path.suffix == ".dcm" else path.read_bytes()

whole = {}
for name, write in exports.items():
    whole[name] = [content(write(folder / name, each)) for each in (new, old)]
    assert whole[name][0] != whole[name][1]
"""

KILL = """
random.seed(1)
longest = {}
for name, write in exports.items():
    began = time.perf_counter()
    write(folder / name, old)
    longest[name] = 2 * (time.perf_counter() - began)
seen = [0, 0]
for moment in range(100):
    # The two DICOM objects take half of the moments: they are the slowest to write.
    name = names[moment // 2 % 2] if moment % 2 else names[2 + moment // 2 % 5]
    child = os.fork()
    if child == 0:
        while True:
            for each in (new, old):
                exports[name](folder / name, each)
    time.sleep(random.uniform(0, longest[name]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen[whole[name].index(content(folder / name))] += 1
left = [entry.name for entry in folder.iterdir() if entry.name not in names]
assert all(each.startswith(".medseg-") for each in left), left
print(*seen)
"""

FULL = """
refused = 0
for name, write in exports.items():
    path = folder / name
    full_size = write(path, old).stat().st_size
    before = path.read_bytes()
    for limit in (0, 100, full_size // 2, full_size * 9 // 10):  # the length of a fresh UID varies
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(path, old)
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


def run(script: str, folder: Path) -> list[int]:
    (folder / "out").mkdir()
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", here + textwrap.dedent(PREPARE + script), str(folder / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


def test_a_kill_at_any_of_100_moments_leaves_the_old_or_the_new_export_whole(tmp_path: Path) -> None:
    old, new = run(KILL, tmp_path)
    assert old + new == 100
    assert old > 0
    assert new > 0


def test_a_full_disk_is_told_with_the_space_and_the_old_export_is_untouched(tmp_path: Path) -> None:
    assert run(FULL, tmp_path) == [28]
