"""Re-identification: is the same lesion found again after rotation, other contrast, noise and resampling?

    python tests/benchmarks/siamese.py [DATA] [--model FOLDER] [--rounds 1]

Gallery: lesions of patients that the network never saw (held-out patients of sarcoma and lung_nodules, and the changed
spots of ms_longitudinal). Query: the same lesion in a scan that was turned by up to 25 degrees about every axis,
resampled to other spacing, bent in contrast and made noisier. Recall at 1: how often the most similar lesion of the
gallery is the right one; with masks, and from clicks alone with the diameter that the gallery knows. Beside it the same
with plain correlation of the crops.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_medseg import LabelMap, Volume, read_label_map, read_volume
from napari_medseg.classification import Subject, load_matcher
from napari_medseg.classification.excerpt import excerpt
from napari_medseg.classification.subject import bounding_box
from napari_medseg.evaluation.bootstrap import bootstrap_interval
from napari_medseg.learning.samples import find_pairs, is_held_out
from napari_medseg.networks.channels import IMAGE

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
_MOST_MS, _LEAST_VOXELS = 16, 8


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    subject: Subject
    group: str


def gallery(data: Path) -> list[Lesion]:
    """Lesions of patients that no weight has seen."""
    found = []
    for image, mask, group, patient in find_pairs(data, ("sarcoma", "lung_nodules")):
        if is_held_out(patient):
            subject = Subject.lesion(read_volume(image), read_label_map(mask), patient=patient)
            found.append(Lesion(excerpt(subject), group))
    for folder in sorted((data / "ms_longitudinal").glob("patient*")):
        found += [Lesion(subject, "ms") for subject in changed_spots(folder)]
    return found


def changed_spots(folder: Path) -> list[Subject]:
    """The largest changed spots of a patient, brought from the common space onto the first visit's grid."""
    import SimpleITK

    path = folder / "study1_FLAIR.nii.gz"
    to_common = SimpleITK.ReadTransform(str(folder / "study1_FLAIR_to_common_space.txt")).GetInverse()
    truth, visit = SimpleITK.ReadImage(str(folder / "gt.nii.gz")), SimpleITK.ReadImage(str(path))
    moved = SimpleITK.Resample(truth, visit, to_common, SimpleITK.sitkNearestNeighbor)
    with tempfile.TemporaryDirectory() as place:
        SimpleITK.WriteImage(SimpleITK.Cast(moved, SimpleITK.sitkUInt8), str(Path(place) / "mask.nii.gz"))
        scan, mask = read_volume(path), read_label_map(Path(place) / "mask.nii.gz")
    parts = cc3d.connected_components(mask.data > 0, connectivity=26)
    sizes = np.bincount(parts.ravel())[1:]
    chosen = [k + 1 for k in np.argsort(-sizes)[:_MOST_MS] if sizes[k] >= _LEAST_VOXELS]
    masks = [LabelMap((parts == k).astype(np.uint8), scan.affine) for k in chosen]
    return [excerpt(Subject.lesion(scan, mask, patient=folder.name)) for mask in masks]


def seen_again(subject: Subject, rng: np.random.Generator) -> Subject:
    """The same lesion in another scan."""
    scan, mask = subject.scans[0], subject.marked()
    box = bounding_box(mask)
    centre = np.array([(part.start + part.stop - 1) / 2 for part in box])
    old = np.array(scan.spacing_mm)
    new = old * rng.uniform(0.8, 1.5, 3)
    shape = np.maximum(np.ceil(np.array(mask.shape) * old / new), 4).astype(int)
    turn = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
    matrix = np.diag(1 / old) @ turn @ np.diag(new)
    offset = centre - matrix @ ((shape - 1) / 2 + rng.uniform(-1, 1, 3))
    data = ndimage.affine_transform(scan.data.astype(np.float32), matrix, offset, tuple(shape), order=1, mode="nearest")
    marked = ndimage.affine_transform(mask.astype(np.float32), matrix, offset, tuple(shape), order=1) > 0.5
    if not marked.any():
        marked = ndimage.affine_transform(mask.astype(np.float32), matrix, offset, tuple(shape), order=1) > 0.05
    low, high = np.percentile(data, (0.5, 99.5))
    unit = np.clip((data - low) / max(high - low, 1e-6), 0, 1) ** float(np.exp(rng.uniform(-0.35, 0.35)))
    unit += rng.normal(0, 0.04, unit.shape)
    affine = np.diag([*new, 1.0])
    return Subject.lesion(
        Volume(unit.astype(np.float32), affine, "again", scan.modality), LabelMap(marked.astype(np.uint8), affine)
    )


def clicked(subject: Subject) -> Subject:
    scan = subject.scans[0]
    x, y, z = scan.position_of(subject.centre())
    return Subject.at(scan, (float(x), float(y), float(z)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--model", type=Path, help="folder of the Siamese network (default: the bundled one)")
    parser.add_argument("--rounds", type=int, default=1, help="queries a lesion (default: 1)")
    options = parser.parse_args()
    if not (options.data / "sarcoma").is_dir():
        print(f"skipped: there are no labelled scans in {options.data}")
        return
    start, matcher = time.process_time(), load_matcher(options.model)
    lesions = gallery(options.data)
    known = matcher.embed_all([lesion.subject for lesion in lesions])
    crops = np.stack([matcher.inputs(lesion.subject)[IMAGE].ravel() for lesion in lesions])
    crops /= np.linalg.norm(crops, axis=1, keepdims=True)
    groups = np.array([lesion.group for lesion in lesions])
    print(f"{len(lesions)} lesions: " + ", ".join(f"{(groups == g).sum()} {g}" for g in dict.fromkeys(groups)))
    rng = np.random.default_rng(0)
    hits: dict[str, list[bool]] = {"Siamese, mask": [], "Siamese, click": [], "correlation of crops": []}
    people = []
    for _ in range(options.rounds):
        for k, lesion in enumerate(lesions):
            again = seen_again(lesion.subject, rng)
            size = lesion.subject.diameter_mm()
            hits["Siamese, mask"].append(int((known @ matcher.embed(again)).argmax()) == k)
            hits["Siamese, click"].append(int((known @ matcher.embed(clicked(again), diameter_mm=size)).argmax()) == k)
            hits["correlation of crops"].append(int((crops @ matcher.inputs(again)[IMAGE].ravel()).argmax()) == k)
            people.append(lesion.subject.patient)
    for name, found in hits.items():
        values = np.array(found)
        interval = bootstrap_interval(lambda chosen, v=values: float(v[chosen].mean()), people)
        each = {g: values[np.tile(groups, options.rounds) == g].mean() for g in dict.fromkeys(groups)}
        print(f"{name:24s} recall at 1 {interval}   " + "  ".join(f"{g} {v:.2f}" for g, v in each.items()))
    print(f"{time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
