"""NRRD, MetaImage, TIFF and NIfTI files as odd programs write them: every voxel where the header says, or one sentence.

What is expected is worked out by hand from the header, never with the reader.
"""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from grid_phantom import order_affine, phantom_ijk, save_nifti
from refusal import assert_refused

import napari_medseg as ms
from napari_medseg.imaging.orientation import to_disk

VOXELS = phantom_ijk()
RAW = VOXELS.T.astype("<i2").tobytes()
WORDS = " ".join(str(value) for value in VOXELS.T.ravel()).encode()
AFFINE = order_affine((0, 1, 2), (-1, -1, 1), (10, -5, 20))


def lps(columns=((1, 0, 0), (0, 1, 0), (0, 0, 3)), origin=(1, 2, 3), mm=(1, 1, 1)) -> np.ndarray:
    """Affine in RAS+ of directions, one an axis, and origin in LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns, float).T * np.array(mm)[:, None]
    affine[:3, 3] = np.array(origin) * np.array(mm)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def assert_at(path: Path, affine: np.ndarray, warning: str = "", voxels: np.ndarray = VOXELS) -> None:
    (volume,) = ms.read_volumes(path)
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), voxels)
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-5)
    if warning:
        assert any(warning in text for text in volume.warnings), volume.warnings
    else:
        assert volume.warnings == ()


def nrrd(folder: Path, body: bytes = RAW, *, eol: str = "\n", magic: str = "NRRD0004", **fields: str | None) -> Path:
    lines = {
        **{"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "6 8 10"},
        **{"space directions": "(1,0,0) (0,1,0) (0,0,3)", "kinds": "domain domain domain", "endian": "little"},
        **{"encoding": "raw", "space origin": "(1,2,3)"},
        **{key.replace("_", " "): value for key, value in fields.items()},
    }
    header = [magic, *(f"{key}: {value}" for key, value in lines.items() if value is not None)]
    path = folder / ("scan.nhdr" if "data file" in lines else "scan.nrrd")
    path.write_bytes((eol.join(header) + 2 * eol).encode() + body)
    return path


NRRD = {
    "windows line ends": ({"eol": "\r\n"}, lps(), ""),
    "LPS": ({"space": "LPS"}, lps(), ""),
    "RAS": ({"space": "RAS"}, lps(((-1, 0, 0), (0, -1, 0), (0, 0, 3)), (-1, -2, 3)), ""),
    "left-anterior-superior": (
        {"space": "left-anterior-superior"},
        lps(((1, 0, 0), (0, -1, 0), (0, 0, 3)), (1, -2, 3)),
        "",
    ),
    "scanner's axes": ({"space": "scanner-xyz"}, lps(), "sides may be swapped"),
    "dimension of a space": ({"space": None, "space_dimension": "3"}, lps(), "does not name its space"),
    "capitals": ({"type": "SHORT", "encoding": "RAW", "endian": "Little"}, lps(), ""),
    "microns": ({"space_units": '"um" "um" "um"'}, lps(mm=(1e-3,) * 3), "converted to millimetres"),
    "units that differ": ({"space_units": '"mm" "mm" "cm"'}, lps(mm=(1, 1, 10)), "measured in cm and mm"),
    "one unit in two spellings": ({"space_units": '"mm" "MM" "millimeter"'}, lps(), ""),
    "units nobody knows": ({"space_units": '"mm" "mm" "ell"'}, lps(), "millimetres are assumed"),
    "bzip2": ({"encoding": "bz2", "body": bz2.compress(RAW)}, lps(), ""),
    "text": ({"encoding": "ascii", "body": WORDS, "endian": None}, lps(), ""),
    "hexadecimal": ({"encoding": "hex", "body": RAW.hex().encode()}, lps(), ""),
    "two members": ({"encoding": "gz", "body": gzip.compress(RAW[:400]) + gzip.compress(RAW[400:])}, lps(), ""),
    "junk first": ({"byte_skip": "-1", "body": b"junk" * 9 + RAW}, lps(), ""),
    "junk packed": ({"byte_skip": "8", "encoding": "gzip", "body": gzip.compress(b"8 bytes." + RAW)}, lps(), ""),
    "lines first": ({"line_skip": "2", "body": b"one\ntwo\n" + RAW}, lps(), ""),
    "an axis of nothing": (
        {
            **{"dimension": "4", "sizes": "1 6 8 10", "kinds": "list domain domain domain"},
            "space_directions": "none (1,0,0) (0,1,0) (0,0,3)",
        },
        lps(),
        "",
    ),
    "kinds unknown": ({"kinds": "??? ??? ???"}, lps(), ""),
    "left-handed": ({"space_directions": "(-1,0,0) (0,1,0) (0,0,3)"}, lps(((-1, 0, 0), (0, 1, 0), (0, 0, 3))), ""),
    "sagittal": ({"space_directions": "(0,0,1) (1,0,0) (0,3,0)"}, lps(((0, 0, 1), (1, 0, 0), (0, 3, 0))), ""),
    "spacings that lie beside directions": ({"spacings": "1 1 9"}, lps(), ""),
    "a measurement frame": ({"measurement_frame": "(0,1,0) (1,0,0) (0,0,1)"}, lps(), ""),
    "no origin": ({"space_origin": None}, lps(origin=(0, 0, 0)), "0, 0, 0 is assumed"),
    "a line end after the voxels": ({"body": RAW + b"\n"}, lps(), "1 bytes more"),
}


@pytest.mark.parametrize("name", NRRD)
def test_nrrd(tmp_path: Path, name: str) -> None:
    fields, affine, warning = NRRD[name]
    assert_at(nrrd(tmp_path, **fields), affine, warning)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"encoding": "ascii", "body": WORDS[:-1].rsplit(b" ", 1)[0]}, "promises 480 numbers but holds 479"),
        ({"encoding": "ascii", "body": WORDS.replace(b" ", b".5 ")}, "something else than numbers"),
        ({"encoding": "ascii", "type": "uchar", "body": WORDS}, "something else than numbers"),
        ({"encoding": "gz", "body": gzip.compress(RAW)[:-8] + b"12345678"}, "checksum"),
        ({"encoding": "bz2", "body": bz2.compress(RAW)[:-4]}, "ends|damaged"),
        ({"space_origin": "(nan,nan,nan)"}, "no point"),
        ({"space_directions": "(nan,nan,nan) (nan,nan,nan) (nan,nan,nan)"}, "0 axes in space"),
        ({"magic": "NRRD0009"}, "version 1 to 6"),
        ({"type": "block", "block_size": "2"}, "data type 'block'"),
        ({"Sizes": "6 8 9"}, "gives 'sizes' twice"),
        ({"data_file": "scan.nhdr", "body": b""}, "ends too early"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_nrrd_that_is_refused(tmp_path: Path, fields: dict, match: str) -> None:
    assert_refused(nrrd(tmp_path, **fields), match)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with a name")
def test_pipes_are_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "voxels.raw")
    assert_refused(nrrd(tmp_path, b"", data_file="voxels.raw"), "which is missing")
    os.mkfifo(tmp_path / "scan.nii")
    assert_refused(tmp_path / "scan.nii", "not a file that can be read")


def meta(folder: Path, body: bytes = RAW, *, eol: str = "\n", sep: str = " = ", **fields: str | None) -> Path:
    lines = {
        **{"ObjectType": "Image", "NDims": "3", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3"},
        **{"ElementSpacing": "1 1 3", "DimSize": "6 8 10", "ElementType": "MET_SHORT"},
        **fields,
    }
    lines["ElementDataFile"] = lines.pop("ElementDataFile", "LOCAL")
    path = folder / ("scan.mha" if lines["ElementDataFile"] == "LOCAL" else "scan.mhd")
    path.write_bytes(eol.join(f"{k}{sep}{v}" for k, v in lines.items() if v is not None).encode() + eol.encode() + body)
    return path


PACKED = {"CompressedData": "True"}
META = {
    "windows line ends": ({"eol": "\r\n"}, lps(), ""),
    "no blanks": ({"sep": "="}, lps(), ""),
    "a centre of rotation": (
        {"CenterOfRotation": "10 20 30", "TransformMatrix": "0 1 0 -1 0 0 0 0 1"},
        lps(((0, 1, 0), (-1, 0, 0), (0, 0, 3))),
        "",
    ),
    "Position": ({"Offset": None, "Position": "1 2 3"}, lps(), ""),
    "Origin": ({"Offset": None, "Origin": "1 2 3"}, lps(), ""),
    "Rotation": ({"TransformMatrix": None, "Rotation": "1 0 0 0 1 0 0 0 1"}, lps(), ""),
    "Orientation": (
        {"TransformMatrix": None, "Orientation": "-1 0 0 0 -1 0 0 0 1"},
        lps(((-1, 0, 0), (0, -1, 0), (0, 0, 3))),
        "",
    ),
    "ElementSize alone": ({"ElementSpacing": None, "ElementSize": "1 1 3"}, lps(), ""),
    "ElementSize beside spacing": ({"ElementSize": "9 9 9"}, lps(), ""),
    "no spacing": ({"ElementSpacing": None}, lps(((1, 0, 0), (0, 1, 0), (0, 0, 1))), "1 mm is assumed"),
    "an orientation in letters": ({"AnatomicalOrientation": "RAI"}, lps(), ""),
    "big-endian": ({"BinaryDataByteOrderMSB": "True", "body": VOXELS.T.astype(">i2").tobytes()}, lps(), ""),
    "big-endian, otherwise": ({"ElementByteOrderMSB": "True", "body": VOXELS.T.astype(">i2").tobytes()}, lps(), ""),
    "truth as letters": ({"BinaryData": "T", "CompressedData": "F"}, lps(), ""),
    "packed, size wrong": ({**PACKED, "body": zlib.compress(RAW), "CompressedDataSize": "7"}, lps(), ""),
    "packed, size unknown": ({**PACKED, "body": zlib.compress(RAW)}, lps(), ""),
    "voxels at the end": ({"HeaderSize": "-1", "body": b"junk" * 9 + RAW}, lps(), ""),
    "MET_LONG of 32 bits": ({"ElementType": "MET_LONG", "body": VOXELS.T.astype("<i4").tobytes()}, lps(), ""),
    "MET_LONG_LONG": ({"ElementType": "MET_LONG_LONG", "body": VOXELS.T.astype("<i8").tobytes()}, lps(), ""),
    "text": ({"BinaryData": "False", "body": WORDS}, lps(), ""),
    "one channel": ({"ElementNumberOfChannels": "1"}, lps(), ""),
    "sheared": (
        {"TransformMatrix": "1 0.3 0 0 1 0 0 0 1"},
        lps(((1, 0.3, 0), (0, 1, 0), (0, 0, 3))),
        "not perpendicular",
    ),
    "scaled directions": (
        {"TransformMatrix": "2 0 0 0 2 0 0 0 2"},
        lps(((2, 0, 0), (0, 2, 0), (0, 0, 6))),
        "",
    ),
    "from head to feet": (
        {"TransformMatrix": "1 0 0 0 1 0 0 0 -1"},
        lps(((1, 0, 0), (0, 1, 0), (0, 0, -3))),
        "",
    ),
    "microns": ({"DistanceUnits": "um"}, lps(mm=(1e-3,) * 3), "converted to millimetres"),
    "signs of equality in a comment": ({"Comment": "a = b = c"}, lps(), ""),
}


@pytest.mark.parametrize("name", META)
def test_metaimage(tmp_path: Path, name: str) -> None:
    fields, affine, warning = META[name]
    assert_at(meta(tmp_path, **fields), affine, warning)


def test_metaimage_of_several_files(tmp_path: Path) -> None:
    for k in range(10):
        (tmp_path / f"s{k:03}.raw").write_bytes(RAW[k * 96 : (k + 1) * 96])
    names = "\n".join(f"s{k:03}.raw" for k in range(10)).encode()
    assert_at(meta(tmp_path, b"", ElementDataFile="s%03d.raw 0 9 1"), lps())
    assert_at(meta(tmp_path, names, ElementDataFile="LIST"), lps())


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({**PACKED, "body": gzip.compress(RAW)}, "compressed data is invalid"),
        ({**PACKED, "body": zlib.compress(RAW)[:-1]}, "cut off"),
        ({"HeaderSize": "8"}, "HeaderSize 8, but its header ends at byte"),
        ({"HeaderSize": "100000"}, "ends too early"),
        ({"NDims": "3 3"}, "1 finite numbers"),
        ({"ElementType": "MET_SHORT_ARRAY"}, "data type 'SHORT_ARRAY'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_metaimage_that_is_refused(tmp_path: Path, fields: dict, match: str) -> None:
    assert_refused(meta(tmp_path, **fields), match)


@pytest.mark.parametrize(
    ("how", "spacing", "warning"),
    [
        ({"resolution": (100, 50), "resolutionunit": "CENTIMETER"}, (1, 0.2, 0.1), "resolution for printing"),
        ({"resolution": (254, 254), "resolutionunit": "INCH"}, (1, 0.1, 0.1), "resolution for printing"),
        ({"resolution": (100, 50), "resolutionunit": "NONE"}, (1, 1, 1), "does not give its voxel size"),
        ({"bigtiff": True}, (1, 1, 1), "does not give its voxel size"),
        ({"tile": (16, 16)}, (1, 1, 1), "does not give its voxel size"),
        ({"compression": "zlib", "predictor": True}, (1, 1, 1), "does not give its voxel size"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_tiff(tmp_path: Path, how: dict, spacing: tuple[float, ...], warning: str) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, VOXELS.T, photometric="minisblack", metadata=None, **how)
    assert_at(path, np.diag([-spacing[2], -spacing[1], spacing[0], 1.0]), warning)


def test_entities_in_the_description_of_a_tiff_are_not_followed(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    text = f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa">{entities}]>'
    text += '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">&j;</OME>'
    path = tmp_path / "scan.ome.tif"
    tifffile.imwrite(path, VOXELS.T, photometric="minisblack", metadata=None, description=text)
    (volume,) = ms.read_volumes(path)
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), VOXELS)


def packed_header(raw: bytes, *, is_right: bool) -> bytes:
    """Gzip with a checksum of its header."""
    head = b"\x1f\x8b\x08\x02" + bytes(6)
    return head + struct.pack("<H", (zlib.crc32(head) + (not is_right)) & 0xFFFF) + gzip.compress(raw, mtime=0)[10:]


def test_nifti_in_gzip_with_a_checked_header(tmp_path: Path) -> None:
    raw = save_nifti(tmp_path / "raw.nii", VOXELS, AFFINE).read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(packed_header(raw, is_right=True))
    assert_at(tmp_path / "scan.nii.gz", AFFINE)
    (tmp_path / "scan.nii.gz").write_bytes(packed_header(raw, is_right=False))
    assert_refused(tmp_path / "scan.nii.gz", "checksum or structure")
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(raw[:900]))
    assert_refused(tmp_path / "scan.nii.gz", "ends too early")
    wrong_size = bytearray(gzip.compress(raw))
    wrong_size[-1] ^= 1
    (tmp_path / "scan.nii.gz").write_bytes(wrong_size)
    assert_refused(tmp_path / "scan.nii.gz", "checksum or structure")


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.dcm", "scan.tif", "scan.mha", "SCAN.NII"])
def test_nifti_under_any_name(tmp_path: Path, name: str) -> None:
    assert_at(save_nifti(tmp_path / "raw.nii", VOXELS, AFFINE).rename(tmp_path / name), AFFINE)


def test_nifti_pairs_whose_endings_are_capitals(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), tmp_path / "scan.hdr")
    (tmp_path / "scan.hdr").rename(tmp_path / "scan.HDR")
    assert_at(tmp_path / "scan.img", AFFINE)
    assert_at(tmp_path, AFFINE)
