"""Strategies: which layers learn, how fast, and from when on. One mechanism, a few lines each.

A strategy is a list of layer groups with a learning rate and the part of the training after which they join. The
objective is the same for all: mean loss over the corrected cases + lambda R, R the squared distance to the old weights
(L2-SP: Li et al., Explicit inductive bias for transfer learning, ICML 2018, eq. 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from napari_medseg.learning.settings import Strategy

if TYPE_CHECKING:
    from napari_medseg.networks.click_unet import ClickUNet


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
    augments: bool = True


def plan(strategy: Strategy | str, n_cases: int) -> Plan:
    """Choose the layers, learning rate and length for a number of corrected cases."""
    strategy = Strategy(strategy)
    if strategy is Strategy.HEAD:
        return Plan(strategy, 3e-3, 120, heads_only)
    if strategy is Strategy.FEATURES:
        return Plan(strategy, 1e-2, 200, heads_only, augments=False)
    if strategy is Strategy.GRADUAL:
        return Plan(strategy, 1e-3, _steps(n_cases), from_the_head_down)
    if strategy is Strategy.FULL:
        return Plan(strategy, 5e-4, _steps(n_cases), all_layers)
    return Plan(strategy, 1e-3, _steps(n_cases), all_layers)


def heads_only(network: ClickUNet, rate: float) -> list[LayerGroup]:
    """Nothing but the last layers."""
    return [LayerGroup("heads", depth_groups(network)[0][1], rate)]


def all_layers(network: ClickUNet, rate: float) -> list[LayerGroup]:
    """Everything, the encoder more slowly."""
    groups = depth_groups(network)
    return [LayerGroup(name, parameters, rate) for name, parameters in groups]


def from_the_head_down(network: ClickUNet, rate: float) -> list[LayerGroup]:
    """The heads first; deeper groups join over the first half, the encoder at a tenth of the rate."""
    groups = depth_groups(network)
    return [
        LayerGroup(name, parameters, rate * (0.1 if name.startswith("encoder") else 1.0), 0.5 * k / len(groups))
        for k, (name, parameters) in enumerate(groups)
    ]


def depth_groups(network: ClickUNet) -> list[tuple[str, tuple[tuple[str, nn.Parameter], ...]]]:
    """All parameters, grouped from the heads down to the stem."""
    n = len(network.decoder.blocks)
    prefixes: list[tuple[str, tuple[str, ...]]] = [("heads", ("label_head.", "click_head.", "quality_head."))]
    prefixes += [(f"decoder {k}", (f"decoder.blocks.{k}.", f"decoder.ups.{k}.")) for k in range(n - 1, -1, -1)]
    prefixes += [("encoder bottom", ("encoder.bottom.",))]
    prefixes += [(f"encoder {k}", (f"encoder.levels.{k}.", f"encoder.downs.{k - 1}.")) for k in range(n, -1, -1)]
    prefixes += [("stem", ("stem.",))]
    named = list(network.named_parameters())
    return [(name, tuple((k, p) for k, p in named if k.startswith(starts))) for name, starts in prefixes]


def _steps(n_cases: int) -> int:
    return 300 if n_cases <= 2 else 500 if n_cases <= 5 else 700
