"""What the commands put into the library, and what is in use afterwards."""

import argparse

import pytest

from napari_medseg.cli import main
from napari_medseg.errors import MedSegError
from napari_medseg.imaging.file_lock import holding
from napari_medseg.learning import fine_tune as fine_tune_module
from napari_medseg.learning import train_classifier as train_classifier_module
from napari_medseg.learning.class_reports import ClassReport, ClassScores, ClassVerdict
from napari_medseg.learning.reports import Figures, Report, Verdict
from napari_medseg.models.card import Card
from napari_medseg.models.checkpoint import save_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet


def stored(out, verdict):
    card = Card(name="any", gate=verdict.model_dump(exclude={"folder"}))
    save_checkpoint(out, ClickUNet(widths=(8, 8, 8, 8)), card)
    return verdict.model_copy(update={"folder": str(out)})


def tunes(adopted):
    """Something that fine-tunes in a moment, with a verdict that the test chooses."""

    def fine_tune(model, corrections, *, out, **options):
        figures = {"before": Figures(), "after": Figures()}
        dices = {"dice_before": 0.5, "dice_after": 0.6, "guard_before": 0.7, "guard_after": 0.7}
        said = stored(out, Verdict(adopted=adopted, sentence="said", **dices, **figures))
        yield Report(kind="done", message="said", verdict=said)

    return fine_tune


def classifies(adopted):
    def train_classifier(subjects, answers, *, out, **options):
        scores = {"before": ClassScores(), "after": ClassScores(balanced_accuracy=0.9)}
        said = stored(out, ClassVerdict(adopted=adopted, sentence="said", **scores))
        yield ClassReport(kind="done", message="said", verdict=said)

    return train_classifier


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Run a command that trains with a verdict, under a name."""
    start = save_checkpoint(tmp_path / "start", ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"))
    monkeypatch.setattr("napari_medseg.cli_train._pair", lambda scan, mask: (scan, mask))
    monkeypatch.setattr("napari_medseg.cli_train._labelled", lambda options: ([], []))

    def run(command, *, adopted, name):
        monkeypatch.setattr(fine_tune_module, "fine_tune", tunes(adopted))
        monkeypatch.setattr(train_classifier_module, "train_classifier", classifies(adopted))
        words = ["--pair", "scan", "mask", "--model", str(start)] if command == "fine-tune" else []
        return main([command, *words, "--out", str(tmp_path / "out"), "--adopt", name])

    return run


@pytest.mark.parametrize("command", ["fine-tune", "train-classifier"])
def test_a_refused_version_is_never_in_use(train, capsys, command):
    assert train(command, adopted=False, name="liver") == 0
    assert "'liver' was not added to the library" in capsys.readouterr().out
    assert "liver" not in Library().names()
    assert train(command, adopted=True, name="liver") == 0
    assert "'liver' version 1 is in the library, active" in capsys.readouterr().out
    assert train(command, adopted=False, name="liver") == 0
    assert "'liver' version 2 is in the library, not active" in capsys.readouterr().out
    assert train(command, adopted=True, name="liver") == 0
    assert Library().active("liver") == 3


def test_one_process_trains_into_a_folder(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("napari_medseg.cli_train._WAIT_S", 0.0)
    (tmp_path / "out").mkdir()
    with holding(tmp_path / "out" / ".lock", otherwise=MedSegError("busy")):
        assert train("fine-tune", adopted=True, name="liver") == 1
    assert "another process is training into" in capsys.readouterr().err
    assert train("fine-tune", adopted=True, name="liver") == 0


def test_an_imported_version_says_whether_it_is_in_use(tmp_path, capsys):
    folder = save_checkpoint(tmp_path / "mine", ClickUNet(widths=(8, 8, 8, 8)), Card(name="liver"))
    assert main(["models", "import", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(", active\n")
    assert main(["models", "import", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(", not active: napari-medseg models activate 'liver' --version 2\n")
    assert Library().active("liver") == 1


def test_the_help_of_import_says_so_too(capsys):
    from napari_medseg.cli_models import models_arguments

    parser = argparse.ArgumentParser()
    models_arguments(parser)
    assert "the first one of a name is active" in " ".join(parser.format_help().split())
