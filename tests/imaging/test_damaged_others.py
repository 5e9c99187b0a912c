"""Damaged and lying NRRD, MetaImage, TIFF, PNG and JPEG files: one sentence each, little time and memory."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest
import tifffile
from grid_phantom import SHAPE, label_phantom_ijk, phantom_ijk
from PIL import Image
from refusal import assert_refused

import napari_medseg as ms

DATA = phantom_ijk().T.tobytes()
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 8 10",
    "space directions": "(1,0,0) (0,1,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "1 2 3",
    "ElementSpacing": "1 1 3",
    "DimSize": "6 8 10",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def write_nrrd(path, data=DATA, **changes):
    fields = {key: changes.get(key.replace(" ", "_"), value) for key, value in NRRD.items()}
    fields |= {key.replace("_", " "): value for key, value in changes.items() if key.replace("_", " ") not in NRRD}
    lines = [f"{key}: {value}" for key, value in fields.items() if value is not None]
    path.write_bytes(("NRRD0004\n" + "\n".join(lines) + "\n\n").encode() + data)
    return path


def write_meta(path, data=DATA, **changes):
    fields = {key: changes.get(key, value) for key, value in META.items()}
    extra = {key: value for key, value in changes.items() if key not in META}
    lines = [f"{key} = {value}" for key, value in (extra | fields).items() if value is not None]
    path.write_bytes(("\n".join(lines) + "\n").encode() + data)
    return path


def test_the_undamaged_files_of_this_module_are_read(tmp_path):
    for path in (write_nrrd(tmp_path / "scan.nrrd"), write_meta(tmp_path / "scan.mha")):
        volume = ms.read_volume(path)
        np.testing.assert_array_equal(volume.data, phantom_ijk().T)
        np.testing.assert_allclose(volume.affine @ (0, 0, 0, 1), (-1, -2, 3, 1))
        assert volume.spacing_mm == (3, 1, 1)
        assert volume.warnings == ()


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        ({"type": None}, "does not give its 'type'"),
        ({"type": "block"}, "data type 'block'"),
        ({"type": "double"}, "ends too early"),
        ({"dimension": None}, "'dimension'"),
        ({"dimension": "4"}, "dimension"),
        ({"dimension": "x"}, "no numbers"),
        ({"dimension": "1", "sizes": "480"}, "2 axes or more"),
        ({"sizes": None}, "'sizes'"),
        ({"sizes": "6 8 0"}, "whole number from 1 on"),
        ({"sizes": "6 8 -10"}, "whole number from 1 on"),
        ({"sizes": "6 8 1.5"}, "whole number from 1 on"),
        ({"sizes": "6 8 nan"}, "whole number from 1 on"),
        ({"sizes": "6 8 1e300"}, "whole number from 1 on"),
        ({"sizes": "6 8 11"}, "ends too early"),
        ({"sizes": "200000 200000 200000"}, "200000 x 200000 x 200000 voxels, which need .* free"),
        ({"encoding": None}, "'encoding'"),
        ({"encoding": "zrl"}, "packed as 'zrl'"),
        ({"encoding": "gzip"}, "damaged|ends"),
        ({"encoding": "bzip2"}, "damaged|ends"),
        ({"encoding": "hex"}, "damaged|numbers"),
        ({"encoding": "ascii"}, "damaged|numbers"),
        ({"endian": None}, "order the bytes"),
        ({"endian": "middle"}, "order the bytes"),
        ({"space_directions": "(1,0,0) (0,1,0)"}, "2 space directions"),
        ({"space_directions": "(1,0,0) (2,0,0) (0,0,1)"}, "singular"),
        ({"space_directions": "(0,0,0) (0,1,0) (0,0,1)"}, "zero"),
        ({"space_directions": "(1,0,0) (0,inf,0) (0,0,1)"}, "finite"),
        ({"space_directions": "(1,0,0) (0,1,nan) (0,0,1)"}, "finite"),
        ({"space_directions": "(1,0) (0,1) (0,0)"}, "other lengths"),
        ({"space_directions": "(1,0,0) oops (0,0,1)"}, "no vectors"),
        ({"space_directions": "none none (0,0,1)"}, "1 axes in space"),
        ({"space_directions": "()()()"}, "other lengths"),
        ({"space_origin": "(1,2)"}, "no point"),
        ({"space_origin": "(1,2,nan)"}, "finite"),
        ({"kinds": "domain domain"}, "kinds of 2"),
        ({"kinds": "RGB-color domain domain", "space_directions": "none (0,1,0) (0,0,3)"}, "rgb-color in each voxel"),
        ({"space_directions": None, "spacings": "1 1 0"}, "above 0"),
        ({"space_directions": None, "spacings": "1 1 -3"}, "above 0"),
        ({"space_directions": None, "spacings": "1 1 inf"}, "above 0"),
        ({"space_directions": None, "spacings": "1 1"}, "2 spacings"),
        ({"line_skip": "5000"}, "ends before its voxels begin"),
        ({"line_skip": "-3"}, "makes no sense"),
        ({"byte_skip": "-2"}, "makes no sense"),
        ({"byte_skip": "4"}, "ends too early"),
        ({"byte_skip": "1e300"}, "makes no sense"),
        ({"data_file": "/etc/passwd"}, "outside its own folder"),
        ({"data_file": "../secret.raw"}, "outside its own folder"),
        ({"data_file": "a/../../secret.raw"}, "outside its own folder"),
        ({"data_file": "..\\\\secret.raw"}, "outside its own folder"),
        ({"data_file": "C:/secret.raw"}, "outside its own folder"),
        ({"data_file": "link.raw"}, "outside its own folder"),
        ({"data_file": "nowhere.raw"}, "which is missing"),
        ({"data_file": "slice%999999999d.raw 1 9 1"}, "makes no sense"),
        ({"data_file": "slice%s.raw 1 9 1"}, "makes no sense"),
        ({"data_file": "slice%d.raw 1 999999999 1"}, "makes no sense"),
        ({"data_file": "slice%d.raw 1 9 0"}, "makes no sense"),
        ({"data_file": "LIST"}, "0 files"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_lying_nrrd_header_is_refused(tmp_path, lie, match):
    folder = tmp_path / "study"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(DATA)
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    assert_refused(write_nrrd(folder / "scan.nhdr", **lie), match)


@pytest.mark.parametrize("line", ["no colon here", "sizes: 6 8 9", "=:", ": x"])
def test_a_broken_line_in_an_nrrd_header_is_refused(tmp_path, line):
    path = write_nrrd(tmp_path / "scan.nrrd")
    path.write_bytes(path.read_bytes().replace(b"endian: little", line.encode() + b"\nendian: little"))
    assert_refused(path, "line in its header that is none|gives 'sizes' twice")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("part", [0.01, 0.05, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_nrrd_is_refused(tmp_path, encoding, part):
    data = DATA if encoding == "raw" else gzip.compress(DATA)
    content = write_nrrd(tmp_path / "scan.nrrd", data, encoding=encoding).read_bytes()
    (tmp_path / "scan.nrrd").write_bytes(content[: int(part * len(content))])
    assert_refused(
        tmp_path / "scan.nrrd", "ends|does not give|not an NRRD|line in its header|no vectors|dimension|axes"
    )


def test_a_wrong_checksum_in_an_nrrd_is_noticed(tmp_path):
    packed = bytearray(gzip.compress(DATA))
    packed[-7] ^= 1
    assert_refused(write_nrrd(tmp_path / "scan.nrrd", bytes(packed), encoding="gzip"), "checksum")


@pytest.mark.parametrize("content", [b"NRRD0004", b"NRRD9999\ntype: short\n\n", b"NRRD0004\n" + b"a" * 2_000_000])
def test_an_nrrd_that_is_only_a_beginning_is_refused(tmp_path, content):
    (tmp_path / "scan.nrrd").write_bytes(content)
    assert_refused(tmp_path / "scan.nrrd", "does not give|version 1 to 6|without an end")


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("Segment0_LabelValue:=0", "as label 0"),
        ("Segment0_LabelValue:=70000", "as label 70000"),
        ("Segment0_LabelValue:=one", "'one', which is no number"),
        ("Segment0_Layer:=7", "layer 7"),
    ],
)
def test_segments_that_cannot_be_are_refused(tmp_path, entry, match):
    path = write_nrrd(tmp_path / "mask.seg.nrrd", label_phantom_ijk().T.tobytes(), type="uchar")
    path.write_bytes(path.read_bytes().replace(b"\n\n", f"\n{entry}\n\n".encode(), 1))
    assert_refused(path, match, ms.read_label_map)


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        ({"ObjectType": "Tube"}, "'Tube', not an image"),
        ({"NDims": "1", "DimSize": "480"}, "1 axes"),
        ({"NDims": "7"}, "7 axes"),
        ({"NDims": "x"}, "no numbers"),
        ({"NDims": "nan"}, "finite"),
        ({"DimSize": None}, "does not give its DimSize"),
        ({"DimSize": "6 8"}, "3 finite numbers"),
        ({"DimSize": "6 8 0"}, "whole number from 1 on"),
        ({"DimSize": "6 8 -10"}, "whole number from 1 on"),
        ({"DimSize": "6 8 11"}, "ends too early"),
        ({"DimSize": "99999 99999 99999"}, "99999 x 99999 x 99999.* free"),
        ({"DimSize": "1e300 8 10"}, "whole number from 1 on"),
        ({"ElementType": "MET_STRING"}, "data type 'STRING'"),
        ({"ElementType": "MET_DOUBLE"}, "ends too early"),
        ({"ElementType": ""}, "data type"),
        ({"ElementNumberOfChannels": "3"}, "3 components"),
        ({"ElementSpacing": "1 1 0"}, "above 0"),
        ({"ElementSpacing": "1 1 -3"}, "above 0"),
        ({"ElementSpacing": "1 1 inf"}, "finite"),
        ({"ElementSpacing": "1 1"}, "3 finite numbers"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
        ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "zero"),
        ({"TransformMatrix": "1 0 0 0 nan 0 0 0 1"}, "finite"),
        ({"TransformMatrix": "1 0 0 0"}, "9 finite numbers"),
        ({"Offset": "1 2"}, "3 finite numbers"),
        ({"BinaryData": "perhaps"}, "neither True nor False"),
        ({"CompressedData": "True"}, "damaged"),
        ({"HeaderSize": "-7"}, "makes no sense"),
        ({"HeaderSize": "1.5"}, "makes no sense"),
        ({"ElementDataFile": None}, "ends inside its header|header"),
        ({"ElementDataFile": "/etc/passwd"}, "outside its own folder"),
        ({"ElementDataFile": "../secret.raw"}, "outside its own folder"),
        ({"ElementDataFile": "link.raw"}, "outside its own folder"),
        ({"ElementDataFile": "nowhere.raw"}, "which is missing"),
        ({"ElementDataFile": "slice%99d.raw 1 999999999 1"}, "makes no sense"),
        ({"ElementDataFile": "LIST"}, "480 voxels over|needs the file"),
        ({"ElementToIntensityFunctionSlope": "nan"}, "finite"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_lying_metaimage_header_is_refused(tmp_path, lie, match):
    folder = tmp_path / "study"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(DATA)
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    assert_refused(write_meta(folder / "scan.mha", **lie), match)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("part", [0.02, 0.1, 0.2, 0.5, 0.9, 0.999])
def test_a_cut_off_metaimage_is_refused(tmp_path, packed, part):
    data = zlib.compress(DATA) if packed else DATA
    content = write_meta(tmp_path / "scan.mha", data, CompressedData=str(packed)).read_bytes()
    (tmp_path / "scan.mha").write_bytes(content[: int(part * len(content))])
    assert_refused(tmp_path / "scan.mha", "ends|damaged|does not give|line in its header|finite|axes|data type|neither")


def test_a_wrong_checksum_in_a_metaimage_is_noticed(tmp_path):
    packed = bytearray(zlib.compress(DATA))
    packed[-1] ^= 1
    assert_refused(write_meta(tmp_path / "scan.mha", bytes(packed), CompressedData="True"), "damaged")


def lie_in_tiff(path, tag, value):
    """Write another number into a tag of a classic little-endian TIFF."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages.first.tags[tag]
        offset, wide = found.offset + 8, found.dtype == 4
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I" if wide else "<H", raw, offset, value)
    path.write_bytes(raw)


