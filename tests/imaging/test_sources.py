"""Where a scan came from, for every format: a change on disk is noticed, and no mask tells whose scan it is."""

from __future__ import annotations

import gzip
import re
import zlib

import nibabel as nib
import numpy as np
import pytest
import tifffile
from dicom_phantom import ct_slices, enhanced, save, save_slices
from grid_phantom import order_affine, phantom_ijk
from PIL import Image, PngImagePlugin

import napari_medseg as ms
from napari_medseg.imaging.provenance import has_changed

SECRETS = ("Quixote", "SECRET-4711", "Hospital Dulcinea", "19471231")
SECRET = " ".join(SECRETS)
AFFINE = order_affine((0, 1, 2), (-1, -1, 1), (10, -5, 20))
SCANS = ["a.nii", "a.nii.gz", "a.hdr", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.tif", "a.png", "a.jpg"]
SCANS += ["series", "enhanced.dcm", "stack"]


def nifti(path):
    image = (nib.Nifti1Pair if path.suffix == ".hdr" else nib.Nifti1Image)(phantom_ijk(), AFFINE)
    image.header["descrip"], image.header["aux_file"] = SECRET[:80], SECRETS[0]
    image.header["intent_name"], image.header["db_name"] = SECRETS[1], SECRETS[0]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET.encode()))
    nib.save(image, path)


def nrrd(path):
    lines = ["NRRD0004", f"# {SECRET}", "type: short", "dimension: 3", "sizes: 6 8 10", "endian: little"]
    lines += ["encoding: raw", "space: left-posterior-superior", "space directions: (1,0,0) (0,1,0) (0,0,3)"]
    lines += ["space origin: (1,2,3)", f"content: {SECRET}", f"PatientName:={SECRETS[0]}", f"comment:={SECRET}"]
    if path.suffix == ".nhdr":
        lines.append("data file: voxels.raw")
        path.with_name("voxels.raw").write_bytes(phantom_ijk().T.tobytes())
    voxels = phantom_ijk().T.tobytes() if path.suffix == ".nrrd" else b""
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + voxels)


def metaimage(path):
    lines = [f"Comment = {SECRET}", f"PatientName = {SECRETS[0]}", "NDims = 3", "DimSize = 6 8 10"]
    lines += ["TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 1 2 3", "ElementSpacing = 1 1 3"]
    lines += ["ElementType = MET_SHORT", f"ElementDataFile = {'LOCAL' if path.suffix == '.mha' else 'voxels.raw'}"]
    voxels = phantom_ijk().T.tobytes()
    path.write_bytes("\n".join(lines).encode() + b"\n" + (voxels if path.suffix == ".mha" else b""))
    if path.suffix == ".mhd":
        path.with_name("voxels.raw").write_bytes(voxels)


def dicom(path):
    slices = [enhanced(phantom_ijk().T.astype(np.uint16))] if path.suffix else ct_slices(phantom_ijk().T)
    for ds in slices:
        ds.PatientName, ds.PatientID, ds.InstitutionName, ds.PatientBirthDate = SECRETS
        ds.PatientComments = ds.ImageComments = SECRET
    if path.suffix:
        save(path, slices[0])
    else:
        save_slices(path, slices)


def picture(path):
    pixels = phantom_ijk()[..., 0].T.astype(np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(
            path, phantom_ijk().T, photometric="minisblack", description=SECRET, software=SECRETS[0], metadata=None
        )
    elif path.suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", SECRET)
        Image.fromarray(pixels).save(path, pnginfo=text)
    elif path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, comment=SECRET)
    else:
        path.mkdir()
        for number in range(5):
            picture(path / f"{number}.png")


WRITERS = {"nii": nifti, "gz": nifti, "hdr": nifti, "nrrd": nrrd, "nhdr": nrrd, "mha": metaimage, "mhd": metaimage}
WRITERS |= {"series": dicom, "dcm": dicom}


@pytest.fixture(params=SCANS)
def scan(request, tmp_path):
    path = tmp_path / SECRETS[0] / request.param
    path.parent.mkdir()
    WRITERS.get(request.param.split(".")[-1], picture)(path)
    return path


def test_a_change_of_any_file_of_a_scan_is_noticed(scan):
    volume = ms.read_volume(scan)
    files = volume.metadata["fingerprint"].files
    assert len(files) == {"a.hdr": 2, "a.nhdr": 2, "a.mhd": 2, "series": 10, "stack": 5}.get(scan.name, 1)
    for file in files:
        volume = ms.read_volume(scan)
        assert not has_changed(volume)
        known = volume.metadata["fingerprint"].sha256
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert has_changed(volume), file.name
        file.write_bytes(before)
        assert not has_changed(volume), file.name
        assert volume.metadata["fingerprint"].sha256 == known
        file.rename(file.with_name("elsewhere"))
        assert has_changed(volume), file.name
        file.with_name("elsewhere").rename(file)


def readings(content):
    """Return the bytes of a file as they are and as they unpack."""
    found = [content]
    if content.startswith(b"\x1f\x8b"):
        found.append(gzip.decompress(content))
    for match in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", content):
        for wbits in (47, -15):
            unpack = zlib.decompressobj(wbits)
            try:
                found.append(unpack.decompress(content[match.start() :]))
            except zlib.error:
                continue
    return found


def test_no_mask_tells_whose_scan_it_is(scan, tmp_path):
    volume = ms.read_volume(scan)
    data = np.zeros(volume.data.shape, np.uint8)
    data[:, 1:4, 1:4] = 1
    mask = ms.LabelMap(data, volume.affine, {1: "lesion"}, grid=volume.grid, metadata=volume.metadata)
    for suffix in (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".stl", ".obj"):
        ms.write_label_map(tmp_path / f"mask{suffix}", mask)
    for file in tmp_path.glob("mask*"):
        for content in readings(file.read_bytes()):
            for secret in SECRETS:
                assert secret.encode() not in content, (file.name, secret)
                assert secret.encode("utf-16-le") not in content, (file.name, secret)


@pytest.mark.parametrize("format_name", ["dicom-seg", "rtstruct"])
def test_a_deidentified_object_does_not_tell_whose_scan_it_is(tmp_path, format_name):
    dicom(tmp_path / "series")
    volume = ms.read_volume(tmp_path / "series")
    data = np.zeros(volume.data.shape, np.uint8)
    data[2:5, 1:5, 1:5] = 1
    mask = ms.LabelMap(data, volume.affine, {1: "lesion"}, grid=volume.grid, metadata=volume.metadata)
    kept = ms.write_label_map(tmp_path / "kept.dcm", mask, format=format_name).read_bytes()
    bare = ms.write_label_map(tmp_path / "bare.dcm", mask, format=format_name, deidentified=True).read_bytes()
    assert SECRETS[0].encode() in kept
    for secret in (*SECRETS, str(volume.metadata["dicom"].study_uid), str(volume.metadata["dicom"].series_uid)):
        assert secret.encode() not in bare, secret


def test_no_refusal_and_no_warning_tells_whose_scan_it_is(scan):
    volume = ms.read_volume(scan)
    said = " ".join(volume.warnings) + volume.name
    for file in volume.metadata["fingerprint"].files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 2 // 3])
    try:
        said += " ".join(ms.read_volume(scan).warnings)
    except ms.MedSegError as error:
        said += str(error).replace(str(scan.parent), "")
    for secret in SECRETS[1:]:
        assert secret not in said
