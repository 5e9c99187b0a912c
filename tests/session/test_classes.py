"""Labelling, training and classifying without a window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_medseg.classification.cases import CaseLibrary
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.class_reports import ClassReport, ClassScores, ClassVerdict
from napari_medseg.models.library import Library
from napari_medseg.session import similar
from napari_medseg.session.learn_classes import ClassLearnController
from napari_medseg.session.services import build
from napari_medseg.session.training import Curve

AFFINE = np.array([[0, 0, -1.0, 30.0], [0, -1.2, 0, 12.0], [2.5, 0, 0, -50.0], [0, 0, 0, 1.0]])
SHAPE = (6, 14, 18)


def volume(seed: int = 0, *, path=None, shape=SHAPE) -> Volume:
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Volume(data, AFFINE, f"scan {seed}", "CT", path=path)


def with_lesions(services, scan: Volume, n: int = 2) -> None:
    services.opening.choose(scan)
    data = np.zeros(scan.data.shape, np.uint8)
    for label in range(1, n + 1):
        data[2:4, 4 * label : 4 * label + 3, 5:9] = label
    services.opening.take_mask(LabelMap(data, scan.affine))
    services.table.select(1)


@pytest.fixture
def services():
    return build()


def test_a_label_is_kept_and_another_one_replaces_it(services):
    with_lesions(services, volume())
    labelling = services.labelling
    labelling.assign("benign")
    assert labelling.given() == "benign"
    assert services.session.message == "Lesion 1 is kept as 'benign' (1 case)."
    labelling.assign("malignant")
    assert [case.card.class_name for case in CaseLibrary().list()] == ["malignant"]
    services.table.select(2)
    assert labelling.given() == ""
    labelling.assign_number(1)
    assert labelling.given() == labelling.classes()[0]
    labelling.take_back()
    assert labelling.given() == ""
    assert len(CaseLibrary().list()) == 1


def test_a_class_that_was_taken_back_leaves_other_lesions_alone(services):
    with_lesions(services, volume())
    labelling, cases = services.labelling, CaseLibrary()
    labelling.assign("malignant")
    labelling.take_back()
    services.table.select(2)
    labelling.assign("benign")
    services.table.select(1)
    assert labelling.given() == "", "not the class of the lesion that was labelled after it"
    labelling.assign("malignant")
    assert [(case.card.label, case.card.class_name) for case in cases.list()] == [(2, "benign"), (1, "malignant")]


def test_a_case_that_another_program_put_in_the_place_of_the_known_one_stays(services):
    with_lesions(services, volume())
    labelling, cases = services.labelling, CaseLibrary()
    labelling.assign("benign")
    (known,) = cases.list()
    another = known.card.model_copy(update={"label": 2, "position_mm": (1.0, 2.0, 3.0)})
    (known.folder / "case.json").write_text(another.model_dump_json())
    labelling.assign("malignant")
    assert [(case.card.label, case.card.class_name) for case in cases.list()] == [(2, "benign"), (1, "malignant")]


def test_a_lesion_within_another_has_a_case_of_its_own(tmp_path):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(b"")
    data = np.zeros(SHAPE, np.uint8)
    data[1:4, 3:11, 4:14], data[2:3, 6:8, 8:10] = 1, 2
    first, second = build(), build()
    for services in (first, second):
        services.opening.choose(volume(path=path))
        services.opening.take_mask(LabelMap(data, AFFINE))
    first.table.select(1)
    first.labelling.assign("tumour")
    for services in (first, second):
        services.table.select(2)
        assert services.labelling.given() == ""
    second.labelling.assign("necrosis")
    for services in (first, second):
        for label, name in ((1, "tumour"), (2, "necrosis")):
            services.table.select(label)
            assert services.labelling.given() == name


def test_a_file_opened_again_knows_its_labels_by_place(tmp_path):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(b"")
    first = build()
    with_lesions(first, volume(path=path))
    first.labelling.assign("benign")
    second = build()
    with_lesions(second, volume(path=path))
    assert second.labelling.given() == "benign"
    second.table.select(2)
    assert second.labelling.given() == "", "another lesion of the same file"


def test_lesions_of_one_scan_are_of_one_patient_and_studies_are_cases_of_their_own(services):
    with_lesions(services, volume())
    for label in (1, 2):
        services.table.select(label)
        services.labelling.assign("benign")
    services.labelling.target = "study"
    assert services.labelling.classes() == (), "classes of lesions are none of studies"
    services.labelling.assign("head")
    assert services.labelling.counts() == {"head": 1}
    assert len({case.card.patient for case in CaseLibrary().list()}) == 1
    flat = volume(7, shape=(1, 20, 24))
    services.opening.choose(flat)
    assert services.labelling.task == "image"


@pytest.mark.parametrize(
    ("name", "said"),
    [("  ", "needs a name"), ("a, b", "without a comma"), ("x" * 41, "at most 40"), ("benign", "already")],
)
def test_names_that_cannot_be(services, name, said):
    services.labelling.add_class("benign")
    assert not services.labelling.add_class(name)
    assert said in services.session.message


def test_a_class_with_cases_stays(services):
    with_lesions(services, volume())
    services.labelling.assign("benign")
    services.labelling.remove_class("benign")
    assert services.session.message == "'benign' has 1 case: give them another class first."
    assert services.labelling.classes() == ("benign",)


def test_without_a_lesion_or_a_classifier_one_sentence_says_what_to_do(services):
    services.labelling.assign("benign")
    assert services.session.message == "Open a scan first."
    services.opening.choose(volume())
    services.labelling.assign("benign")
    assert services.session.message == "Segment or paint the lesion first: there is none selected."
    services.classifying.classify("study")
    assert services.session.message == "There is no classifier of studies yet: label some and train one first."


def verdict(*, adopted: bool) -> ClassVerdict:
    figures = ClassScores(balanced_accuracy=0.9)
    return ClassVerdict(adopted=adopted, sentence="said: version 1 is active", before=ClassScores(), after=figures)


def label_four(services) -> None:
    for seed in range(2):
        with_lesions(services, volume(seed))
        for label, name in ((1, "benign"), (2, "malignant")):
            services.table.select(label)
            services.labelling.assign(name)


def run_to_the_end(controller) -> None:
    controller.start()
    while controller.poll():
        pass


def test_the_command_line_that_trains(services):
    label_four(services)
    seen: list[str] = []

    def launch(arguments, *, should_stop):
        seen.extend(arguments)
        yield ClassReport(step=5, n_steps=10, loss=0.4)
        yield ClassReport(kind="validation", step=10, n_steps=10, score=0.8, score_before=0.5)
        yield ClassReport(kind="done", verdict=verdict(adopted=False))

    controller = ClassLearnController(services.session, services.labelling, Library(), launch=launch)
    controller.way = controller.ways[2]
    run_to_the_end(controller)
    assert seen[:5] == ["train-classifier", "--cases", str(CaseLibrary().root), "--task", "lesion"]
    assert seen[5:13] == ["--classes", "benign,malignant", "--name", "lesion-classifier", *controller.way.options]
    assert "--model" not in seen
    assert controller.curve == Curve(10, ((5, 0.4),), ((10, 0.8),), 0.5)
    assert controller.verdict is not None
    assert controller.versions() == (), "a first version that is refused would be the one in use"


def test_a_scan_that_has_gone_is_said(services, tmp_path):
    label_four(services)
    case = CaseLibrary().list()[0]
    gone = case.card.model_copy(update={"paths": [str(tmp_path / "gone.nii.gz")]})
    services.similar.open(similar.Neighbour(case.id, gone, 0.9, case.thumbnail()))
    assert "is no longer there" in services.session.message
    assert "gone.nii.gz" in services.session.message


@pytest.fixture
def siamese():
    """An untrained network as the one that compares lesions."""
    from napari_medseg.classification.load import SIAMESE
    from napari_medseg.models.card import Card, ClassifierInput
    from napari_medseg.models.checkpoint import Checkpoint
    from napari_medseg.networks.siamese import SiameseNetwork

    network = SiameseNetwork(widths=(8, 8, 16, 16), n_embedding=8).eval()
    looks_at = ClassifierInput(task="lesion", size=16, extent_mm=30.0)
    ends = ((0.0, -1.0), (1.0, 1.0))
    card = Card(name=SIAMESE, architecture="siamese", looks_at=looks_at, config=network.config, other_lesions=ends)
    Library().activate(SIAMESE, Library().add(SIAMESE, Checkpoint(network, card)))


def test_similar_lesions_leave_with_the_scan_that_they_are_about(services, siamese, tmp_path):
    scans = []
    for seed in range(3):
        path = tmp_path / f"patient{seed}.nii.gz"
        path.write_bytes(b"")
        scans.append(volume(seed, path=path))
        with_lesions(services, scans[-1])
        services.labelling.assign("benign" if seed else "malignant")
    similar, told = services.similar, []
    similar.changed.connect(lambda: told.append(len(similar.neighbours)))
    similar.find()
    assert len(similar.neighbours) == 2
    assert similar.shown.what == "Lesion 1"
    assert "both look more alike than" in services.session.message
    services.opening.choose(scans[0])
    assert (similar.neighbours, told[-1]) == ((), 0)
    services.opening.choose(scans[2])
    assert len(similar.neighbours) == told[-1] == 2, "back with the scan that they are about"
    similar.open(similar.neighbours[0])
    assert services.session.volume is not scans[2]
    assert len(similar.neighbours) == told[-1] == 2, "a case that was opened from them leaves them there"
    assert similar.is_away
    similar.back()
    assert services.session.volume is scans[2]
    assert not similar.is_away
    similar.open(similar.neighbours[0])
    services.opening.close(scans[2])
    similar.back()
    assert services.session.message == "'scan 2' is no longer open."


def sequences(tmp_path, names=("T1.nii.gz", "T2.nii.gz", "FLAIR.nii.gz")):
    """Scans of one place in one folder, as the sequences of an examination lie."""
    found = []
    for seed, name in enumerate(names):
        path = tmp_path / name
        path.write_bytes(b"")
        found.append(volume(seed, path=path))
    return found


def test_a_study_is_all_open_scans_of_a_patient_or_the_open_one_alone(tmp_path):
    services = build()
    scans = sequences(tmp_path)
    for scan in scans:
        services.opening.choose(scan)
    services.opening.choose(volume(9))
    services.opening.choose(scans[1])
    labelling = services.labelling
    labelling.target = "study"
    assert [scan.name for scan in labelling.subject().scans] == ["scan 0", "scan 1", "scan 2"]
    assert labelling.describe() == "scan 1 and 2 more scans"
    labelling.assign("recurrence")
    services.opening.choose(scans[2])
    assert labelling.given() == "recurrence", "one study, whichever of its scans is in view"
    labelling.takes_all = False
    assert labelling.describe() == "scan 2"
    assert labelling.given() == ""
    labelling.assign("scar")
    assert [len(case.card.paths) for case in CaseLibrary().list()] == [3, 1]
    assert {len(case.subject().scans) for case in CaseLibrary().list()} == {1, 3}


def study_classifier(inputs: tuple[str, ...]) -> None:
    """An untrained network as the classifier of studies."""
    import torch

    from napari_medseg.models.card import Card, ClassifierInput
    from napari_medseg.models.checkpoint import Checkpoint
    from napari_medseg.networks.study_classifier import StudyClassifier

    torch.manual_seed(0)
    network = StudyClassifier(widths=(8, 8, 16, 16), n_inputs=len(inputs)).eval()
    looks_at = ClassifierInput(task="study", size=32, inputs=inputs)
    card = Card(
        name="study-classifier",
        architecture="study_classifier",
        looks_at=looks_at,
        config=network.config,
        labels={0: "scar", 1: "recurrence"},
    )
    Library().activate(card.name, Library().add(card.name, Checkpoint(network, card)))


def test_the_deciding_slice_is_found_in_whichever_scan_it_lies(tmp_path):
    services = build()
    study_classifier(("CT", "CT", "CT"))
    scans = sequences(tmp_path)
    for scan in scans:
        services.opening.choose(scan)
    classifying, jumped = services.classifying, []
    classifying.jumped.connect(jumped.append)
    classifying.classify("study")
    shown = classifying.shown
    assert shown is not None
    assert [each.volume.name for each in shown.works] == ["scan 0", "scan 1", "scan 2"]
    weights = [shown.attention_in(work) for work in shown.works]
    number, axis, index = shown.answer.deciding_slice
    assert weights[number][index] == max(part.max() for part in weights)
    assert all(len(part) == SHAPE[axis] for part in weights)
    classifying.go_to_deciding_slice()
    assert services.session.volume is scans[number]
    assert jumped == [index]
    assert classifying.shown is shown, "the answer stays while one of its scans is in view"
    other = scans[(number + 1) % 3]
    services.opening.choose(other)
    services.opening.close(scans[number])
    classifying.go_to_deciding_slice()
    assert services.session.message.endswith("is no longer open.")
    services.opening.choose(volume(7))
    assert classifying.shown is None


def test_scans_of_modalities_that_a_classifier_never_saw_are_left_out(tmp_path):
    services = build()
    study_classifier(("MR", "PT"))
    for scan, modality in zip(sequences(tmp_path), ("MR", "CT", "PT"), strict=True):
        services.opening.choose(replace(scan, modality=modality))
    services.classifying.classify("study")
    assert [work.volume.modality for work in services.classifying.shown.works] == ["MR", "PT"]
