"""Label maps against label maps, and folders of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.masks import compare_masks
from napari_medseg.evaluation.report import write_classification_report, write_segmentation_report
from napari_medseg.evaluation.study import Case, summarise
from napari_medseg.imaging.volume import LabelMap

SHAPE = (6, 8, 10)
AFFINE = np.array([[0, 0, -1.5, 9], [0, -0.5, 0, 3], [4.0, 0, 0, -7], [0, 0, 0, 1.0]])


def _label_map(data: np.ndarray, names: dict[int, str] | None = None) -> LabelMap:
    return LabelMap(data.astype(np.uint8), AFFINE, names or {})


def _two_labels() -> np.ndarray:
    data = np.zeros(SHAPE, np.uint8)
    data[1:4, 1:5, 1:6] = 1
    data[5:6, 6:8, 7:10] = 2
    return data


def test_every_label_is_measured_and_all_together() -> None:
    reference = _label_map(_two_labels(), {1: "tumour"})
    mask = reference.data.copy()
    mask[mask == 2] = 0
    everything, tumour, second = compare_masks(_label_map(mask), reference)
    assert [f.name for f in (everything, tumour, second)] == ["all labels", "tumour", "label 2"]
    assert (tumour.dice, second.dice, second.nsd) == (1.0, 0.0, 0.0)
    assert everything.dice == pytest.approx(2 * 60 / (60 + 66))
    assert (everything.n_reference_lesions, everything.lesion_recall) == (2, 0.5)
    assert tumour.reference_ml == pytest.approx(60 * 4.0 * 0.5 * 1.5 / 1000)


def test_distances_follow_the_arrays_own_axes() -> None:
    one, other = np.zeros(SHAPE), np.zeros(SHAPE)
    one[2, 3, 4] = other[3, 3, 4] = 1
    (figures,) = compare_masks(_label_map(one), _label_map(other))
    assert figures.hd95_mm == pytest.approx(4.0)
    assert figures.name == "label 1"


def test_other_grids_are_refused_with_both_described() -> None:
    reference = _label_map(_two_labels())
    moved = LabelMap(reference.data, AFFINE + np.eye(4, k=3))
    with pytest.raises(EvaluationError, match=r"6 x 8 x 10 voxels of 4 x 0\.5 x 1\.5 mm.*different grids"):
        compare_masks(moved, reference)


def test_empty_masks_have_figures_that_json_can_hold() -> None:
    empty = _label_map(np.zeros(SHAPE))
    (figures,) = compare_masks(empty, empty)
    text = json.dumps(figures.as_json(), allow_nan=False)
    assert json.loads(text)["dice"] == 1.0
    assert json.loads(text)["lesion_recall"] is None


def _cases() -> list[Case]:
    rng = np.random.default_rng(0)
    reference = _label_map(_two_labels(), {1: "<tumour>", 2: "node"})
    return [
        Case(
            f"case {k}",
            f"patient {k // 2}",
            compare_masks(_label_map(reference.data * (rng.random(SHAPE) < p)), reference),
        )
        for k, p in enumerate((0.9, 0.8, 0.7, 0.6))
    ]


def test_means_have_intervals_by_patient() -> None:
    everything, tumour, node = summarise(_cases())
    assert [s.name for s in (everything, tumour, node)] == ["all labels", "<tumour>", "node"]
    dice = tumour.means["dice"]
    assert dice.value == pytest.approx(np.mean([case.figures[1].dice for case in _cases()]))
    assert (dice.n_patients, tumour.n_cases) == (2, 4)
    assert dice.low < dice.value < dice.high


def test_segmentation_report_is_one_page_and_a_table(tmp_path: Path) -> None:
    table, page = write_segmentation_report(tmp_path / "report", _cases(), title="Four <cases>")
    lines = table.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 4 * 3
    assert lines[0].startswith("case,patient,label,name,dice")
    text = page.read_text(encoding="utf-8")
    assert "<h1>Four &lt;cases&gt;</h1>" in text
    assert "&lt;tumour&gt;" in text
    assert "<tumour>" not in text
    assert 'src="http' not in text


def test_classification_report(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(["benign", "malignant"], size=40).tolist()
    malignant = np.clip([0.35 + 0.3 * (t == "malignant") + rng.normal(0, 0.15) for t in truth], 0.01, 0.99)
    table, page = write_classification_report(
        tmp_path / "report",
        truth,
        np.stack([1 - malignant, malignant], axis=1),
        ["benign", "malignant"],
        patients=[f"p{k // 2}" for k in range(40)],
    )
    assert len(table.read_text(encoding="utf-8").splitlines()) == 41
    text = page.read_text(encoding="utf-8")
    assert "40 cases of 20 patients" in text
    for word in ("sensitivity", "balanced_accuracy", "Confusion", "ROC and calibration", "data:image/png"):
        assert word in text
