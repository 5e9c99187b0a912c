import pytest

from napari_medseg.errors import ModelError
from napari_medseg.models import library as library_module
from napari_medseg.models.card import ClassifierInput
from napari_medseg.models.checkpoint import Card, Checkpoint, load_checkpoint, save_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.networks.image_classifier import ImageClassifier


@pytest.fixture
def checkpoint():
    return Checkpoint(ClickUNet(widths=(8, 8, 8, 8)), Card(name="whatever", figures={"dice": 0.5}))


@pytest.fixture
def library(tmp_path, checkpoint, monkeypatch):
    """A library beside a bundled click model of its own."""
    monkeypatch.setattr(library_module, "BUNDLED", tmp_path / "weights")
    save_checkpoint(tmp_path / "weights" / "click", checkpoint.network, Card(name="click"))
    return Library(tmp_path / "models")


def test_version_1_of_click_is_the_bundled_one(library, tmp_path):
    assert library.names() == ("click",)
    assert library.active("click") == 1
    assert library.path("click") == tmp_path / "weights" / "click"


def test_versions_are_added_activated_and_rolled_back(library, checkpoint):
    assert [library.add("click", checkpoint) for _ in range(2)] == [2, 3]
    assert library.active("click") == 1
    assert [card.version for card in library.versions("click")] == [1, 2, 3]
    library.activate("click", 2)
    library.activate("click", 3)
    assert Library(library.root).active("click") == 3
    assert library.rollback("click") == 2
    assert library.rollback("click") == 1
    assert library.active("click") == 1
    with pytest.raises(ModelError, match="no earlier version"):
        library.rollback("click")
    library.activate("click", 3)
    assert library.rollback("click") == 1


def test_a_version_opens_from_its_path(library, checkpoint):
    number = library.add("liver", checkpoint)
    card = load_checkpoint(library.path("liver", number)).card
    assert (card.name, card.version, card.figures) == ("liver", 1, {"dice": 0.5})
    assert library.names() == ("click", "liver")


def test_what_is_absent_is_named(library, checkpoint):
    with pytest.raises(ModelError, match="no model 'kidney': it has click"):
        library.active("kidney")
    library.add("liver", checkpoint)
    with pytest.raises(ModelError, match="'liver' has no version 7: it has 1"):
        library.activate("liver", 7)


@pytest.mark.parametrize("name", ["../escape", "", ".hidden", "a/b", "x" * 70])
def test_a_name_that_is_no_folder_is_refused(library, checkpoint, name):
    with pytest.raises(ModelError, match="cannot name a model"):
        library.add(name, checkpoint)


def test_a_failed_add_leaves_nothing(library, checkpoint):
    checkpoint.network.click_head.bias.data.fill_(float("inf"))
    with pytest.raises(ModelError, match="not a finite number"):
        library.add("liver", checkpoint)
    assert list((library.root / "liver").iterdir()) == []
    assert library.names() == ("click",)


def test_a_damaged_index_falls_back_to_the_first_version(library, checkpoint):
    library.activate("click", library.add("click", checkpoint))
    (library.root / "index.json").write_text('{"click": [1,')
    assert library.active("click") == 1
    library.activate("click", 2)
    assert library.active("click") == 2


def test_a_damaged_card_does_not_hide_the_other_versions(library, checkpoint):
    library.add("click", checkpoint)
    (library.path("click", 2) / "card.json").write_text("{")
    assert [card.version for card in library.versions("click")] == [1]


def test_a_missing_bundled_model_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "BUNDLED", tmp_path / "nothing")
    with pytest.raises(ModelError, match="install napari-medseg again"):
        Library(tmp_path / "models").path("click")


def test_models_are_listed_by_what_they_do(library):
    looks_at = ClassifierInput(task="image", size=32)
    network = ImageClassifier(dims=2, widths=(8, 8, 8, 8))
    card = Card(name="spots", architecture="image_classifier", labels={0: "a", 1: "b"}, looks_at=looks_at)
    library.add("spots", Checkpoint(network, card))
    assert library.names() == ("click", "spots")
    assert library.names(does="classify") == ("spots",)
    assert library.names(does="segment") == ("click",)
    assert library.names(does="compare") == ()
