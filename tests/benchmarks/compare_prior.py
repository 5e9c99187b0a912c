"""Two visits of patients with multiple sclerosis: where registration puts them, and what is marked as changed.

``python tests/benchmarks/compare_prior.py DATA``, DATA being the folder that holds ``ms_longitudinal``. The reference
of registration is the transforms that come with the scans (error: mean and largest distance over points of the head);
that of change the marked voxels ``gt``. Plain subtraction is of the registered visits, at the threshold that suits it
best, which it could not know; ours is at its default settings.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import cc3d
import numpy as np

from napari_medseg.evaluation.detection import detection_figures
from napari_medseg.evaluation.overlap import dice
from napari_medseg.followup.change import change_between
from napari_medseg.imaging.files import read_label_map, read_volume
from napari_medseg.imaging.orientation import resample_label_map, resample_volume
from napari_medseg.imaging.registration import body_of, register_rigid
from napari_medseg.terminal import aligned

LEAST_MM3 = 10.0
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_transform(path: Path) -> np.ndarray:
    """A transform of ITK's text format as a matrix on RAS+ mm: common space to the study's."""
    words = {line.split(":")[0]: line.split()[1:] for line in path.read_text().splitlines() if ":" in line}
    values, centre = (np.array(words[key], float) for key in ("Parameters", "FixedParameters"))
    matrix = np.eye(4)
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
    return _LPS @ matrix @ _LPS


def best_subtraction(difference: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Voxels beyond the threshold with the best Dice of forty."""
    thresholds = np.quantile(difference, 1 - np.geomspace(1e-5, 0.02, 40))
    return max((difference > t for t in thresholds), key=lambda mask: dice(mask, truth))


def figures(name: str, mask: np.ndarray, truth: np.ndarray, least_voxels: int) -> list[str]:
    lesions = detection_figures(mask, truth)
    large = cc3d.dust(truth, threshold=least_voxels, connectivity=26) if least_voxels > 1 else truth
    shown = (dice(mask, truth), lesions.recall, detection_figures(mask, large).recall, lesions.precision)
    return [name, *(f"{value:.2f}" for value in shown), str(lesions.n_reference), str(lesions.n_proposed)]


def compare(folder: Path) -> None:
    prior, current = (read_volume(folder / f"study{k}_FLAIR.nii.gz") for k in (1, 2))
    to_prior, to_current = (itk_transform(folder / f"study{k}_FLAIR_to_common_space.txt") for k in (1, 2))
    reference = to_current @ np.linalg.inv(to_prior)
    started, cpu = time.perf_counter(), time.process_time()
    found = register_rigid(prior, current)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    index = np.argwhere(body_of(np.asarray(prior.data, np.float32))[:, ::8, ::8]) * [1, 8, 8]
    points = prior.affine[:3, :3] @ index.T + prior.affine[:3, 3:]

    def apart(matrix: np.ndarray) -> str:
        off = matrix - reference
        errors = np.linalg.norm(off[:3, :3] @ points + off[:3, 3:], axis=0)
        return f"{errors.mean():.2f} mm (largest {errors.max():.2f})"

    print(f"\n{folder.name}: as the files say {apart(np.eye(4))}, registered {apart(found.matrix)}")
    print(f"similarity {found.similarity:.2f}, common part {found.overlap:.0%}, {cpu:.1f} s of CPU ({seconds:.0f} s)")
    marked = read_label_map(folder / "gt.nii.gz")
    truth = resample_label_map(replace(marked, affine=to_current @ marked.affine, grid=None), current).data > 0
    moved = replace(prior, affine=found.matrix @ prior.affine, grid=None)
    cpu = time.process_time()
    change = change_between(moved, current)
    cpu = time.process_time() - cpu
    plain = np.abs(current.data.astype(np.float32) - resample_volume(moved, current).data)
    head = body_of(np.asarray(current.data, np.float32))
    least = int(np.ceil(LEAST_MM3 / float(np.prod(current.spacing_mm))))
    lines = [
        ["", "Dice", "lesion recall", f"of {LEAST_MM3:g} mm³ and more", "lesion precision", "lesions", "marked"],
        figures("plain subtraction, its best threshold", best_subtraction(plain, truth), truth, least),
        figures("the same inside the head", best_subtraction(plain * head, truth), truth, least),
        figures("change mask", change.mask.data > 0, truth, least),
    ]
    print(aligned(lines))
    print(f"change map: {cpu:.1f} s of CPU")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(print("give the folder that holds ms_longitudinal: nothing was measured"))
    for each in sorted((Path(sys.argv[1]) / "ms_longitudinal").glob("patient*")):
        compare(each)
