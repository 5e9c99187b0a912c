"""Label ten lesions, train, classify the eleventh with saliency, find similar ones; and the pages of the dock."""

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit, QWidget

from napari_medseg.classification import CaseLibrary
from napari_medseg.classification.likeness import in_percent
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.models.library import Library

LONG_MS = 240_000
SHAPE = (40, 36, 14)
AFFINE = np.array([[-0.9, 0.05, 0.2, 40], [0.06, 1.1, -0.15, -30], [0.1, 0.08, 2.9, 12], [0, 0, 0, 1]])
PLACES = ((11, 18, 4), (28, 17, 9))
CLASSES = ("bright", "dark")


def ball(centre) -> np.ndarray:
    ijk = np.indices(SHAPE).reshape(3, -1)
    away = (AFFINE[:3, :3] @ (ijk - np.array(centre)[:, None])) ** 2
    return (away.sum(0) <= 49).reshape(SHAPE)


@pytest.fixture
def scans(tmp_path):
    """Six scans, each with a bright and a dark ball, bright ones as label 1."""
    paths = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        at = [np.array(place) + rng.integers(-2, 3, 3) for place in PLACES]
        if seed % 2:
            at.reverse()
        data = 50 + rng.normal(0, 10, SHAPE) + 90 * ball(at[0]) - 90 * ball(at[1])
        path = tmp_path / f"patient{seed}.nii.gz"
        nib.save(nib.Nifti1Image(data.astype(np.int16), AFFINE), path)
        paths.append((path, at))
    return paths


def open_with_lesions(window, path, at) -> None:
    """Open a scan, and take both lesions over from a mask, as 'Open mask' does."""
    volume = window.open(path)
    data = np.zeros(volume.data.shape, np.uint8)
    to_ras = nib.load(path).affine
    for label, centre in enumerate(at, 1):
        ijk = np.argwhere(ball(centre))
        for place in ijk @ to_ras[:3, :3].T + to_ras[:3, 3]:
            data[tuple(np.round(volume.index_of(place)).astype(int))] = label
    window.dock.services.opening.take_mask(LabelMap(data, volume.affine, grid=volume.grid))
    window.wait(lambda: len(window.session.lesions) == 2)


def select(window, label) -> None:
    window.dock.services.table.select(label)
    window.show(window.dock.services.table.centre_of(label))


@pytest.fixture
def siamese() -> None:
    """An untrained network as the one that compares lesions."""
    from napari_medseg.classification.load import SIAMESE
    from napari_medseg.models.card import Card, ClassifierInput
    from napari_medseg.models.checkpoint import Checkpoint
    from napari_medseg.networks.siamese import SiameseNetwork

    network = SiameseNetwork(widths=(8, 8, 16, 16), n_embedding=8).eval()
    looks_at = ClassifierInput(task="lesion", size=16, extent_mm=30.0)
    ends = ((0.0, -1.0), (1.0, 1.0))
    card = Card(name=SIAMESE, architecture="siamese", looks_at=looks_at, config=network.config, other_lesions=ends)
    library = Library()
    library.activate(SIAMESE, library.add(SIAMESE, Checkpoint(network, card)))


