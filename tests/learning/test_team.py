"""Two processes that torchrun starts train as one does at equal global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.learning.team import Team, joined, present_team

PROGRAM = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from learning_phantom import QUICK, phantom
from napari_medseg.learning import fine_tune as module, validation
from napari_medseg.learning.team import joined
from napari_medseg.models.checkpoint import Card, Checkpoint, load_checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.segmenter import Segmenter
module._REPORT_EVERY_S, validation._GUARD_BATCHES, validation._CLICKS = 0.0, 1, 1
torch.manual_seed(0)
model = Segmenter(Checkpoint(ClickUNet(widths=(8, 8, 8, 8)), Card(name="click", sha256="0" * 64)), "cpu")
settings = QUICK.model_copy(update={{"steps": 8, "validations": 1}})
with joined() as team:
    reports = list(module.fine_tune(model, [phantom(k) for k in range(3)], settings=settings, out=sys.argv[1]))
threads = [name.read_text() for name in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], "the group outlived the training"
if team.is_leader:
    losses = [r.loss for r in reports if r.loss is not None]
    print(json.dumps({{"size": team.size, "losses": losses, "dice": reports[-1].dice}}))
"""


def run(tmp_path: Path, *launcher: str) -> dict:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, *launcher, str(program), str(tmp_path / f"out{len(launcher)}")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=150, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    alone = run(tmp_path)
    both = run(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert (alone["size"], both["size"]) == (1, 2)
    assert len(alone["losses"]) == len(both["losses"]) == 8
    assert np.allclose(both["losses"], alone["losses"], rtol=0.01)
    assert alone["losses"][-1] < alone["losses"][0]
    assert abs(both["dice"] - alone["dice"]) < 0.02


def test_alone_nothing_is_shared():
    with joined() as team:
        assert team == present_team() == Team(0, 1)
    assert team.is_leader
    assert list(range(5))[team.share(5)] == [0, 1, 2, 3, 4]
    gradients = [torch.ones(2)]
    team.average(gradients)
    assert gradients[0].tolist() == [1.0, 1.0]
    assert team.from_leader(lambda: {"a": 1}, torch.device("cpu")) == {"a": 1}
    assert not team.any(False, torch.device("cpu"))


def test_members_share_a_batch_between_them():
    parts = [list(range(5))[Team(rank, 2).share(5)] for rank in range(2)]
    assert parts == [[0, 2, 4], [1, 3]]
    assert Team(0, 4).batch(2) == 4
