"""Contours: filled where they lie, holes left open, written so that filling them gives the same voxels."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_phantom import (
    DX,
    asymmetric_voxels,
    ct_slices,
    enhanced,
    image_header,
    save,
    save_slices,
    set_pixels,
    spoiled_copies,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset

from napari_medseg.errors import ImagingError
from napari_medseg.imaging import dicom
from napari_medseg.imaging.dicom.contours import contours_of, inside_contours
from napari_medseg.imaging.dicom.rtstruct import read_rtstruct, write_rtstruct
from napari_medseg.imaging.volume import LabelMap, Volume

OBLIQUE = (0.921061, 0.389418, 0.0, -0.372026, 0.879924, 0.29552)


def scan(folder: Path, shape: tuple[int, int, int] = (9, 24, 28), **options: object) -> Volume:
    slices = ct_slices(asymmetric_voxels(shape), **options)  # type: ignore[arg-type]
    (volume,) = dicom.read_series(save_slices(folder, slices))
    return volume


def mask_on(volume: Volume) -> LabelMap:
    data = np.zeros(volume.data.shape, np.uint8)
    data[3:6, 5:15, 4:13] = 1
    data[4, 7:9, 6:8] = 0
    data[4, 11:13, 9:11] = 0
    data[2, 5:9, 14:18] = 3
    return LabelMap(data, volume.affine, {1: "Lesion", 3: "Node"}, volume.grid, metadata=volume.metadata)


def contours_object(volume: Volume, regions: dict[str, list[np.ndarray]], kind: str = "CLOSED_PLANAR") -> Dataset:
    """An RTSTRUCT as a planning system writes it; contours are points in RAS millimetres."""
    source = dicom.dicom_source(volume.metadata)
    assert source is not None
    ds = image_header("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT")
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.series_uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.frame_of_reference_uid, [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region, item = Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        region.ReferencedFrameOfReferenceUID = source.frame_of_reference_uid
        item.ReferencedROINumber, item.ROIDisplayColor, item.ContourSequence = number, [255, 0, 128], []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{v:.4f}" for v in (points * [-1, -1, 1]).ravel()]
            item.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(region)
        ds.ROIContourSequence.append(item)
    return ds


def ring(volume: Volume, z: float, centre: tuple[float, float], radius: float, n: int = 60) -> np.ndarray:
    """A circle in a slice of the grid, in voxels, as RAS millimetres."""
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    index = np.stack([np.full(n, z), centre[0] + radius * np.sin(turn), centre[1] + radius * np.cos(turn)], 1)
    return index @ volume.affine[:3, :3].T + volume.affine[:3, 3]


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_contours_of_a_mask_fill_to_the_same_mask(mask: np.ndarray) -> None:
    assert np.array_equal(inside_contours(contours_of(mask), mask.shape), mask)


def test_neighbours_share_no_pixel_and_lose_none() -> None:
    left = np.array([[0.0, 0.0], [0.0, 3.0], [6.0, 5.0], [6.0, 0.0]])
    right = np.array([[0.0, 3.0], [0.0, 9.0], [6.0, 9.0], [6.0, 5.0]])
    both = np.array([[0.0, 0.0], [0.0, 9.0], [6.0, 9.0], [6.0, 0.0]])
    shape = (8, 11)
    parts = [inside_contours([contour], shape) for contour in (left, right)]
    assert not (parts[0] & parts[1]).any()
    assert np.array_equal(parts[0] | parts[1], inside_contours([both], shape))
    assert inside_contours([both], shape).sum() == 6 * 9


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), OBLIQUE])
def test_written_and_read_back(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    volume = scan(tmp_path / "ct", orientation=orientation, shape=(24, 24, 28))
    mask = mask_on(volume)
    read = read_rtstruct(write_rtstruct(tmp_path / "rs.dcm", mask), volume)
    assert np.array_equal(read.data, mask.data)
    assert dict(read.names) == {1: "Lesion", 3: "Node"}
    assert read.grid is volume.grid
    assert read.warnings == ()


def test_an_enhanced_scan_is_referred_to_by_frames(tmp_path: Path) -> None:
    (volume,) = dicom.read_series(save(tmp_path / "e.dcm", enhanced(asymmetric_voxels((9, 24, 28)))))
    mask = mask_on(volume)
    path = write_rtstruct(tmp_path / "rs.dcm", mask)
    contour = pydicom.dcmread(path).ROIContourSequence[1].ContourSequence[0]
    assert contour.ContourImageSequence[0].ReferencedFrameNumber == 3
    assert np.array_equal(read_rtstruct(path, volume).data, mask.data)


def test_the_scan_is_found_beside_the_contours(tmp_path: Path) -> None:
    volume = scan(tmp_path / "patient" / "ct")
    mask = mask_on(volume)
    (tmp_path / "patient" / "rs").mkdir()
    path = write_rtstruct(tmp_path / "patient" / "rs" / "rs.dcm", mask)
    read = read_rtstruct(path)
    assert np.array_equal(read.data, mask.data)
    assert np.allclose(read.affine, volume.affine)
    moved = tmp_path / "elsewhere" / "deep"
    moved.mkdir(parents=True)
    shutil.copy(path, moved / "rs.dcm")
    with pytest.raises(ImagingError, match="open the scan first"):
        read_rtstruct(moved / "rs.dcm")


def test_a_contour_in_a_contour_is_a_hole(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    contours = [ring(volume, 4, (12, 14), 9), ring(volume, 4, (12, 14), 5), ring(volume, 4, (12, 14), 2)]
    path = save(tmp_path / "rs.dcm", contours_object(volume, {"GTV": contours}))
    read = read_rtstruct(path, volume)
    rows, columns = np.mgrid[:24, :28]
    distance = np.hypot(rows - 12, columns - 14)
    expected = (distance < 9) & ~(distance < 5) | (distance < 2)
    off_edge = np.abs(distance - np.array([9, 5, 2])[:, None, None]).min(axis=0) > 0.1
    assert np.array_equal(read.data[4][off_edge] > 0, expected[off_edge])
    assert not read.data[[3, 5]].any()
    assert read.metadata["colours"][1] == pytest.approx((1.0, 0.0, 128 / 255))


def test_a_keyhole_contour_is_a_hole_too(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    outer, inner = ring(volume, 4, (12, 14), 9), ring(volume, 4, (12, 14), 4)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    apart = save(tmp_path / "apart.dcm", contours_object(volume, {"GTV": [outer, inner]}))
    joined = save(tmp_path / "joined.dcm", contours_object(volume, {"GTV": [keyhole]}))
    assert np.array_equal(read_rtstruct(apart, volume).data, read_rtstruct(joined, volume).data)


def test_a_sphere_of_oblique_contours(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct", shape=(20, 40, 44), spacing_mm=(1.5, 0.8, 0.7))
    centre = volume.position_of((10, 20, 22))
    normal = np.array([0.5, 0.6, np.sqrt(1 - 0.61)])
    across = np.linalg.svd(normal[None])[2][1:]
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    contours = []
    for offset in np.arange(-9, 9.1, 1.0):
        radius = np.sqrt(max(81.0 - offset**2, 0.01))
        circle = radius * (np.cos(turn)[:, None] * across[0] + np.sin(turn)[:, None] * across[1])
        contours.append(centre + offset * normal + circle)
    read = read_rtstruct(save(tmp_path / "rs.dcm", contours_object(volume, {"GTV": contours})), volume)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.data.shape), indexing="ij"), -1)
    distance = np.linalg.norm(index @ volume.affine[:3, :3].T + volume.affine[:3, 3] - centre, axis=-1)
    truth, found = distance <= 9.0, read.data > 0
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.97
    assert any("do not lie in the scan's slices" in warning for warning in read.warnings)


def test_contours_further_apart_than_slices_fill_between(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    contours = [ring(volume, z, (12, 14), 6) for z in (1, 4, 7)]
    read = read_rtstruct(save(tmp_path / "rs.dcm", contours_object(volume, {"GTV": contours})), volume)
    assert read.data.any(axis=(1, 2)).tolist() == [True] * 9
    assert any("3.0 slices apart" in warning for warning in read.warnings)


def test_regions_overlap_with_the_smaller_on_top(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    regions = {"tumour": [ring(volume, 4, (12, 14), 3)], "BODY": [ring(volume, 4, (12, 14), 10)]}
    read = read_rtstruct(save(tmp_path / "rs.dcm", contours_object(volume, regions)), volume)
    assert read.data[4, 12, 14] == 1
    assert read.data[4, 12, 21] == 2
    assert any("overlap" in warning for warning in read.warnings)


def test_points_repeats_and_strays_are_said(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    circle = ring(volume, 4, (12, 14), 6)
    regions = {"twice": [circle, circle], "far away": [circle + 900.0], "nothing": []}
    ds = contours_object(volume, regions)
    point = Dataset()
    point.ContourGeometricType, point.ContourData = "POINT", ["1.0", "2.0", "3.0"]
    ds.ROIContourSequence[0].ContourSequence.append(point)
    read = read_rtstruct(save(tmp_path / "rs.dcm", ds), volume)
    assert np.count_nonzero(read.data[4]) > 100
    said = " ".join(read.warnings)
    for words in ("1 points or open lines", "repeats 1 contours", "'far away' lies outside", "'nothing' has no closed"):
        assert words in said
    assert dict(read.names) == {1: "twice"}


def test_another_frame_of_reference_is_said(tmp_path: Path) -> None:
    volume, other = scan(tmp_path / "ct"), scan(tmp_path / "other")
    path = save(tmp_path / "rs.dcm", contours_object(volume, {"GTV": [ring(volume, 4, (12, 14), 6)]}))
    assert read_rtstruct(path, volume).warnings == ()
    assert any("another frame of reference" in warning for warning in read_rtstruct(path, other).warnings)


def test_damaged_contours_are_refused(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    good = contours_object(volume, {"GTV": [ring(volume, 4, (12, 14), 6)]})
    path = save(tmp_path / "rs.dcm", good)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ImagingError, match="cut off"):
        read_rtstruct(path, volume)
    contour = good.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = list(contour.ContourData)[:-1]
    with pytest.raises(ImagingError, match="coordinates that cannot be"):
        read_rtstruct(save(path, good), volume)
    contour.add_new(0x30060050, "LO", ["1.0", "two", "3.0"])
    with pytest.raises(ImagingError, match="not numbers"):
        read_rtstruct(save(path, good), volume)
    save(path, contours_object(volume, {"GTV": [ring(volume, 4, (12, 14), 6) + 500]}))
    with pytest.raises(ImagingError, match="no closed contour inside the scan"):
        read_rtstruct(path, volume)
    with pytest.raises(ImagingError, match="is a DICOM CT, not a set of contours"):
        read_rtstruct(next((tmp_path / "ct").iterdir()), volume)
    for data in spoiled_copies(whole, 150):
        path.write_bytes(data)
        with suppress(ImagingError):
            read_rtstruct(path, volume)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    mask = mask_on(volume)
    with pytest.raises(ImagingError, match="the mask is empty"):
        write_rtstruct(tmp_path / "rs.dcm", replace(mask, data=np.zeros_like(mask.data)))
    with pytest.raises(ImagingError, match="not opened from a DICOM series"):
        write_rtstruct(tmp_path / "rs.dcm", replace(mask, metadata=MappingProxyType({})))
    ds = image_header(DX, "DX")
    set_pixels(ds, asymmetric_voxels((1, 12, 14))[0])
    (flat,) = dicom.read_series(save(tmp_path / "x.dcm", ds))
    drawn = LabelMap(np.ones(flat.data.shape, np.uint8), flat.affine, {}, flat.grid, metadata=flat.metadata)
    with pytest.raises(ImagingError, match="needs a scan with a position"):
        write_rtstruct(tmp_path / "rs.dcm", drawn)
    assert not (tmp_path / "rs.dcm").exists()


def test_deidentified_contours_leave_the_patient_out(tmp_path: Path) -> None:
    volume = scan(tmp_path / "ct")
    raw = write_rtstruct(tmp_path / "rs.dcm", mask_on(volume), deidentified=True).read_bytes()
    source = dicom.dicom_source(volume.metadata)
    assert source is not None
    for secret in ("Phantom^One", "19700101", source.study_uid, source.series_uid, source.frame_of_reference_uid):
        assert secret.encode() not in raw


def test_real_contours_match_the_mask_of_the_same_patient(shared_data: Path) -> None:
    for modality in ("CT", "MR_T1", "PET"):
        folder = shared_data / "dicom" / "STS_042" / modality
        (volume,) = dicom.read_series(folder / "image")
        found = read_rtstruct(folder / "mask" / "RS.dcm", volume)
        image = nib.load(shared_data / "sarcoma" / "STS_042" / f"{modality}_mask.nii.gz")
        truth = np.asarray(image.dataobj) > 0
        ijk = np.argwhere(truth)
        world = ijk @ image.affine[:3, :3].T + image.affine[:3, 3]
        index = np.rint((world - found.affine[:3, 3]) @ np.linalg.inv(found.affine[:3, :3]).T).astype(int)
        shared = np.count_nonzero(found.data[tuple(index.T)])
        dice = 2 * shared / (len(ijk) + np.count_nonzero(found.data))
        assert dice >= 0.97, modality


def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("needs dciodvfy of the Debian package dicom3tools")
    mask = mask_on(scan(tmp_path / "ct", orientation=OBLIQUE, shape=(24, 24, 28)))
    for deidentified in (False, True):
        path = write_rtstruct(tmp_path / "rs.dcm", mask, deidentified=deidentified)
        said = subprocess.run([checker, str(path)], capture_output=True, text=True).stderr
        assert "RTStructureSet" in said
        assert "Error" not in said
