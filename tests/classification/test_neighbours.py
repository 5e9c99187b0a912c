"""Nearest neighbours of the Siamese embedding as a classifier."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.classification import Classifier, Head, Subject, load_classifier, saliency
from napari_medseg.classification.heads import Neighbours
from napari_medseg.classification.subject import bounding_box
from napari_medseg.errors import LearningError, ModelError
from napari_medseg.imaging.files import read_label_map, read_volume
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier
from napari_medseg.networks.neighbour_classifier import votes

VISIBLE = 90 / 255  # from here on the layer in the viewer is not transparent


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    drawn = rng.normal(size=(n, 8)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_a_class_gains_nothing_by_having_many_cases() -> None:
    rng = np.random.default_rng(0)
    near, far = unit(rng, 1), unit(rng, 1)
    known = np.concatenate([near, *[far] * 30])
    answers = np.array([0] + [1] * 30)
    logits = Neighbours(known, answers, 2, 10.0).logits(near)
    assert logits.argmax() == 0
    again = Neighbours(np.concatenate([near, far]), np.array([0, 1]), 2, 10.0).logits(near)
    np.testing.assert_allclose(logits, again, atol=1e-5)


def test_left_out_cases_of_a_rare_class_are_not_pushed_to_the_other() -> None:
    """Where nothing tells the classes apart, leaving a case out says less of its class than a share of neighbours."""
    areas, shares = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        known, answers = unit(rng, 42), np.arange(42) >= 8
        found, share = np.zeros(42), np.zeros(42)
        for k in range(42):
            others = np.arange(42) != k
            logits = Neighbours(known[others], answers[others].astype(np.int64), 2, 10.0).logits(known[k : k + 1])
            found[k] = logits[0, 1] - logits[0, 0]
            share[k] = answers[others][np.argsort(-known[others] @ known[k])[:5]].mean()
        areas.append(np.mean(found[answers][:, None] > found[~answers]))
        ties = share[answers][:, None] == share[~answers]
        shares.append(np.mean((share[answers][:, None] > share[~answers]) + 0.5 * ties))
    assert np.mean(areas) > 0.42
    assert np.mean(areas) > np.mean(shares)


def test_votes_fall_with_the_distance_and_only_known_lesions_vote() -> None:
    axes = torch.eye(3)
    logits = votes(axes[:1], axes, torch.tensor([0, 1, 1]), 2, torch.tensor([5.0]))
    assert logits[0].tolist() == pytest.approx([5.0, 0.0])


def run(subjects, answers, **options):
    steps = train_classifier(subjects, answers, **options)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_lesions_are_told_apart_by_their_neighbours(lesion, tmp_path: Path) -> None:
    kinds = ["bright", "dark"] * 4
    subjects = [lesion(kind=kind, seed=k) for k, kind in enumerate(kinds)]
    settings = ClassTraining(head=Head.NEIGHBOURS)
    result = run(subjects, kinds, settings=settings, out=tmp_path / "one", name="mine")
    assert result.checkpoint.card.architecture == "neighbour_classifier"
    assert result.checkpoint.card.looks_at.own_size
    again = load_classifier(tmp_path / "one")
    assert len(again.network.known) == 8
    answer = again.classify(lesion(kind="dark", seed=90))
    assert answer.best == "dark"
    assert saliency(again, lesion(kind="dark", seed=90)).data.max() > 0.9
    more = [*subjects, lesion(kind="bright", seed=20)]
    grown = run(more, [*kinds, "bright"], settings=settings, start=again)
    assert len(Classifier(grown.checkpoint).network.known) == 9
    assert grown.checkpoint.card.version == 2


def test_saliency_lights_the_lesion_and_depends_on_the_weights(lesion) -> None:
    kinds = ["bright", "dark"] * 3
    subjects = [lesion(kind=kind, seed=k) for k, kind in enumerate(kinds)]
    own = Classifier(run(subjects, kinds, settings=ClassTraining(head=Head.NEIGHBOURS)).checkpoint)
    for kind in ("bright", "dark"):
        subject = lesion(kind=kind, seed=50)
        shown = saliency(own, subject).data
        box = bounding_box(subject.marked())
        assert shown[box].max() > 0.5
        lit = shown[box].max((1, 2)) > VISIBLE
        assert lit.all(), "every slice of the lesion shows something"
        assert shown[box].mean() > 1.3 * shown.mean(), "the lesion more than what lies round it"
    with torch.no_grad():
        # Sanity check of Adebayo et al., NeurIPS 2018: an explanation must depend on what was learned.
        torch.manual_seed(0)
        for weight in own.network.encoder.parameters():
            weight.copy_(torch.randn_like(weight) * weight.std().nan_to_num(1.0))
    other = saliency(own, subject, "dark").data
    assert np.corrcoef(shown[box].ravel(), other[box].ravel())[0, 1] < 0.7


def test_saliency_lights_most_real_nodules(shared_data: Path) -> None:
    """With cells as wide as a quarter of the view and gradients averaged over it, most of the heat lay elsewhere."""
    with (shared_data / "lung_nodules" / "ratings.csv").open(newline="") as stream:
        ratings = {row["nodule"]: int(row["malignancy"]) for row in csv.DictReader(stream)}
    benign, malignant = ([n for n, r in ratings.items() if r in wanted][:8] for wanted in ((1, 2), (4, 5)))
    folder = shared_data / "lung_nodules"
    subjects = {
        name: Subject.lesion(
            read_volume(folder / f"{name}_image.nii.gz"),
            read_label_map(folder / f"{name}_mask.nii.gz"),
            patient=name.split("_")[0],
        )
        for name in (*benign, *malignant)
    }
    teaching, kinds = [*benign[:5], *malignant[:5]], ["benign"] * 5 + ["malignant"] * 5
    settings = ClassTraining(head=Head.NEIGHBOURS)
    own = Classifier(run([subjects[name] for name in teaching], kinds, settings=settings).checkpoint)
    highest, lit, share = [], [], []
    for name in (*benign[5:], *malignant[5:]):
        shown, box = saliency(own, subjects[name]).data, bounding_box(subjects[name].marked())
        highest.append(shown[box].max())
        lit.append((shown[box].max((1, 2)) > VISIBLE).mean())
        share.append(shown[box].mean() / shown[shown > 0].mean())
    assert np.mean(np.array(highest) > VISIBLE) >= 0.8
    assert np.mean(lit) > 0.8
    assert np.mean(share) > 1.1


def test_what_neighbours_cannot_do_is_said(lesion, image) -> None:
    settings, kinds = ClassTraining(head=Head.NEIGHBOURS), ["bright", "dark"] * 2
    with pytest.raises(LearningError, match="choose the strategy features"):
        run([lesion(kind=k, seed=n) for n, k in enumerate(kinds)], kinds, settings=settings, strategy="full")
    with pytest.raises(ModelError, match="looks at lesions"):
        run([image(kind=k, seed=n) for n, k in enumerate(kinds)], kinds, settings=settings)
