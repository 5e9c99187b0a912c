"""Study-level questions to the aggregation CNN, five folds by patient: accuracy with interval, and the deciding slice.

    python tests/benchmarks/aggregation.py [DATA] [--task presence|modality|part] [--inputs PET] [--least-uptake 0]
        [--stacks 32]

DATA holds sarcoma, and for ``part`` lung_nodules.

``presence``: does a stack of slices hold a tumour? Each end of an examination gives two stacks of equally many slices:
those beyond the tumour, and evenly chosen ones from the scan's end to the tumour's middle. Only the answer for the
whole stack is learned from. The deciding slice is right where it shows tumour; next to it stands what chance would
reach. ``--least-uptake 3`` keeps the patients whose tumour is brighter than its surroundings in PET (95th percentile of
the standardised uptake value inside it).

``modality``: is it CT, MR or PET? Every stack is a cube of 120 mm of the same 25 limbs on the same grid of 2 mm,
normalised by itself and without its modality, so that neither shape, spacing, units nor the patient tell.

``part``: does a CT show a limb alone or a chest too? Stacks of 14 slices of a limb, squares of 48 mm somewhere in the
body; in every other stack three neighbouring slices are of a chest. The answer is learned for whole stacks alone; the
deciding slice is right where it shows the chest. Chests belong to one limb's patient for good, so that no fold has seen
either. ``--stacks`` says how many each patient gives. (The chests' values from 0 to 1 are -1200 to 400 HU: there lung
and soft tissue peak.)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_medseg import Volume, read_label_map, read_volume
from napari_medseg.classification import Classifier, Subject
from napari_medseg.classification.features import FeatureCache
from napari_medseg.evaluation.bootstrap import bootstrap_intervals
from napari_medseg.evaluation.classification import auc
from napari_medseg.evaluation.splits import patient_folds
from napari_medseg.imaging.view import View, sample, sample_slices
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MOST_SLICES, LEAST_SLICES = 14, 8
CUBE_MM, GRID_MM = 120.0, 2.0
MODALITIES = ("CT", "MR_T1", "PET")
SQUARE_MM, SQUARE_SIZE, N_CHEST = 48.0, 32, 3
CHEST_HU = (-1200.0, 400.0)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A study, its answer, and for each of its scans which slices show what was asked for."""

    subject: Subject
    answer: str
    shows: tuple[np.ndarray, ...] = ()


def chosen_slices(volume: Volume, indices: np.ndarray, modality: str) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 0] *= (indices[-1] - indices[0]) / (len(indices) - 1)
    affine[:3, 3] = volume.position_of((float(indices[0]), 0.0, 0.0))
    data = np.ascontiguousarray(volume.data[indices])
    return replace(volume, data=data, affine=affine, grid=None, path=None, modality=modality)


def presence_cases(folder: Path, modalities: Sequence[str], least_uptake: float) -> list[Case]:
    scans = [read_volume(folder / f"{name}_image.nii.gz") for name in modalities]
    masks = [read_label_map(folder / f"{name}_mask.nii.gz").data > 0 for name in modalities]
    pet, marked = read_volume(folder / "PET_image.nii.gz"), read_label_map(folder / "PET_mask.nii.gz").data > 0
    if np.percentile(pet.data[marked], 95) < least_uptake:
        return []
    found = []
    for is_upper in (False, True):
        for answer in ("no tumour", "tumour"):
            parts, shows = [], []
            for scan, mask, name in zip(scans, masks, modalities, strict=True):
                tumour = mask.any((1, 2))
                low, high = np.flatnonzero(tumour)[[0, -1]]
                beyond = (int(high) + 1, len(tumour)) if is_upper else (0, int(low))
                middle = int(low + high) // 2
                n = min(MOST_SLICES, beyond[1] - beyond[0])
                if n < LEAST_SLICES:
                    break
                to_middle = (middle, len(tumour)) if is_upper else (0, middle + 1)
                first, last = beyond if answer == "no tumour" else to_middle
                indices = np.linspace(first, last - 1, n).round().astype(int)
                parts.append(chosen_slices(scan, indices, name))
                shows.append(tumour[indices])
            if len(parts) == len(scans):
                found.append(Case(Subject.study(*parts, patient=folder.name), answer, tuple(shows)))
    return found


def cube(path: Path, modality: str, patient: str) -> Case:
    volume = read_volume(path)
    n = round(CUBE_MM / GRID_MM)
    view = View((np.array(volume.data.shape) - 1) / 2, CUBE_MM, n)
    data = sample(volume.data, view, volume.spacing_mm)
    affine = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]]) * [[GRID_MM] * 3 + [1]]
    return Case(Subject.study(Volume(data, affine, patient), patient=patient), modality)


