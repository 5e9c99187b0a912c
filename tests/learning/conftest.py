"""Let the tests of this room import the phantoms beside them; a model small enough to learn in seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from napari_medseg.learning import validation
from napari_medseg.models.checkpoint import Card, Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation import click
from napari_medseg.segmentation.segmenter import Segmenter

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread_and_short_examinations(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(validation, "_GUARD_BATCHES", 1)
    monkeypatch.setattr(validation, "_CLICKS", 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _the_network_answers_alone(monkeypatch):
    """By rays and intensities alone a click finds the phantoms: what the network learns would not show."""
    monkeypatch.setattr(click, "AGREEMENT", 0.0)
    monkeypatch.setattr(click, "_OPINION_FIRST", 0.0)


@pytest.fixture
def model() -> Segmenter:
    """A click model of a few thousand untrained weights."""
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8)).eval()
    return Segmenter(Checkpoint(network, Card(name="click", version=1, sha256="0" * 64)), "cpu")
