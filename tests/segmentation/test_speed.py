"""The self-test of a machine: a guess at first, a measurement kept in a file, done again on another machine."""

from __future__ import annotations

import json
import subprocess

import pytest
import torch

from napari_medseg.home import home_folder
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation import self_test, speed
from napari_medseg.segmentation.precision import faster_dtype
from napari_medseg.segmentation.self_test import measure
from napari_medseg.segmentation.speed import FILE, Speed, is_measured, keep, machine, measure_later, speed_of

CPU = torch.device("cpu")


def test_without_a_measurement_a_guess_serves_at_once() -> None:
    assert not is_measured("cpu")
    assert speed_of("cpu").precision in ("float32", "bfloat16")
    assert speed_of("cpu").threads is None


@pytest.mark.parametrize(("has_tiles", "guessed"), [(True, "bfloat16"), (False, "float32")])
def test_16_bits_are_guessed_only_where_matrices_are_multiplied_in_them(
    monkeypatch: pytest.MonkeyPatch, has_tiles: bool, guessed: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    assert speed.guess("cpu").precision == guessed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_measurement_is_kept_and_obeyed(precision: str) -> None:
    keep("cpu", Speed(machine=machine("cpu"), precision=precision, agreement=0.99))
    assert is_measured("cpu")
    assert faster_dtype(ClickUNet(widths=(8, 8, 8, 8)), CPU) is getattr(torch, precision)
    assert faster_dtype(torch.nn.Linear(1, 1), CPU) is torch.float32


def test_another_torch_or_processor_makes_it_void() -> None:
    keep("cpu", Speed(machine="some other processor, torch 1.0", precision="float32", threads=64))
    assert not is_measured("cpu")
    assert speed_of("cpu").threads is None


def test_a_damaged_file_counts_as_none() -> None:
    home_folder().mkdir(parents=True, exist_ok=True)
    (home_folder() / FILE).write_text("{not json")
    assert not is_measured("cpu")
    assert speed_of("cpu").machine == machine("cpu")


def test_one_device_does_not_overwrite_the_other() -> None:
    keep("cpu", Speed(machine=machine("cpu"), precision="float32"))
    keep("cuda", Speed(machine="a card", precision="bfloat16"))
    assert set(json.loads((home_folder() / FILE).read_text())["devices"]) == {"cpu", "cuda"}


def test_threads_are_used_unless_somebody_chose_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    keep("cpu", Speed(machine=machine("cpu"), precision="float32", threads=3))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    speed.use_threads()
    assert asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    speed.use_threads()
    assert asked == [3]


def test_it_is_measured_once_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(speed, "_started", [])
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    assert not measure_later("cpu"), "forbidden by the environment of tests"
    monkeypatch.setenv(speed.OFF, "on")
    assert measure_later("cpu")
    assert not measure_later("cpu"), "it is running"
    assert [command[1:] for command in started] == [["-m", "napari_medseg.segmentation.self_test", "cpu"]]
    monkeypatch.setattr(speed, "_started", [])
    assert not measure_later("cpu"), "another process is at it"
    speed.lock_path().unlink()
    keep("cpu", Speed(machine=machine("cpu"), precision="float32"))
    assert not measure_later("cpu"), "it is known"


def test_the_measurement_compares_precisions_and_threads() -> None:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    found = measure(ClickUNet(widths=(8, 8, 8, 8)), rounds=1)
    assert torch.get_num_threads() == before
    assert found.machine == machine("cpu")
    assert {name.split(",")[0] for name in found.seconds} == {"float32", "bfloat16"}
    assert found.agreement is not None
    assert 0 <= found.agreement <= 1


@pytest.mark.parametrize(("load", "n_measured"), [((90.0,), 0), ((5.0, 90.0, 90.0, 5.0, 5.0), 2), ((5.0, 5.0), 1)])
def test_a_busy_machine_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, load: tuple[float, ...], n_measured: int
) -> None:
    loads, measured = list(load), []
    monkeypatch.setattr(self_test.psutil, "cpu_percent", lambda _: loads.pop(0) if len(loads) > 1 else loads[0])
    monkeypatch.setattr(self_test.time, "sleep", lambda _: None)
    found = self_test.in_peace(lambda: measured.append(1) or Speed(machine="this", precision="float32"))
    assert len(measured) == n_measured
    assert (found is None) == (n_measured == 0)