def squares(volume: Volume, n: int, rng: np.random.Generator) -> np.ndarray:
    """Neighbouring axial slices (n, 32, 32) of some part of the body in a CT."""
    last = np.array(volume.data.shape) - 1.0
    half = np.minimum(SQUARE_MM / 2 / np.array(volume.spacing_mm), last / 2)
    half[0] = (n - 1) / 2
    body = np.argwhere(volume.data > -200)
    centre = np.clip(body[rng.integers(len(body))], half, last - half)
    first = int(centre[0] - half[0])
    view = View(np.array([0.0, *centre[1:]]), SQUARE_MM, SQUARE_SIZE)
    return sample_slices(volume.data, range(first, first + n), view, volume.spacing_mm)


def part_cases(data: Path, n_stacks: int) -> list[Case]:
    limbs = sorted((data / "sarcoma").glob("STS_*"))
    scans = sorted({p.name.split("_nod")[0] for p in (data / "lung_nodules").glob("*_image.nii.gz")})
    low, high = CHEST_HU
    pitch = SQUARE_MM / SQUARE_SIZE
    affine = np.array([[0, 0, -pitch, 0], [0, -pitch, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    rng, found = np.random.default_rng(0), []
    for k, limb in enumerate(limbs):
        volume = read_volume(limb / "CT_image.nii.gz")
        chests = [p for s in scans[k :: len(limbs)] for p in (data / "lung_nodules").glob(f"{s}_nod*_image.nii.gz")]
        for stack_number in range(n_stacks):
            has_chest = stack_number % 2 == 1
            slices, chest = squares(volume, MOST_SLICES, rng), np.zeros(MOST_SLICES, bool)
            if has_chest:
                other = read_volume(sorted(chests)[rng.integers(len(chests))])
                other = replace(other, data=low + (high - low) * other.data)
                at = rng.integers(MOST_SLICES - N_CHEST + 1)
                slices[at : at + N_CHEST] = squares(other, N_CHEST, rng)
                chest[at : at + N_CHEST] = True
            stack = Volume(slices, affine, limb.name, "CT")
            found.append(Case(Subject.study(stack, patient=limb.name), "chest" if has_chest else "limb", (chest,)))
    return found


def trained(cases: Sequence[Case], options: argparse.Namespace, cache: FeatureCache) -> Classifier:
    subjects, answers = [case.subject for case in cases], [case.answer for case in cases]
    settings = ClassTraining(steps=options.steps)
    steps = train_classifier(subjects, answers, strategy=options.strategy, settings=settings, cache=cache)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return Classifier(end.value.checkpoint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--task", choices=("presence", "modality", "part"), default="presence")
    parser.add_argument("--inputs", nargs="+", default=["PET"])
    parser.add_argument("--least-uptake", type=float, default=0.0)
    parser.add_argument("--stacks", type=int, default=32, help="of a patient, for part")
    parser.add_argument("--strategy", default="features")
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    folders = sorted((options.data / "sarcoma").glob("STS_*"))
    if not folders:
        print(f"skipped: there is no sarcoma in {options.data}")
        return
    if options.task == "modality":
        cases = [cube(folder / f"{m}_image.nii.gz", m, folder.name) for folder in folders for m in MODALITIES]
    elif options.task == "part":
        cases = part_cases(options.data, options.stacks)
    else:
        cases = [c for folder in folders for c in presence_cases(folder, options.inputs, options.least_uptake)]
    answers, patients = np.array([c.answer for c in cases]), [c.subject.patient for c in cases]
    print(f"{len(cases)} stacks of {len(set(patients))} patients, {len(set(answers))} answers")
    report(cases, answers, patients, options)


def report(cases: list[Case], answers: np.ndarray, patients: list[str], options: argparse.Namespace) -> None:
    """Train and ask in folds; print the figures."""
    cache, start = FeatureCache(), time.process_time()
    nothing = {"presence": "no tumour", "part": "limb"}.get(options.task)  # the answer that no single slice decides
    right, scores, hits = np.zeros(len(cases), bool), np.zeros(len(cases)), np.zeros(len(cases), bool)
    for split in patient_folds(patients, n_folds=5, labels=answers.tolist()):
        classifier = trained([cases[k] for k in split.train], options, cache)
        for k in split.test:
            answer = classifier.classify(cases[k].subject)
            right[k] = answer.best == answers[k]
            if nothing is not None:
                scores[k] = 1 - answer.probabilities[nothing]
                scan, _, index = answer.deciding_slice or (0, 0, 0)
                hits[k] = cases[k].shows[scan][index]

    def statistics(chosen: np.ndarray) -> dict[str, float]:
        figures = {"accuracy": float(right[chosen].mean())}
        if nothing is not None:
            truth = answers[chosen] != nothing
            figures |= {"AUC": auc(truth, scores[chosen]), "deciding slice": float(hits[chosen][truth].mean())}
        return figures

    for name, interval in bootstrap_intervals(statistics, patients).items():
        print(f"{name:20s} {interval}")
    if nothing is not None:
        by_chance = np.mean([np.concatenate(c.shows).mean() for c in cases if c.answer != nothing])
        print(f"a slice drawn at random shows what was asked for in {by_chance:.2f} of the positives")
    wrong = sorted({f"{patients[k]} ({answers[k]})" for k in np.flatnonzero(~right)})
    print(f"wrong: {', '.join(wrong) or 'none'}; {time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
