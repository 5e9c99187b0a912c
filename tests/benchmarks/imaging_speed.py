"""Speed and memory of NIfTI against nibabel, as ratios in one run: ``python tests/benchmarks/imaging_speed.py``.

Each row is measured in its own process, the two sides in turn, best of several; memory is the peak beyond the process
before reading. A mask is timed with what a user waits for: written, synced to disk, read back and compared.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

SHAPE = (512, 512, 600)
LIMITS = {
    "read int16 .nii.gz, against get_fdata": 0.35,
    "read int16 .nii.gz, against asarray(dataobj)": 0.35,
    "read label map .nii.gz": None,
    "write label map .nii.gz, C order": 0.1,
    "write label map .nii.gz, Fortran order": None,
    "read 1024 x 1024 x 300 int16 .nii.gz": None,
    "peak memory of reading / voxels": 2.2,
}


def ct(shape: tuple[int, int, int]) -> np.ndarray:
    """A CT-like scan: air, a body with organs of smooth texture, and the noise of a soft-tissue kernel."""
    rng = np.random.default_rng(0)
    i, j = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = (i / 0.8) ** 2 + (j / 0.6) ** 2 < 1
    texture = gaussian_filter(rng.normal(0, 1, shape[:2]), 9) * 900
    noise = gaussian_filter(rng.normal(0, 1, shape[:2]), 1) * 40
    data = np.empty(shape, np.int16, order="F")
    for k in range(shape[2]):
        inside = 40 + np.roll(texture, k, axis=0) + np.roll(noise, 7 * k, axis=1)
        data[:, :, k] = np.where(body, inside, -1000)
    return data


def mask(shape: tuple[int, int, int]) -> np.ndarray:
    """A few round lesions and a large organ, in C order as numpy makes arrays."""
    data = np.zeros(shape, np.uint8)
    rng = np.random.default_rng(1)
    centres = [rng.integers(60, np.array(shape) - 60) for _ in range(12)]
    for label, (i, j, k) in enumerate(centres, start=1):
        radius = 55 if label == 1 else int(rng.integers(4, 20))
        box = np.ogrid[-radius : radius + 1, -radius : radius + 1, -radius : radius + 1]
        ball = box[0] ** 2 + box[1] ** 2 + box[2] ** 2 <= radius**2
        part = data[i - radius : i + radius + 1, j - radius : j + radius + 1, k - radius : k + radius + 1]
        part[ball] = label
    return data


def best(ours, theirs, repeats: int = 5) -> list[float]:
    """Seconds of ours and theirs by the clock and of the processor, best of several, in turn, so that a busy moment
    hits both."""
    runs = []
    for _ in range(repeats):
        run = []
        for action in (ours, theirs):
            began = time.perf_counter(), time.process_time()
            action()
            run.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        runs.append([run[0][0], run[1][0], run[0][1], run[1][1]])
    return [min(column) for column in zip(*runs, strict=True)]


def peak_bytes() -> int:
    """Most memory this process ever held (Linux); what its parent held does not count."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure(row: str, folder: Path) -> list[float]:
    """What `best` gives; bytes for the row on memory."""
    import napari_medseg as ms

    scan, large, labels = (folder / name for name in ("ct.nii.gz", "large.nii.gz", "mask.nii.gz"))
    if "peak memory" in row:
        before = peak_bytes()
        volume = ms.read_volume(scan)
        return [float(peak_bytes() - before), float(volume.data.nbytes)] * 2
    if "get_fdata" in row:
        return best(lambda: ms.read_volume(scan), lambda: nib.load(scan).get_fdata(), 3)
    if "asarray" in row:
        return best(lambda: ms.read_volume(scan), lambda: np.asarray(nib.load(scan).dataobj))
    if "read 1024" in row:
        return best(lambda: ms.read_volume(large), lambda: np.asarray(nib.load(large).dataobj), 3)
    if "read label" in row:
        return best(lambda: ms.read_label_map(labels), lambda: np.asarray(nib.load(labels).dataobj))
    label_map = ms.read_label_map(labels)
    order = "C" if "C order" in row else "F"
    image = nib.Nifti1Image(np.asarray(nib.load(labels).dataobj, order=order), label_map.grid.affine)
    return best(
        lambda: ms.write_label_map(folder / "ours.nii.gz", label_map), lambda: nib.save(image, folder / "theirs.nii.gz")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, Path(options.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        nib.save(nib.Nifti1Image(ct(SHAPE), np.diag([-0.7, -0.7, 1.0, 1.0])), Path(folder) / "ct.nii.gz")
        nib.save(nib.Nifti1Image(ct((1024, 1024, 300)), np.eye(4)), Path(folder) / "large.nii.gz")
        nib.save(nib.Nifti1Image(mask(SHAPE), np.diag([-0.7, -0.7, 1.0, 1.0])), Path(folder) / "mask.nii.gz")
        print(f"{'best of several':46}{'ours':>12}{'nibabel':>12}{'ratio':>8}{'CPU ratio':>11}{'goal':>8}")
        for row, limit in LIMITS.items():
            command = [sys.executable, __file__, "--row", row, "--folder", folder]
            done = subprocess.run(command, capture_output=True, check=True, text=True)
            ours, theirs, our_cpu, their_cpu = json.loads(done.stdout)
            unit, scale = ("MiB", 2**-20) if "memory" in row else ("ms", 1e3)
            figures = f"{ours * scale:8.0f} {unit:<3}{theirs * scale:8.0f} {unit:<3}{ours / theirs:8.2f}"
            print(f"{row:46}{figures}{our_cpu / their_cpu:11.2f}{'' if limit is None else f'{limit:.2f}':>8}")


if __name__ == "__main__":
    main()
