"""Nearest neighbours of the Siamese embedding as a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.classification import Classifier, Head, load_classifier, saliency
from napari_medseg.classification.heads import Neighbours
from napari_medseg.errors import LearningError, ModelError
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.train_classifier import train_classifier
from napari_medseg.networks.neighbour_classifier import votes


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


def test_what_neighbours_cannot_do_is_said(lesion, image) -> None:
    settings, kinds = ClassTraining(head=Head.NEIGHBOURS), ["bright", "dark"] * 2
    with pytest.raises(LearningError, match="choose the strategy features"):
        run([lesion(kind=k, seed=n) for n, k in enumerate(kinds)], kinds, settings=settings, strategy="full")
    with pytest.raises(ModelError, match="looks at lesions"):
        run([image(kind=k, seed=n) for n, k in enumerate(kinds)], kinds, settings=settings)
