"""Malignancy of lung nodules (rated at most 2 against at least 4), five folds by scan: AUC with 95 % interval.

    python tests/benchmarks/lung_nodules.py [DATA] [--no-cnn]

DATA holds lung_nodules with ratings.csv. Rows: volume alone, last layers on the frozen encoder, a bag of visual words,
nearest neighbours of the Siamese embedding, and the classical CNN fine-tuned from the last layer down. There are few
benign nodules here, so the intervals are wide. The encoders saw three quarters of these scans when they learned to
segment or to tell lesions apart, but never a rating. Areas are means over many divisions into folds.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_medseg import read_label_map, read_volume
from napari_medseg.classification import Classifier, Head, Subject, load_matcher
from napari_medseg.classification.features import FeatureCache
from napari_medseg.classification.heads import Neighbours
from napari_medseg.evaluation.bootstrap import bootstrap_interval
from napari_medseg.evaluation.classification import auc
from napari_medseg.evaluation.splits import patient_folds
from napari_medseg.learning.class_practice import logits_of
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = ("benign", "malignant")
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def read_cases(folder: Path) -> tuple[list[Subject], np.ndarray, list[str], np.ndarray]:
    """Nodules that are clearly rated: subjects, answers, scans and the logarithms of their volumes."""
    subjects, answers, scans, volumes = [], [], [], []
    with (folder / "ratings.csv").open() as stream:
        for row in csv.DictReader(stream):
            rating, scan = int(row["malignancy"]), row["nodule"].split("_nod")[0]
            if rating == 3:
                continue
            mask = read_label_map(folder / f"{row['nodule']}_mask.nii.gz")
            subjects.append(Subject.lesion(read_volume(folder / f"{row['nodule']}_image.nii.gz"), mask, patient=scan))
            answers.append(int(rating >= 4))
            scans.append(scan)
            volumes.append((mask.data > 0).sum() * mask.voxel_ml)
    return subjects, np.array(answers), scans, np.log(np.array(volumes))


def trained_scores(
    subjects: list[Subject], answers: np.ndarray, strategy: str, settings: ClassTraining, cache: FeatureCache
) -> Method:
    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        steps = train_classifier(
            [subjects[k] for k in train],
            [NAMES[answers[k]] for k in train],
            strategy=strategy,
            settings=settings,
            cache=cache,
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                classifier = Classifier(end.value.checkpoint)
                break
        logits = logits_of(classifier.network, [classifier.crop(subjects[k]) for k in test], cache)
        return logits[:, 1] - logits[:, 0]

    return scores


def nearest(embedded: np.ndarray, answers: np.ndarray, sharpness: float) -> Method:
    """Votes of the labelled nodules, as the classifier with the last layer ``neighbours`` counts them."""

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        logits = Neighbours(embedded[train], answers[train], 2, sharpness).logits(embedded[test])
        return logits[:, 1] - logits[:, 0]

    return scores


def out_of_fold(method: Method, answers: np.ndarray, scans: list[str], repeats: int) -> np.ndarray:
    """Scores (repeats, N) by fits that saw no nodule of the same scan.

    With eight benign nodules one division into folds says little: the area of one and the same method goes from 0.27 to
    0.55 over divisions. So many are drawn, and their areas averaged.
    """
    found = np.zeros((repeats, len(answers)))
    for seed in range(repeats):
        for split in patient_folds(scans, n_folds=5, labels=answers.tolist(), seed=seed):
            found[seed, split.test] = method(split.train, split.test)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--no-cnn", action="store_true", help="leave out the slow row")
    parser.add_argument("--repeats", type=int, default=5, help="divisions into folds (the slow row: one)")
    parser.add_argument("--siamese", type=Path, help="folder of the Siamese network (default: the bundled one)")
    options = parser.parse_args()
    folder = options.data / "lung_nodules"
    if not (folder / "ratings.csv").is_file():
        print(f"skipped: there is no {folder / 'ratings.csv'}")
        return
    subjects, answers, scans, volumes = read_cases(folder)
    cache, matcher = FeatureCache(), load_matcher(options.siamese)
    sharpness = float(matcher.network.sharpness)
    methods: dict[str, Method] = {
        "volume alone": lambda train, test: volumes[test],
        "features + logistic regression": trained_scores(subjects, answers, "features", ClassTraining(), cache),
        "features + linear SVM": trained_scores(subjects, answers, "features", ClassTraining(head=Head.SVM), cache),
        "features + nearest class mean": trained_scores(
            subjects, answers, "features", ClassTraining(head=Head.NEAREST_MEAN), cache
        ),
        "bag of visual words": trained_scores(subjects, answers, "features", ClassTraining(head=Head.WORDS), cache),
        "Siamese + nearest neighbours": nearest(matcher.embed_all(subjects), answers, sharpness),
    }
    if not options.no_cnn:
        few = ClassTraining(size=32, steps=60, batch=8)
        methods["classical CNN, layer by layer"] = trained_scores(subjects, answers, "gradual", few, cache)
    print(f"{(answers == 0).sum()} benign and {(answers == 1).sum()} malignant nodules of {len(set(scans))} scans")
    for name, method in methods.items():
        start = time.process_time()
        found = out_of_fold(method, answers, scans, 1 if "CNN" in name else options.repeats)

        def mean_area(chosen: np.ndarray, found: np.ndarray = found) -> float:
            return float(np.mean([auc(answers[chosen] == 1, row[chosen]) for row in found]))

        interval = bootstrap_interval(mean_area, scans, n_resamples=500)
        areas = [auc(answers == 1, row) for row in found]
        spread = f"divisions {min(areas):.2f} to {max(areas):.2f}"
        print(f"{name:32s} AUC {interval}   {spread}   {time.process_time() - start:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
