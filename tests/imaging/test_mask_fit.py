"""Masks on scans: voxel for voxel, or resampled because somebody asked; formats by ending and by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.references import MaskReferences
from napari_medseg.imaging.dicom.source import DicomSource
from napari_medseg.imaging.label_smooth import resample_label_map_smooth
from napari_medseg.imaging.mask_fit import fitted, misfit, place_on, resampled, scan_of_mask
from napari_medseg.imaging.mask_formats import FORMAT_KEYS, MASK_FORMATS, mask_format
from napari_medseg.imaging.orientation import resample_label_map
from napari_medseg.imaging.volume import LabelMap, Volume

AFFINE = np.array([[0, 0.05, -0.8, 30], [0.1, -0.95, 0, 40], [2.9, 0.1, 0, -50], [0, 0, 0, 1]], float)


def source(series: str = "1.2", frame: str = "1.9", *, is_placed: bool = True) -> MappingProxyType:
    return MappingProxyType({"dicom": DicomSource(series, "1.1", frame, is_placed, ())})


def scan(metadata: MappingProxyType | None = None, affine: np.ndarray = AFFINE) -> Volume:
    return Volume(np.zeros((7, 12, 14), np.int16), affine, name="ct", metadata=metadata or MappingProxyType({}))


def part(
    start: tuple[int, int, int], shape: tuple[int, int, int], references: MaskReferences | None = None
) -> LabelMap:
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [*start, 1])[:3]
    metadata = MappingProxyType({"references": references} if references else {})
    return LabelMap(np.ones(shape, np.uint8), affine, metadata=metadata, path=Path("part.nii.gz"))


def test_a_part_of_the_grid_finds_its_place_and_a_part_outside_none() -> None:
    placed = fitted(part((2, 3, 4), (3, 4, 5)), scan())
    assert placed is not None
    assert placed.data.sum() == 60
    assert placed.data[2:5, 3:7, 4:9].all()
    assert place_on(part((-1, 3, 4), (3, 4, 5)), scan()) is None
    assert place_on(part((20, 3, 4), (3, 4, 5)), scan()) is None
    empty = part((30, 0, 0), (3, 4, 5))
    empty = replace(empty, data=np.zeros_like(empty.data))
    placed = place_on(empty, scan())
    assert placed is not None
    assert placed.data.shape == (7, 12, 14)


def test_half_a_voxel_is_no_fit_and_both_grids_are_named() -> None:
    shifted = part((0, 0, 0), (7, 12, 14))
    shifted = replace(shifted, affine=shifted.affine + np.array([[0, 0, 0, 0.4], *[[0] * 4] * 3]))
    assert fitted(shifted, scan()) is None
    said = misfit(shifted, scan())
    assert "part.nii.gz lies on a grid of 7 x 12 x 14 voxels of 2.9 x 0.957 x 0.8 mm, oblique axial by" in said
    assert "'ct' on a grid of 7 x 12 x 14" in said
    assert "0.4 mm apart" in said


def test_the_frame_of_reference_decides_before_the_grid() -> None:
    references = MaskReferences(frozenset({"1.2"}), frozenset({"1.9"}))
    whole = part((0, 0, 0), (7, 12, 14), references)
    assert fitted(whole, scan(source())) is not None
    assert fitted(whole, scan(source(series="1.3"))) is not None, "another series of the same frame of reference"
    assert fitted(whole, scan(source(series="1.3", frame="1.8"))) is None
    assert "was drawn on another scan" in misfit(whole, scan(source(series="1.3", frame="1.8")))
    assert fitted(whole, scan(source(series="1.3", is_placed=False))) is None
    assert fitted(whole, scan(source(frame=""))) is not None
    assert fitted(whole, scan()) is not None, "a scan that says nothing is believed by its grid"
    other, named = scan(source(series="1.3")), scan(source())
    assert scan_of_mask(whole, (other, named)) is named
    assert scan_of_mask(part((-1, 0, 0), (7, 12, 14)), (other, named)) is None


def sphere(affine: np.ndarray, shape: tuple[int, int, int], radius_mm: float = 9.0) -> LabelMap:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3], axis=-1)
    data = np.where(distance <= radius_mm, 1, 0).astype(np.uint8)
    data[(distance <= radius_mm) & (index[..., 2] > shape[2] // 2)] = 7
    return LabelMap(data, affine)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def grid(spacing: tuple[float, float, float], turn: float = 0.0) -> tuple[np.ndarray, tuple[int, int, int]]:
    shape = tuple(int(np.ceil(26 / step)) for step in spacing)
    c, s = np.cos(turn), np.sin(turn)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, -s, -c], [0, -c, s], [1, 0, 0]]) @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine, (shape[0], shape[1], shape[2])


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_smooth_is_rounder_than_nearest_and_leaves_no_gap_between_labels(turn: float) -> None:
    coarse, fine = sphere(*grid((5.0, 1.6, 1.5))), grid((1.0, 0.9, 0.8), turn)
    like = Volume(np.zeros(fine[1], np.int16), fine[0])
    truth = sphere(*fine).data > 0
    nearest, smooth = (method(coarse, like).data for method in (resample_label_map, resample_label_map_smooth))
    assert dice(smooth > 0, truth) > dice(nearest > 0, truth) + 0.005
    assert dice(smooth > 0, truth) > 0.9
    assert dice(smooth == 7, nearest == 7) > 0.9
    assert set(np.unique(smooth)) == {0, 1, 7}


def test_smooth_onto_a_coarser_and_onto_the_same_grid() -> None:
    fine, coarse = sphere(*grid((1.0, 0.9, 0.8))), grid((4.0, 2.0, 2.0))
    like = Volume(np.zeros(coarse[1], np.int16), coarse[0])
    found = resample_label_map_smooth(fine, like)
    volume_ml = np.count_nonzero(fine.data) * fine.voxel_ml
    assert np.count_nonzero(found.data) * found.voxel_ml == pytest.approx(volume_ml, rel=0.12)
    same = Volume(np.zeros(fine.data.shape, np.int16), fine.affine)
    assert np.array_equal(resample_label_map_smooth(fine, same).data, fine.data)
    assert "label-smooth" in found.warnings[-1]


def test_what_lies_elsewhere_is_refused_even_when_asked() -> None:
    with pytest.raises(ImagingError, match="Nothing of the mask lies inside"):
        resampled(part((50, 3, 4), (3, 4, 5)), scan(), "smooth")
    assert resampled(part((2, 3, 4), (3, 4, 5)), scan(), "nearest").data.sum() == 60


@pytest.mark.parametrize(
    ("name", "key", "found"),
    [
        ("a.nii", None, "nifti"),
        ("a.seg.nrrd", None, "seg-nrrd"),
        ("a.nrrd", None, "nrrd"),
        ("a.dcm", None, "dicom-seg"),
        ("a.dcm", "rtstruct", "rtstruct"),
        ("RS.1.2.840", "rtstruct", "rtstruct"),
        ("a.STL", None, "stl"),
    ],
)
def test_formats_by_ending_and_name(name: str, key: str | None, found: str) -> None:
    assert mask_format(Path(name), key).key == found


def test_formats_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ImagingError, match=r"a\.txt has no ending"):
        mask_format(Path("a.txt"))
    with pytest.raises(ImagingError, match=r"a\.nii does not end in \.dcm, as DICOM RTSTRUCT files do"):
        mask_format(Path("a.nii"), "rtstruct")
    with pytest.raises(ImagingError, match="no mask format 'vtk'"):
        mask_format(Path("a.vtk"), "vtk")


def test_formats_say_why_not() -> None:
    said = {each.key: each.refusal({}) for each in MASK_FORMATS}
    assert [key for key in FORMAT_KEYS if said[key]] == ["dicom-seg", "rtstruct"]
    assert "not opened from DICOM" in said["rtstruct"]
    flat = {each.key: each.refusal(source(is_placed=False)) for each in MASK_FORMATS}
    assert [key for key in FORMAT_KEYS if flat[key]] == ["rtstruct"]
    assert all("anonymised" in each.refusal(source(frame="")) for each in MASK_FORMATS if each.needs_dicom)
