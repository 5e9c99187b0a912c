"""Malignancy of lung nodules (rated at most 2 against at least 4), five folds by scan: AUC with 95 % interval.

    python tests/benchmarks/lung_nodules.py [DATA] [--no-cnn]

DATA holds lung_nodules with ratings.csv. Rows: volume alone, last layers on the frozen encoder, a bag of visual words,
nearest neighbours of the Siamese embedding, and the classical CNN fine-tuned from the last layer down. There are few
benign nodules here, so the intervals are wide. The encoders saw three quarters of these scans when they learned to
segment or to tell lesions apart, but never a rating.
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
from napari_medseg.evaluation.bootstrap import bootstrap_interval
from napari_medseg.evaluation.classification import auc
from napari_medseg.evaluation.splits import patient_folds
from napari_medseg.learning.class_practice import logits_of
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = ("benign", "malignant")
NEIGHBOURS = 5


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
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
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


def nearest(embedded: np.ndarray, answers: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Share of the most similar nodules that are malignant, each weighted by its similarity and its class's rarity."""

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        weight = np.where(answers[train] == 1, 1 / (answers[train] == 1).sum(), 1 / (answers[train] == 0).sum())
        found = []
        for k in test:
            cosine = embedded[train] @ embedded[k]
            near = np.argsort(-cosine)[:NEIGHBOURS]
            votes = weight[near] * np.exp(5 * cosine[near])
            found.append(float((votes * answers[train][near]).sum() / votes.sum()))
        return np.array(found)

    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--no-cnn", action="store_true", help="leave out the slow row")
    parser.add_argument("--siamese", type=Path, help="folder of the Siamese network (default: the bundled one)")
    options = parser.parse_args()
    folder = options.data / "lung_nodules"
    if not (folder / "ratings.csv").is_file():
        print(f"skipped: there is no {folder / 'ratings.csv'}")
        return
    subjects, answers, scans, volumes = read_cases(folder)
    cache = FeatureCache()
    methods: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "volume alone": lambda train, test: volumes[test],
        "features + logistic regression": trained_scores(subjects, answers, "features", ClassTraining(), cache),
        "features + linear SVM": trained_scores(subjects, answers, "features", ClassTraining(head=Head.SVM), cache),
        "features + nearest class mean": trained_scores(
            subjects, answers, "features", ClassTraining(head=Head.NEAREST_MEAN), cache
        ),
        "bag of visual words": trained_scores(subjects, answers, "features", ClassTraining(head=Head.WORDS), cache),
        "Siamese + nearest neighbours": nearest(load_matcher(options.siamese).embed_all(subjects), answers),
    }
    if not options.no_cnn:
        few = ClassTraining(size=32, steps=60, batch=8)
        methods["classical CNN, layer by layer"] = trained_scores(subjects, answers, "gradual", few, cache)
    print(f"{(answers == 0).sum()} benign and {(answers == 1).sum()} malignant nodules of {len(set(scans))} scans")
    for name, method in methods.items():
        start, found = time.process_time(), np.zeros(len(answers))
        for split in patient_folds(scans, n_folds=5, labels=answers.tolist(), seed=0):
            found[split.test] = method(split.train, split.test)
        interval = bootstrap_interval(lambda k, s=found: auc(answers[k] == 1, s[k]), scans)
        print(f"{name:32s} AUC {interval}   {time.process_time() - start:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
