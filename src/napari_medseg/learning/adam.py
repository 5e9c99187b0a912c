"""Adam with a pull to the old weights, in a page.

torch's own optimisers import its compiler when they are made: seconds before the first step, on every start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Adam (Kingma and Ba, 2015, algorithm 1), with L2-SP decoupled from the gradient as AdamW's weight decay is.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        What may learn; those without a gradient are left as they are.
    old : mapping of str to Tensor
        Weights to be pulled to, by the same names; fresh parameters have none.
    pull : float
        Lambda: each step goes ``rate * pull`` of the way back to the old weights.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], old: Mapping[str, Tensor], pull: float) -> None:
        self.parameters, self._old, self._pull = dict(parameters), dict(old), pull
        self._moments: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """Move each parameter that has a gradient, by its learning rate, and drop the gradients."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            mean, square, count = self._of(name, parameter)
            count += 1
            mean.lerp_(parameter.grad, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(parameter.grad, parameter.grad, value=1 - _BETAS[1])
            n = float(count)
            scale = (square / (1 - _BETAS[1] ** n)).sqrt_().add_(_EPSILON)
            parameter.addcdiv_(mean, scale, value=-rates[name] / (1 - _BETAS[0] ** n))
            if self._pull and name in self._old:
                parameter.lerp_(self._old[name], min(1.0, rates[name] * self._pull))
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """Gradients that are there."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that `restore` needs, by name."""
        for name, moments in self._moments.items():
            for kind, value in zip(("mean", "square", "count"), moments, strict=True):
                yield f"{kind}.{name}", value

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved state."""
        names = {key.split(".", 1)[1] for key in state}
        self._moments = {n: (state[f"mean.{n}"], state[f"square.{n}"], state[f"count.{n}"]) for n in names}

    def _of(self, name: str, parameter: nn.Parameter) -> tuple[Tensor, Tensor, Tensor]:
        if name not in self._moments:
            zeros = torch.zeros_like(parameter)
            self._moments[name] = (zeros, zeros.clone(), torch.zeros(1))
        return self._moments[name]
