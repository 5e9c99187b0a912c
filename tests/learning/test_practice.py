"""Members of a team take every step together, also when one of them overflows."""

import threading
from types import SimpleNamespace

import pytest
import torch

from napari_medseg.errors import JobFailed
from napari_medseg.learning.practice import Practice
from napari_medseg.learning.settings import FineTuneSettings
from napari_medseg.learning.trainer import Progress, Trainer


class Meeting:
    """Collectives of two threads: both must call the same one, or it fails as a real group does."""

    def __init__(self):
        self.barrier, self.brought = threading.Barrier(2, timeout=60), [None, None]

    def meet(self, rank, what, value):
        self.brought[rank] = (what, value)
        self.barrier.wait()
        whats, values = zip(*self.brought, strict=True)
        self.barrier.wait()
        assert len(set(whats)) == 1, f"one member called {whats[0]}, the other {whats[1]}"
        return values


class Member:
    size = 2

    def __init__(self, rank, meeting):
        self.rank, self.meeting = rank, meeting

    def any(self, flag, _device):
        return any(self.meeting.meet(self.rank, "any", flag))

    def average(self, gradients):
        both = self.meeting.meet(self.rank, "average", [g.clone() for g in gradients])
        for k, gradient in enumerate(gradients):
            gradient.copy_((both[0][k] + both[1][k]) / 2)


def practice(monkeypatch, rank, meeting, losses, dtype):
    """One weight whose loss is multiplied by what `losses` gives for each try."""
    team = Member(rank, meeting)
    monkeypatch.setattr("napari_medseg.learning.trainer.present_team", lambda: team)
    torch.manual_seed(0)
    network = torch.nn.Linear(1, 1, bias=False)
    group = SimpleNamespace(parameters=[("weight", network.weight)], learning_rate=0.1, starts=0.0)
    trainer = Trainer(network, [group], FineTuneSettings(), n_steps=2, progress=Progress("run"))
    made = Practice(SimpleNamespace(dtype=dtype, material=lambda with_held_out: None), trainer)
    made._team = team

    def gradients(_material, _held_out):
        factor = next(losses)
        return made._backward(lambda: network.weight.sum() * factor)

    made._gradients = gradients
    return made


def take_two_steps(monkeypatch, dtype, tries):
    meeting, told = Meeting(), [[], []]
    members = [practice(monkeypatch, rank, meeting, iter(tries[rank]), dtype) for rank in range(2)]

    def work(rank):
        try:
            told[rank] += [members[rank].step(with_held_out=False) for _ in range(2)]
        except Exception as error:
            told[rank].append(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return members, told


def test_when_one_member_overflows_all_take_the_step_again_in_32_bits(monkeypatch):
    nan = float("nan")
    members, told = take_two_steps(monkeypatch, torch.bfloat16, ([1.0, 1.0, 1.0], [nan, 3.0, 3.0]))
    for member, said in zip(members, told, strict=True):
        assert all(isinstance(loss, float) for loss in said), said
        assert (member.trainer.progress.step, member.trainer.progress.is_exact) == (2, True)
    assert torch.equal(*(member.trainer.network.weight for member in members))


def test_when_one_member_cannot_go_on_in_32_bits_all_stop(monkeypatch):
    members, told = take_two_steps(monkeypatch, torch.float32, ([1.0], [float("inf")]))
    for member, said in zip(members, told, strict=True):
        (error,) = said
        assert isinstance(error, JobFailed)
        with pytest.raises(JobFailed, match="the loss is not a number: nothing was changed"):
            raise error
        assert member.trainer.progress.step == 0
