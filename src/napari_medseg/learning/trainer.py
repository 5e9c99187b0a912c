"""The moving parts of a training: network, running mean, optimiser, step; all that a resumed run needs is saved."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_medseg.errors import JobFailed
from napari_medseg.imaging.durable import write_durably
from napari_medseg.learning.adam import Adam
from napari_medseg.learning.settings import FineTuneSettings
from napari_medseg.learning.strategies import LayerGroup
from napari_medseg.learning.team import present_team

if TYPE_CHECKING:
    from napari_medseg.networks.click_unet import ClickUNet

STATE = "training_state.safetensors"
_WARM_UP = 20


@dataclass(eq=False)
class Progress:
    """What a run knows beside its tensors; saved with them.

    Parameters
    ----------
    run : str
        Hash of everything that the run depends on: another run does not go on from this state.
    step : int
        Steps done.
    patch : tuple of int
        The patch in use; smaller than planned after memory ran out.
    seconds : float
        Time spent so far.
    figures : dict
        Figures that were measured on the way, by name.
    is_exact : bool
        Whether low precision overflowed, and all steps since are taken in 32 bits.
    """

    run: str
    step: int = 0
    patch: tuple[int, int, int] = (64, 64, 64)
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    is_exact: bool = False


class Trainer:
    """Takes optimiser steps and keeps the running mean of the weights.

    Parameters
    ----------
    network : ClickUNet
        Learns; on `device`.
    groups : sequence of LayerGroup
        What learns, how fast, from when on. Everything else stays as it is.
    settings : FineTuneSettings
        Averaging and the pull to the old weights.
    n_steps : int
        Length of the run.
    progress : Progress
        Where the run is.
    fresh : tuple of str
        Parameters that have no old weights to be pulled to.
    """

    def __init__(
        self,
        network: ClickUNet,
        groups: Sequence[LayerGroup],
        settings: FineTuneSettings,
        *,
        n_steps: int,
        progress: Progress,
        fresh: tuple[str, ...] = (),
    ) -> None:
        self.network, self.groups, self.settings = network, [g for g in groups if g.parameters], settings
        self.n_steps, self.progress, self.team = n_steps, progress, present_team()
        self.average = copy.deepcopy(network).eval()
        named = {name: p for g in self.groups for name, p in g.parameters}
        old = {name: p.detach().clone() for name, p in named.items() if not fresh or not name.startswith(fresh)}
        self.optimiser = Adam(named, old, settings.pull)
        self._free_groups()

    @property
    def part(self) -> float:
        """How much of the run is done, 0 to 1."""
        return self.progress.step / self.n_steps

    def step(self) -> None:
        """Use the gradients that were accumulated: clip, step, average."""
        self.team.average(self.optimiser.gradients())
        norm = torch.nn.utils.get_total_norm(self.optimiser.gradients())
        if not math.isfinite(float(norm)):
            self.refuse_nan()
        torch.nn.utils.clip_grads_with_norm_(self.optimiser.parameters.values(), 1.0, norm)
        scale = self._schedule()
        self.optimiser.step({name: g.learning_rate * scale for g in self.groups for name, _ in g.parameters})
        self.progress.step += 1
        self._free_groups()
        decay = min(self.settings.average, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)

    def refuse_nan(self) -> None:
        """Stop the run: its loss or gradients are not numbers.

        Raises
        ------
        JobFailed
            Always.
        """
        raise JobFailed(
            f"training stopped at step {self.progress.step + 1} because the loss is not a number: nothing was changed; "
            "try a smaller learning rate"
        )

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs, in one file that is whole or not there."""
        from safetensors import safe_open
        from safetensors.torch import save_file

        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"adam.{k}": v for k, v in self.optimiser.state()}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        about = {"progress": json.dumps(vars(self.progress))}

        def verify(path: Path) -> None:
            with safe_open(path, framework="pt") as stored:
                stored.get_tensor("network.stem.weight")

        write_durably(folder / STATE, lambda path: save_file(tensors, path, metadata=about), verify)

    def load(self, folder: Path) -> bool:
        """Go on from a saved state of the same run; whether there was one."""
        from safetensors import SafetensorError, safe_open

        path = folder / STATE
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt", device=str(next(self.network.parameters()).device)) as stored:
                progress = Progress(**json.loads(stored.metadata()["progress"]))
                if progress.run != self.progress.run:
                    return False
                tensors = {k: stored.get_tensor(k) for k in stored.keys()}  # noqa: SIM118  (not a mapping)
            self._restore(tensors)
        except (SafetensorError, KeyError, TypeError, ValueError, OSError):
            return False
        progress.patch = (progress.patch[0], progress.patch[1], progress.patch[2])
        self.progress = progress
        self._free_groups()
        return True

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for prefix, module in (("network.", self.network), ("average.", self.average)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self.optimiser.restore({k.removeprefix("adam."): v for k, v in tensors.items() if k.startswith("adam.")})

    def _schedule(self) -> float:
        """Warm up, stay, and fall to zero in the last phase, when the held-out cases have joined."""
        warm = min(1.0, (self.progress.step + 1) / _WARM_UP)
        late = (self.part - self.settings.held_out_part) / (1 - self.settings.held_out_part)
        return warm * (1.0 if late <= 0 else 0.5 * (1 + math.cos(math.pi * min(1.0, late))))

    def _free_groups(self) -> None:
        """Let the groups learn whose time has come, and no other parameter."""
        free = {id(p) for g in self.groups if self.part >= g.starts for _, p in g.parameters}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in free)
