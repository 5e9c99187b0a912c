"""Strategies: which layers learn, how fast, and from when on. One mechanism, a few lines each.

A strategy is a list of layer groups with a learning rate and the part of the training after which they join. The
objective is the same for all: mean loss over the corrected cases + lambda R, R the squared distance to the old weights
(L2-SP: Li et al., Explicit inductive bias for transfer learning, ICML 2018, eq. 1).

The layers that answer to clicks and those that find the named labels without a click learn apart: each path has its
own features, so that learning labels forgets no click.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from napari_medseg.learning.settings import Strategy

if TYPE_CHECKING:
    from napari_medseg.networks.click_unet import ClickUNet

CLICK_PATH, LABEL_PATH = "", "label_body."
_CLICK_RATE = 0.3
_FRESH_HEAD_RATE = 3.0
_ENCODER_RATE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class LayerGroup:
    """Parameters that learn together.

    Parameters
    ----------
    name : str
        Which layers.
    parameters : tuple of (name, Parameter)
        By their names in the network.
    learning_rate : float
        At its largest.
    starts : float
        Part of the training after which they begin to learn.
    """

    name: str
    parameters: tuple[tuple[str, nn.Parameter], ...]
    learning_rate: float
    starts: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a strategy decides for a number of corrected cases."""

    strategy: Strategy
    learning_rate: float
    steps: int
    groups: Callable[[ClickUNet, float], list[LayerGroup]]
    own_features: bool = True
    augments: bool = True


def plan(strategy: Strategy | str, n_cases: int) -> Plan:
    """Choose the layers, learning rate and length for a number of corrected cases."""
    strategy = Strategy(strategy)
    if strategy is Strategy.HEAD:
        return Plan(strategy, 3e-3, 120, heads_only, own_features=False)
    if strategy is Strategy.FEATURES:
        return Plan(strategy, 1e-2, 200, heads_only, own_features=False, augments=False)
    if strategy is Strategy.GRADUAL:
        return Plan(strategy, 1e-3, _steps(n_cases), from_the_head_down)
    if strategy is Strategy.FULL:
        return Plan(strategy, 3e-4, _steps(n_cases), all_layers)
    return Plan(strategy, 2e-3, _steps(n_cases), all_layers)


def heads_only(network: ClickUNet, rate: float) -> list[LayerGroup]:
    """Nothing but the last layers."""
    return [
        LayerGroup("label head", depth_groups(network, LABEL_PATH)[0][1], rate),
        LayerGroup("click head", depth_groups(network, CLICK_PATH)[0][1], rate * _CLICK_RATE),
    ]


def all_layers(network: ClickUNet, rate: float) -> list[LayerGroup]:
    """Everything; what answers to clicks more slowly."""
    labels = [
        LayerGroup(f"label {name}", parameters, rate * (_FRESH_HEAD_RATE if name == "head" else 1.0))
        for name, parameters in depth_groups(network, LABEL_PATH)
    ]
    clicks = [
        LayerGroup(f"click {name}", parameters, rate * _CLICK_RATE)
        for name, parameters in depth_groups(network, CLICK_PATH)
    ]
    return labels + clicks


def from_the_head_down(network: ClickUNet, rate: float) -> list[LayerGroup]:
    """The heads first; deeper groups join over the first half, the encoder at a tenth of the rate."""
    groups = []
    for path, slower in ((LABEL_PATH, 1.0), (CLICK_PATH, _CLICK_RATE)):
        found = depth_groups(network, path)
        for k, (name, parameters) in enumerate(found):
            depth_rate = rate * slower * (_ENCODER_RATE if name.startswith("encoder") else 1.0)
            groups.append(LayerGroup(f"{path}{name}", parameters, depth_rate, 0.5 * k / len(found)))
    return groups


def depth_groups(network: ClickUNet, path: str = CLICK_PATH) -> list[tuple[str, tuple[tuple[str, nn.Parameter], ...]]]:
    """All parameters of one path, grouped from the head down to the stem.

    The estimate of a mask's quality is in neither: it was fitted last, on features that it must go on fitting.
    """
    n = len(network.decoder.blocks)
    prefixes: list[tuple[str, tuple[str, ...]]] = [("head", ("label_head." if path else "click_head.",))]
    below: list[tuple[str, tuple[str, ...]]] = [
        (f"decoder {k}", (f"decoder.blocks.{k}.", f"decoder.ups.{k}.")) for k in range(n - 1, -1, -1)
    ]
    below += [("encoder bottom", ("encoder.bottom.",))]
    below += [(f"encoder {k}", (f"encoder.levels.{k}.", f"encoder.downs.{k - 1}.")) for k in range(n, -1, -1)]
    below += [("stem", ("stem.",))]
    prefixes += [(name, tuple(path + each for each in starts)) for name, starts in below]
    named = list(network.named_parameters())
    return [(name, tuple((k, p) for k, p in named if k.startswith(starts))) for name, starts in prefixes]


def _steps(n_cases: int) -> int:
    """More cases have more to teach: minutes on two cores, see the README."""
    return min(1500, 150 + 170 * n_cases)
