"""Training classifiers: what is learned, what is refused, what the gate decides, and the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_medseg.classification import Classifier, Head, Subject, load_classifier
from napari_medseg.classification.features import FeatureCache
from napari_medseg.cli import main
from napari_medseg.errors import Cancelled, LearningError, ModelError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.class_gate import decide_classes, guessing
from napari_medseg.learning.class_reports import ClassReport, ClassScores, ClassTrainingResult
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.class_strategies import class_groups, class_plan
from napari_medseg.learning.process import run_reporting
from napari_medseg.learning.settings import Strategy
from napari_medseg.learning.train_classifier import train_classifier
from napari_medseg.models.library import Library
from napari_medseg.networks.image_classifier import ImageClassifier

AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])
QUICK = ClassTraining(steps=8, batch=4, validations=1)


def picture(kind: str, seed: int) -> np.ndarray:
    """A bright spot at the upper right, or a dark one at the lower left."""
    y, x = np.indices((28, 36))
    at = (8, 25) if kind == "bright" else (20, 8)
    spot = (y - at[0]) ** 2 + (x - at[1]) ** 2 < 40
    noise = np.random.default_rng(seed).normal(0, 1, (28, 36))
    return (noise + (5.0 if kind == "bright" else -5.0) * spot).astype(np.float32)


def image(kind: str, seed: int, patient: str = "") -> Subject:
    return Subject.image(Volume(picture(kind, seed)[None], AFFINE, f"{kind} {seed}", "DX"), patient=patient)


def lesion(kind: str, seed: int) -> Subject:
    data = np.random.default_rng(seed).normal(0, 1, (10, 28, 30)).astype(np.float32)
    mask = np.zeros(data.shape, np.uint8)
    mask[4:7, 10:17, 11:19] = 1
    data += (6.0 if kind == "bright" else -6.0) * mask
    return Subject.lesion(Volume(data, AFFINE, f"{kind} {seed}", "CT"), LabelMap(mask, AFFINE))


def study(kind: str, seed: int) -> Subject:
    data = np.random.default_rng(seed).normal(0, 1, (6, 28, 30)).astype(np.float32)
    if kind == "bright":
        data[1 + seed % 4, 8:18, 10:20] += 6.0
    return Subject.study(Volume(data, AFFINE, f"{kind} {seed}", "MR"))


def cases(make, n: int, first: int = 0) -> tuple[list[Subject], list[str]]:
    kinds = ["bright", "dark"] * (n // 2)
    return [make(kind, first + k) for k, kind in enumerate(kinds)], kinds


def run(*arguments, **options) -> tuple[list[ClassReport], ClassTrainingResult]:
    reports, steps = [], train_classifier(*arguments, **options)
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            return reports, end.value


@pytest.mark.parametrize("head", [head for head in Head if head is not Head.NEIGHBOURS])
def test_features_of_a_frozen_encoder_tell_images_apart(head: Head) -> None:
    subjects, answers = cases(image, 12)
    reports, result = run(subjects, answers, strategy="features", settings=ClassTraining(head=head, n_words=8))
    assert reports[-1].kind == "done"
    assert result.verdict.adopted
    assert result.verdict.after.balanced_accuracy == 1.0
    assert "by guessing -> 1.00" in result.verdict.sentence
    answer = Classifier(result.checkpoint).classify(image("dark", 99))
    assert answer.best == "dark"
    assert 0.5 < answer.probabilities["dark"] < 1.0


@pytest.mark.parametrize("head", [Head.WORDS, Head.NEAREST_MEAN])
def test_many_cases_leave_a_fitted_last_layer_fitted(head: Head) -> None:
    subjects, answers = cases(image, 40)
    _, result = run(subjects, answers, settings=ClassTraining(head=head, n_words=8))
    assert result.checkpoint.card.training["strategy"] == "features"
    assert result.verdict.after.auc > 0.95
    if head is Head.WORDS:
        assert result.checkpoint.network.words.any()


def test_a_vocabulary_stays_one_in_the_next_version_and_is_not_made_of_another_last_layer() -> None:
    subjects, answers = cases(image, 12)
    _, words = run(subjects, answers, settings=ClassTraining(head=Head.WORDS, n_words=8))
    _, again = run(*cases(image, 40, first=20), start=Classifier(words.checkpoint))
    assert again.checkpoint.card.training["strategy"] == "features"
    assert again.checkpoint.card.training["settings"]["head"] == "words"
    _, plain = run(subjects, answers)
    for head in (Head.WORDS, Head.NEIGHBOURS):
        with pytest.raises(LearningError, match=f"has no last layer '{head}': train a new classifier"):
            run(subjects, answers, start=Classifier(plain.checkpoint), settings=ClassTraining(head=head))


@pytest.mark.parametrize("head", [Head.WORDS, Head.SVM, Head.NEAREST_MEAN])
def test_a_last_layer_that_cannot_be_had_is_refused_in_one_sentence(head: Head) -> None:
    settings = QUICK.model_copy(update={"head": head})
    for strategy in ("head", "gradual", "full"):
        with pytest.raises(LearningError, match=f"'{head}' is fitted, not learned by steps: choose the strategy feat"):
            run(*cases(image, 8), strategy=strategy, settings=settings)
    with pytest.raises(LearningError, match=f"'{head}' is fitted to a pretrained encoder"):
        run(*cases(image, 8), settings=settings.model_copy(update={"start": "scratch"}))
    for strategy in ("auto", "features"):
        with pytest.raises(LearningError, match=f"a classifier of studies has no last layer '{head}'"):
            run(*cases(study, 8), strategy=strategy, settings=settings)


@pytest.mark.parametrize(("make", "strategy"), [(image, "gradual"), (lesion, "full"), (study, "head")])
def test_every_kind_of_case_is_learned(make, strategy, tmp_path: Path) -> None:
    subjects, answers = cases(make, 12)
    settings = QUICK.model_copy(update={"size": 32, "steps": 60 if make is study else 8})
    reports, result = run(subjects, answers, strategy=strategy, settings=settings, out=tmp_path, name="mine")
    assert [report for report in reports if report.kind == "validation"]
    assert any(report.loss is not None for report in reports)
    again = load_classifier(tmp_path)
    assert again.card.name == "mine"
    assert again.classes == ("bright", "dark")
    assert again.card.gate is not None
    assert again.card.training["strategy"] == strategy
    assert not any("bright 0" in text for text in (again.card.model_dump_json(),)), "no name of a scan in a card"
    fresh, truth = cases(make, 4, first=50)
    assert [again.classify(subject).best for subject in fresh] == truth
    assert result.verdict.adopted


def test_the_slice_that_decides_is_the_marked_one() -> None:
    subjects, answers = cases(study, 16)
    _, result = run(subjects, answers, strategy="features", settings=ClassTraining(size=32, steps=80))
    classifier = Classifier(result.checkpoint)
    found = [classifier.classify(study("bright", seed)).deciding_slice for seed in range(60, 64)]
    assert found == [(0, 0, 1 + seed % 4) for seed in range(60, 64)]


def test_of_two_scans_of_a_study_the_one_that_tells_decides() -> None:
    def pair(kind: str, seed: int) -> Subject:
        (telling,), (silent,) = study(kind, seed).scans, study("dark", 1000 + seed).scans
        return Subject.study(replace(silent, modality="CT"), telling)

    subjects, answers = cases(pair, 24)
    _, result = run(subjects, answers, strategy="features", settings=ClassTraining(size=32, steps=200))
    classifier = Classifier(result.checkpoint)
    fresh, truth = cases(pair, 8, first=60)
    assert [classifier.classify(subject).best for subject in fresh] == truth
    assert classifier.classify(pair("bright", 60)).deciding_slice == (1, 0, 1)


@pytest.mark.parametrize(
    ("answers", "classes", "says"),
    [
        (["a"] * 6, None, "all 6 cases are 'a': label cases of at least one other class too"),
        (["a", "b"], None, "there is only one case of 'a': label at least two cases of each class"),
        (
            ["a", "a", "b", "b"],
            ("a", "b", "c"),
            "nobody labelled a case 'c': label at least two, or take that class away",
        ),
        (["a", "a", "b", ""], None, "a case has the class '', which is none of"),
        (["a", "x", "b", "b"], ("a", "b"), "a case has the class 'x', which is none of a, b"),
        ([], None, "there is no labelled case to learn from"),
        (["a", "b", "b"], None, "there is only one case of 'a'"),
    ],
)
def test_what_cannot_be_learned_from_is_said_in_one_sentence(answers, classes, says) -> None:
    with pytest.raises(LearningError, match=says) as caught:
        run([image("bright", k) for k in range(len(answers))], answers, classes=classes)
    assert "\n" not in str(caught.value)


def test_cases_of_different_kinds_or_of_one_patient_are_refused() -> None:
    with pytest.raises(LearningError, match=r"of different kinds \(image and lesion\): train one kind at a time"):
        run([image("bright", 0), image("bright", 1), lesion("dark", 0), lesion("dark", 1)], ["a", "a", "b", "b"])
    flat = image("bright", 0).scans[0]
    mixed = [Subject.at(flat, tuple(flat.position_of((0.0, 9.0, 9.0)))), lesion("bright", 1)] * 2
    with pytest.raises(LearningError, match="2 cases are single 2-D images and 2 are volumes"):
        run(mixed, ["a", "a", "b", "b"])
    with pytest.raises(LearningError, match="every class needs cases of at least two patients"):
        run([image("bright", k, patient=f"P{k // 2}") for k in range(4)], ["a", "a", "b", "b"])
    with pytest.raises(LearningError, match="3 cases came with 2 classes"):
        run([image("bright", k) for k in range(3)], ["a", "b"])


def test_a_case_of_another_dimensionality_than_the_classifier_is_refused() -> None:
    _, result = run(*cases(image, 8))
    with pytest.raises(ModelError, match=r"learned single 2-D images and 'bright 0' has 10 slices"):
        run(*cases(lesion, 8), start=Classifier(result.checkpoint))


def test_patients_are_never_on_both_sides() -> None:
    subjects = [image(kind, k, patient=f"P{k // 4}") for k, kind in enumerate(["bright", "dark"] * 8)]
    answers = ["bright", "dark"] * 8
    _, result = run(subjects, answers, strategy="gradual", settings=QUICK)
    assert result.verdict.held_out == "4 of 16 cases, held out by patient"


def test_the_same_seed_gives_the_same_weights_and_a_cache_changes_nothing(tmp_path: Path) -> None:
    subjects, answers = cases(image, 8)
    first = run(subjects, answers, strategy="gradual", settings=QUICK)[1].checkpoint.network.state_dict()
    cache = FeatureCache(tmp_path)
    again = run(subjects, answers, strategy="gradual", settings=QUICK, cache=cache)[1].checkpoint.network.state_dict()
    assert all((first[name] == again[name]).all() for name in first)
    assert any(tmp_path.iterdir())


def test_a_training_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 30

    with pytest.raises(Cancelled, match="nothing was changed"):
        run(*cases(image, 8), strategy="gradual", settings=ClassTraining(steps=500), out=tmp_path, should_stop=stop)
    assert not list(tmp_path.iterdir())


def test_a_version_goes_on_from_the_last_and_a_new_class_gets_a_new_last_layer() -> None:
    _, first = run(*cases(image, 12), strategy="features", name="spots")
    old = Classifier(first.checkpoint)
    reports, second = run(*cases(image, 12, first=20), start=old, strategy="features")
    assert second.checkpoint.card.version == 2
    assert second.checkpoint.card.parent is not None
    assert second.verdict.before.balanced_accuracy == 1.0, "measured on cases the old version had not seen"
    assert not second.verdict.adopted
    assert "the old version stays active" in reports[-1].message
    subjects, answers = cases(image, 12)
    third = run([*subjects, *subjects[:4]], [*answers, "x", "x", "x", "x"], start=old, strategy="features")[1]
    assert Classifier(third.checkpoint).classes == ("bright", "dark", "x")
    assert third.checkpoint.network.head.out_features == 3


def test_the_gate() -> None:
    def scores(accuracy: float, auc: float) -> ClassScores:
        return ClassScores(balanced_accuracy=accuracy, auc=auc)

    def adopted(before: ClassScores, after: ClassScores, *, is_first: bool = False) -> bool:
        verdict = decide_classes(before, after, least_gain=0.01, held_out="", is_first=is_first, version=2)
        assert verdict.sentence
        return verdict.adopted

    assert adopted(guessing(2), scores(0.8, 0.9), is_first=True)
    assert not adopted(guessing(2), scores(0.45, 0.4), is_first=True)
    assert adopted(scores(0.8, 0.85), scores(0.85, 0.85))
    assert adopted(scores(0.8, 0.85), scores(0.8, 0.9)), "called the same, but told apart more clearly"
    assert not adopted(scores(0.8, 0.85), scores(0.8, 0.85))
    assert not adopted(scores(0.8, 0.85), scores(0.75, 0.95))


def test_strategies_unfreeze_from_the_last_layer_down_at_a_smaller_rate() -> None:
    network = ImageClassifier(dims=2, widths=(8, 8, 8, 8))
    plan = class_plan("gradual", 100, dims=2, is_study=False, from_scratch=False)
    groups = class_groups(plan, network, 1e-3)
    assert groups[0].name == "heads"
    assert [group.starts for group in groups] == sorted(group.starts for group in groups)
    assert groups[0].starts == 0.0
    assert max(group.learning_rate for group in groups[1:]) == pytest.approx(1e-4)
    alone = class_groups(class_plan("head", 100, dims=2, is_study=False, from_scratch=False), network, 1e-3)
    assert [group.name for group in alone] == ["heads"]
    for n, chosen in ((10, Strategy.FEATURES), (300, Strategy.GRADUAL)):
        assert class_plan("auto", n, dims=2, is_study=False, from_scratch=False).strategy is chosen


@pytest.fixture
def table(tmp_path: Path) -> Path:
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["scan", "class", "patient"])
        for k, kind in enumerate(["bright", "dark"] * 5):
            nibabel.save(nibabel.Nifti1Image(picture(kind, k).T[:, :, None], np.eye(4)), tmp_path / f"{k}.nii.gz")
            writer.writerow([f"{k}.nii.gz", kind, f"P{k}"])
    return tmp_path / "cases.csv"


def test_the_command_line_trains_classifies_reports_and_rolls_back(table: Path, capsys) -> None:
    out = table.with_name("model")
    train = ["train-classifier", "--table", str(table), "--out", str(out), "--adopt", "spots"]
    assert main([*train, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["kind"] == "done"
    assert lines[-1]["verdict"]["adopted"]
    assert main(["classify", str(table.with_name("1.nii.gz")), "--model", "spots", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["class"] == "dark"
    assert answer["model"] == "spots version 1"
    report = table.with_name("report")
    assert main(["classify", "--table", str(table), "--model", "spots", "--report", str(report)]) == 0
    assert (report / "report.html").is_file()
    capsys.readouterr()
    assert main([*train, "--model", "spots"]) == 0
    assert "the old version stays active" in capsys.readouterr().out
    assert Library().active("spots") == 1
    Library().activate("spots", 2)
    assert main(["models", "rollback", "spots"]) == 0
    assert main(["models", "list"]) == 0
    assert "bright, dark" in capsys.readouterr().out


def test_the_map_of_a_study_is_of_the_scan_that_decided(tmp_path: Path, capsys) -> None:
    run(*cases(study, 16), settings=ClassTraining(size=32, steps=80), out=tmp_path / "model")
    paths = []
    for kind, n_slices in (("dark", 6), ("bright", 5)):
        data = study(kind, 1).scans[0].data[:n_slices]
        paths.append(tmp_path / f"{kind}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(data.T, np.diag([1.0, 1.2, 2.5, 1.0])), paths[-1])
    out = tmp_path / "map.nii.gz"
    words = ["classify", *map(str, paths), "--model", str(tmp_path / "model"), "--saliency", str(out)]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deciding_slice"]["scan"] == 1
    assert nibabel.load(out).shape[2] == 5
    assert main(words) == 0
    assert f"{out}: written, of bright.nii.gz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["classify", "--model", "none"], "there is nothing to classify"),
        (["train-classifier", "--out", "x"], "there is no labelled case to learn from"),
        (["train-classifier", "--table", "absent.csv", "--out", "x"], "cannot be read as a table"),
    ],
)
def test_the_command_line_refuses_in_one_line(words, says, capsys) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1


def test_similar_from_the_command_line(tmp_path: Path, capsys) -> None:
    subject = lesion("bright", 0)
    scan, mask = tmp_path / "s.nii.gz", tmp_path / "m.nii.gz"
    grid = np.diag([1.0, 1.2, 2.5, 1.0])
    nibabel.save(nibabel.Nifti1Image(subject.scans[0].data.T, grid), scan)
    nibabel.save(nibabel.Nifti1Image(subject.marked().T.astype(np.uint8), grid), mask)
    words = ["similar", str(scan), "--mask", str(mask), "--cases", str(tmp_path / "cases")]
    assert main(words) == 1
    assert "holds no other lesion yet" in capsys.readouterr().err
    assert main([*words, "--add", "bright"]) == 0
    assert "case-0001: kept" in capsys.readouterr().out
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "> 99 %" in told
    assert "share of pairs of different lesions that look less alike" in told
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["case"] == "case-0001"
    assert found["likeness"] > 0.99
    assert found["class"] == "bright"
    assert found["similarity"] > 0.5


@pytest.mark.slow
def test_training_in_a_process_of_its_own_reports_as_it_goes(table: Path) -> None:
    words = ["train-classifier", "--table", str(table), "--out", str(table.with_name("own")), "--json"]
    reports = list(run_reporting(words, ClassReport))
    assert reports[0].message.startswith("Preparing 10 labelled cases")
    assert reports[-1].verdict is not None


def test_a_first_version_that_orders_cases_like_a_guess_is_not_used() -> None:
    lucky = ClassScores(balanced_accuracy=0.6, auc=0.48)
    options = {"least_gain": 0.01, "held_out": "10 cases", "version": 1}
    assert not decide_classes(guessing(2), lucky, is_first=True, **options).adopted
    better = ClassScores(balanced_accuracy=0.6, auc=0.58)
    assert decide_classes(guessing(2), better, is_first=True, **options).adopted
