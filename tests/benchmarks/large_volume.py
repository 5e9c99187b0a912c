"""A scan of 1024 x 1024 x 1500 int16 (3 GiB): seconds and memory to open it, milliseconds for a slice in each plane.

    xvfb-run -a python tests/benchmarks/large_volume.py [--shape 1500 1024 1024]

The scan is opened in napari with the dock, as a user opens it. A step is split into what happens at once (cutting the
slice, handing it to the graphics card) and the repainting, which costs little with a graphics card and fifty ms or
more without. Times are of the processor, so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import napari
import nibabel as nib
import numpy as np
from isal import isal_zlib
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).resolve().parent))
from imaging_speed import ct, peak_bytes

PLANES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def write_scan(path: Path, shape_zyx: tuple[int, int, int]) -> None:
    z, y, x = shape_zyx
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((x, y, z))
    header.set_sform(np.diag([-0.35, -0.35, 0.4, 1.0]), 1)
    header["vox_offset"] = 352
    few = ct((x, y, 4))
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(header.binaryblock + bytes(4)))
        for k in range(z):
            moved = np.roll(few[:, :, k % 4], (7 * k, 3 * k), (0, 1))
            file.write(packer.compress(np.ascontiguousarray(moved.T)))
        file.write(packer.flush())


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure_step(viewer: napari.Viewer, axis: int, index: int) -> tuple[float, float]:
    """Milliseconds of the processor for one slice: at once, and for the repainting."""
    began = time.process_time()
    viewer.dims.set_current_step(axis, index)
    cut = time.process_time()
    QApplication.instance().processEvents()
    return (cut - began) * 1e3, (time.process_time() - cut) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(1500, 1024, 1024), metavar=("Z", "Y", "X"))
    shape = tuple(parser.parse_args().shape)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_MEDSEG_HOME"] = folder
        path = Path(folder, "large.nii.gz")
        write_scan(path, shape)
        viewer = napari.Viewer()
        _, dock = viewer.window.add_plugin_dock_widget("napari-medseg", "MedSeg")
        QApplication.instance().processEvents()
        before, began = resident_bytes(), (time.perf_counter(), time.process_time())
        dock.services.opening.open(path)
        while dock.session.volume is None or dock.session.busy is not None:
            QApplication.instance().processEvents()
            time.sleep(0.05)
        wall, processor = time.perf_counter() - began[0], time.process_time() - began[1]
        data = dock.session.volume.data
        print(f"opened {data.shape} {data.dtype} in {wall:.1f} s ({processor:.1f} s of the processor)")
        share = (resident_bytes() - before) / data.nbytes
        print(f"memory: {share:.2f} of the voxels, {peak_bytes() / 2**30:.1f} GiB at most")
        for plane, order in PLANES.items():
            viewer.dims.order = order
            QApplication.instance().processEvents()
            steps = [measure_step(viewer, order[0], shape[order[0]] // 3 + 17 * n) for n in range(7)]
            cut, paint = np.median(steps, axis=0)
            print(f"{plane}: {cut:.0f} ms and {paint:.0f} ms of painting")
        viewer.close()


if __name__ == "__main__":
    main()