@pytest.fixture
def tiff_scan(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, phantom_ijk().T.astype(np.uint16), photometric="minisblack", metadata=None)
    return path


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("ImageLength", 2**31),
        ("ImageLength", 4000),
        ("ImageLength", 0),
        ("ImageWidth", 2**32 - 1),
        ("ImageWidth", 0),
        ("StripOffsets", 2**31),
        ("StripOffsets", 0),
        ("StripByteCounts", 2**31),
        ("StripByteCounts", 0),
        ("BitsPerSample", 64),
        ("BitsPerSample", 0),
        ("BitsPerSample", 13),
        ("SamplesPerPixel", 60000),
        ("Compression", 8),
        ("Compression", 5),
        ("Compression", 7),
        ("Compression", 50000),
        ("Compression", 34712),
        ("Compression", 9999),
        ("RowsPerStrip", 0),
    ],
)
def test_a_lying_tiff_tag_is_refused(tmp_path, tag, value):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, phantom_ijk()[..., 0].T.astype(np.uint16), photometric="minisblack", metadata=None)
    lie_in_tiff(path, tag, value)
    assert_refused(path, "scan")


@pytest.mark.parametrize("part", [0.001, 0.004, 0.01, 0.1, 0.5, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_cut_off_tiff_is_refused(tmp_path, part, compression):
    path = tmp_path / "scan.tif"
    noise = np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)
    tifffile.imwrite(path, noise, photometric="minisblack", metadata=None, compression=compression)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(part * len(content)))])
    assert_refused(path, "scan")


