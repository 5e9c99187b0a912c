"""Training the Siamese network: the loss, pairs of views, and a run of seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medseg.classification import Subject, load_matcher
from napari_medseg.cli import main
from napari_medseg.errors import LearningError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.siamese_views import draw_views, store_lesion
from napari_medseg.learning.train_siamese import SiameseTraining, contrastive_loss, train_siamese
from napari_medseg.networks.channels import IMAGE, POSITIVE, PREVIOUS, VALID

TINY = SiameseTraining(collections=(), n_synthetic=5, batch=4, steps=3, widths=(8, 8, 8, 8))


def test_partners_are_pulled_together_and_one_patients_lesions_are_not_pushed_apart() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    right, recall = contrastive_loss(torch.stack([a, b, a, b]), ["P1", "P2"], 0.1)
    wrong, none = contrastive_loss(torch.stack([a, b, b, a]), ["P1", "P2"], 0.1)
    assert recall == 1.0
    assert none == 0.0
    assert right < 0.01 < wrong
    alike, _ = contrastive_loss(torch.stack([a, a, a, a]), ["P1", "P1"], 0.1)
    assert alike < 0.01, "two lesions of one patient may be the same one in two modalities"


def test_views_are_what_the_matcher_sees() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (20, 40, 40)).astype(np.float32)
    mask = np.zeros(data.shape, bool)
    mask[8:12, 16:24, 16:24] = True
    data[mask] += 8.0
    affine = np.array([[0, 0, -1.0, 0], [0, -1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    kept = store_lesion(data, mask, (2.0, 1.0, 1.0), patient="P", size=32)
    assert kept.channels.shape == (3, 48, 48, 48)
    views = draw_views([kept] * 8, 32, torch.Generator().manual_seed(0))
    subject = Subject.lesion(Volume(data, affine, "s"), LabelMap(mask.astype(np.uint8), affine))
    network = load_matcher_of(TINY)
    seen = torch.from_numpy(network.inputs(subject))
    assert views.shape == (8, *seen.shape)
    drawn = views[:, PREVIOUS].amax((1, 2, 3))
    assert 0 < (drawn > 0).sum() < 8, "some with a mask, some as from a click"
    assert torch.equal(views[0, POSITIVE], seen[POSITIVE])
    with_mask = views[drawn > 0][0]
    inside = with_mask[PREVIOUS] > 0.9
    assert with_mask[IMAGE][inside].mean() > with_mask[IMAGE][(with_mask[VALID] > 0) & ~inside].mean() + 1.0


def load_matcher_of(settings: SiameseTraining):
    from napari_medseg.classification import Matcher
    from napari_medseg.models.card import Card, ClassifierInput
    from napari_medseg.models.checkpoint import Checkpoint
    from napari_medseg.networks.siamese import SiameseNetwork

    looks_at = ClassifierInput(task="lesion", size=settings.size, extent_mm=40.0)
    return Matcher(Checkpoint(SiameseNetwork(widths=settings.widths), Card(name="s", looks_at=looks_at)))


def test_a_run_of_seconds_leaves_a_network_that_compares(tmp_path: Path) -> None:
    reports = list(train_siamese(tmp_path, tmp_path / "out", TINY))
    assert reports[-1].step == 3
    assert np.isfinite(reports[-1].loss)
    matcher = load_matcher(tmp_path / "out")
    assert matcher.card.command == "napari-medseg train-siamese"
    assert float(matcher.network.sharpness) >= 1.0
    shares, cosines = zip(*matcher.card.other_lesions, strict=True)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert -1.0 <= cosines[0] <= cosines[-1] <= 1.0
    assert list(cosines) == sorted(cosines)


def test_a_run_that_is_stopped_keeps_what_it_has_learned(tmp_path: Path) -> None:
    asked: list[int] = []
    long = TINY.model_copy(update={"steps": 1000})
    list(train_siamese(tmp_path, tmp_path / "out", long, should_stop=lambda: len(asked) > 1 or bool(asked.append(1))))
    assert load_matcher(tmp_path / "out").card.architecture == "siamese"


def test_too_few_lesions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LearningError, match="2 lesions are fewer than a batch of 4"):
        list(train_siamese(tmp_path, tmp_path / "out", TINY.model_copy(update={"n_synthetic": 2})))


def test_without_data_the_command_line_says_so(tmp_path: Path, capsys) -> None:
    assert main(["train-siamese", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--steps", "2", "--json"]) == 1
    said = capsys.readouterr()
    assert "found no pair" in said.err
    assert not [json.loads(line) for line in said.out.splitlines()]
