"""OpenVINO in place of torch: the same answers, chosen where it is faster, never missed where it is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.checkpoint import load_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.openvino_graph import OpenVinoClicks
from napari_medseg.segmentation import precision, self_test
from napari_medseg.segmentation.prompts import Click
from napari_medseg.segmentation.segmenter import Segmenter
from napari_medseg.segmentation.self_test import with_openvino
from napari_medseg.segmentation.speed import Speed, keep, machine

pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")


@pytest.fixture(scope="module")
def network() -> ClickUNet:
    """The bundled click model's."""
    found = load_checkpoint(Library().path()).network.eval()
    assert isinstance(found, ClickUNet)
    return found


@pytest.fixture
def scan() -> Volume:
    grid = np.indices((24, 60, 60)) - np.array([12, 30, 30]).reshape(3, 1, 1, 1)
    ball = (grid**2 * np.array([4, 1, 1]).reshape(3, 1, 1, 1)).sum(0) < 15**2
    noise = np.random.default_rng(0).normal(0, 12, ball.shape)
    return Volume((80 * ball + noise).astype(np.float32), np.diag([-1.0, -1.0, 2.0, 1.0])[[2, 1, 0, 3]])


def middle(scan: Volume) -> Click:
    x, y, z = scan.position_of((12, 30, 30))
    return Click((float(x), float(y), float(z)))


def choose(engine: str) -> None:
    keep("cpu", Speed(machine=machine("cpu"), precision="float32", engine=engine))  # type: ignore[arg-type]


def test_it_tells_nobody_of_its_use(tmp_path: Path) -> None:
    asked = """
import socket, sys, threading, time
def refuse(*_, **__):
    print("NETWORK", flush=True)
    raise OSError
socket.create_connection = socket.getaddrinfo = socket.socket.connect = refuse
import torch
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.openvino_graph import OpenVinoClicks
OpenVinoClicks(ClickUNet(widths=(8, 8, 8, 8)), torch.float32, 1)(torch.zeros(1, 7, 16, 16, 16))
time.sleep(1.0)
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "[]\n", done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 64, 64, 64), (3, 48, 48, 48), (2, 16, 48, 32)])
def test_it_gives_torchs_answer(network: ClickUNet, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape[0], 7, *shape[1:], generator=torch.Generator().manual_seed(0))
    exact = OpenVinoClicks(network, torch.float32, 1)
    low = OpenVinoClicks(network, torch.bfloat16, 1)
    with torch.inference_mode():
        wanted, got, rough = network(x)[0], exact(x), low(x)
    assert got.shape == wanted.shape
    assert got.dtype == torch.float32
    assert torch.allclose(got, wanted, atol=1e-3)
    assert float(((rough > 0) != (wanted > 0)).float().mean()) < 0.01


def test_a_click_and_a_correction_are_answered_alike(network: ClickUNet, scan: Volume) -> None:
    masks = []
    for engine in ("torch", "openvino"):
        choose(engine)
        model = Segmenter(load_checkpoint(Library().path()), "cpu")
        first = model.segment(scan, [middle(scan)])
        assert (model._engine is not None) == (engine == "openvino")
        again = model.segment(scan, [middle(scan), Click((0.0, 0.0, 0.0), positive=False)], previous=first)
        masks.append((np.asarray(first.data), np.asarray(again.data)))
    for by_torch, by_openvino in zip(*masks, strict=True):
        assert by_torch.any()
        assert (by_torch != by_openvino).sum() <= 2


def test_torch_goes_on_where_it_stops(scan: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> torch.Tensor:
        raise RuntimeError("Exception from src/inference")

    choose("openvino")
    model = Segmenter(load_checkpoint(Library().path()), "cpu")
    monkeypatch.setattr(OpenVinoClicks, "__call__", stop)
    assert isinstance(mask := model.segment(scan, [middle(scan)]), LabelMap)
    assert np.asarray(mask.data).any()
    assert model._engine is None


def test_an_answer_that_is_no_number_is_asked_of_torch(scan: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("openvino")
    model = Segmenter(load_checkpoint(Library().path()), "cpu")
    monkeypatch.setattr(OpenVinoClicks, "__call__", lambda _, x: torch.full_like(x[:, :1], torch.nan))
    assert np.asarray(model.segment(scan, [middle(scan)]).data).any()


def test_without_it_torch_answers(network: ClickUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("openvino")
    monkeypatch.setattr(precision, "has_openvino", lambda: False)
    assert precision.faster_engine(network, torch.device("cpu"), torch.float32) is None
    monkeypatch.setattr(precision, "has_openvino", lambda: True)
    assert precision.faster_engine(network, torch.device("cuda"), torch.float32) is None

    def broken(*_: object) -> None:
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(precision, "OpenVinoClicks", broken)
    assert precision.faster_engine(network, torch.device("cpu"), torch.float32) is None


@pytest.mark.parametrize(("by_torch", "by_openvino", "engine"), [(1.0, 0.5, "openvino"), (1.0, 0.95, "torch")])
def test_the_measurement_chooses_what_is_clearly_faster(
    network: ClickUNet, monkeypatch: pytest.MonkeyPatch, by_torch: float, by_openvino: float, engine: str
) -> None:
    monkeypatch.setattr(
        self_test, "_seconds", lambda answer, _: by_openvino if isinstance(answer, OpenVinoClicks) else by_torch
    )
    before = Speed(machine=machine("cpu"), precision="float32", seconds={"float32, 1 threads": by_torch})
    found = with_openvino(network, before, rounds=1)
    assert found.engine == engine
    assert [s for name, s in found.seconds.items() if name.startswith("OpenVINO")] == [by_openvino]
    assert found.precision == before.precision


def test_an_engine_that_answers_otherwise_is_not_chosen(network: ClickUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoClicks, "__call__", lambda _, x: torch.ones_like(x[:, :1]))
    monkeypatch.setattr(self_test, "_seconds", lambda answer, _: 0.1 if isinstance(answer, OpenVinoClicks) else 1.0)
    assert with_openvino(network, Speed(machine=machine("cpu"), precision="float32"), rounds=1).engine == "torch"