def test_a_tiff_whose_pages_run_in_a_circle_is_refused(tiff_scan):
    with tifffile.TiffFile(tiff_scan) as tiff:
        offsets = [page.offset for page in tiff.pages]
        n_tags = len(tiff.pages.first.tags)
    raw = bytearray(tiff_scan.read_bytes())
    struct.pack_into("<I", raw, offsets[0] + 2 + 12 * n_tags, offsets[0])
    tiff_scan.write_bytes(raw)
    assert_refused(tiff_scan, "run in a circle")


def test_a_tiff_of_complex_numbers_or_of_a_set_is_refused(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((4, 5), np.complex64), photometric="minisblack", metadata=None)
    assert_refused(path, "complex64")
    tifffile.imwrite(path, np.arange(60, dtype=np.uint8).reshape(4, 5, 3), photometric="rgb")
    assert_refused(path, "no label map: it holds colours", ms.read_label_map)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.6, 0.9, 0.97])
def test_a_cut_off_picture_is_refused(tmp_path, suffix, part):
    path = tmp_path / f"scan{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert_refused(path, "scan")


def test_a_picture_that_says_it_is_huge_is_refused(tmp_path):
    path = tmp_path / "scan.png"
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(path)
    raw = bytearray(path.read_bytes())
    struct.pack_into(">II", raw, 16, 60000, 60000)
    struct.pack_into(">I", raw, 29, zlib.crc32(bytes(raw[12:29])))
    path.write_bytes(raw)
    assert_refused(path, "scan")


def test_a_jpeg_is_no_mask(tmp_path):
    path = tmp_path / "scan.jpg"
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(path)
    assert_refused(path, "JPEG, which alters values", ms.read_label_map)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".tif"])
def test_random_damage_never_ends_in_anything_but_a_scan_or_a_sentence(tmp_path, seed, suffix):
    path = tmp_path / f"scan{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, phantom_ijk().T.astype(np.uint16), metadata=None, compression="zlib")
    elif suffix == ".mha":
        write_meta(path)
    else:
        write_nrrd(path)
    rng = np.random.default_rng(seed)
    raw = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 6)):
        raw[rng.integers(0, min(len(raw), 400))] = rng.integers(0, 256)
    path.write_bytes(raw)
    for read in (ms.read_volume, ms.read_label_map):
        try:
            found = read(path)
        except ms.MedSegError as error:
            message = str(error)
        else:
            message = "scan"
            assert np.isfinite(found.affine).all()
        assert "scan" in message
