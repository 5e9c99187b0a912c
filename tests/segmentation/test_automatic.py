import itertools

import numpy as np
import pytest
import torch

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import AutomaticSettings, Card
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.promptless import PromptlessUNet
from napari_medseg.segmentation.automatic import (
    intensity_scale,
    largest_label,
    network_image,
    network_shape,
    predict_labels,
    promptless,
    resized,
    segment_automatically,
)
from napari_medseg.segmentation.sliding_window import blend_weights, sliding_window, window_starts
from napari_medseg.segmentation.views import IMAGE, N_CHANNELS, VALID

AFFINE = np.array([[0, 0, -1, 15], [0, -1, 0, 13], [2, 0, 0, -12], [0, 0, 0, 1]], float)


class Brightness(ClickUNet):
    """A network whose labels are 'bright' and 'dark': it shows where voxels of the scan end up."""

    def __init__(self):
        super().__init__(widths=(8, 8, 8, 8), n_labels=2)
        self.seen = []

    def segment_labels(self, x):
        self.seen.append(tuple(x.shape))
        return torch.cat([10 * (x[:, :1] - 3), 10 * (-x[:, :1] - 3)], 1)


def card(spacing=(2.0, 1.0, 1.0), patch=(16, 32, 32)):
    automatic = AutomaticSettings(spacing_mm=spacing, patch=patch)
    return Card(name="bright", labels={3: "bright", 7: "dark"}, needs_click=False, automatic=automatic)


def scan(shape=(20, 40, 60)):
    rng = np.random.default_rng(0)
    data = rng.normal(500, 10, shape)
    data[4:8, 10:24, 6:18] = 800
    data[12:16, 26:36, 42:54] = 200
    return Volume(data.astype(np.int16), AFFINE, name="scan")


def test_labels_lie_where_the_structures_are():
    answer = segment_automatically(Brightness(), card(), scan())
    expected = np.zeros((20, 40, 60), np.uint8)
    expected[4:8, 10:24, 6:18] = 3
    expected[12:16, 26:36, 42:54] = 7
    assert np.array_equal(answer.data, expected)
    assert answer.data.dtype == np.uint8
    assert dict(answer.names) == {3: "bright", 7: "dark"}
    assert np.array_equal(answer.affine, AFFINE)


@pytest.mark.parametrize("spacing", [(1.0, 2.0, 2.0), (4.0, 2.0, 2.0), (2.0, 1.0, 3.0)])
def test_another_grid_shifts_nothing(spacing):
    answer = segment_automatically(Brightness(), card(spacing), scan()).data
    for value, box in ((3, np.s_[4:8, 10:24, 6:18]), (7, np.s_[12:16, 26:36, 42:54])):
        truth = np.zeros(answer.shape, bool)
        truth[box] = True
        found = answer == value
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
        assert np.abs(np.argwhere(found).mean(0) - np.argwhere(truth).mean(0)).max() < 0.3


@pytest.mark.parametrize("shape", [(10, 26, 22), (1, 50, 70), (3, 5, 4), (17, 33, 90)])
def test_scans_smaller_than_a_window_and_single_slices(shape):
    network = Brightness()
    volume = Volume(np.random.default_rng(1).normal(size=shape).astype(np.float32), AFFINE)
    answer = segment_automatically(network, card(), volume)
    assert answer.data.shape == shape
    assert {s[1:] for s in network.seen} == {(7, 16, 32, 32)}


def test_a_real_network_runs_in_both_precisions_and_agrees():
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8), n_labels=2).eval()
    exact = segment_automatically(network, card(), scan())
    low = segment_automatically(network, card(), scan(), dtype=torch.bfloat16)
    as_run = segment_automatically(network.to(torch.bfloat16), card(), scan(), dtype=torch.bfloat16)
    assert np.mean(exact.data != low.data) < 0.05
    assert np.mean(low.data != as_run.data) < 0.05


def test_air_is_skipped():
    volume = scan((20, 40, 200))
    data = volume.data.copy()
    data[:, :, 70:] = 0
    network = Brightness()
    answer = segment_automatically(network, card(), Volume(data, AFFINE))
    n_windows = len(window_starts(20, 16, 0.5)) * len(window_starts(40, 32, 0.5)) * len(window_starts(200, 32, 0.5))
    assert len(network.seen) < 0.6 * n_windows
    assert not answer.data[:, :, 110:].any()


def test_noise_in_air_is_skipped_and_dark_structures_are_not():
    rng = np.random.default_rng(2)
    data = rng.normal(-1000, 12, (20, 40, 200))
    data[:, :, :60] = rng.normal(40, 12, (20, 40, 60))
    data[4:8, 10:24, 20:32] = -900
    seen = []
    for values in (data, np.where(data < -800, data + 400 * rng.random(data.shape), data)):
        network = Brightness()
        segment_automatically(network, card(), Volume(values.astype(np.int16), AFFINE))
        seen.append(len(network.seen))
    assert seen[0] < 0.6 * seen[1]


