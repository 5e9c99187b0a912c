"""A scan with unequal axes, open in a session whose model answers with balls."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import Services, build

SPACING = (3.0, 1.0, 0.8)


def volume_with(shape: tuple[int, int, int] = (8, 20, 24), name: str = "scan") -> Volume:
    z, y, x = SPACING
    affine = np.array([[0, 0, -x, 30], [0, -y, 0, 40], [z, 0, 0, -50], [0, 0, 0, 1]], float)
    data = np.random.default_rng(len(name)).normal(0, 100, shape).astype(np.int16)
    return Volume(data, affine, name=name, modality="CT")


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
def slow(volume, model, runner, store) -> Services:
    """The same, but the model answers when the test says so: ``slow.runner.finish(0)``."""
    made = build(answers=runner, store=store)
    made.runner = runner
    made.session.model = model
    made.opening.choose(volume)
    return made
