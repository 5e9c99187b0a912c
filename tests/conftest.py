"""Fixtures for all rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_medseg.imaging.volume import LabelMap
from napari_medseg.segmentation.prompts import Click, Prompt, Scribble
from napari_medseg.session.runner import Ticket, _Request

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real labelled scans, where this checkout has them beside it."""
    if not SHARED.is_dir():
        pytest.skip("needs the real scans in ../shared/data, which are not part of the project")
    return SHARED


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own library, corrections and settings."""
    monkeypatch.setenv("NAPARI_MEDSEG_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("NAPARI_MEDSEG_SELF_TEST", "off")


class BallSegmenter:
    """A model that answers with a ball round each positive prompt, without those round negative ones.

    Parameters
    ----------
    radius_mm : float
        Of each ball.
    """

    def __init__(self, radius_mm: float = 4.0) -> None:
        self.name, self.version, self.needs_click = "ball", 1, True
        self.labels: dict[int, str] = {}
        self.radius_mm = radius_mm
        self.calls: list[tuple[tuple[Prompt, ...], LabelMap | None]] = []

    def segment(self, volume, prompts=(), *, previous=None, progress=None, should_stop=None) -> LabelMap:
        self.calls.append((tuple(prompts), previous))
        data = np.zeros(volume.data.shape, np.uint8)
        if not prompts:
            data[:2], data[4:6] = 1, 2
        step = np.array(volume.spacing_mm)[:, None, None, None]
        for prompt in prompts:
            if isinstance(prompt, Scribble):
                at = prompt.points_mm[0]
            else:
                at = prompt.position_mm if isinstance(prompt, Click) else prompt.corner_mm
            offset = (np.indices(data.shape) - volume.index_of(at)[:, None, None, None]) * step
            data[(offset**2).sum(0) <= self.radius_mm**2] = 1 if prompt.positive else 0
        return LabelMap(data, volume.affine, grid=volume.grid)


class ManualRunner:
    """Keeps every request; a test finishes them in any order. Stale answers are dropped as the thread does."""

    def __init__(self) -> None:
        self.requests: list[_Request] = []

    def submit(self, work, *, done, failed, on_progress=None, dropped=None) -> Ticket:
        if self.requests:
            self.requests[-1].ticket.cancel()
        ticket = Ticket(len(self.requests) + 1, on_progress, on_dropped=dropped)
        self.requests.append(_Request(ticket, work, done, failed))
        return ticket

    def cancel(self) -> bool:
        if not self.requests or self.requests[-1].ticket.cancelled:
            return False
        self.requests[-1].ticket.cancel()
        return True

    def finish(self, index: int = -1) -> None:
        request = self.requests[index]
        deliver = request.run()
        if not request.ticket.cancelled:
            deliver()


@pytest.fixture
def model() -> BallSegmenter:
    """A model that answers at once."""
    return BallSegmenter()


@pytest.fixture
def runner() -> ManualRunner:
    """Where the model works until the test says ``runner.finish()``."""
    return ManualRunner()
