import threading

import pytest

from napari_medseg.errors import MedSegError, ModelError
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


def three_in_use(library, checkpoint):
    """Versions 2 and 3 were activated in their turn, 4 was refused; another model has two."""
    for adopted in (True, True, False):
        card = checkpoint.card.model_copy(update={"gate": {"adopted": adopted}})
        library.add("click", Checkpoint(checkpoint.network, card))
    library.activate("click", 2)
    library.activate("click", 3)
    for _ in range(2):
        library.add("liver", checkpoint)
    library.activate("liver", 2)


def aside(library):
    return sorted(path.name.partition("-")[0] for path in library.root.glob("*.damaged-*"))


@pytest.mark.parametrize("damage", ['{"click": [1,', "", "[]", "\0\0"])
def test_a_damaged_index_changes_nothing(library, checkpoint, damage):
    three_in_use(library, checkpoint)
    (library.root / "index.json").write_text(damage)
    assert (library.active("click"), library.active("liver")) == (3, 2)
    library.activate("liver", 1)
    assert aside(library) == ["index.json.damaged"]
    assert (library.active("click"), library.active("liver")) == (3, 1)
    assert [library.rollback("click"), library.rollback("click"), library.rollback("liver")] == [2, 1, 2]


def test_an_index_that_cannot_be_read_is_not_taken_for_an_empty_one(library, checkpoint):
    three_in_use(library, checkpoint)
    (library.root / "index.json").unlink()
    (library.root / "index.json").mkdir()
    assert library.active("click") == 3
    library.activate("click", 2)
    assert aside(library) == ["index.json.damaged"]
    assert library.rollback("click") == 3


def test_a_lost_index_is_read_from_its_copy_and_without_both_the_first_versions_are_in_use(library, checkpoint):
    three_in_use(library, checkpoint)
    (library.root / "index.json").unlink()
    assert library.active("click") == 3
    (library.root / "index.json.1").unlink()
    assert (library.active("click"), library.active("liver")) == (1, 1)


def test_where_index_and_copy_are_damaged_the_cards_say_what_is_in_use(library, checkpoint):
    three_in_use(library, checkpoint)
    for name in ("index.json", "index.json.1"):
        (library.root / name).write_text("{")
    with pytest.warns(UserWarning, match="index.json is damaged: of each model the newest version that its gate"):
        assert (library.active("click"), library.active("liver")) == (3, 1)
    with pytest.warns(UserWarning, match="index.json is damaged"):
        library.activate("liver", 2)
    assert aside(library) == ["index.json.1.damaged", "index.json.damaged"]
    assert (library.active("click"), library.active("liver")) == (3, 2)
    assert [library.rollback("click"), library.rollback("click")] == [2, 1]


def test_a_copy_that_cannot_be_written_changes_nothing(library, checkpoint):
    three_in_use(library, checkpoint)
    before = (library.root / "index.json").read_text()
    (library.root / "index.json.1").unlink()
    (library.root / "index.json.1").symlink_to(library.root / "nowhere" / "index.json")
    with pytest.raises(MedSegError, match="does not exist"):
        library.activate("click", 2)
    assert (library.root / "index.json").read_text() == before


def test_of_changes_at_once_none_is_lost(library, checkpoint, monkeypatch):
    monkeypatch.setattr("napari_medseg.models.active_index._WAIT_S", 60.0)
    names = ("liver", "kidney", "spleen")
    for name in names:
        for _ in range(2):
            library.add(name, checkpoint)
    together = threading.Barrier(len(names))

    def change(name):
        own = Library(library.root)
        together.wait()
        for version in (2, 1, 2):
            own.activate(name, version)

    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: library.active(name) for name in names} == dict.fromkeys(names, 2)


def test_a_change_that_does_not_end_is_said(library, checkpoint, monkeypatch):
    monkeypatch.setattr("napari_medseg.models.active_index._WAIT_S", 0.0)
    number = library.add("click", checkpoint)
    with library._active.changing(), pytest.raises(ModelError, match="being changed by another window or process"):
        library.activate("click", number)
    assert library.active("click") == 1


def trained(folder, checkpoint, **gate):
    return save_checkpoint(folder, checkpoint.network, checkpoint.card.model_copy(update={"gate": gate}))


def test_what_was_trained_is_in_use_where_the_gate_agreed(library, checkpoint, tmp_path):
    said = {"adopted": True, "sentence": "better"}
    assert library.take_over("click", trained(tmp_path / "a", checkpoint, **said), said) == 2
    assert library.active("click") == 2
    said = {"adopted": False, "sentence": "worse"}
    assert library.take_over("click", trained(tmp_path / "b", checkpoint, **said), said) == 3
    assert library.active("click") == 2


def test_a_refused_first_version_is_not_stored(library, checkpoint, tmp_path):
    refused, agreed = {"adopted": False}, {"adopted": True}
    assert library.take_over("liver", trained(tmp_path / "a", checkpoint, **refused), refused) is None
    assert library.names() == ("click",)
    assert library.take_over("liver", trained(tmp_path / "b", checkpoint, **agreed), agreed) == 1
    assert library.take_over("liver", trained(tmp_path / "a", checkpoint, **refused), refused) == 2
    assert library.active("liver") == 1


def test_only_what_was_measured_is_taken_over(library, checkpoint, tmp_path):
    said = {"adopted": True, "dice_after": 0.8}
    folder = trained(tmp_path / "a", checkpoint, adopted=True, dice_after=0.9)
    with pytest.raises(ModelError, match="another version than the one that was measured"):
        library.take_over("click", folder, said)
    trained(folder, checkpoint, **said)
    trained(tmp_path / "b", Checkpoint(ClickUNet(widths=(8, 8, 8, 8)), checkpoint.card), adopted=False)
    (tmp_path / "b" / "weights.safetensors").replace(folder / "weights.safetensors")
    with pytest.raises(ModelError, match="its weights are not those of its card"):
        library.take_over("click", folder, said)
    assert [card.version for card in library.versions("click")] == [1]


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
