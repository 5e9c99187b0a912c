"""read(write(x)) == x in world millimetres, for random grids and every format that a mask can be saved as."""

from __future__ import annotations

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK
from grid_phantom import MARKER, ORDERS, label_phantom_ijk, order_affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_medseg as ms
from napari_medseg.imaging.orientation import corner_distance_mm, memory_grid, to_memory

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@st.composite
def label_maps(draw):
    """A mask on any grid: any axis order, turned, sheared, anisotropic, small, with any labels and names."""
    shape = tuple(draw(st.tuples(*[st.integers(1, 5)] * 3)))
    order, signs = draw(st.sampled_from(ORDERS))
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3)) if draw(st.booleans()) else (0.0, 0.0, 0.0)
    spacing = draw(st.tuples(*[st.floats(0.05, 12)] * 3))
    affine = order_affine(order, signs, angles, spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-900, 900)] * 3))
    if draw(st.booleans()):
        affine[:3, 2] += draw(st.floats(-0.5, 0.5)) * affine[:3, 1]
    top = draw(st.sampled_from([1, 3, 255, 256, 65535]))
    seed = draw(st.integers(0, 2**32 - 1))
    data = np.random.default_rng(seed).integers(0, top + 1, shape)
    memory, memory_affine, grid = to_memory(data.astype(np.uint8 if data.max() <= 255 else np.uint16), affine)
    text = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=12)
    names = draw(st.dictionaries(st.integers(1, 65535), text, max_size=3))
    return ms.LabelMap(memory, memory_affine, names, grid=grid if draw(st.booleans()) else None)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_map=label_maps())
def test_a_mask_reads_back_as_it_was_written(tmp_path, suffix, label_map):
    path = ms.write_label_map(tmp_path / f"mask{suffix}", label_map)
    again = ms.read_label_map(path)
    if label_map.grid is not None:
        np.testing.assert_array_equal(again.data, label_map.data)
        assert corner_distance_mm(again.affine, label_map.affine, again.data.shape) < 1e-3
        assert again.grid.shape == label_map.grid.shape
    else:
        _assert_same_voxels_in_space(again, label_map)
    assert again.warnings == ()
    if suffix == ".seg.nrrd":
        assert {label: again.names[label] for label in label_map.names} == dict(label_map.names)
    else:
        assert dict(again.names) == {}


def _assert_same_voxels_in_space(again, label_map):
    assert sorted(again.data.shape) == sorted(label_map.data.shape)
    for index in np.ndindex(label_map.data.shape):
        at = np.rint(again.index_of(label_map.position_of(index))).astype(int)
        assert again.data[tuple(at)] == label_map.data[index]
        np.testing.assert_allclose(again.position_of(at), label_map.position_of(index), atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_map=label_maps())
def test_other_programs_read_the_same(tmp_path, suffix, label_map):
    path = ms.write_label_map(tmp_path / f"mask{suffix}", label_map)
    grid = label_map.grid or memory_grid(label_map.data.shape, label_map.affine)
    affine, data = _read_elsewhere(path, suffix)
    assert data.shape == grid.shape
    assert corner_distance_mm(affine, grid.affine, grid.shape) < 1e-3
    memory, _, _ = to_memory(data, grid.affine)
    if label_map.grid is not None:
        np.testing.assert_array_equal(memory, label_map.data)


def _read_elsewhere(path, suffix):
    if suffix.startswith(".nii"):
        image = nib.load(path)
        return image.affine, np.asarray(image.dataobj)
    if suffix.endswith("nrrd"):
        data, header = nrrd.read(str(path))
        affine = np.eye(4)
        affine[:3, :3] = header["space directions"].T
        affine[:3, 3] = header["space origin"]
        return LPS @ affine, data
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine, SimpleITK.GetArrayFromImage(image).T


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii.gz"])
@pytest.mark.parametrize(("order", "signs"), ORDERS[::5])
def test_scans_that_another_program_wrote_keep_the_marker_in_place(tmp_path, suffix, order, signs):
    affine = order_affine(order, signs, (25, -40, 15))
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(label_phantom_ijk(np.int16).T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    path = tmp_path / f"scan{suffix}"
    SimpleITK.WriteImage(image, str(path), useCompression=order[0] > 0)
    volume = ms.read_volume(path)
    assert volume.data.dtype == np.int16
    assert volume.warnings == ()
    at = np.unravel_index(np.argmax(volume.data), volume.data.shape)
    np.testing.assert_allclose(volume.position_of(at), (affine @ (*MARKER, 1))[:3], atol=1e-3)
    np.testing.assert_array_equal(np.sort(volume.data, axis=None), np.sort(label_phantom_ijk(), axis=None))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_every_axis_order_survives_every_format(tmp_path, suffix, order, signs):
    affine = order_affine(order, signs)
    memory, memory_affine, grid = to_memory(label_phantom_ijk(), affine)
    path = ms.write_label_map(tmp_path / f"mask{suffix}", ms.LabelMap(memory, memory_affine, grid=grid))
    again = ms.read_label_map(path)
    np.testing.assert_array_equal(again.data, memory)
    np.testing.assert_allclose(again.affine, memory_affine, atol=1e-5)
    disk_affine, disk = _read_elsewhere(path, suffix)
    np.testing.assert_array_equal(disk, label_phantom_ijk())
    np.testing.assert_allclose(disk_affine, affine, atol=1e-5)
