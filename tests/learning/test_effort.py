"""What corrections took, by case and by version; pinning them; the command line over both."""

import csv
import json

import numpy as np
import pytest
from learning_phantom import phantom

from napari_medseg.cli import main
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.corrections import CorrectionStore
from napari_medseg.learning.effort import efforts, mean_efforts, write_efforts
from napari_medseg.segmentation.prompts import Click


@pytest.fixture
def store(tmp_path):
    store = CorrectionStore(tmp_path / "corrections")
    taken = (("click 1", 120.0, 900, 3), ("click 1", 80.0, 500, 1), ("click 2", 30.0, 100, 0))
    for seed, (model, seconds, voxels, clicks) in enumerate(taken):
        volume, mask = phantom(seed)
        proposed = LabelMap(np.zeros_like(mask.data), mask.affine)
        prompts = (Click((0.0, 0.0, 0.0)),) * clicks
        store.add(
            Correction(volume, proposed, mask, prompts=prompts, model=model, seconds=seconds, edited_voxels=voxels)
        )
    return store


def test_the_mean_of_each_version_says_what_it_bought(store):
    before, after = mean_efforts(efforts(store.list()))
    assert (before.model, before.n_cases, before.seconds, before.voxels, before.clicks) == ("click 1", 2, 100, 700, 2)
    assert (after.model, after.n_cases, after.seconds, after.voxels, after.clicks) == ("click 2", 1, 30, 100, 0)
    assert mean_efforts(()) == ()


def test_the_table_holds_every_correction_and_no_formula(store, tmp_path):
    cases = efforts(store.list())
    path = write_efforts(tmp_path / "took.csv", [*cases[:2], type(cases[2])("c", "=1+1", "m", "", 1.0, 2, 3, True)])
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["seconds"] for row in rows] == ["120.0", "80.0", "1.0"]
    assert rows[2]["scan"] == "'=1+1"
    assert rows[0]["model"] == "click 1"


def test_the_command_line_lists_pins_and_exports(store, tmp_path, capsys):
    folder = ["--folder", str(store.root)]
    assert main(["corrections", "pin", "correction-0002", *folder]) == 0
    assert [stored.card.pinned for stored in store.list()] == [False, True, False]
    assert main(["corrections", "list", *folder, "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [case["pinned"] for case in listed] == [False, True, False]
    assert main(["corrections", "list", *folder]) == 0
    assert "mean of 2" in capsys.readouterr().out
    assert main(["corrections", "unpin", "correction-0002", *folder]) == 0
    assert not any(stored.card.pinned for stored in store.list())
    assert main(["corrections", "csv", *folder, "--out", str(tmp_path / "all.csv")]) == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 4
    assert main(["corrections", "pin", "correction-0009", *folder]) == 1
    assert "there is no correction 'correction-0009'" in capsys.readouterr().err


def test_a_pinned_correction_carries_its_name(store):
    store.pin("correction-0001")
    correction = store.list()[0].load()
    assert correction.pinned
    assert "correction-0001" in correction.name


def test_the_command_line_names_what_it_cannot_read(store, capsys):
    (store.root / "correction-0002" / "card.json").write_bytes(b"")
    assert main(["corrections", "list", "--folder", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "correction-0003" in out
    assert f"{store.root / 'correction-0002'} cannot be read, and may be pinned: restore it or move it away" in out
    assert main(["corrections", "list", "--folder", str(store.root / "nowhere" / "c")]) == 0
    assert "is not there or cannot be read: bring it back" in capsys.readouterr().out
