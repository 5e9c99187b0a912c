import errno
import math

import numpy as np
import pytest
import torch
from learning_phantom import QUICK, dice, phantom, weights_of

from napari_medseg import load_model
from napari_medseg.errors import Cancelled, JobFailed, LearningError
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.learning import gate, practice
from napari_medseg.learning.correction import Correction, content_hash
from napari_medseg.learning.examination import Examination
from napari_medseg.learning.fine_tune import fine_tune
from napari_medseg.learning.settings import Strategy
from napari_medseg.learning.trainer import STATE
from napari_medseg.models.checkpoint import read_card
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet


def run(model, corrections, **options):
    """All reports of a run."""
    return list(fine_tune(model, corrections, **{"settings": QUICK, **options}))


def test_dice_rises_and_the_model_becomes_the_new_version(model, tmp_path):
    reports = run(model, [phantom(k) for k in range(3)], out=tmp_path / "new")
    verdict = reports[-1].verdict
    assert [r.kind for r in reports].count("validation") == 2
    assert reports[-1].kind == "done"
    assert verdict.adopted
    assert verdict.dice_after > verdict.dice_before + 0.2
    assert verdict.held_out == "1 of 3 corrected cases, held out"
    assert f"-> {verdict.dice_after:.2f}, nothing forgotten: version 2 is active" in verdict.sentence
    assert reports[-1].message == verdict.sentence

    volume, truth = phantom(77)
    answer = model.segment(volume)
    assert model.version == 2
    assert not model.needs_click
    assert answer.data.shape == volume.data.shape
    assert dice(answer.data == 1, truth.data == 1) > 0.75
    stored = load_model(tmp_path / "new")
    assert np.mean(stored.segment(volume).data != answer.data) < 0.01
    assert stored.card.gate["adopted"] is True
    assert stored.card.figures["part_of_learned_clicks"] == 0.0
    assert stored.card.parent.startswith("click version 1 (000000000000)")
    assert not (tmp_path / "new" / STATE).exists()


def test_a_stopped_and_a_killed_run_go_on_to_the_same_weights(model, tmp_path, monkeypatch):
    cases = [phantom(k) for k in range(2)]
    monkeypatch.setattr("napari_medseg.learning.fine_tune._REPORT_EVERY_S", 0.0)
    settings = QUICK.model_copy(update={"steps": 10, "save_every_s": 1e-6, "click_share": 0.5})
    run(model_like(model), cases, settings=settings, out=tmp_path / "whole")

    killed = fine_tune(model_like(model), cases, settings=settings, out=tmp_path / "parts")
    while next(killed).step < 3:
        pass
    killed.close()
    calls = iter(range(1000))
    with pytest.raises(Cancelled, match=r"stopped at step \d+ of 10: nothing was changed"):
        run(model_like(model), cases, settings=settings, out=tmp_path / "parts", should_stop=lambda: next(calls) > 2)
    resumed = run(model_like(model), cases, settings=settings, out=tmp_path / "parts")
    assert resumed[1].step >= 4

    one, other = (load_model(tmp_path / name).network for name in ("whole", "parts"))
    for name, value in weights_of(one).items():
        assert torch.equal(value, other.state_dict()[name]), name


def model_like(model):
    return type(model)(model.checkpoint, "cpu")


def test_another_run_does_not_go_on_from_a_foreign_state(model, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_medseg.learning.fine_tune._REPORT_EVERY_S", 0.0)
    settings = QUICK.model_copy(update={"steps": 6, "save_every_s": 1e-6})
    started = fine_tune(model, [phantom(0)], settings=settings, out=tmp_path, seed=1)
    while next(started).step < 3:
        pass
    started.close()
    reports = run(model, [phantom(0)], settings=settings, out=tmp_path, seed=2)
    assert min(r.step for r in reports if r.loss is not None) == 1


def test_cancelling_changes_nothing(model, tmp_path):
    before = weights_of(model.network)
    asked = iter(range(1000))
    with pytest.raises(Cancelled, match="stopped at step"):
        run(model, [phantom(0)], out=tmp_path, should_stop=lambda: next(asked) > 12)
    assert all(torch.equal(v, model.network.state_dict()[k]) for k, v in before.items())
    assert model.version == 1
    assert not (tmp_path / "card.json").exists()


def test_out_of_memory_halves_the_patch_and_goes_on(model, monkeypatch, tmp_path):
    real, failures = practice.label_loss, iter([True, False, True])

    def scarce(*tensors, **_):
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*tensors)

    monkeypatch.setattr(practice, "label_loss", scarce)
    reports = run(model, [phantom(0)], out=tmp_path, settings=QUICK.model_copy(update={"steps": 6}))
    assert reports[-1].kind == "done"
    assert read_card(tmp_path).training["patch"] == [16, 16, 16]