def test_windows_without_prompts_take_a_short_way_to_the_same_answer():
    torch.manual_seed(1)
    network = ClickUNet(widths=(16, 16, 16, 16), n_labels=2).eval()
    x = torch.randn(1, 2, 16, 32, 32)
    for valid in (torch.ones(16, 32, 32), (torch.arange(32) < 20).float().expand(16, 32, 32)):
        x[:, 1] = valid
        whole = torch.zeros(1, N_CHANNELS, 16, 32, 32)
        whole[:, IMAGE], whole[:, VALID] = x[:, 0], x[:, 1]
        short = PromptlessUNet(network, image=IMAGE, valid=VALID)
        with torch.inference_mode():
            expected = network.segment_labels(whole)
            torch.testing.assert_close(short(x), expected, rtol=1e-3, atol=1e-4)
            short.compile_for(x)
            torch.testing.assert_close(short(x), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="needs a click"):
        PromptlessUNet(ClickUNet(widths=(8, 8, 8, 8)))


def test_it_answers_as_monais_sliding_window_does():
    inferers = pytest.importorskip("monai.inferers", reason="needs monai")
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8), n_labels=1).eval()
    image = promptless(network_image(scan((30, 50, 90)), (2.0, 1.0, 1.0)))
    settings = card(patch=(16, 32, 32)).automatic
    with torch.inference_mode():
        theirs = inferers.sliding_window_inference(
            image[None], settings.patch, 1, lambda x: network.segment_labels(x).sigmoid(), overlap=0.5, mode="gaussian"
        )[0]
    ours = predict_labels(network, settings, image).float()
    assert float((ours - theirs).abs().max()) < 5e-3


def test_progress_counts_up_and_stop_stops():
    seen = []
    segment_automatically(Brightness(), card(), scan(), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(Cancelled, match="stopped"):
        segment_automatically(Brightness(), card(), scan(), should_stop=lambda: True)


def test_a_click_model_says_that_it_needs_a_click():
    with pytest.raises(ModelError, match="click version 1 segments only what you click on"):
        segment_automatically(ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"), scan())


def test_an_answer_that_is_not_a_number_is_refused():
    network = ClickUNet(widths=(8, 8, 8, 8), n_labels=2)
    network.label_head.bias.data[3] = float("nan")
    with pytest.raises(ModelError, match="not a number"):
        segment_automatically(network, card(), scan())


def test_windows_cover_everything_evenly():
    for n, window, overlap in ((100, 32, 0.5), (64, 64, 0.5), (65, 64, 0.5), (10, 32, 0.5), (200, 48, 0.0)):
        starts = window_starts(n, window, overlap)
        covered = np.zeros(max(n, window), bool)
        for start in starts:
            covered[start : start + window] = True
        assert covered[:n].all()
        assert starts[0] == 0
        assert starts[-1] == max(0, n - window)
        assert all(b - a <= max(1, window * (1 - overlap)) for a, b in itertools.pairwise(starts))


def test_blending_gives_back_a_constant_answer():
    image = torch.randn(7, 20, 40, 50)
    image[-1] = 1
    blended = sliding_window(lambda x: torch.full((len(x), 1, 16, 32, 32), 0.7), image, 1, window=(16, 32, 32), batch=3)
    assert torch.allclose(blended.float(), torch.tensor(0.7), atol=3e-3)
    weights = blend_weights((16, 32, 32))
    assert weights[7, 15, 15] == weights.max()
    assert weights.min() == pytest.approx(1e-3)


def test_resampling_keeps_the_box():
    image = torch.linspace(0, 1, 24).expand(6, 10, 24)
    for shape in ((6, 10, 48), (12, 10, 12), (3, 20, 24)):
        again = resized(image, shape)
        assert again.shape == shape
        assert abs(float(again.mean()) - 0.5) < 1e-3
        assert float(again[:, :, 0].mean()) < 0.1


def test_the_networks_grid_and_intensities():
    assert network_shape((20, 40, 60), (2.0, 1.0, 1.0), (1.0, 1.0, 3.0)) == (40, 40, 20)
    assert network_shape((1, 40, 60), (1.0, 1.0, 1.0), (5.0, 1.0, 1.0)) == (1, 40, 60)
    volume = scan()
    brighter = Volume((3 * volume.data + 100).astype(np.int16), AFFINE)
    assert torch.allclose(network_image(volume, (2, 1, 1)), network_image(brighter, (2, 1, 1)), atol=1e-3)
    _, _, mean, deviation = intensity_scale(np.r_[np.full(900, -1000.0), np.full(100, 40.0)].astype(np.float32))
    assert mean == pytest.approx(40.0)
    assert deviation > 0


def test_many_labels_need_a_wider_type():
    probabilities = torch.zeros(2, 2, 3, 4)
    probabilities[1] = 0.9
    data = largest_label(probabilities, (2, 3, 4), [1, 300])
    assert data.dtype == np.uint16
    assert (data == 300).all()
