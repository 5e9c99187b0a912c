"""Last layers that scikit-learn fits to frozen features; stored as plain arrays in the network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseg.imaging.view import Floats
from napari_medseg.networks.image_classifier import ImageClassifier
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier, votes
from napari_medseg.networks.study_classifier import StudyClassifier

Answers = NDArray[np.int64]
Network = ImageClassifier | StudyClassifier | NeighbourClassifier
_LEAST_SCALE = 1e-3
_STRENGTH = 0.01
_N_LOCAL = 20_000


class Head(str, Enum):
    """What is fitted to features of a frozen encoder."""

    LOGISTIC = "logistic"
    SVM = "svm"
    NEAREST_MEAN = "nearest-mean"
    WORDS = "words"
    NEIGHBOURS = "neighbours"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Standardisation and a linear layer: all of these classifiers are one.

    Parameters
    ----------
    mean, scale : ndarray, shape (F,)
        Features are shifted and divided by them.
    weight : ndarray, shape (C, F)
        One row a class.
    bias : ndarray, shape (C,)
    """

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Logits (N, C) of features (N, F)."""
        return np.asarray((features - self.mean) / self.scale @ self.weight.T + self.bias, np.float32)

    def put_into(self, network: Network) -> None:
        """Store the arrays in a network's ``mean``, ``scale`` and ``head``."""
        assert not isinstance(network, NeighbourClassifier)
        with torch.no_grad():
            network.mean.copy_(torch.from_numpy(self.mean))  # type: ignore[operator]
            network.scale.copy_(torch.from_numpy(self.scale))  # type: ignore[operator]
            network.head.weight.copy_(torch.from_numpy(self.weight))
            network.head.bias.copy_(torch.from_numpy(self.bias))


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Labelled embeddings that vote: nothing is fitted.

    Parameters
    ----------
    known : ndarray, shape (N, E)
        Unit vectors.
    answers : ndarray of int, shape (N,)
        Their classes.
    n_classes : int
        C.
    sharpness : float
        How fast a vote falls with the distance, as the Siamese network learned it.
    """

    known: Floats
    answers: Answers
    n_classes: int
    sharpness: float

    def logits(self, features: Floats) -> Floats:
        """Logits (N, C) of embeddings (N, E)."""
        embedded, known, answers = (torch.from_numpy(part) for part in (features, self.known, self.answers))
        return np.asarray(votes(embedded, known, answers, self.n_classes, torch.tensor(self.sharpness)).numpy())

    def put_into(self, network: Network) -> None:
        """Store the labelled embeddings in a network."""
        assert isinstance(network, NeighbourClassifier)
        network.keep(torch.from_numpy(self.known), torch.from_numpy(self.answers))


def fit_head(
    kind: Head, features: Floats, answers: Answers, n_classes: int, *, strength: float = _STRENGTH
) -> LinearHead:
    """Fit a last layer; classes weigh the same however many cases they have.

    Parameters
    ----------
    kind : Head
        ``WORDS`` is a logistic regression on histograms.
    features : ndarray, shape (N, F)
        Of the cases.
    answers : ndarray of int, shape (N,)
        Their classes; every class occurs.
    n_classes : int
        C.
    strength : float
        Inverse of the regularisation (scikit-learn's C) of the logistic regression; the SVM takes a tenth.
    """
    mean, scale = standardisation(features)
    x = (features - mean) / scale
    if kind is Head.NEAREST_MEAN:
        weight, bias = _nearest_mean(x, answers, n_classes)
    else:
        weight, bias = _fitted(kind, x, answers, strength)
    return LinearHead(mean, scale, weight.astype(np.float32), bias.astype(np.float32))


def standardisation(features: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each feature; a feature that hardly varies is not blown up."""
    mean, scale = features.mean(0), features.std(0)
    floor = max(_LEAST_SCALE, 0.05 * float(np.median(scale)))
    return np.asarray(mean, np.float32), np.maximum(scale, floor).astype(np.float32)


def fit_words(network: ImageClassifier, local: list[Floats], *, seed: int = 0) -> None:
    """Cluster local features, (positions, C) a case, into a network's visual words (Sivic and Zisserman, ICCV 2003)."""
    from sklearn.cluster import MiniBatchKMeans

    rng, n_each = np.random.default_rng(seed), max(8, _N_LOCAL // len(local))
    drawn = [part[rng.choice(len(part), min(n_each, len(part)), replace=False)] for part in local]
    points = np.concatenate(drawn)
    n_words = min(network.n_words, len(points))
    fitted = MiniBatchKMeans(n_words, n_init=3, batch_size=1024, random_state=seed).fit(points)
    words = np.resize(fitted.cluster_centers_, (network.n_words, points.shape[1]))
    with torch.no_grad():
        network.words.copy_(torch.from_numpy(words.astype(np.float32)))  # type: ignore[operator]


def _fitted(kind: Head, x: Floats, answers: Answers, strength: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if kind is Head.SVM:
        model = LinearSVC(C=strength / 10, class_weight="balanced", max_iter=5000).fit(x, answers)
    else:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(x, answers)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes share one line between them
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _nearest_mean(x: Floats, answers: Answers, n_classes: int) -> tuple[Floats, Floats]:
    """Minus half the squared distance to each class's mean, without the part that all classes share: linear in x."""
    means = np.stack([x[answers == k].mean(0) for k in range(n_classes)])
    n = x.shape[1]
    return means / n, -0.5 * (means**2).sum(1) / n
