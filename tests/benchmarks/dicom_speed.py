"""Seconds to read a DICOM series and to list a large folder, as ratios against SimpleITK in the same run.

    python tests/benchmarks/dicom_speed.py [--slices 600] [--files 5000] [--runs 3]

Writes synthetic 512 x 512 CT slices into a temporary folder. Both sides read files that the system has cached.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from napari_medseg.errors import Cancelled
from napari_medseg.imaging import dicom

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "imaging"))
from dicom_phantom import ct_slices, save_slices

_PEAK = """
import re, sys
from pathlib import Path
from napari_medseg.errors import Cancelled
from napari_medseg.imaging import dicom
def peak_bytes():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak_bytes()
volume = dicom.read_series(sys.argv[1])[0]
print((peak_bytes() - before) / volume.data.nbytes)
"""


def best(ours: Callable[[], object], theirs: Callable[[], object], runs: int) -> list[float]:
    """Seconds of ours and theirs by the clock, then of the processor; best of several, in turn, so that a busy moment
    hits both."""
    rows = []
    for _ in range(runs):
        row = []
        for action in (ours, theirs):
            began = time.perf_counter(), time.process_time()
            action()
            row.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        rows.append([row[0][0], row[1][0], row[0][1], row[1][1]])
    return [min(column) for column in zip(*rows, strict=True)]


def tell(what: str, figures: list[float], goal: str = "") -> None:
    ours, theirs, our_cpu, their_cpu = figures
    print(
        f"{what}: {ours:.2f} s, SimpleITK {theirs:.2f} s, ratio {ours / theirs:.2f}{goal};"
        f" processor {our_cpu:.2f} s and {their_cpu:.2f} s, ratio {our_cpu / their_cpu:.2f}"
    )


def read_with_simpleitk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def list_with_simpleitk(folder: Path) -> None:
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--slices", type=int, default=600)
    arguments.add_argument("--files", type=int, default=5000)
    arguments.add_argument("--runs", type=int, default=3)
    options = arguments.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        voxels = rng.integers(0, 4096, (options.slices, 512, 512)).astype(np.uint16)
        series = Path(folder, "series")
        save_slices(series, ct_slices(voxels, spacing_mm=(1.0, 0.7, 0.7)))
        figures = best(lambda: dicom.read_series(series), lambda: read_with_simpleitk(series), options.runs)
        tell(f"{options.slices} slices", figures, " (goal 0.5)")
        # Linux only: the highest memory of a process of its own.
        peak = subprocess.run([sys.executable, "-c", _PEAK, str(series)], capture_output=True, text=True, check=True)
        print(f"peak memory of reading over that of the voxels: {float(peak.stdout):.2f} (goal 2.2)")
        study = Path(folder, "study")
        for number in range(20):
            small = np.zeros((options.files // 20, 64, 64), np.uint16)
            save_slices(study / f"series{number}", ct_slices(small, spacing_mm=(1.0, 0.7, 0.7)))
        shares: list[float] = []
        figures = best(
            lambda: dicom.list_series(study, progress=shares.append),
            lambda: [list_with_simpleitk(part) for part in study.iterdir()],
            options.runs,
        )
        tell(f"{options.files} headers", figures)
        asked = iter([False] * 100 + [True])
        began = time.perf_counter()
        with contextlib.suppress(Cancelled):
            dicom.list_series(study, should_stop=lambda: next(asked))
        seconds = time.perf_counter() - began
        print(f"progress was told {len(shares) // options.runs} times; cancelled after {seconds:.2f} s")


if __name__ == "__main__":
    main()
