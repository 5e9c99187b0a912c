"""How this machine runs the networks fastest and still right: measured once, kept in the user's folder.

Until it is measured, a guess from the processor's abilities serves, so that the first click never waits. The
measurement runs in a process of its own after the first answer, and again when the processor or an engine changed.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field, ValidationError

from napari_medseg.home import home_folder
from napari_medseg.imaging.durable import write_durably

FILE = "speed.json"
OFF = "NAPARI_MEDSEG_SELF_TEST"
_STALE_LOCK_S = 600.0
_started: list[subprocess.Popen[bytes]] = []


class Speed(BaseModel):
    """What was found out about one kind of device."""

    machine: str = Field(title="Machine", description="Processor, its number of cores, and torch's version.")
    precision: Literal["float32", "bfloat16"] = Field(title="Precision")
    engine: Literal["torch", "openvino"] = Field("torch", title="Engine", description="What answers to prompts.")
    threads: int | None = Field(None, title="Threads", description="None: as many as torch chooses.")
    agreement: float | None = Field(None, title="Agreement", description="Dice of both precisions' masks.")
    seconds: dict[str, float] = Field(default_factory=dict, title="Seconds of one click", description="By setting.")

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


class Speeds(BaseModel):
    """The settings file: one entry a kind of device (``"cpu"``, ``"cuda"``)."""

    devices: dict[str, Speed] = Field(default_factory=dict)


def speed_of(device_type: str) -> Speed:
    """What was measured on this machine, else a guess."""
    known = read_speeds().devices.get(device_type)
    return known if known is not None and known.machine == machine(device_type) else guess(device_type)


def is_measured(device_type: str) -> bool:
    """Whether the settings file holds a measurement of this machine as it is now."""
    known = read_speeds().devices.get(device_type)
    return known is not None and known.machine == machine(device_type)


def guess(device_type: str) -> Speed:
    """16 bits where the device multiplies matrices in them, 32 bits elsewhere; torch's own number of threads.

    A processor whose vectors know 16 bits but whose matrices do not (AVX512-BF16 without AMX) takes longer in them: for
    clicks up to 1.8 times, for training 1.5 times as long.
    """
    if device_type == "cuda":
        can = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
    return Speed(machine=machine(device_type), precision="bfloat16" if can else "float32")


def use_threads() -> None:
    """Run torch on the measured number of threads, unless the user or a caller chose one."""
    wanted = speed_of("cpu").threads
    if wanted is not None and "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() == _usual_threads():
        torch.set_num_threads(wanted)


@cache
def _usual_threads() -> int:
    return int(torch.get_num_threads())


@cache
def machine(device_type: str) -> str:
    """The processor, its cores and the versions of what runs networks: what a measurement holds for."""
    if device_type == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    ability = torch.backends.cpu.get_cpu_capability()
    engines = [f"torch {torch.__version__}"]
    with suppress(PackageNotFoundError):
        engines.append(f"OpenVINO {version('openvino')}")
    return f"{_processor()}, {os.cpu_count()} cores, {ability}, {', '.join(engines)}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_speeds() -> Speeds:
    """Read the settings file; a missing or damaged one counts as empty."""
    try:
        return Speeds.model_validate_json((home_folder() / FILE).read_bytes())
    except (OSError, ValidationError, ValueError):
        return Speeds()


def keep(device_type: str, speed: Speed) -> Path:
    """Write one device's entry into the settings file."""
    path = home_folder() / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    devices = {**read_speeds().devices, device_type: speed}
    text = Speeds(devices=devices).model_dump_json(indent=1)
    return write_durably(
        path,
        lambda part: _write(part, text),
        _verify,
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _verify(path: Path) -> None:
    Speeds.model_validate_json(path.read_bytes())


def measure_later(device_type: str) -> bool:
    """Measure in another process at low priority, if it has not been done; return whether one was started.

    The environment variable ``NAPARI_MEDSEG_SELF_TEST=off`` forbids it.
    """
    if _started or os.environ.get(OFF, "").lower() in ("off", "0", "no") or is_measured(device_type) or not _locked():
        return False
    nothing: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "napari_medseg.segmentation.self_test", device_type]
    with suppress(OSError):
        _started.append(subprocess.Popen(command, **nothing))
    return bool(_started)


def _locked() -> bool:
    """Take the right to measure; another process may be at it."""
    lock = lock_path()
    with suppress(OSError):
        if time.time() - lock.stat().st_mtime > _STALE_LOCK_S:
            lock.unlink()
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch(exist_ok=False)
    except OSError:
        return False
    return True


def lock_path() -> Path:
    """The file that is there while somebody measures."""
    return home_folder() / f"{FILE}.measuring"
