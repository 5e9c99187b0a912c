"""Two visits from file to table, change map and proposal; bad input is refused in a sentence."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from followup_phantom import LESIONS

from napari_medseg.cli import main
from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.overlap import dice
from napari_medseg.followup import compare as room
from napari_medseg.followup.compare import NO_LESION, compare_visits
from napari_medseg.followup.matching import State
from napari_medseg.followup.people import check_same_person
from napari_medseg.followup.siamese import with_scores
from napari_medseg.imaging.files import read_volume, write_label_map
from napari_medseg.imaging.registration import register_rigid

sys.path.insert(0, str(Path(__file__).parents[1] / "imaging"))

from dicom_phantom import asymmetric_voxels, ct_slices, save_slices


@pytest.fixture(scope="module")
def registration(visits):
    (prior, _), (current, _) = visits
    return register_rigid(prior, current)


@pytest.fixture
def registered(registration, monkeypatch):
    """The registration is measured elsewhere: once is enough."""
    monkeypatch.setattr(room, "register_rigid", lambda *_scans, **_how: registration)


@pytest.fixture
def files(visits, tmp_path):
    """The visits as files: prior, current, prior mask, current mask."""
    paths = []
    order = np.eye(4)[[2, 1, 0, 3]]
    for scan, mask in visits:
        path = tmp_path / f"{scan.name.replace(' ', '_')}.nii.gz"
        nib.save(nib.Nifti1Image(scan.data.transpose(2, 1, 0), scan.affine @ order), path)
        paths += [path, write_label_map(path.with_name(f"{path.name[:7]}_mask.nii.gz"), mask)]
    return paths[0], paths[2], paths[1], paths[3]


def test_every_lesion_is_found_again(visits, registered) -> None:
    (prior, prior_mask), (current, current_mask) = visits
    result = compare_visits(prior, current, prior_mask, current_mask)
    assert {row.name: row.state.value for row in result.rows} == {name: name for name in LESIONS}
    assert "1 new" in result.sentence
    grown = next(row for row in result.rows if row.state is State.GROWN)
    assert grown.current_ml == pytest.approx(4 / 3 * np.pi * 6**3 / 1000, rel=0.05)
    assert grown.as_json()["current_long_mm"] == pytest.approx(12.0, abs=1.5)
    marked = result.change.mask.data
    assert (marked == 1)[current_mask.data == 4].mean() > 0.6, "the new lesion got brighter"
    gone = next(row for row in result.rows if row.state is State.RESOLVED)
    assert marked[tuple(np.round(current.index_of(gone.position_mm)).astype(int))] == 2
    assert (marked > 0).sum() * current_mask.voxel_ml < 1.4 * 1.81, "ml that really changed"


def test_lesions_of_the_prior_are_proposed_on_the_current_scan(visits, registered, model) -> None:
    (prior, prior_mask), (current, current_mask) = visits
    moved = compare_visits(prior, current, prior_mask)
    assert moved.proposed_on == "current"
    assert set(moved.proposed.names.values()) == {name for name in LESIONS if name != "new"}
    assert dice(moved.proposed.data == 1, current_mask.data == 1) > 0.8
    assert "are proposals" in moved.notes[0]
    assert {row.state for row in moved.rows} == {State.PROPOSED}, "a mask that was only moved is no measurement"
    model.radius_mm = 5.0
    asked = compare_visits(prior, current, prior_mask, model=model)
    assert len(model.calls) == 4
    assert dice(asked.proposed.data == 1, current_mask.data == 1) > 0.8
    assert len(asked.notes) == 1
    assert State.PROPOSED not in {row.state for row in asked.rows}
    model.radius_mm = 25.0
    assert "Proposed where they were" in compare_visits(prior, current, prior_mask, model=model).notes[1]
    assert compare_visits(prior, current, None, current_mask).proposed_on == "prior"


def test_change_scores_come_from_the_siamese_network(visits, registered) -> None:
    (prior, prior_mask), (current, current_mask) = visits
    found = compare_visits(prior, current, prior_mask, current_mask)

    class Brightness:
        def embed(self, subject, *, diameter_mm):
            at = tuple(np.round(subject.centre()).astype(int))
            return np.array([subject.scans[0].data[at]])

        def similarity(self, a, b):
            return float(np.exp(-abs(a - b)[0] / 100))

    scores = {row.name: row.change_score for row in with_scores(found, prior, Brightness()).rows}
    assert scores["stable"] < 0.5
    assert scores["grown"] is not None
    assert scores["new"] is None is scores["resolved"], "only one scan shows it"


def test_no_lesion_at_all_gives_the_change_map_and_says_so(visits, registered) -> None:
    (prior, _), (current, current_mask) = visits
    result = compare_visits(prior, current)
    assert (result.rows, result.notes) == ((), (NO_LESION,))
    assert ": no lesion marked; registered by" in result.sentence
    nothing = replace(current_mask, data=np.zeros_like(current_mask.data))
    assert compare_visits(prior, current, None, nothing).notes == (NO_LESION,)


def test_bad_input_is_refused(visits) -> None:
    (prior, prior_mask), (current, _) = visits
    flat = replace(prior, data=prior.data[:1], name="picture")
    with pytest.raises(EvaluationError, match="'picture' is a single picture, the other a volume"):
        compare_visits(flat, current)
    with pytest.raises(EvaluationError, match="are the same scan"):
        compare_visits(prior, replace(prior))
    with pytest.raises(EvaluationError, match="does not lie on 'visit 2 FLAIR'"):
        compare_visits(prior, current, None, prior_mask)


def test_scans_that_name_two_patients_are_refused(tmp_path) -> None:
    scans = []
    for number in (1, 2):
        slices = ct_slices(asymmetric_voxels())
        for each in slices:
            each.PatientID, each.PatientName = f"P{number}", f"Phantom^{number}"
        scans.append(read_volume(save_slices(tmp_path / str(number), slices)))
    with pytest.raises(EvaluationError, match="are of two patients, as their files say"):
        check_same_person(*scans)
    check_same_person(scans[0], scans[0])


def test_the_command_writes_table_maps_and_registered_prior(files, registered, tmp_path, capsys) -> None:
    prior, current, prior_mask, current_mask = map(str, files)
    words = ["compare", prior, current, "--prior-mask", prior_mask, "--current-mask", current_mask]
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"stable": 1, "grown": 1, "shrunk": 1, "new": 1, "resolved": 1}
    rows = list(csv.DictReader((tmp_path / "out" / "lesions.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["stable", "grown", "shrunk", "new", "resolved"]
    assert float(rows[1]["short_percent"]) == pytest.approx(50.0, abs=15.0)
    assert rows[3]["short_percent"] == ""
    grid = nib.load(current)
    for name in ("prior_registered", "change", "change_mask"):
        written = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert written.shape == grid.shape
        assert np.allclose(written.affine, grid.affine, atol=1e-4)
    assert main([*words, "--volume-percent", "-3"]) == 1
    assert "--volume-percent cannot be -3" in capsys.readouterr().err
    assert main(["compare", prior, prior]) == 1
    assert "are the same scan" in capsys.readouterr().err


def printed(capsys) -> list[dict[str, str]]:
    """Lines of the table by heading, without their notes."""
    heading, *lines = (re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines()[:6])
    return [dict(zip(heading[:-1], line, strict=False)) for line in lines]


def test_the_command_prints_short_axes_and_the_scores_of_the_bundled_network(files, registered, capsys) -> None:
    prior, current, prior_mask, current_mask = map(str, files)
    words = ["compare", prior, current, "--prior-mask", prior_mask, "--current-mask", current_mask]
    assert main(words) == 0
    rows = {row["state"]: row for row in printed(capsys)}
    assert "score" not in rows["grown"], "nobody asked for it"
    assert int(rows["grown"]["short %"]) == pytest.approx(50, abs=15)
    assert int(rows["shrunk"]["short %"]) == pytest.approx(-33, abs=15)
    assert rows["new"]["short %"] == "–"
    assert main([*words, "--score"]) == 0
    told = {row["state"]: row["score"] for row in printed(capsys)}
    assert set(told) == set(LESIONS)
    assert told["new"] == told["resolved"] == "–"
    scores = {state: float(score) for state, score in told.items() if score != "–"}
    assert set(scores) == {"stable", "grown", "shrunk"}
    assert all(0.0 <= score <= 1.0 for score in scores.values())
    assert scores["stable"] < max(scores.values())
