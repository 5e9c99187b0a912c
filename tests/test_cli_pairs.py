"""Pairs for fine-tuning whose mask is a DICOM SEG, which leaves the empty slices of its scan out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.cli import main
from napari_medseg.imaging.files import read_label_map, read_volume, write_label_map
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import Card

sys.path.insert(0, str(Path(__file__).parent / "imaging"))
from dicom_phantom import ct_slices, save_slices


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(1064, 8, (12, 24, 26))
    noise[4:8, 8:16, 8:16] += 80
    return save_slices(tmp_path / "scan", ct_slices(noise.astype(np.uint16), spacing_mm=(2.5, 0.9, 0.9)))


def seg(path: Path, volume: Volume) -> Path:
    data = np.zeros(volume.data.shape, np.uint8)
    data[4:8, 8:16, 8:16] = 1
    return write_label_map(path, LabelMap(data, volume.affine, {1: "lesion"}, volume.grid, metadata=volume.metadata))


def test_a_seg_without_its_empty_end_slices_is_put_onto_its_scan(
    tmp_path: Path, scan: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from napari_medseg.models.checkpoint import save_checkpoint
    from napari_medseg.networks.click_unet import ClickUNet

    mask = seg(tmp_path / "mask.dcm", read_volume(scan))
    without_ends = tmp_path / "cut.nii.gz"
    whole = read_label_map(mask)
    inside = slice(whole.data.any((1, 2)).argmax(), whole.data.any((1, 2)).argmax() + 4)
    affine = whole.affine.copy()
    affine[:3, 3] = whole.position_of((inside.start, 0, 0))
    write_label_map(without_ends, LabelMap(whole.data[inside], affine))
    start = save_checkpoint(tmp_path / "start", ClickUNet(widths=(8, 8, 8, 8)), Card(name="click"))
    pairs = ["--pair", scan, mask, "--pair", scan, without_ends]
    words = ["fine-tune", *pairs, "--model", start, "--steps", "1", "--json", "--out", tmp_path / "tuned"]
    status = main([str(word) for word in words])
    told = capfd.readouterr()
    assert status == 0, told.err
    assert json.loads(told.out.splitlines()[-1])["kind"] == "done"


def test_a_seg_of_another_scan_is_refused_and_both_are_named(
    tmp_path: Path, scan: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = save_slices(tmp_path / "other", ct_slices(np.full((12, 24, 26), 1000, np.uint16)))
    mask = seg(tmp_path / "mask.dcm", read_volume(other))
    words = ["fine-tune", "--pair", scan, mask, "--out", tmp_path / "tuned"]
    assert main([str(word) for word in words]) == 1
    said = capfd.readouterr().err
    assert "mask.dcm was drawn on another scan" in said
    assert "Give the scan that it was drawn on" in said


def test_a_mask_that_marks_something_outside_its_scan_is_refused(
    tmp_path: Path, scan: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = read_volume(scan)
    affine = volume.affine.copy()
    affine[:3, 3] = volume.position_of((10, 0, 0))
    outside = write_label_map(tmp_path / "outside.nii.gz", LabelMap(np.ones((4, 24, 26), np.uint8), affine))
    assert main([str(word) for word in ("fine-tune", "--pair", scan, outside, "--out", tmp_path / "tuned")]) == 1
    assert "lie on different grids" in capfd.readouterr().err
