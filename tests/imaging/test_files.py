"""Which reader a path gets, what folders give, what cannot be written, and whether sources have changed."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from dicom_phantom import DX, asymmetric_voxels, ct_slices, image_header, save, save_slices, set_pixels
from grid_phantom import SHAPE, label_phantom_ijk, order_affine, phantom_ijk, save_nifti
from PIL import Image

import napari_medseg as ms
from napari_medseg.imaging import files
from napari_medseg.imaging.content_type import content_type
from napari_medseg.imaging.provenance import fingerprint, has_changed
from napari_medseg.imaging.suffixes import stem_of, suffix_of

AFFINE = order_affine((0, 1, 2), (-1, -1, 1))


def write(path, mask=None, **changes):
    mask = mask or ms.LabelMap(label_phantom_ijk().T, np.diag([3.0, 1, 1, 1]))
    return ms.write_label_map(path, replace(mask, **changes) if changes else mask)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha", "a.tif", "a.png", "a.dcm", "a", "a.txt"])
@pytest.mark.parametrize(("really", "kind"), [(".nii.gz", "nifti"), (".seg.nrrd", "nrrd"), (".mha", "metaimage")])
def test_the_content_decides_and_not_the_name(tmp_path, name, really, kind):
    shutil.move(write(tmp_path / f"mask{really}"), tmp_path / name)
    assert content_type(tmp_path / name) == kind
    assert ms.read_label_map(tmp_path / name).data.max() == 3


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("scan.nii.gz", ".nii.gz", "scan"),
        ("Scan.1.NII", ".nii", "Scan.1"),
        ("a.seg.nrrd", ".seg.nrrd", "a"),
        ("doe.john", "", "doe.john"),
        (".nii", "", ".nii"),
    ],
)
def test_endings(tmp_path, name, suffix, stem):
    assert suffix_of(tmp_path / name) == suffix
    assert stem_of(tmp_path / name) == stem


def test_a_missing_path_and_an_empty_folder_are_said(tmp_path):
    with pytest.raises(ms.MedSegError, match=r"scan\.nii\.gz does not exist"):
        ms.read_volume(tmp_path / "scan.nii.gz")
    (tmp_path / "study").mkdir()
    with pytest.raises(ms.MedSegError, match="the folder study holds no files"):
        ms.read_volumes(tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("none")
    with pytest.raises(ms.MedSegError, match="the folder study holds no scan among its 1 files"):
        ms.read_volumes(tmp_path / "study")
    with pytest.raises(ms.MedSegError, match="is a text, not a scan"):
        ms.read_volumes(tmp_path / "study" / "notes.txt")


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(ms.MedSegError, match=r"pipe\.nii is not a file"):
        ms.read_volume(tmp_path / "pipe.nii")


def test_a_folder_gives_every_scan_most_slices_first_and_names_what_it_left_out(tmp_path):
    save_nifti(tmp_path / "few.nii", phantom_ijk()[:, :, :4], AFFINE)
    save_nifti(tmp_path / "many.nii", phantom_ijk(), AFFINE)
    (tmp_path / "deeper").mkdir()
    save_nifti(tmp_path / "deeper" / "some.nii", phantom_ijk()[:, :, :7], AFFINE)
    (tmp_path / "bad.nii.gz").write_bytes(gzip.compress(bytes(400)))
    write(tmp_path / "many.seg.nrrd")
    volumes = ms.read_volumes(tmp_path)
    assert [volume.name for volume in volumes] == ["many", "some", "few"]
    assert any("bad.nii.gz is compressed, but" in warning for volume in volumes for warning in volume.warnings)
    volume = ms.read_volume(tmp_path)
    assert volume.name == "many"
    assert any("4 files of scans; this is the scan with most slices" in warning for warning in volume.warnings)


def test_a_folder_with_one_mask_is_that_mask(tmp_path):
    write(tmp_path / "mask.nii.gz")
    assert ms.read_label_map(tmp_path).data.max() == 3
    write(tmp_path / "other.nii.gz")
    with pytest.raises(ms.MedSegError, match="holds 2 files; choose the file with the mask"):
        ms.read_label_map(tmp_path)


@pytest.mark.parametrize("name", ["mask", "mask.jpg", "mask.mhd", "mask.hdr", "mask.img", "mask.nhdr", ".nii"])
def test_a_mask_is_only_saved_as_what_can_hold_it(tmp_path, name):
    with pytest.raises(ms.MedSegError, match=r"choose one of .*\.nii\.gz"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_writable_endings_are_readable(tmp_path):
    assert set(files.WRITABLE_SUFFIXES) <= set(files.VOLUME_SUFFIXES)
    assert files.LABEL_MAP_SUFFIXES


def test_a_mask_of_many_labels_keeps_them_in_every_format(tmp_path):
    data = label_phantom_ijk(np.uint16).T.copy()
    data[0, 0, 0] = 40000
    mask = ms.LabelMap(data, np.diag([3.0, 1, 1, 1]), {40000: "far"})
    for suffix in (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha"):
        again = ms.read_label_map(write(tmp_path / f"mask{suffix}", mask))
        assert again.data.dtype == np.uint16
        assert again.data.max() == 40000


def test_a_source_that_changes_on_disk_is_noticed(tmp_path):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    volume = ms.read_volume(path)
    assert not has_changed(volume)
    assert not has_changed(ms.Volume(np.zeros(SHAPE, np.int16), np.eye(4)))

    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert has_changed(volume)
    with pytest.raises(ms.MedSegError, match=r"scan\.nii has changed on disk since it was opened"):
        _ = volume.metadata["fingerprint"].sha256
    path.unlink()
    assert has_changed(volume)


def test_a_new_time_alone_is_no_change_once_the_content_is_known(tmp_path):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    mark = ms.read_volume(path).metadata["fingerprint"]
    assert mark.size == path.stat().st_size
    known = mark.sha256
    os.utime(path, ns=(1, 1))
    assert not mark.has_changed()
    assert mark.sha256 == known
    assert fingerprint(path).sha256 == known


def test_the_voxels_of_a_pair_belong_to_its_fingerprint(tmp_path):
    import nibabel as nib

    nib.save(nib.Nifti1Pair(phantom_ijk(), AFFINE), tmp_path / "scan.hdr")
    volume = ms.read_volume(tmp_path / "scan.hdr")
    assert len(volume.metadata["fingerprint"].files) == 2
    os.utime(tmp_path / "scan.img", ns=(1, 1))
    assert has_changed(volume)


def test_exporting_beside_a_scan_is_no_change_of_it(tmp_path):
    save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    volume = ms.read_volume(tmp_path)
    write(tmp_path / "mask.nii.gz")
    assert not has_changed(volume)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = save_nifti(tmp_path / "scan.nii", phantom_ijk(), AFFINE)
    real = files._function

    def slow(home):
        def read(*arguments, **options):
            found = real(home)(*arguments, **options)
            os.utime(path, ns=(1, 1))
            return found

        return read

    monkeypatch.setattr(files, "_function", slow)
    with pytest.raises(ms.MedSegError, match=r"scan\.nii changed while it was being read"):
        ms.read_volume(path)


def test_a_real_dicom_series_opens_from_its_folder(shared_data):
    folder = shared_data / "dicom" / "STS_042" / "CT" / "image"
    volume = ms.read_volume(folder)
    assert volume.modality == "CT"
    assert volume.data.shape == (49, 162, 134)
    assert volume.path == folder
    assert not has_changed(volume)


def without_orientation(path):
    """Write a scan of which nobody says how it lies in the patient."""
    data = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    if path.suffix == ".nii":
        save_nifti(path, data, np.eye(4), sform_code=0, qform_code=0)
    elif path.suffix == ".nrrd":
        lines = ("NRRD0004", "type: short", "dimension: 3", "sizes: 6 8 10", "endian: little", "encoding: raw")
        path.write_bytes("\n".join(lines).encode() + b"\n\n" + data.tobytes())
    elif path.suffix == ".mha":
        lines = ("NDims = 3", "DimSize = 6 8 10", "ElementType = MET_SHORT", "ElementDataFile = LOCAL")
        path.write_bytes("\n".join(lines).encode() + b"\n" + data.tobytes())
    elif path.suffix == ".tif":
        tifffile.imwrite(path, data.T, metadata=None)
    elif path.suffix == ".png":
        Image.fromarray(data[..., 0].astype(np.uint8)).save(path)
    else:
        ds = image_header(DX, "DX")
        set_pixels(ds, data[..., 0].astype(np.uint16))
        save(path, ds)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha", "a.tif", "a.png", "a.dcm"])
def test_a_file_that_does_not_say_how_it_lies_has_unknown_sides_and_says_so(tmp_path, name):
    volume = ms.read_volume(without_orientation(tmp_path / name))
    assert not volume.sides_are_known
    assert volume.warnings


def test_a_file_that_says_how_it_lies_has_known_sides(tmp_path):
    mask = ms.LabelMap(np.ones((3, 4, 5), np.uint8), np.diag([3.0, -1.0, -1.0, 1.0])[[2, 1, 0, 3]])
    for suffix in (".nii", ".nrrd", ".mha"):
        assert ms.read_volume(ms.write_label_map(tmp_path / f"a{suffix}", mask)).sides_are_known
    (series,) = ms.read_volumes(save_slices(tmp_path / "series", ct_slices(asymmetric_voxels())))
    assert series.sides_are_known
