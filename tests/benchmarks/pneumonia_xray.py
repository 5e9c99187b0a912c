"""Transfer learning on chest X-rays (normal or pneumonia, 28 x 28): trained on train, AUC on val.

    python tests/benchmarks/pneumonia_xray.py [DATA] [--cases 20 100 500] [--seeds 5] [--no-full]

DATA holds pneumonia_xray/pneumonia_train_val.npz. Rows: four last layers on the frozen encoder, fine-tuning from the
last layer down, and the same network from random weights; columns: labelled images, half of each class. Then the
classical CNN on all training images. None of these images is in any bundled weight.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from napari_medseg.classification import Classifier, Head, Subject
from napari_medseg.classification.features import FeatureCache
from napari_medseg.evaluation.bootstrap import bootstrap_interval
from napari_medseg.evaluation.classification import auc
from napari_medseg.imaging.volume import Volume
from napari_medseg.learning.class_practice import logits_of
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = ("normal", "pneumonia")
METHODS = {
    "features + logistic regression": ("features", ClassTraining()),
    "features + linear SVM": ("features", ClassTraining(head=Head.SVM)),
    "features + nearest class mean": ("features", ClassTraining(head=Head.NEAREST_MEAN)),
    "bag of visual words": ("features", ClassTraining(head=Head.WORDS)),
    "fine-tuning, layer by layer": ("gradual", ClassTraining()),
    "fine-tuning, all layers": ("full", ClassTraining()),
    "from scratch": ("full", ClassTraining(start="scratch")),
}


def subjects(images: np.ndarray) -> list[Subject]:
    affine = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    return [Subject.image(Volume(image[None], affine, "X-ray", "DX")) for image in images]


def scores(checkpoint, tests: list[Subject], cache: FeatureCache) -> np.ndarray:
    classifier = Classifier(checkpoint)
    crops = [classifier.crop(test) for test in tests]
    logits = logits_of(classifier.network, crops, cache)
    return logits[:, 1] - logits[:, 0]


def trained(cases: list[Subject], answers: np.ndarray, method: str, seed: int, cache: FeatureCache):
    strategy, settings = METHODS[method]
    steps = train_classifier(
        cases, [NAMES[k] for k in answers], strategy=strategy, settings=settings, seed=seed, cache=cache
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value.checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--cases", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--no-full", action="store_true")
    options = parser.parse_args()
    path = options.data / "pneumonia_xray" / "pneumonia_train_val.npz"
    if not path.is_file():
        print(f"skipped: there is no {path}")
        return
    stored = np.load(path)
    images, answers = subjects(stored["train_images"]), stored["train_labels"].ravel()
    tests, truth = subjects(stored["val_images"]), stored["val_labels"].ravel() == 1
    cache = FeatureCache()
    print(f"AUC on {len(tests)} validation images, mean (deviation) of {options.seeds} draws, CPU seconds a training")
    for method in options.methods:
        shown = []
        for n in options.cases:
            found, seconds = [], []
            for seed in range(options.seeds):
                rng = np.random.default_rng(seed)
                chosen = np.concatenate([rng.choice(np.flatnonzero(answers == k), n // 2, False) for k in (0, 1)])
                start = time.process_time()
                checkpoint = trained([images[k] for k in chosen], answers[chosen], method, seed, cache)
                seconds.append(time.process_time() - start)
                found.append(auc(truth, scores(checkpoint, tests, cache)))
            shown.append(f"{n}: {np.mean(found):.3f} ({np.std(found):.3f}) {np.mean(seconds):.0f} s")
        print(f"{method:32s} " + "   ".join(shown), flush=True)
    if not options.no_full:
        start = time.process_time()
        found = scores(
            trained(images, answers, "fine-tuning, layer by layer", 0, FeatureCache()), tests, FeatureCache()
        )
        interval = bootstrap_interval(lambda k: auc(truth[k], found[k]), range(len(truth)))
        print(f"classical CNN on all {len(images)} images: AUC {interval}, {time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
