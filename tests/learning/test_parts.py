"""Losses, cases, patches, strategies, held-out choices and the gate, each alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning_phantom import SHAPE, phantom

from napari_medseg.errors import LearningError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.adam import Adam
from napari_medseg.learning.cases import choose_grid, choose_patch, match_outputs, prepare, with_old_answers
from napari_medseg.learning.click_lessons import draw_click_views
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.gate import decide, why_inverted
from napari_medseg.learning.held_out import choose_held_out, weights_without
from napari_medseg.learning.losses import label_loss
from napari_medseg.learning.mixing import mixed
from napari_medseg.learning.patches import draw_patches
from napari_medseg.learning.reports import Figures
from napari_medseg.learning.settings import FineTuneSettings, Strategy
from napari_medseg.learning.strategies import CLICK_PATH, LABEL_PATH, depth_groups, plan
from napari_medseg.learning.targets import between_reviewed, click_lessons, click_targets
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.views import POSITIVE

SETTINGS = FineTuneSettings()


def case_of(data, *, spacing=(2.0, 1.0, 1.0), reviewed=None, proposed=None, names=None, axis=0):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]] * np.array([*spacing, 1.0])
    volume = Volume(np.random.default_rng(0).normal(size=data.shape).astype(np.float32), affine)
    correction = Correction(
        volume,
        None if proposed is None else LabelMap(proposed, affine),
        LabelMap(data, affine, names or {}),
        reviewed,
        axis,
    )
    outputs = match_outputs({}, [correction])
    return prepare(correction, outputs.of_case[0], len(outputs.labels), volume.spacing_mm, 3.0)


def with_box(shape=(10, 20, 24), box=(slice(3, 7), slice(4, 16), slice(5, 19))):
    data = np.zeros(shape, np.uint8)
    data[box] = 1
    return data


class TestLoss:
    def test_a_right_answer_costs_little_and_a_wrong_one_much(self):
        labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
        labels[:, :2] = 1
        right = torch.where(labels[:, None] == 1, 20.0, -20.0)
        weight, taught = torch.ones(1, 4, 4, 4), torch.ones(1, 1, dtype=torch.bool)
        assert label_loss(right, labels, weight, taught) < 0.02
        assert label_loss(-right, labels, weight, taught) > 20

    def test_voxels_without_weight_and_outputs_that_are_not_taught_have_no_gradient(self):
        torch.manual_seed(0)
        logits = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
        labels = torch.randint(0, 4, (2, 4, 4, 4))
        weight = torch.ones(2, 4, 4, 4)
        weight[:, 2:] = 0
        taught = torch.tensor([[True, False, True], [True, False, False]])
        label_loss(logits, labels, weight, taught).backward()
        gradient = logits.grad.abs()
        assert gradient[:, :, 2:].max() == 0
        assert gradient[:, 1].max() == 0
        assert gradient[1, 2].max() == 0
        assert gradient[:, 0, :2].min() > 0

    def test_corrected_voxels_count_more(self):
        labels = torch.zeros(1, 2, 2, 2, dtype=torch.long)
        logits = torch.full((1, 1, 2, 2, 2), -3.0)
        logits[0, 0, 0, 0, 0] = 3.0  # one wrong voxel
        taught, weight = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, 2, 2)
        plain = label_loss(logits, labels, weight, taught)
        weight[0, 0, 0, 0] = 5.0
        assert label_loss(logits, labels, weight, taught) > 1.2 * plain

    def test_a_batch_that_teaches_nothing_costs_nothing(self):
        logits = torch.randn(1, 2, 2, 2, 2, requires_grad=True)
        loss = label_loss(logits, torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.ones(1, 2, dtype=torch.bool))
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert logits.grad.abs().max() == 0


class TestOutputs:
    @staticmethod
    def correction(values, names):
        data = np.zeros(SHAPE, np.uint8)
        data.ravel()[: len(values)] = values
        volume = phantom(0)[0]
        return Correction(volume, None, LabelMap(data, volume.affine, names))

    def test_values_without_names(self):
        outputs = match_outputs({}, [self.correction([1, 2], {}), self.correction([2], {})])
        assert outputs.labels == {1: "label 1", 2: "label 2"}
        assert outputs.of_case == ({1: 0, 2: 1}, {1: 0, 2: 1})

    def test_numbered_lesions_are_one_kind(self):
        outputs = match_outputs({}, [self.correction([1, 2], {1: "Lesion 1", 2: "Lesion 2"})])
        assert outputs.labels == {1: "Lesion"}
        assert outputs.of_case == ({1: 0, 2: 0},)

    def test_names_beat_values_and_new_labels_come_after_old_ones(self):
        known = {1: "liver", 5: "tumour"}
        outputs = match_outputs(known, [self.correction([1, 2], {1: "Tumour", 2: "cyst"})])
        assert outputs.labels == {1: "liver", 5: "tumour", 2: "cyst"}
        assert outputs.of_case == ({1: 1, 2: 2},)

    def test_another_name_at_a_taken_value_gets_a_value_of_its_own(self):
        outputs = match_outputs({1: "liver"}, [self.correction([1], {1: "spleen"})])
        assert outputs.labels == {1: "liver", 2: "spleen"}

    def test_a_named_label_without_voxels_is_taught_as_absent(self):
        outputs = match_outputs({1: "liver", 2: "cyst"}, [self.correction([1], {1: "liver", 2: "cyst"})])
        assert outputs.of_case == ({1: 0, 2: 1},)

    def test_empty_masks_are_refused(self):
        with pytest.raises(LearningError, match="correct at least one lesion"):
            match_outputs({}, [self.correction([], {})])


class TestCases:
    def test_weights_say_what_was_reviewed_and_corrected(self):
        data = with_box()
        proposed = data.copy()
        proposed[3] = 0
        case = case_of(data, reviewed=(2, 3, 4), proposed=proposed)
        assert case.weight[5:].max() == 0
        assert case.weight[:2].max() == 0
        assert case.weight[3, 4:16, 5:19].min() == 3.0
        assert case.weight[4].max() == 1.0

    def test_slices_are_reviewed_along_the_plane_of_acquisition(self):
        case = case_of(with_box(), reviewed=(6, 7), axis=2)
        assert set(np.flatnonzero(case.seen.any((0, 1)))) == {6, 7}
        assert case.weight[:, :, 6:8].min() == 1.0

    def test_labels_survive_another_grid(self):
        data = with_box((20, 40, 48), (slice(6, 14), slice(8, 32), slice(10, 38)))
        correction = case_of(data, spacing=(2.0, 1.0, 1.0)).correction
        case = prepare(correction, {1: 0}, 1, (4.0, 2.0, 2.0), 2.0)
        assert case.labels.shape == (10, 20, 24)
        assert int(case.labels.sum()) * 8 == int(data.sum())

    def test_old_answers_fill_in_for_labels_that_the_mask_does_not_speak_of(self):
        case = case_of(with_box())
        case = replace(
            case, taught=torch.tensor([False, True]), labels=case.labels * 2, kept=torch.zeros(2, dtype=bool)
        )
        probabilities = torch.zeros(1, *case.labels.shape)
        probabilities[0, :5] = 0.9
        filled = with_old_answers(case, probabilities)
        assert filled.kept.tolist() == [True, False]
        assert torch.equal(filled.labels == 2, case.labels == 2)
        assert torch.equal(filled.labels == 1, (probabilities[0] > 0.5) & (case.labels == 0))


class TestGrid:
    def test_small_structures_of_small_scans_are_looked_at_closely(self):
        spacing, patch = choose_grid([Correction(v, None, m) for v, m in (phantom(k) for k in range(3))])
        assert spacing == (1.0, 0.5, 0.5)
        assert patch == (32, 64, 64)

    def test_small_structures_of_large_scans_keep_the_scans_own_grid(self):
        case = case_of(with_box((80, 120, 130), (slice(30, 38), slice(50, 60), slice(50, 62))))
        assert choose_grid([case.correction])[0] == pytest.approx(case.volume.spacing_mm)

    def test_large_structures_are_seen_coarser(self):
        case = case_of(with_box((60, 200, 220), (slice(5, 55), slice(10, 190), slice(10, 210))))
        spacing, patch = choose_grid([case.correction])
        assert spacing == (5.0, 5.0, 5.0)
        assert patch == (32, 48, 48)

    @pytest.mark.parametrize(
        ("shape", "patch"), [((36, 50, 36), (48, 64, 48)), ((1, 300, 300), (16, 128, 128)), ((90, 90, 90), (64,) * 3)]
    )
    def test_patches_are_multiples_of_16_within_the_budget(self, shape, patch):
        assert choose_patch(shape) == patch


class TestPatches:
    def test_the_same_chance_draws_the_same_patches(self):
        case = case_of(with_box())
        one, other = (
            draw_patches(np.random.default_rng(3), [case], n=2, shape=(16, 32, 32), weights=[case.weight])
            for _ in range(2)
        )
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)

    def test_without_augmentation_a_small_scan_comes_whole_and_unchanged(self):
        case = case_of(with_box())
        patches = draw_patches(
            np.random.default_rng(0), [case], n=1, shape=(16, 32, 32), augment=False, weights=[case.weight]
        )
        assert abs(int((patches.labels == 1).sum()) - int((case.labels == 1).sum())) < 60
        assert patches.inputs[0, 1:6].abs().max() == 0
        assert patches.weight[0][patches.inputs[0, 6] == 0].max() == 0

    def test_sides_are_never_exchanged(self):
        data = np.zeros((10, 20, 24), np.uint8)
        data[3:7, 5:15, 4:8] = 1
        data[3:7, 5:15, 16:20] = 2
        case = case_of(data)
        for seed in range(12):
            patches = draw_patches(np.random.default_rng(seed), [case], n=1, shape=(16, 32, 32), weights=[case.weight])
            first, second = (torch.nonzero(patches.labels[0] == k)[:, 2].float().mean() for k in (1, 2))
            assert first < second


class TestStrategies:
    def test_every_parameter_lies_in_exactly_one_group(self):
        network = ClickUNet(widths=(8, 8, 16, 16), n_labels=2, own_label_body=True)
        grouped = [n for path in (CLICK_PATH, LABEL_PATH) for _, group in depth_groups(network, path) for n, _ in group]
        every = [name for name, _ in network.named_parameters() if not name.startswith("quality_head")]
        assert sorted(grouped) == sorted(every)

    def test_gradual_goes_from_the_heads_down(self):
        groups = plan("gradual", 8).groups(ClickUNet(widths=(8, 8, 16, 16), own_label_body=True), 1e-3)
        groups = [group for group in groups if group.name.startswith(LABEL_PATH)]
        assert groups[0].name == "label_body.head"
        assert groups[-1].name == "label_body.stem"
        starts = [group.starts for group in groups]
        assert starts == sorted(starts)
        assert starts[0] == 0.0
        assert starts[-1] < 0.6

    def test_unknown_strategies_are_refused(self):
        with pytest.raises(ValueError, match="'everything' is not a valid Strategy"):
            plan("everything", 3)

    def test_each_says_what_it_is(self):
        for strategy in Strategy:
            assert strategy.caption
            assert strategy.description.endswith(".")


class TestHeldOut:
    def test_the_newest_case_from_three_on(self):
        cases = [case_of(with_box()) for _ in range(3)]
        (held,) = choose_held_out(cases)
        assert held.index == 2
        assert held.is_whole
        weights = weights_without(cases, [held])
        assert weights[2].max() == 0
        assert weights[0].min() == 1
        assert len(choose_held_out(cases * 4)) == 2

    def test_a_third_of_every_label_of_the_only_case(self):
        data = np.zeros((10, 20, 30), np.uint8)
        data[3:7, 4:16, 2:14] = 1
        data[3:7, 4:16, 14:28] = 2
        case = case_of(data)
        (held,) = choose_held_out([case])
        for label in (1, 2):
            part = (data[held.region] == label).sum() / (data == label).sum()
            assert 0.2 < part < 0.5
        (weight,) = weights_without([case], [held])
        assert weight[tuple(held.region)].max() == 0
        assert 0 < (weight > 0).float().mean() < 1
        (lesson,) = click_lessons(case, held)
        assert lesson.mask.sum() == (data > 0).sum() - (data[held.region] > 0).sum()
        assert not (lesson.mask & ~lesson.counted).any()

    def test_labels_that_touch_are_one_target_unless_one_is_small(self):
        halves = with_box()
        halves[3:7, 10:16, 5:19] = 2
        assert len(click_targets(case_of(halves))) == 1
        nodule = with_box()
        nodule[4:6, 8:11, 9:12] = 2
        assert sorted(int(t.mask.sum()) for t in click_targets(case_of(nodule))) == [18, int((nodule == 1).sum())]
        apart = with_box()
        apart[0:2, 0:3, 0:3] = 1
        assert len(click_targets(case_of(apart))) == 2

    def test_a_lesion_of_which_every_third_slice_was_corrected_is_one_target(self):
        data = with_box((12, 20, 24), (slice(1, 11), slice(4, 16), slice(5, 19)))
        data[2] = data[5] = 7  # rubbish where nobody looked
        case = case_of(data, reviewed=(1, 4, 7, 10))
        (target,) = click_targets(case)
        assert target.mask.shape == (10, 12, 14)
        assert target.mask.all()
        (lesson,) = click_lessons(case)
        assert lesson.counted.any((1, 2)).sum() == 4
        assert lesson.mask.sum() == 10 * 12 * 14

    def test_slices_between_reviewed_ones_are_taken_from_the_nearer(self):
        labels, seen = np.zeros((7, 2, 2), np.uint8), np.zeros((7, 2, 2), bool)
        labels[1], labels[5], labels[6] = 1, 2, 3
        seen[1] = seen[5] = True
        assert between_reviewed(labels, seen, 0)[:, 0, 0].tolist() == [0, 1, 1, 1, 2, 2, 3]


class TestClickViews:
    def test_only_reviewed_voxels_count_and_a_click_lies_in_the_lesion(self):
        case = case_of(with_box((12, 20, 24), (slice(1, 11), slice(4, 16), slice(5, 19))), reviewed=(1, 4, 7, 10))
        views = draw_click_views(np.random.default_rng(0), click_lessons(case), n=6, size=16)
        assert views.inputs.shape == (6, 7, 16, 16, 16)
        counted = views.counted.mean((1, 2, 3, 4))
        assert ((counted > 0) & (counted < 0.9)).all()
        assert views.truth[views.counted == 0].max() == 0
        assert views.inputs[:, POSITIVE].amax((1, 2, 3)).min() > 0.5

    def test_the_same_chance_draws_the_same_views(self):
        lessons = click_lessons(case_of(with_box()))
        one, other = (draw_click_views(np.random.default_rng(5), lessons, n=2, size=16) for _ in range(2))
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.truth, other.truth)


class TestMixing:
    def test_nothing_of_what_clicks_learned_is_the_old_version_and_labels_stay(self):
        torch.manual_seed(0)
        old, new = ClickUNet(widths=(8, 8, 8, 8)), ClickUNet(widths=(8, 8, 8, 8))
        new.separate_labels()
        new.set_labels(2)
        none, half = mixed(old, new, 0.0), mixed(old, new, 0.5)
        assert all(torch.equal(value, none.state_dict()[name]) for name, value in old.state_dict().items())
        assert torch.allclose(half.stem.weight, (old.stem.weight + new.stem.weight) / 2)
        assert torch.equal(none.label_body.stem.weight, new.label_body.stem.weight)
        x = torch.randn(1, 7, 16, 16, 16)
        assert torch.equal(none.segment_labels(x), new.segment_labels(x))


class TestAdam:
    def test_without_a_gradient_of_the_loss_weights_go_back_to_the_old_ones(self):
        old, weights = torch.zeros(3), torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.0]))
        for pull, left in ((0.0, 1.0), (5.0, (1 - 0.1 * 5.0) ** 3)):
            with torch.no_grad():
                weights.copy_(torch.tensor([1.0, -2.0, 0.0]))
            adam = Adam({"w": weights}, {"w": old}, pull)
            for _ in range(3):
                weights.grad = torch.zeros(3)
                adam.step({"w": 0.1})
            torch.testing.assert_close(weights.detach(), left * torch.tensor([1.0, -2.0, 0.0]))


class TestGate:
    BEFORE = Figures(automatic=0.71, one_click=0.6, guard=0.7)

    def decide(self, before=BEFORE, **after):
        return decide(before, before.model_copy(update=after), SETTINGS, held_out="1 case", version=3)

    def test_a_gain_is_adopted(self):
        verdict = self.decide(automatic=0.84)
        assert verdict.adopted
        assert verdict.sentence == "Dice on your corrections 0.71 -> 0.84, nothing forgotten: version 3 is active"

    def test_forgetting_is_refused(self):
        verdict = self.decide(automatic=0.84, guard=0.66)
        assert not verdict.adopted
        assert verdict.sentence == (
            "Dice on your corrections 0.71 -> 0.84, but it forgot other lesions (0.70 -> 0.66): nothing was changed, "
            "the old version stays active"
        )

    @pytest.mark.parametrize(
        ("after", "reason"),
        [
            ({"automatic": 0.715}, "no gain"),
            ({"automatic": 0.84, "one_click": 0.4}, "one click would reach 0.40 instead of 0.60"),
            ({"automatic": 0.5, "one_click": 0.8}, "without a click it would reach 0.50 instead of 0.71"),
        ],
    )
    def test_what_is_not_better_is_refused(self, after, reason):
        verdict = self.decide(**after)
        assert not verdict.adopted
        assert reason in verdict.sentence

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"automatic": 0.8, "one_click": 0.8}, {"automatic": 0.74, "one_click": 0.82}),
            ({"automatic": 0.8, "one_click": 0.8}, {"automatic": 0.82, "one_click": 0.73}),
            ({"automatic": None, "one_click": 0.8}, {"automatic": 0.79, "one_click": 0.74}),
        ],
    )
    def test_nothing_may_lose_more_than_something_else_gains(self, before, after):
        assert not self.decide(Figures(guard=0.7, **before), **after).adopted

    def test_what_a_gain_costs_is_told(self):
        before = Figures(automatic=None, one_click=0.6, guard=0.7, kept=1.0)
        verdict = self.decide(before, automatic=0.7, one_click=0.58)
        assert verdict.sentence.startswith(
            "Dice on your corrections 0.60 -> 0.70, after one click 0.60 -> 0.58: version 3"
        )
        drifted = self.decide(before, automatic=0.7, kept=0.9)
        assert ", labels that it knew agree to 0.90 with what they were: version 3 is active" in drifted.sentence
        assert "labels that it knew before would change (they agree to 0.80)" in self.decide(before, kept=0.8).sentence

    def test_pinned_cases_must_not_get_worse(self):
        before = self.BEFORE.model_copy(update={"pinned": {"'a'": 0.9, "'b'": 0.7, "'c'": 0.5}})
        verdict = self.decide(before, automatic=0.9, pinned={"'a'": 0.8, "'b'": 0.69, "'c'": 0.3})
        assert not verdict.adopted
        worse = "the pinned case 'c' got worse (0.50 -> 0.30) and the pinned case 'a' got worse (0.90 -> 0.80)"
        assert worse in verdict.sentence
        assert self.decide(before, automatic=0.9, pinned={"'a'": 0.89, "'b'": 0.7, "'c'": 0.6}).adopted

    def test_a_click_model_is_compared_with_what_one_click_reached(self):
        before = Figures(automatic=None, one_click=0.5, guard=0.7)
        useless = self.decide(before, automatic=0.3)
        assert not useless.adopted
        better = self.decide(before, automatic=0.62)
        assert better.adopted
        assert better.sentence.startswith("Dice on your corrections 0.50 -> 0.62")
        assert self.decide(before, automatic=0.3, one_click=0.55).adopted

    def test_the_same_without_a_click_is_a_gain_where_it_is_of_use(self):
        without = self.decide(Figures(automatic=None, one_click=0.78, guard=0.7), automatic=0.78)
        assert without.adopted
        assert without.sentence.endswith("version 3 is active; without a click it reaches 0.78")
        assert not self.decide(Figures(automatic=None, one_click=0.78, guard=0.7), automatic=0.74).adopted
        assert not self.decide(Figures(automatic=None, one_click=0.1, guard=0.7), automatic=0.1).adopted

    def test_inverted_masks_are_recognised_and_large_organs_are_not(self):
        data = with_box()
        assert why_inverted([case_of(data)]) == ""
        assert "the masks look inverted" in why_inverted([case_of((1 - data).astype(np.uint8))])
        organ = with_box(box=(slice(0, 10), slice(1, 19), slice(1, 23)))
        assert why_inverted([case_of(organ)]) == ""
