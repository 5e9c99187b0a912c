"""Out of memory on the GPU: smaller batches, then the CPU, then one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.errors import JobFailed
from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import AutomaticSettings, Card
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.memory import in_smaller_batches
from napari_medseg.segmentation.prompts import Click
from napari_medseg.segmentation.segmenter import Segmenter

AFFINE = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
SCAN = Volume(np.random.default_rng(0).normal(100, 10, (20, 50, 60)).astype(np.int16), AFFINE)
CLICK = Click((-20.0, -20.0, 20.0))


class Small(ClickUNet):
    """A network on a GPU that holds `room` views; `copies` share the count of how often it was asked."""

    def __init__(self, room: int, n_labels: int = 0) -> None:
        super().__init__(widths=(8, 8, 8, 8), n_labels=n_labels)
        self.room, self.asked = room, []

    def __deepcopy__(self, memo: dict) -> Small:
        return self

    def features(self, x: torch.Tensor):
        self.asked.append(len(x))
        if len(x) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().features(x)


class OnGpu(Segmenter):
    """Runs on the CPU and takes it for a GPU until it leaves it; then there is room."""

    left = False

    @property
    def _is_on_gpu(self) -> bool:
        return not self.left

    def _leave_gpu(self) -> bool:
        had = super()._leave_gpu()
        self.left, self.network.room = True, self.room_on_cpu
        return had

    room_on_cpu = 99


def segmenter(network: ClickUNet, **card: object) -> OnGpu:
    torch.manual_seed(0)
    made = OnGpu(Checkpoint(network.eval(), Card(name="small", **card)), "cpu")
    made._is_exact = True
    return made


def test_a_batch_is_halved_until_it_fits() -> None:
    torch.manual_seed(0)
    network = Small(room=2)
    model = segmenter(network)
    answer = model.segment(SCAN, [CLICK])
    assert max(network.asked) > 2
    assert not model.left
    network.room = 99
    assert np.array_equal(answer.data, model.segment(SCAN, [CLICK]).data)


def test_what_does_not_fit_at_all_runs_on_the_cpu() -> None:
    model = segmenter(Small(room=0))
    assert model.segment(SCAN, [CLICK]).data.any()
    assert model.left


def test_the_whole_scan_falls_back_too() -> None:
    automatic = AutomaticSettings(spacing_mm=(2.0, 1.0, 1.0), patch=(16, 32, 32))
    model = segmenter(Small(0, n_labels=1), labels={1: "all"}, needs_click=False, automatic=automatic)
    assert model.segment(SCAN).data.shape == SCAN.data.shape
    assert model.left


def test_no_memory_anywhere_is_one_sentence() -> None:
    model = segmenter(Small(room=0))
    model.room_on_cpu = 0
    with pytest.raises(JobFailed, match=r"^not enough memory to segment this scan: close other scans"):
        model.segment(SCAN, [CLICK])


def test_parts_are_joined_in_order() -> None:
    def run(batch: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return batch * 2, torch.from_numpy(batch)

    doubled, same = in_smaller_batches(run, np.arange(10))
    assert doubled.tolist() == (np.arange(10) * 2).tolist()
    assert same.tolist() == list(range(10))
