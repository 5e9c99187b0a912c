"""Batches of labelled cases and the loss of a classifier; features of frozen layers are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from napari_medseg.classification.classifier import ClassNetwork
from napari_medseg.classification.crops import Crop
from napari_medseg.classification.features import FeatureCache, describe_all
from napari_medseg.learning.class_augment import augmented
from napari_medseg.learning.class_cases import LabelledCases
from napari_medseg.networks.study_classifier import StudyClassifier


class ClassPractice:
    """Draws cases, every class equally often, and measures the loss on them.

    Parameters
    ----------
    network : ImageClassifier or StudyClassifier
        Learns.
    cases : LabelledCases
        What is drawn from.
    cache : FeatureCache
        Keeps the features of frozen encoders.
    batch : int
        Cases in one step.
    is_lesion : bool
        Whether views may be turned in any direction.
    seed : int
        Of all random choices.
    """

    def __init__(
        self,
        network: ClassNetwork,
        cases: LabelledCases,
        cache: FeatureCache,
        *,
        batch: int,
        is_lesion: bool,
        seed: int,
    ) -> None:
        self.network, self.cases, self.cache = network, cases, cache
        self.batch, self.is_lesion = batch, is_lesion
        self._draw = np.random.default_rng(seed)
        self._look = torch.Generator().manual_seed(seed)

    def loss(self, teaching: NDArray[np.intp]) -> Tensor:
        """Cross entropy of one batch of the teaching cases."""
        chosen = self._chosen(teaching)
        answers = torch.from_numpy(self.cases.answers[chosen])
        crops = [self.cases.crops[k] for k in chosen]
        is_frozen = not any(p.requires_grad for p in self.network.encoder.parameters())
        described = [self._frozen[k] for k in chosen] if is_frozen else self._described(crops)
        logits = answer(self.network, described, crops)
        return F.cross_entropy(logits, answers.to(logits.device))

    @cached_property
    def _frozen(self) -> list[Tensor]:
        """Features of all cases by the encoder as it is before it learns."""
        return [torch.from_numpy(d) for d in describe_all(self.network, self.cases.crops, self.cache)]

    def _chosen(self, teaching: NDArray[np.intp]) -> NDArray[np.intp]:
        of_class = [teaching[self.cases.answers[teaching] == k] for k in range(len(self.cases.classes))]
        drawn = self._draw.integers(len(of_class), size=self.batch)
        return np.array([self._draw.choice(of_class[k]) for k in drawn])

    def _described(self, crops: Sequence[Crop]) -> list[Tensor]:
        device = next(self.network.parameters()).device
        views = [torch.from_numpy(crop.inputs if crop.kinds else crop.inputs[None]) for crop in crops]
        x = augmented(torch.cat(views), self._look, is_lesion=self.is_lesion).to(device)
        parts = self.network.describe(x).split([len(view) for view in views])  # type: ignore[no-untyped-call]
        return [part if crop.kinds else part[0] for part, crop in zip(parts, crops, strict=True)]


def answer(network: ClassNetwork, described: Sequence[Tensor], crops: Sequence[Crop]) -> Tensor:
    """Logits (B, C) from the features of cases."""
    device = next(network.parameters()).device
    if not isinstance(network, StudyClassifier):
        return network.classify(torch.stack(list(described)).to(device))
    kinds = pad_sequence([torch.tensor(crop.kinds) for crop in crops], batch_first=True)
    lengths = torch.tensor([len(crop.kinds) for crop in crops])
    inside = torch.arange(kinds.shape[1])[None] < lengths[:, None]
    padded = pad_sequence([d.to(device) for d in described], batch_first=True)
    return network.classify(padded, kinds.to(device), inside.to(device))[0]


def logits_of(network: ClassNetwork, crops: Sequence[Crop], cache: FeatureCache) -> NDArray[np.float64]:
    """Logits (N, C) of cases as they are, without augmentation."""
    network.eval()
    with torch.inference_mode():
        described = [torch.from_numpy(d) for d in describe_all(network, crops, cache)]
        return np.asarray(answer(network, described, crops).double().cpu().numpy())
