"""A study-level question: does this stack of slices, in PET and MR, hold a part of the tumour? And which slice says so?

    python tests/benchmarks/aggregation.py [DATA] [--inputs PET MR_T1] [--strategy features]

DATA holds sarcoma. From each patient's examination four stacks are cut: the slices above and below the tumour, and two
stacks at its upper and lower end of which it fills about half. Five folds by patient. Prints accuracy, AUC with
interval, and in how many positives that were called right the slice with the most attention shows tumour.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_medseg import Volume, read_label_map, read_volume
from napari_medseg.classification import Classifier, Subject
from napari_medseg.classification.features import FeatureCache
from napari_medseg.evaluation.bootstrap import bootstrap_intervals
from napari_medseg.evaluation.classification import auc
from napari_medseg.evaluation.splits import patient_folds
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = ("no tumour", "tumour")
SLICES_MM = 45.0


def stack(volume: Volume, first: int, last: int, modality: str) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] = volume.position_of((float(first), 0.0, 0.0))
    return replace(volume, data=volume.data[first:last], affine=affine, grid=None, path=None, modality=modality)


def cut(folder: Path, modality: str) -> tuple[Volume, np.ndarray, int]:
    volume = read_volume(folder / f"{modality}_image.nii.gz")
    mask = read_label_map(folder / f"{modality}_mask.nii.gz").data > 0
    return volume, mask.any((1, 2)), round(SLICES_MM / volume.spacing_mm[0])


def stacks(folder: Path, modalities: list[str]) -> list[tuple[Subject, int, list[np.ndarray]]]:
    """Subjects with their answer and, for each scan, which of its slices show tumour."""
    scans = [cut(folder, modality) for modality in modalities]
    found = []
    for where in ("below", "lower end", "upper end", "above"):
        parts, shows = [], []
        for (volume, tumour, n), modality in zip(scans, modalities, strict=True):
            low, high = int(np.flatnonzero(tumour)[0]), int(np.flatnonzero(tumour)[-1]) + 1
            middle = {"below": low - n // 2, "lower end": low, "upper end": high, "above": high + n - n // 2}[where]
            first = max(0, middle - n // 2)
            last = min(len(tumour), middle + n - n // 2)
            if where == "below":
                last = min(last, low)
            if where == "above":
                first = max(first, high)
            if last - first < n // 2:
                break
            parts.append(stack(volume, first, last, modality))
            shows.append(tumour[first:last])
        if len(parts) == len(scans):
            is_positive = "end" in where
            found.append((Subject.study(*parts, patient=folder.name), int(is_positive), shows))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--inputs", nargs="+", default=["PET", "MR_T1"])
    parser.add_argument("--strategy", default="features")
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    folders = sorted((options.data / "sarcoma").glob("STS_*"))
    if not folders:
        print(f"skipped: there is no sarcoma in {options.data}")
        return
    cases = [case for folder in folders for case in stacks(folder, options.inputs)]
    subjects, answers = [case[0] for case in cases], np.array([case[1] for case in cases])
    patients = [subject.patient for subject in subjects]
    print(f"{(answers == 1).sum()} stacks with tumour, {(answers == 0).sum()} without, {len(folders)} patients")
    cache, start = FeatureCache(), time.process_time()
    found, hits = np.zeros(len(answers)), np.zeros(len(answers), bool)
    for split in patient_folds(patients, n_folds=5, labels=answers.tolist()):
        steps = train_classifier(
            [subjects[k] for k in split.train],
            [NAMES[answers[k]] for k in split.train],
            classes=NAMES,
            strategy=options.strategy,
            settings=ClassTraining(steps=options.steps),
            cache=cache,
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                classifier = Classifier(end.value.checkpoint)
                break
        for k in split.test:
            answer = classifier.classify(subjects[k])
            found[k] = answer.probabilities["tumour"]
            scan, _, index = answer.deciding_slice or (0, 0, 0)
            hits[k] = cases[k][2][scan][index]

    def statistics(chosen: np.ndarray) -> dict[str, float]:
        truth, score = answers[chosen] == 1, found[chosen]
        right = truth & (score >= 0.5)
        return {
            "accuracy": float(((score >= 0.5) == truth).mean()),
            "AUC": auc(truth, score),
            "deciding slice, all positives": float(hits[chosen][truth].mean()) if truth.any() else float("nan"),
            "deciding slice, found positives": float(hits[chosen][right].mean()) if right.any() else float("nan"),
        }

    for name, interval in bootstrap_intervals(statistics, patients).items():
        print(f"{name:32s} {interval}")
    print(f"{time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