@pytest.mark.timeout(500)
def test_label_ten_lesions_train_classify_the_eleventh_find_similar(window, scans, siamese, qtbot):
    dock, services = window.dock, window.dock.services
    page = dock.pages.choose("Classify")
    for path, at in scans[:5]:
        open_with_lesions(window, path, at)
        if not CaseLibrary().classes():
            line = page.findChild(QLineEdit)
            for name in CLASSES:
                qtbot.keyClicks(line, name)
                window.press("Add")
        for label, name in enumerate(CLASSES, 1):
            select(window, label)
            n = len(CaseLibrary().list())
            if path == scans[0][0]:
                window.press(name)
            else:
                window.key(getattr(Qt.Key, f"Key_{label}"), Qt.KeyboardModifier.AltModifier)
            window.wait(lambda n=n: len(CaseLibrary().list()) == n + 1 and not services.labelling.is_writing)
            assert services.labelling.given() == name
    assert CaseLibrary().counts() == {"bright": 5, "dark": 5}
    assert len({case.card.patient for case in CaseLibrary().list()}) == 5

    window.press("Train classifier")
    qtbot.waitUntil(lambda: not services.classes.is_running, timeout=LONG_MS)
    assert services.classes.verdict is not None, services.classes.last.message
    assert services.classes.verdict.adopted
    assert Library().active("lesion-classifier") == 1

    open_with_lesions(window, *scans[5])
    select(window, 1)
    assert services.labelling.given() == ""
    window.press("Classify lesion")
    qtbot.waitUntil(lambda: services.classifying.shown is not None, timeout=LONG_MS)
    answer = services.classifying.shown.answer
    assert answer.best == "bright"
    bars = page.panels["Classify"]._bars.bars
    assert [name for name, _, _ in bars] == sorted(CLASSES, key=lambda name: -answer.probabilities[name])
    heat, lesions = page.panels["Classify"].saliency.layer, window.layer
    centre = services.table.centre_of(1)
    at = np.round(heat.world_to_data(lesions.data_to_world(centre))).astype(int)
    assert (at >= 0).all()
    assert (at < heat.data.shape).all()
    assert np.allclose(heat.scale, lesions.scale)
    assert heat.blending == "additive"
    window.press("Where it looked")
    assert page.panels["Classify"].saliency.layer is None

    window.press("Find similar")
    qtbot.waitUntil(lambda: len(services.similar.neighbours) == 8, timeout=LONG_MS)
    nearest = services.similar.neighbours[0]
    name = f"{nearest.id}: {nearest.card.class_name}"
    window.wait(lambda: name in [each.accessibleName() for each in window.buttons()])
    [thumbnail] = [each for each in window.buttons() if each.accessibleName() == name]
    assert thumbnail.text().splitlines() == [nearest.card.class_name, in_percent(nearest.likeness)]
    qtbot.mouseClick(thumbnail, Qt.MouseButton.LeftButton)
    window.wait(lambda: str(window.session.volume.path) == nearest.card.paths[0])
    index = window.session.volume.index_of(nearest.card.position_mm)
    shown = window.layer.world_to_data(window.viewer.dims.point)
    assert np.allclose(shown, index, atol=1.0)
    assert page.panels["Classify"].saliency.layer is None, "an answer leaves with its scan"
    assert not page.panels["Classify"]._bars.isVisible()
    assert len(services.similar.neighbours) == 8, "a case that was opened from them leaves the pictures there"
    window.press("Back to patient5")
    window.wait(lambda: window.session.volume.path == scans[5][0])
    services.opening.choose(services.opening.scans[0])
    window.wait(lambda: not [each for each in window.buttons() if each.accessibleName() == name])


def test_what_cannot_be_learned_is_said_in_one_sentence(window, scans, qtbot):
    services = window.dock.services
    window.dock.pages.choose("Classify")
    labelling, classes = services.labelling, services.classes

    def label(number, name):
        select(window, number)
        labelling.assign(name)
        window.wait(lambda: not labelling.is_writing)

    open_with_lesions(window, *scans[0])
    assert "Label lesions first" in classes.missing()
    label(1, "bright")
    assert classes.missing() == "The one labelled lesion is 'bright': label some of another class too."
    label(2, "dark")
    assert classes.missing() == "There is only one case of 'bright': label at least two of each class."
    labelling.add_class("cystic")
    open_with_lesions(window, *scans[1])
    label(1, "bright")
    label(2, "dark")
    assert classes.missing() == "Nobody labelled a case 'cystic' yet: label at least two, or remove that class."
    classes.start()
    assert not classes.is_running
    assert window.session.message == classes.missing()
    labelling.remove_class("cystic")
    assert classes.missing() == ""
    label(2, "bright")
    assert labelling.counts() == {"bright": 3, "dark": 1}, "another class replaces the one that it has"
    labelling.rename_class("dark", "hypodense")
    assert labelling.counts() == {"bright": 3, "hypodense": 1}


def test_pages_cost_nothing_until_they_are_looked_at(window):
    assert window.dock.pages.names[0] == "Segment"
    assert {"Classify", "Evaluate"} < set(window.dock.pages.names)
    made = [type(widget).__module__ for widget in window.dock.pages.findChildren(QWidget)]
    assert "napari_medseg.widgets.segment_panel" in made
    assert not [name for name in made if "classify_page" in name or "evaluate_page" in name]
    window.dock.pages.choose("Evaluate")
    made = [type(widget).__module__ for widget in window.dock.pages.findChildren(QWidget)]
    assert "napari_medseg.widgets.evaluate_page" in made
