"""Classifiers at work: answers, explanations, calibration, last layers."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from class_phantom import SHAPE
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

from napari_medseg.classification import Classifier, Head, Subject, load_classifier, load_matcher, saliency
from napari_medseg.classification.calibration import fit_temperature
from napari_medseg.classification.features import FeatureCache, describe_all
from napari_medseg.classification.heads import fit_head
from napari_medseg.classification.write import write_map
from napari_medseg.errors import ImagingError, ModelError
from napari_medseg.learning.train_classifier import train_classifier
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import Checkpoint, save_checkpoint
from napari_medseg.networks.registry import build
from napari_medseg.segmentation.load import load_model

NARROW = (8, 8, 16, 16)
KINDS = {
    "lesion": ("image_classifier", {"dims": 3}),
    "image": ("image_classifier", {"dims": 2, "grid": 4}),
    "study": ("study_classifier", {}),
}


def untrained(task: str, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    architecture, options = KINDS[task]
    network = build(architecture, {"widths": NARROW, "n_classes": 3, **options}).eval()
    extent = 32.0 if task == "lesion" else None
    looks_at = ClassifierInput(task=task, size=32, extent_mm=extent)  # type: ignore[arg-type]
    card = Card(name=task, architecture=architecture, labels={0: "a", 1: "b", 2: "c"}, looks_at=looks_at)
    return Checkpoint(network, card)


@pytest.fixture
def subjects(lesion, image, study) -> dict[str, Subject]:
    return {"lesion": lesion(), "image": image(), "study": study(seed=2)}


@pytest.mark.parametrize("task", list(KINDS))
def test_a_classifier_answers_with_probabilities_and_again_the_same_from_disk(task, subjects, tmp_path) -> None:
    answer = Classifier(untrained(task)).classify(subjects[task])
    assert sorted(answer.probabilities) == ["a", "b", "c"]
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert answer.probabilities[answer.best] == max(answer.probabilities.values())
    checkpoint = untrained(task)
    save_checkpoint(tmp_path, checkpoint.network, checkpoint.card)
    again = load_classifier(tmp_path).classify(subjects[task])
    for name, probability in answer.probabilities.items():
        assert again.probabilities[name] == pytest.approx(probability, abs=5e-3)


def test_a_study_says_which_slice_decided(study) -> None:
    answer = Classifier(untrained("study")).classify(study())
    (attention,) = answer.attention
    assert attention.weights.shape == (9,)
    assert attention.weights.sum() == pytest.approx(1.0)
    assert answer.deciding_slice == (0, 0, int(attention.weights.argmax()))
    assert answer.as_json()["deciding_slice"] == {"scan": 0, "axis": 0, "index": int(attention.weights.argmax())}


@pytest.mark.parametrize("task", list(KINDS))
def test_saliency_lies_on_the_scan_and_changes_with_the_weights(task, subjects) -> None:
    subject = subjects[task]
    first = saliency(Classifier(untrained(task)), subject, "a")
    assert first.data.shape == subject.scans[0].data.shape
    assert np.array_equal(first.affine, subject.scans[0].affine)
    assert first.data.min() >= 0
    assert first.data.max() <= 1.0 + 1e-6
    randomised = saliency(Classifier(untrained(task, seed=1)), subject, "a")
    again = saliency(Classifier(untrained(task)), subject, "a")
    assert np.array_equal(first.data, again.data)
    # Sanity check of Adebayo et al., NeurIPS 2018: an explanation must depend on what was learned.
    assert not np.allclose(first.data, randomised.data, atol=0.05)


@pytest.mark.parametrize("task", ["lesion", "image"])
def test_saliency_lights_what_was_learned_and_changes_with_the_weights(task, lesion, image, tmp_path) -> None:
    make, kinds = {"lesion": lesion, "image": image}[task], ["bright", "dark"] * 2
    subjects = [make(kind, seed=k) for k, kind in enumerate(kinds)]
    assert list(train_classifier(subjects, kinds, strategy="features", out=tmp_path))
    own, subject = load_classifier(tmp_path), make("bright", seed=50)
    learned = saliency(own, subject, "bright").data
    y, x = np.indices((28, 36))
    spot = subject.marked() if task == "lesion" else ((y - 8) ** 2 + (x - 25) ** 2 < 30)[None]
    assert learned[spot].mean() > 2 * learned.mean()
    before = {name: value.clone() for name, value in own.network.state_dict().items()}
    for part in (own.network.encoder, own.network.head):
        # Sanity check of Adebayo et al., NeurIPS 2018: an explanation must depend on what was learned.
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in part.parameters():
                weight.copy_(torch.randn_like(weight) * weight.std().nan_to_num(1.0))
        randomised = saliency(own, subject, "bright").data
        seen = (learned > 0) | (randomised > 0)
        assert np.corrcoef(learned[seen], randomised[seen])[0, 1] < 0.6
        own.network.load_state_dict(before)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_some_place_speaks_for_every_class(name, lesion) -> None:
    assert saliency(Classifier(untrained("lesion")), lesion(), name).data.max() > 0.5


def test_saliency_is_zero_where_a_lesion_classifier_did_not_look(lesion) -> None:
    shown = saliency(Classifier(untrained("lesion")), lesion(), "b")
    assert shown.data.shape == SHAPE
    assert shown.data[:, :, 39].max() == 0, "17 mm from the middle of a crop of 32 mm"


def test_saliency_needs_a_class_that_there_is_and_a_gradient(lesion) -> None:
    with pytest.raises(ModelError, match="no class 'x': it has a, b, c"):
        saliency(Classifier(untrained("lesion")), lesion(), "x")
    words = untrained("lesion")
    words.network = build("image_classifier", {"widths": NARROW, "n_classes": 3, "n_words": 4})
    with pytest.raises(ModelError, match="visual words has no gradient"):
        saliency(Classifier(words), lesion())


def test_a_map_is_written_on_the_scans_grid(lesion, tmp_path) -> None:
    shown = saliency(Classifier(untrained("lesion")), lesion(), "b")
    stored = nibabel.load(write_map(tmp_path / "map.nii.gz", shown))
    assert np.asarray(stored.dataobj).sum() == pytest.approx(float(shown.data.sum()), rel=1e-4)
    with pytest.raises(ImagingError, match="none of the endings"):
        write_map(tmp_path / "map.png", shown)


def test_models_are_used_for_what_they_do(tmp_path) -> None:
    checkpoint = untrained("image")
    save_checkpoint(tmp_path, checkpoint.network, checkpoint.card)
    with pytest.raises(ModelError, match="'image' classifies and cannot segment"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="does not compare"):
        load_matcher(tmp_path)
    with pytest.raises(ModelError, match="does not classify"):
        load_classifier("click")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_last_layers_are_scikit_learns_as_plain_arrays(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    answers = np.arange(60) % n_classes
    features = (rng.normal(0, 1, (60, 20)) + answers[:, None] * rng.normal(0, 0.7, 20)).astype(np.float32)
    fresh = rng.normal(0.5, 1.2, (200, 20)).astype(np.float32)
    for kind, model in (
        (Head.LOGISTIC, LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)),
        (Head.SVM, LinearSVC(C=0.001, class_weight="balanced", max_iter=5000)),
        (Head.NEAREST_MEAN, NearestCentroid()),
    ):
        head = fit_head(kind, features, answers, n_classes)
        scaled = (features - head.mean) / head.scale
        expected = model.fit(scaled, answers).predict((fresh - head.mean) / head.scale)
        assert (head.logits(fresh).argmax(1) == expected).mean() > 0.99, kind
        if kind is Head.LOGISTIC and n_classes == 2:
            odds = head.logits(fresh)[:, 1] - head.logits(fresh)[:, 0]
            assert np.allclose(odds, model.decision_function((fresh - head.mean) / head.scale), atol=1e-4)


def test_temperature_calms_what_is_too_sure_and_only_that() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (4000, 3))
    probabilities = np.exp(truth) / np.exp(truth).sum(1, keepdims=True)
    answers = np.array([rng.choice(3, p=p) for p in probabilities])
    assert fit_temperature(truth, answers) == pytest.approx(1.0, abs=0.08)
    assert fit_temperature(5 * truth, answers) == pytest.approx(5.0, rel=0.08)
    assert fit_temperature(truth[:0], answers[:0]) == 1.0
    assert fit_temperature(np.eye(3)[[0, 1]] * 9, np.array([0, 1])) > 0.1, "two right answers are no proof"


def test_features_are_computed_once_and_again_only_for_other_weights(image, tmp_path) -> None:
    classifier = Classifier(untrained("image"))
    crops = [classifier.crop(image(seed=k)) for k in range(3)]
    cache = FeatureCache(tmp_path)
    first = describe_all(classifier.network, crops, cache)
    assert len(list(tmp_path.glob("*.npy"))) == 3
    calls: list[int] = []
    watched = classifier.network.encoder.register_forward_hook(lambda *_: calls.append(1))
    again = describe_all(classifier.network, crops, FeatureCache(tmp_path))
    assert not calls
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    watched.remove()
    describe_all(Classifier(untrained("image", seed=1)).network, crops, cache)
    assert len(list(tmp_path.glob("*.npy"))) == 6


def test_a_damaged_file_of_the_cache_is_made_again(tmp_path) -> None:
    cache = FeatureCache(tmp_path)
    cache.get("k", lambda: np.ones(3, np.float32))
    (tmp_path / "k.npy").write_bytes(b"no array")
    assert "k" in cache
    assert FeatureCache(tmp_path).get("k", lambda: np.zeros(3, np.float32)).sum() == 0