def test_too_little_memory_for_the_smallest_patch_is_said(model, monkeypatch):
    def scarce(*tensors, **_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(practice, "label_loss", scarce)
    with pytest.raises(JobFailed, match="not enough memory to learn"):
        run(model, [phantom(0)])


def test_nan_stops_and_changes_nothing(model, monkeypatch, tmp_path):
    before, real, calls = weights_of(model.network), practice.label_loss, iter(range(1000))
    monkeypatch.setattr(practice, "label_loss", lambda *t, **_: real(*t) * (math.nan if next(calls) == 4 else 1.0))
    with pytest.raises(JobFailed, match="step 5 because the loss is not a number: nothing was changed"):
        run(model, [phantom(0)], out=tmp_path)
    assert all(torch.equal(v, model.network.state_dict()[k]) for k, v in before.items())
    assert not (tmp_path / "card.json").exists()


@pytest.mark.parametrize("where", ["trainer.write_durably", "fine_tune.save_checkpoint"])
def test_a_full_disk_is_said_and_changes_nothing(model, monkeypatch, tmp_path, where):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device", str(given[0]))

    before = weights_of(model.network)
    monkeypatch.setattr(f"napari_medseg.learning.{where}", full)
    with pytest.raises(JobFailed, match=r"could not be stored in .*No space left on device.*: nothing was changed"):
        run(model, [phantom(0)], out=tmp_path, settings=QUICK.model_copy(update={"steps": 6}))
    assert all(torch.equal(v, model.network.state_dict()[k]) for k, v in before.items())
    assert model.version == 1
    assert not (tmp_path / "card.json").exists()


def test_a_network_error_leaves_as_our_own(model, monkeypatch):
    def broken(*tensors, **_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(practice, "label_loss", broken)
    with pytest.raises(JobFailed, match="changed nothing: mat1 and mat2"):
        run(model, [phantom(0)])


def test_inverted_labels_are_refused_and_the_trained_version_is_still_there(model, tmp_path):
    before = weights_of(model.network)
    pairs = [(v, LabelMap((m.data == 0).astype(np.uint8), m.affine)) for v, m in (phantom(k) for k in range(3))]
    verdict = run(model, pairs, out=tmp_path)[-1].verdict
    assert not verdict.adopted
    assert "the masks look inverted" in verdict.sentence
    assert "the old version stays active" in verdict.sentence
    assert model.version == 1
    assert all(torch.equal(v, model.network.state_dict()[k]) for k, v in before.items())
    assert load_model(tmp_path).card.gate["adopted"] is False


def test_unreviewed_slices_do_not_teach(model, tmp_path):
    settings = QUICK.model_copy(update={"steps": 4, "click_share": 1.0})
    reviewed = (3, 4, 5, 6, 7)
    for name, rubbish in (("empty", 0), ("full", 1), ("other", 9)):
        volume, mask = phantom(0)
        data = np.full_like(mask.data, rubbish)
        data[list(reviewed)] = mask.data[list(reviewed)]
        pair = (volume, LabelMap(data, mask.affine), reviewed)
        run(model_like(model), [pair], settings=settings, out=tmp_path / name)
    networks = [load_model(tmp_path / name).network.state_dict() for name in ("empty", "full", "other")]
    for name, value in networks[0].items():
        assert torch.equal(value, networks[1][name]), name
        assert torch.equal(value, networks[2][name]), name


def test_a_third_of_the_slices_teaches_nearly_as_much_as_all_of_them(model):
    def third(seed):
        volume, mask = phantom(seed)
        reviewed = tuple(range(seed % 3, len(mask.data), 3))
        wrong = np.roll(mask.data, (7, 8), (1, 2))
        wrong[list(reviewed)] = mask.data[list(reviewed)]
        return volume, LabelMap(wrong, mask.affine), reviewed

    reached = []
    for pair in (phantom, third):
        learned = finish(fine_tune(model_like(model), [pair(k) for k in range(3)], settings=QUICK))
        segmenter = type(model)(learned.checkpoint, "cpu")
        unseen = [phantom(seed) for seed in (70, 71, 72, 73)]
        reached.append(np.mean([dice(segmenter.segment(v).data == 1, m.data == 1) for v, m in unseen]))
    assert reached[0] > 0.75
    assert reached[1] > reached[0] - 0.03


def test_a_new_label_comes_beside_the_old_one(model, tmp_path):
    def named(seed, keep):
        volume, mask = phantom(seed, two=True)
        return volume, LabelMap(
            np.where(mask.data == keep, mask.data, 0).astype(np.uint8), mask.affine, {keep: "ab"[keep - 1]}
        )

    run(model, [named(k, 1) for k in range(3)])
    assert dict(model.labels) == {1: "a"}
    volume, mask = phantom(77, two=True)
    alone = dice(model.segment(volume).data == 1, mask.data == 1)
    run(model, [named(k, 2) for k in range(3)], settings=QUICK.model_copy(update={"steps": 80}))
    assert dict(model.labels) == {1: "a", 2: "b"}
    answer = model.segment(volume)
    assert dict(answer.names) == {1: "a", 2: "b"}
    assert dice(answer.data == 2, mask.data == 2) > 0.6
    assert dice(answer.data == 1, mask.data == 1) > alone - 0.15


@pytest.mark.parametrize("strategy", list(Strategy))
def test_each_strategy_changes_its_layers_and_no_others(model, strategy, monkeypatch):
    monkeypatch.setattr(Examination, "settled_part", lambda self, network, part, before: 1.0)
    before, deep = weights_of(model.network), {"stem", "encoder", "decoder", "click_head"}
    settings = QUICK.model_copy(update={"steps": 10, "click_share": 1.0})
    learned = finish(fine_tune(model, [phantom(k) for k in range(3)], strategy=strategy.value, settings=settings))
    after = learned.checkpoint.network.state_dict()
    changed = {k.split(".")[0] for k, v in before.items() if not torch.equal(v, after[k])}
    assert changed == (
        set() if strategy is Strategy.FEATURES else {"click_head"} if strategy is Strategy.HEAD else deep
    )
    assert ("label_body.stem.weight" in after) == (strategy not in (Strategy.HEAD, Strategy.FEATURES))
    fresh = ClickUNet(widths=(8, 8, 8, 8))
    fresh.load_state_dict(before)
    fresh.set_labels(1)
    assert not torch.equal(after["label_head.weight"], fresh.state_dict()["label_head.weight"])


def finish(steps):
    """What a run returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_pinned_cases_never_teach_and_never_get_worse(model):
    volume, mask = phantom(5)
    upside_down = LabelMap(np.ascontiguousarray(mask.data[:, :, ::-1]), mask.affine)
    pinned = Correction(volume, None, upside_down, pinned=True, name="Doe_Jane")
    run(model, [phantom(k) for k in range(3)])
    strict = QUICK.model_copy(update={"largest_loss": 0.02, "steps": 6})
    with pytest.raises(LearningError, match="not pinned"):
        run(model, [pinned], settings=strict)
    verdict = run(model, [*(phantom(k) for k in range(3)), pinned], settings=strict)[-1].verdict
    mark = f"scan {content_hash(volume)[:16]}"
    assert set(verdict.before.pinned) == {f"{mark} with one click", f"{mark} without a click"}
    assert set(verdict.after.pinned) == set(verdict.before.pinned)


def test_no_card_holds_the_name_of_a_pinned_scan(model, tmp_path, monkeypatch):
    """Cards leave with `models export`, and the name of a scan is often a patient's."""
    monkeypatch.setattr(gate, "_worse_pinned", lambda before, _after, _loss: [f"the pinned case {k}" for k in before])
    volume, mask = phantom(5)
    pinned = Correction(volume, None, mask, pinned=True, name="Doe_Jane")
    quick = QUICK.model_copy(update={"steps": 2})
    result = finish(fine_tune(model, [phantom(0), pinned], settings=quick, out=tmp_path / "new"))
    assert "the pinned case 'Doe_Jane' with one click" in result.verdict.sentence
    card = (tmp_path / "new" / "card.json").read_text()
    assert f"the pinned case scan {content_hash(volume)[:16]} with one click" in card
    assert "Doe_Jane" not in card
    assert "phantom 5" not in card
    library = Library(tmp_path / "models")
    verdict = result.verdict.model_dump(mode="json", exclude={"folder"})
    assert library.take_over("click", tmp_path / "new", verdict) == 2, "the card's own sentence names nobody"


def test_corrections_that_cannot_teach_are_refused(model):
    volume, mask = phantom(0)
    empty = LabelMap(np.zeros_like(mask.data), mask.affine)
    with pytest.raises(LearningError, match="the corrected masks are empty"):
        run(model, [(volume, empty)])
    with pytest.raises(LearningError, match="no slice of 'phantom 0' was reviewed"):
        run(model, [(volume, LabelMap(mask.data, mask.affine, {1: "lesion"}), ())])
    with pytest.raises(LearningError, match="there is nothing to learn from"):
        run(model, [])
    with pytest.raises(LearningError, match=r"expected \(Volume, LabelMap\)"):
        run(model, [volume])
    moved = mask.affine.copy()
    moved[0, 3] += 3.0
    with pytest.raises(LearningError, match="the corrected mask and its scan 'phantom 0' lie on different grids"):
        run(model, [(volume, LabelMap(mask.data, moved))])


def test_the_classical_method_cannot_learn():
    with pytest.raises(LearningError, match="'geodesic' cannot learn"):
        run(load_model("geodesic"), [phantom(0)])


def test_one_slice_is_enough(model):
    def flat(seed):
        volume, mask = phantom(seed)
        return type(volume)(volume.data[5:6], volume.affine), LabelMap(mask.data[5:6], mask.affine)

    settings = QUICK.model_copy(update={"patch": None})
    reports = run(model, [flat(k) for k in range(3)], settings=settings)
    assert reports[-1].verdict.after.automatic > 0.6
    answer = model.segment(flat(9)[0])
    assert answer.data.shape == (1, *phantom(9)[0].data.shape[1:])
