"""A scan with unequal axes, a model that answers with balls, and a runner whose answers arrive when a test says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from napari_medseg.errors import Cancelled
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.runner import Ticket, _Request
from napari_medseg.session.services import Services, build

SPACING = (3.0, 1.0, 0.8)


def volume_with(shape: tuple[int, int, int] = (8, 20, 24), name: str = "scan") -> Volume:
    z, y, x = SPACING
    affine = np.array([[0, 0, -x, 30], [0, -y, 0, 40], [z, 0, 0, -50], [0, 0, 0, 1]], float)
    data = np.random.default_rng(len(name)).normal(0, 100, shape).astype(np.int16)
    return Volume(data, affine, name=name, modality="CT")


@dataclass
class BallSegmenter:
    """Answers with a ball of one radius round each positive click, without those round negative ones."""

    radius_mm: float = 4.0
    name: str = "ball"
    version: int = 1
    needs_click: bool = True
    labels: dict[int, str] = field(default_factory=dict)
    calls: list[tuple[Any, LabelMap | None]] = field(default_factory=list)

    def segment(self, volume, prompts=(), *, previous=None, progress=None, should_stop=None):
        self.calls.append((tuple(prompts), previous))
        if should_stop is not None and should_stop():
            raise Cancelled("Stopped.")
        if progress is not None:
            progress(0.5)
        data = np.zeros(volume.data.shape, np.uint8)
        if not prompts:
            data[:2], data[4:6] = 1, 2
        for prompt in prompts:
            where = prompt.position_mm if hasattr(prompt, "position_mm") else prompt.corner_mm
            offset = (np.indices(data.shape) - volume.index_of(where)[:, None, None, None]).astype(float)
            near = (offset * np.array(volume.spacing_mm)[:, None, None, None]) ** 2
            data[near.sum(0) <= self.radius_mm**2] = 1 if prompt.positive else 0
        return LabelMap(data, volume.affine, grid=volume.grid)


class ManualRunner:
    """Keeps every request; a test finishes them in any order. Stale answers are dropped as the thread does."""

    def __init__(self) -> None:
        self.requests: list[_Request] = []

    def submit(self, work, *, done, failed, on_progress=None) -> Ticket:
        if self.requests:
            self.requests[-1].ticket.cancel()
        ticket = Ticket(len(self.requests) + 1, on_progress)
        self.requests.append(_Request(ticket, work, done, failed))
        return ticket

    def cancel(self) -> bool:
        if not self.requests or self.requests[-1].ticket.cancelled:
            return False
        self.requests[-1].ticket.cancel()
        return True

    def finish(self, index: int) -> None:
        request = self.requests[index]
        deliver = request.run()
        if not request.ticket.cancelled:
            deliver()


class ListStore:
    """Keeps accepted corrections in memory."""

    def __init__(self, folder) -> None:
        self.folder, self.corrections = folder, []

    def add(self, correction):
        self.corrections.append(correction)
        return self.folder / str(len(self.corrections))


@pytest.fixture
def volume() -> Volume:
    return volume_with()


@pytest.fixture
def another_volume() -> Volume:
    return volume_with((5, 6, 7), "other")


@pytest.fixture
def model() -> BallSegmenter:
    return BallSegmenter()


@pytest.fixture
def store(tmp_path) -> ListStore:
    return ListStore(tmp_path)


@pytest.fixture
def services(volume, model, store) -> Services:
    """An open scan and a loaded model, everything inline."""
    made = build(store=store)
    made.session.model = model
    made.opening.choose(volume)
    return made


@pytest.fixture
def slow(volume, model, store) -> Services:
    """The same, but the model answers when the test says so: ``slow.runner.finish(0)``."""
    runner = ManualRunner()
    made = build(answers=runner, store=store)
    made.runner = runner
    made.session.model = model
    made.opening.choose(volume)
    return made
