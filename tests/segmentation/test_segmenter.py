"""The segmenter's promises that hold whatever its weights: grids, prompts obeyed, refusals, cancel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import Card
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.click_unet import ClickUNet, first_features, unfold
from napari_medseg.networks.encoder import ResidualBlock, fold
from napari_medseg.segmentation import click, segmenter
from napari_medseg.segmentation.classical import GeodesicSegmenter
from napari_medseg.segmentation.click import Opinion, Scene, look_at_scales
from napari_medseg.segmentation.prompts import Box, Click, Lasso, Prompt, Scribble
from napari_medseg.segmentation.segmenter import Segmenter
from napari_medseg.segmentation.views import Prompts, View

AFFINE = np.array([[0, 0, -0.9, 40.0], [0, -0.9, 0, 31.0], [2.5, 0, 0, -80.0], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def lesion() -> np.ndarray:
    z, y, x = np.indices((20, 60, 72)).astype(float)
    return ((z - 9) * 2.5) ** 2 + ((y - 33) * 0.9) ** 2 + ((x - 30) * 0.9) ** 2 < 11.0**2


@pytest.fixture(scope="module")
def volume(lesion: np.ndarray) -> Volume:
    noise = np.random.default_rng(3).normal(0, 8, lesion.shape)
    return Volume((40 + 60 * lesion + noise).astype(np.int16), AFFINE, name="phantom")


@pytest.fixture(scope="module")
def untrained() -> Segmenter:
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8))
    return Segmenter(Checkpoint(network.eval(), Card(name="tiny", version=1, architecture="click_unet")), "cpu")


def at(index: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = (AFFINE @ np.append(index, 1.0))[:3]
    return float(x), float(y), float(z)


@pytest.mark.parametrize("seed", range(4))
def test_corrections_work_wherever_their_views_are_cut(untrained: Segmenter, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(5, 60, 3))
    scan = Volume(rng.normal(0, 1, shape).astype(np.float32), AFFINE * np.append(rng.uniform(0.5, 1.5, 3), 1.0))
    for _ in range(6):
        low = [int(rng.integers(0, n - 2)) for n in shape]
        high = [int(rng.integers(a + 1, n + 1)) for a, n in zip(low, shape, strict=True)]
        mask = np.zeros(shape, np.uint8)
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
        x, y, z = scan.position_of(np.array([rng.uniform(0, n - 1) for n in shape]))
        after = untrained.segment(scan, [Click((x, y, z))], previous=LabelMap(mask, scan.affine))
        assert after.data.shape == shape
        assert (np.asarray(after.data) >= mask).all()


@pytest.mark.parametrize("filled", [(0, 6), (0, 1, 3, 6), tuple(range(7)), ()])
def test_channels_without_anything_cost_nothing_and_change_nothing(filled: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    stem, x = torch.nn.Conv3d(56, 8, 3, padding=1), torch.zeros(2, 7, 16, 16, 32)
    x[:, filled] = torch.randn(2, len(filled), 16, 16, 32)
    wanted, found = stem(fold(x)), first_features(stem, x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    whole = torch.autograd.grad((wanted**2).sum(), stem.weight)[0]
    torch.testing.assert_close(torch.autograd.grad((found**2).sum(), stem.weight)[0], whole, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_a_view_alone_is_answered_as_in_a_batch_and_not_the_slow_way() -> None:
    block, views = ResidualBlock(3, 16, 24).eval(), torch.randn(2, 16, 8, 8, 8)
    with torch.inference_mode():
        together = block(views)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
            alone = block(views[:1])
    torch.testing.assert_close(alone, together[:1], atol=1e-4, rtol=1e-4)
    events = profile.key_averages(group_by_input_shape=True)
    kernels = {event.key: event.input_shapes[1] for event in events if "conv" in event.key}
    assert "aten::mkldnn_convolution" in kernels
    assert [24, 16, 3, 3, 3] not in [kernels[name] for name in kernels if "slow" in name]


def test_folding_is_undone_by_unfolding() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    assert fold(x).shape == (2, 24, 2, 3, 4)
    torch.testing.assert_close(unfold(fold(x)), x)


def test_the_answer_lies_on_the_scans_grid(untrained: Segmenter, volume: Volume) -> None:
    mask = untrained.segment(volume, [Click(at((9, 33, 30)))])
    assert mask.data.shape == volume.data.shape
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(mask.affine, volume.affine)
    assert set(np.unique(mask.data)) <= {0, 1}


def test_clicks_are_obeyed_by_any_network(untrained: Segmenter, volume: Volume) -> None:
    inside, outside = (9, 33, 30), (3, 10, 60)
    clicks = [Click(at(inside)), Click(at(outside), positive=False)]
    mask = untrained.segment(volume, clicks[:1])
    assert mask.data[inside] == 1
    mask = untrained.segment(volume, clicks, previous=mask)
    assert mask.data[inside] == 1
    assert mask.data[outside] == 0


@pytest.mark.parametrize("positive", [True, False], ids=["foreground only adds", "background only takes away"])
def test_a_correction_keeps_to_its_sense(
    untrained: Segmenter, volume: Volume, lesion: np.ndarray, positive: bool
) -> None:
    shifted = np.roll(lesion, 6, axis=2)
    before = LabelMap(shifted.astype(np.uint8), volume.affine)
    where = (9, 33, 22) if positive else (9, 33, 46)
    assert bool(lesion[where]) is positive
    assert bool(shifted[where]) is not positive
    clicks = [Click(at((9, 33, 34))), Click(at(where), positive=positive)]
    after = np.asarray(untrained.segment(volume, clicks, previous=before).data) > 0
    assert after[where] == positive
    assert not (shifted & ~after).any() if positive else not (after & ~shifted).any()


@pytest.mark.parametrize(
    "prompts",
    [
        [Box(at((5, 20, 18)), at((13, 46, 42)))],
        [Scribble((at((9, 30, 25)), at((9, 36, 35))))],
        [Lasso((at((9, 24, 25)), at((9, 36, 40)), at((9, 40, 22))))],
        [Click(at((0, 0, 0)))],
        [Click(at((19, 59, 71)))],
    ],
    ids=["box", "scribble", "lasso", "first corner", "last corner"],
)
def test_every_kind_of_prompt_gives_a_mask(untrained: Segmenter, volume: Volume, prompts: list) -> None:
    assert untrained.segment(volume, prompts).data.shape == volume.data.shape


def ring(middle: tuple[int, int, int], radius: float, *, positive: bool = True) -> Lasso:
    """A lasso of a radius in voxels round a place on a slice."""
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    z, y, x = middle
    points = zip(y + radius * np.sin(turn), x + radius * np.cos(turn), strict=True)
    return Lasso(tuple(at((z, a, b)) for a, b in points), positive=positive)


def disc(shape: tuple[int, int], middle: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.indices(shape)
    return (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= radius**2


def test_a_lasso_is_obeyed_by_any_network(untrained: Segmenter, volume: Volume, lesion: np.ndarray) -> None:
    within = disc(lesion.shape[1:], (33, 30), 10)
    first = np.asarray(untrained.segment(volume, [ring((9, 33, 30), 10)]).data) > 0
    assert not (first[9] & ~within).any()
    assert first[9][disc(lesion.shape[1:], (33, 30), 7)].all()
    wrong = LabelMap(np.roll(lesion, 8, axis=2).astype(np.uint8), volume.affine)
    prompts = [Click(at((9, 33, 38))), ring((9, 33, 30), 10)]
    again = np.asarray(untrained.segment(volume, prompts, previous=wrong).data) > 0
    assert not (again[9] & ~within).any()
    assert again[9][disc(lesion.shape[1:], (33, 30), 7)].all()
    prompts.append(Click(at((9, 33, 50))))
    later = untrained.segment(volume, prompts, previous=LabelMap(again.astype(np.uint8), volume.affine))
    assert later.data[9, 33, 50] == 1, "what was said last counts"


def test_a_lasso_of_background_empties_its_slice_and_touches_no_other_lesion(
    untrained: Segmenter, volume: Volume, lesion: np.ndarray
) -> None:
    other = np.zeros_like(lesion)
    other[8:11, 3:9, 60:66] = True
    before = LabelMap((lesion | other).astype(np.uint8), volume.affine)
    prompts = [Click(at((9, 33, 30))), ring((9, 33, 38), 6, positive=False)]
    after = np.asarray(untrained.segment(volume, prompts, previous=before).data) > 0
    assert not after[9][disc(lesion.shape[1:], (33, 38), 6)].any()
    assert not (after & ~np.asarray(before.data, bool)).any()
    assert after[other].all()
    beside = [Click(at((9, 33, 30))), ring((9, 10, 20), 4, positive=False)]
    unchanged = untrained.segment(volume, beside, previous=before)
    np.testing.assert_array_equal(unchanged.data, before.data)


def test_a_lasso_round_what_is_in_the_mask_leaves_the_other_slices(
    untrained: Segmenter, volume: Volume, lesion: np.ndarray
) -> None:
    before = LabelMap(lesion.astype(np.uint8), volume.affine)
    after = untrained.segment(volume, [Click(at((9, 33, 30))), ring((9, 33, 30), 13)], previous=before)
    np.testing.assert_array_equal(after.data, before.data)


def test_a_lasso_is_heard_once_and_the_newest_word_counts(
    untrained: Segmenter, volume: Volume, lesion: np.ndarray
) -> None:
    prompts: list[Prompt] = [Click(at((9, 33, 30)))]
    mask = LabelMap(lesion.astype(np.uint8), volume.affine)
    for prompt in (ring((9, 33, 30), 5), ring((9, 33, 30), 13), Click(at((18, 8, 8)), positive=False)):
        prompts.append(prompt)
        mask = untrained.segment(volume, prompts, previous=mask)
    assert np.asarray(mask.data)[9][disc(lesion.shape[1:], (33, 30), 10)].all(), "the first lasso is history"
    prompts.append(ring((9, 33, 30), 6, positive=False))
    mask = untrained.segment(volume, prompts, previous=mask)
    assert not np.asarray(mask.data)[9][disc(lesion.shape[1:], (33, 30), 5)].any(), "and so is the click in it"


def test_what_a_lasso_excluded_stays_out_until_it_is_taken_back(
    untrained: Segmenter, volume: Volume, lesion: np.ndarray
) -> None:
    before = LabelMap(lesion.astype(np.uint8), AFFINE)
    emptied, inside = disc(lesion.shape[1:], (33, 38), 5), disc(lesion.shape[1:], (33, 30), 9)
    prompts: list[Prompt] = [Click(at((9, 33, 30))), ring((9, 33, 38), 6, positive=False), Click(at((6, 33, 24)))]
    both = np.asarray(untrained.segment(volume, prompts, previous=before).data) > 0
    assert not both[9][emptied].any(), "of two new prompts the older is heard too"
    prompts += [ring((11, 33, 30), 9)]
    mask = untrained.segment(volume, prompts, previous=LabelMap(both.astype(np.uint8), AFFINE))
    prompts += [Click(at((4, 33, 30)))]
    mask = untrained.segment(volume, prompts, previous=mask)
    found = np.asarray(mask.data) > 0
    assert not found[9][emptied].any()
    assert not (found[11] & ~disc(lesion.shape[1:], (33, 30), 10)).any()
    prompts += [Click(at((9, 33, 38)))]
    found = np.asarray(untrained.segment(volume, prompts, previous=mask).data) > 0
    assert found[9, 33, 38]
    assert found[11][inside].any()


def test_a_small_lasso_adds_no_large_thing(untrained: Segmenter, volume: Volume, lesion: np.ndarray) -> None:
    prompts = [Click(at((9, 33, 30))), ring((9, 8, 60), 3)]
    after = np.asarray(untrained.segment(volume, prompts, previous=LabelMap(lesion.astype(np.uint8), AFFINE)).data) > 0
    added = np.argwhere(after & ~lesion)
    assert after[9, 8, 60]
    assert (np.abs(added - (9, 8, 60)) * (2.5, 0.9, 0.9)).max() < 10


def test_a_lasso_needs_three_points_and_the_scan(untrained: Segmenter, volume: Volume) -> None:
    with pytest.raises(ModelError, match="three points"):
        Lasso((at((9, 24, 25)), at((9, 36, 40))))
    with pytest.raises(ModelError, match="outside the scan"):
        untrained.segment(volume, [ring((9, 200, 30), 10)])
    with pytest.raises(ModelError, match="outside the scan"):
        untrained.segment(volume, [Box(at((40, 20, 18)), at((44, 46, 42)))])


def test_a_two_dimensional_image_is_one_slice(untrained: Segmenter) -> None:
    image = Volume(np.random.default_rng(0).integers(0, 255, (1, 80, 96)).astype(np.uint8), np.diag([1.0, 1, 1, 1]))
    mask = untrained.segment(image, [Click((0.0, 40.0, 40.0))])
    assert mask.data.shape == (1, 80, 96)
    assert mask.data[0, 40, 40] == 1


def test_the_scan_is_left_as_it_was(untrained: Segmenter, volume: Volume) -> None:
    before = volume.data.copy()
    previous = LabelMap(np.zeros(volume.data.shape, np.uint8), volume.affine)
    previous.data[8:11, 30:36, 28:33] = 1
    kept = previous.data.copy()
    untrained.segment(volume, [Click(at((9, 33, 30)))], previous=previous)
    np.testing.assert_array_equal(volume.data, before)
    np.testing.assert_array_equal(previous.data, kept)


def test_a_click_model_says_that_it_needs_a_click(untrained: Segmenter, volume: Volume) -> None:
    mask = untrained.segment(volume)
    assert not mask.data.any()
    assert "'tiny' needs a click" in mask.warnings[0]


def test_a_click_outside_the_scan_is_refused(untrained: Segmenter, volume: Volume) -> None:
    with pytest.raises(ModelError, match=r"\(500\.0, 0\.0, 0\.0\) mm lies outside the scan"):
        untrained.segment(volume, [Click((500.0, 0.0, 0.0))])


def test_background_alone_is_refused(untrained: Segmenter, volume: Volume) -> None:
    with pytest.raises(ModelError, match="only background was marked"):
        untrained.segment(volume, [Click(at((9, 33, 30)), positive=False)])


def test_a_previous_mask_on_another_grid_is_refused(untrained: Segmenter, volume: Volume) -> None:
    other = LabelMap(np.ones((20, 60, 70), np.uint8), volume.affine)
    with pytest.raises(ModelError, match="another grid"):
        untrained.segment(volume, [Click(at((9, 33, 30)))], previous=other)


def test_an_answer_that_is_not_a_number_is_refused(volume: Volume) -> None:
    network = ClickUNet(widths=(8, 8, 8, 8))
    with torch.no_grad():
        network.click_head.weight.fill_(float("nan"))
    broken = Segmenter(Checkpoint(network.eval(), Card(name="broken", version=1, architecture="click_unet")), "cpu")
    with pytest.raises(ModelError, match="not a number"):
        broken.segment(volume, [Click(at((9, 33, 30)))])


def test_cancel_stops_before_the_network_runs(untrained: Segmenter, volume: Volume) -> None:
    with pytest.raises(Cancelled):
        untrained.segment(volume, [Click(at((9, 33, 30)))], should_stop=lambda: True)


class Scales:
    """A network that says how well it sees a lesion in each view, or that it sees nothing; it counts the views."""

    def __init__(self, *dice: float | None) -> None:
        self.dice, self.views, self.asked = dice, [View(np.full(3, 9.5), 20 * 1.2**k, 16) for k in range(len(dice))], 0

    def __call__(self, inputs: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked += len(inputs)
        said = [self.dice[round(float(width) / np.log(1.2))] for width in widths]
        seen = [np.full((16, 16, 16), 0.0 if dice is None else 0.9, np.float32) for dice in said]
        return np.stack(seen), np.array([0.99 if dice is None else dice for dice in said], np.float32)

    def chosen(self, monkeypatch: pytest.MonkeyPatch) -> int:
        prompts = Prompts(np.full((1, 3), 9.5), np.ones(1, bool), np.zeros(1, np.int64))
        monkeypatch.setattr(click, "AGREEMENT", 0.0)
        array = np.random.default_rng(0).normal(size=(20, 20, 20))
        scene = Scene(array, np.ones(3), prompts, self)
        rays = click.search_rays(array, np.full(3, 9.5), (1.0, 1.0, 1.0))
        _, view = look_at_scales(scene, self.views, rays)
        return self.views.index(view)


@pytest.mark.parametrize(
    ("dice", "best", "asked"),
    [
        ((0.3, 0.8, None), 1, 3),
        ((0.1, 0.2, 0.5, 0.9, 0.6, 0.2, 0.1), 3, 6),
        ((0.8, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1), 0, 5),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 6, 5),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 5, 5),
        ((None, None, None, None, None, 0.2, None), 5, 7),
        ((None, None, None, None, None, None, None), 0, 7),
    ],
)
def test_of_views_that_found_something_the_best_is_chosen_and_few_are_looked_at(
    dice: tuple[float | None, ...], best: int, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = Scales(*dice)
    assert (scales.chosen(monkeypatch), scales.asked) == (best, asked)


def test_the_geodesic_method_finds_a_bright_lesion_and_takes_corrections(volume: Volume, lesion: np.ndarray) -> None:
    model = GeodesicSegmenter()
    mask = model.segment(volume, [Click(at((9, 33, 30)))])
    overlap = 2 * (mask.data.astype(bool) & lesion).sum() / (mask.data.sum() + lesion.sum())
    assert overlap > 0.85
    again = model.segment(volume, [Click(at((9, 33, 30))), Click(at((9, 33, 36)), positive=False)], previous=mask)
    assert again.data[9, 33, 36] == 0
    assert "needs a click" in model.segment(volume).warnings[0]
    with pytest.raises(ModelError, match="boxes and lassos"):
        model.segment(volume, [Box(at((5, 20, 18)), at((13, 46, 42)))])


def test_what_a_scan_is_like_is_looked_at_once(
    untrained: Segmenter, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(segmenter, "unlike_training", lambda scan, _: (looked.append(scan.name), (scan.name,))[1])
    other = Volume(volume.data.copy(), AFFINE, name="another")
    model = Segmenter(untrained.checkpoint, "cpu")
    scans = [volume, volume, other, Volume(other.data, AFFINE, name="an MR", modality="MR"), volume]
    told = [model.segment(v, [Click(at((9, 33, 30)))]).warnings[0] for v in scans]
    assert looked == ["phantom", "another", "an MR", "phantom"]
    assert told == ["phantom", "phantom", "another", "an MR", "phantom"]


def test_opinions_have_their_shares_and_say_no_where_they_do_not_reach() -> None:
    nothing = Prompts(np.zeros((0, 3)), np.zeros(0, bool), np.zeros(0, np.int64))
    scene = Scene(np.zeros((64, 64, 64), np.int16), np.ones(3), nothing, lambda x, _: (x, x))
    wide, narrow = View(np.full(3, 31.5), 64.0, 32), View(np.array([31.5, 31.5, 20.0]), 16.0, 32)
    left = np.zeros((32, 32, 32), np.float32)
    left[8:24, 8:24, :16] = 0.2
    everywhere = np.ones((32, 32, 32), np.float32)
    answer, region = scene.blend([Opinion(left, wide, 0.6), Opinion(everywhere, narrow, 0.4)], None)
    found = np.zeros((64, 64, 64), np.float32)
    found[region] = answer
    assert found[30, 30, 20] == pytest.approx(0.6 * 0.2 + 0.4)
    assert found[30, 30, 5] == pytest.approx(0.6 * 0.2)
    assert found[30, 30, 40:].max() == 0.0
    assert found[:10].max() == 0.0
    assert answer.size < found.size / 4, "nothing is made of what nobody thinks likely"


def test_another_opinion_counts_only_where_the_first_one_looks() -> None:
    nothing = Prompts(np.zeros((0, 3)), np.zeros(0, bool), np.zeros(0, np.int64))
    scene = Scene(np.zeros((64, 64, 64), np.int16), np.ones(3), nothing, lambda x, _: (x, x))
    narrow, wide = View(np.full(3, 31.5), 12.0, 16), View(np.full(3, 31.5), 60.0, 16)
    leaking = Opinion(np.ones((16, 16, 16), np.float32), wide, 0.25)
    unsure = Opinion(np.full((16, 16, 16), 0.02, np.float32), narrow, 0.75)
    for held in (None, (slice(5, 50),) * 3):
        answer, region = scene.blend([unsure, leaking], held)
        found = np.zeros((64, 64, 64), np.float32)
        found[region] = answer
        assert found[31, 31, 31] == pytest.approx(0.25), "what hardly matters is left out"
        outside = found.copy()
        outside[25:39, 25:39, 25:39] = 0
        assert not outside.any()


def test_an_answer_reaches_what_it_has_to_hold() -> None:
    nothing = Prompts(np.zeros((0, 3)), np.zeros(0, bool), np.zeros(0, np.int64))
    scene = Scene(np.zeros((20, 20, 20), np.int16), np.ones(3), nothing, lambda x, _: (x, x))
    view = View(np.full(3, 5.0), 8.0, 16)
    answer, region = scene.blend([Opinion(np.zeros((16, 16, 16), np.float32), view, 1.0)], (slice(2, 19),) * 3)
    assert region == (slice(2, 19),) * 3
    assert answer.shape == (17, 17, 17)
    assert not answer.any()
