"""A training that the system kills midway goes on to the very weights of one that nobody disturbed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_medseg.learning.trainer import STATE
from napari_medseg.models.checkpoint import load_checkpoint

PROGRAM = """
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from learning_phantom import QUICK, phantom
from napari_medseg.learning import fine_tune as module, validation
from napari_medseg.models.checkpoint import Card, Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.segmenter import Segmenter
module._REPORT_EVERY_S, validation._GUARD_BATCHES, validation._CLICKS = 0.0, 1, 1
torch.manual_seed(0)
model = Segmenter(Checkpoint(ClickUNet(widths=(8, 8, 8, 8)), Card(name="click", sha256="0" * 64)), "cpu")
settings = QUICK.model_copy(update={{"steps": 12, "save_every_s": 1e-6, "click_share": 0.5}})
for report in module.fine_tune(model, [phantom(0), phantom(1)], settings=settings, out=sys.argv[1]):
    if report.loss is not None:
        print(report.step, flush=True)
"""


def start(tmp_path: Path, out: str) -> subprocess.Popen:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, str(program), str(tmp_path / out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def steps_of(process: subprocess.Popen) -> list[int]:
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return [int(step) for step in told.split()]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is a matter of POSIX systems")
def test_kill_nine_costs_nothing_but_the_time_since_the_last_save(tmp_path):
    assert steps_of(start(tmp_path, "whole"))[-1] == 12
    for last in (3, 7):
        killed = start(tmp_path, "parts")
        assert any(int(line) >= last for line in killed.stdout), "it was to be killed before its end"
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert (tmp_path / "parts" / STATE).is_file()
    assert steps_of(start(tmp_path, "parts"))[0] >= 7
    one, other = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("whole", "parts"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert not (tmp_path / "parts" / STATE).exists()
