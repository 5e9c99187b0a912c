"""Several processes, one training: ``torchrun`` starts them, each takes its share of every batch, all take one step.

A process alone is a team of one, for which nothing here costs anything. All members need the folder that the run goes
on from; the leader alone measures, writes and reports.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

_WAIT = timedelta(minutes=20)


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train together.

    Parameters
    ----------
    rank : int
        Which member this process is; 0 leads.
    size : int
        How many they are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this process measures, writes and reports."""
        return self.rank == 0

    def batch(self, n: int) -> int:
        """Size of a batch of all members: at least one piece each."""
        return max(n, self.size)

    def share(self, n: int) -> slice:
        """Which of `n` pieces are this member's."""
        return slice(self.rank, n, self.size)

    def total(self, sums: Tensor) -> Tensor:
        """Sum over all members, through which gradients flow."""
        if self.size == 1:
            return sums
        added: Tensor = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        return added

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Give every member the mean of all members' gradients, in place."""
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is so for some member."""
        if self.size == 1:
            return flag
        asked = torch.tensor([float(flag)], device=device)
        torch.distributed.all_reduce(asked)
        return bool(asked.item() > 0)

    def from_leader(self, make: Callable[[], Any], device: torch.device) -> Any:
        """What the leader makes, for all: anything that JSON can hold."""
        if self.size == 1:
            return make()
        text = json.dumps(make()).encode() if self.is_leader else b""
        length = torch.tensor([len(text)], device=device)
        torch.distributed.broadcast(length, 0)
        data = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.is_leader:
            data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        torch.distributed.broadcast(data, 0)
        return json.loads(bytes(data.cpu().tolist()))


class _Sum(torch.autograd.Function):
    """Sum over all members, and of its gradients.

    torch's own (`torch.distributed.nn.functional.all_reduce`) keeps the group for good: its threads outlive the
    training and now and then abort the process when it ends.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor) -> Tensor:
        return _summed(sums)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(tensor: Tensor) -> Tensor:
    summed = tensor.detach().clone()
    torch.distributed.all_reduce(summed)
    return summed


def present_team() -> Team:
    """Return the team that this process trains in: of one, unless `joined` is under way."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return Team(torch.distributed.get_rank(), torch.distributed.get_world_size()) if there else Team()


@contextmanager
def joined() -> Iterator[Team]:
    """Join the processes that ``torchrun`` started; a team of one without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Team()
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_WAIT)
    try:
        yield present_team()
    finally:
        torch.distributed.destroy_process_group()
