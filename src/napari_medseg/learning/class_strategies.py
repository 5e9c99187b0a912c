"""Strategies of classifiers: the layer groups of transfer learning, by the names and the mechanism of segmentation.

All start from a last layer that was replaced and fitted alone with all else frozen; what follows is unfrozen from the
top at a smaller learning rate (first the head, then all: Kumar et al., Fine-tuning can distort pretrained features,
ICLR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from napari_medseg.classification.classifier import ClassNetwork
from napari_medseg.classification.heads import Head
from napari_medseg.errors import LearningError
from napari_medseg.learning.settings import Strategy
from napari_medseg.learning.strategies import LayerGroup

_FEW = 40
_ENCODER_RATE = 0.1


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """What a strategy decides for a number of cases.

    Parameters
    ----------
    strategy : Strategy
        Never ``AUTO``.
    learning_rate : float
        Of the last layers, at its largest.
    steps : int
        Optimiser steps; 0 where scikit-learn fits the last layer.
    """

    strategy: Strategy
    learning_rate: float
    steps: int


def suited(strategy: Strategy | str, head: Head, *, is_study: bool, from_scratch: bool) -> Strategy:
    """Return the strategy by which a last layer can be had: one that is fitted leaves the encoder as it is.

    Raises
    ------
    LearningError
        If these cases cannot have that last layer, or not by that strategy.
    """
    strategy = Strategy(strategy)
    if head is Head.LOGISTIC:
        return strategy
    if is_study:
        raise LearningError(f"a classifier of studies has no last layer '{head}': choose {Head.LOGISTIC}")
    if from_scratch:
        raise LearningError(f"the last layer '{head}' is fitted to a pretrained encoder: choose the start pretrained")
    if strategy not in (Strategy.AUTO, Strategy.FEATURES):
        raise LearningError(
            f"the last layer '{head}' is fitted, not learned by steps: choose the strategy {Strategy.FEATURES.value}"
        )
    return Strategy.FEATURES


def class_plan(strategy: Strategy | str, n_cases: int, *, dims: int, is_study: bool, from_scratch: bool) -> ClassPlan:
    """Choose the layers, learning rate and length for a number of labelled cases."""
    strategy = Strategy(strategy)
    if from_scratch:
        return ClassPlan(Strategy.FULL, 1e-3, _steps(n_cases, dims))
    if strategy is Strategy.AUTO:
        strategy = Strategy.FEATURES if n_cases < _FEW else Strategy.GRADUAL
    if strategy is Strategy.FEATURES:
        return ClassPlan(strategy, 3e-3, 300 if is_study else 0)
    if strategy is Strategy.HEAD:
        return ClassPlan(strategy, 3e-3, 300)
    if strategy is Strategy.GRADUAL:
        return ClassPlan(strategy, 1e-3, _steps(n_cases, dims))
    return ClassPlan(strategy, 3e-4, _steps(n_cases, dims))


def class_groups(plan: ClassPlan, network: ClassNetwork, rate: float) -> list[LayerGroup]:
    """Layer groups of a strategy, from the last layer down."""
    groups = depth_groups(network)
    if plan.strategy in (Strategy.HEAD, Strategy.FEATURES):
        return [LayerGroup(groups[0][0], groups[0][1], rate)]
    if plan.strategy is Strategy.FULL:
        return [LayerGroup(name, parameters, rate) for name, parameters in groups]
    return [
        LayerGroup(name, parameters, rate * (_ENCODER_RATE if k else 1.0), 0.5 * k / len(groups))
        for k, (name, parameters) in enumerate(groups)
    ]


def depth_groups(network: ClassNetwork) -> list[tuple[str, tuple[tuple[str, nn.Parameter], ...]]]:
    """All parameters, grouped from the last layer down to the stem."""
    named = list(network.named_parameters())
    return [(name, tuple((k, p) for k, p in named if k.startswith(starts))) for name, starts in network.depth]


def _steps(n_cases: int, dims: int) -> int:
    steps = int(min(900, max(120, 30 * n_cases**0.5)))
    return steps if dims == 2 else steps // 2
