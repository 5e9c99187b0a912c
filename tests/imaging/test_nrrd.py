"""NRRD beyond the plain case: other programs' files, segments, detached data, units; pynrrd is the reference."""

from __future__ import annotations

import gzip

import nrrd
import numpy as np
import pytest
from grid_phantom import label_phantom_ijk, phantom_ijk

import napari_medseg as ms
from napari_medseg.imaging.orientation import to_disk

DIRECTIONS = np.array([[0.0, 1.25, 0.0], [0.75, 0.0, 0.0], [0.0, 0.0, -3.0]])
HEADER = {"space": "left-posterior-superior", "space directions": DIRECTIONS, "space origin": [4.0, -5.0, 6.0]}


def assert_same_voxels(volume, data):
    np.testing.assert_array_equal(to_disk(volume.data, volume.grid), data)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii", "text"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_every_encoding_and_type(tmp_path, encoding, dtype):
    data = (phantom_ijk(np.int32) % 120).astype(dtype)
    nrrd.write(str(tmp_path / "scan.nrrd"), data, {**HEADER, "encoding": encoding})
    volume = ms.read_volume(tmp_path / "scan.nrrd")
    assert volume.data.dtype == np.dtype(dtype)
    assert_same_voxels(volume, data)
    assert volume.warnings == ()


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "hex"])
def test_byte_orders(tmp_path, endian, encoding):
    raw = phantom_ijk().T.astype("<i2" if endian == "little" else ">i2").tobytes()
    packed = {"raw": raw, "gzip": gzip.compress(raw), "hex": raw.hex().encode()}[encoding]
    lines = ["NRRD0005", "# made for a test", "type: short", "dimension: 3", "sizes: 6 8 10", "space: RAS"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,2)", f"endian: {endian}", f"encoding: {encoding}"]
    lines += ["space origin: (7,8,9)", "", ""]
    (tmp_path / "scan.nrrd").write_bytes("\r\n".join(lines).encode() + packed)
    volume = ms.read_volume(tmp_path / "scan.nrrd")
    assert_same_voxels(volume, phantom_ijk())
    np.testing.assert_array_equal(volume.grid.affine, [[1, 0, 0, 7], [0, 1, 0, 8], [0, 0, 2, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("LAS", (-1, 1, 1)),
    ],
)
def test_spaces_turn_into_ras(tmp_path, space, signs):
    nrrd.write(str(tmp_path / "scan.nrrd"), phantom_ijk(), {**HEADER, "space": space})
    volume = ms.read_volume(tmp_path / "scan.nrrd")
    expected = np.diag([*signs, 1.0]) @ np.vstack(
        [np.column_stack([DIRECTIONS.T, HEADER["space origin"]]), [0, 0, 0, 1]]
    )
    np.testing.assert_allclose(volume.grid.affine, expected)
    assert volume.warnings == ()


def test_an_unknown_space_is_assumed_and_said(tmp_path):
    nrrd.write(str(tmp_path / "scan.nrrd"), phantom_ijk(), {**HEADER, "space": "scanner-xyz"})
    assert "'scanner-xyz'; left-posterior-superior is assumed" in ms.read_volume(tmp_path / "scan.nrrd").warnings[0]


def test_spacings_alone_give_the_order_of_an_axial_scan(tmp_path):
    nrrd.write(str(tmp_path / "scan.nrrd"), phantom_ijk(), {"spacings": [0.75, 1.25, 3.0], "units": ["mm", "mm", "mm"]})
    volume = ms.read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(volume.data, phantom_ijk().T)
    assert volume.spacing_mm == (3.0, 1.25, 0.75)
    assert volume.warnings == (
        "scan.nrrd does not say how it lies in the patient; the order of an axial scan is assumed.",
    )
    nrrd.write(str(tmp_path / "bare.nrrd"), phantom_ijk(), {})
    assert "voxel size; 1 mm is assumed" in ms.read_volume(tmp_path / "bare.nrrd").warnings[1]


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("um", 1e-3), ("cm", 10), ("furlong", 1)])
def test_units_are_honoured(tmp_path, unit, factor):
    nrrd.write(str(tmp_path / "scan.nrrd"), phantom_ijk(), {**HEADER, "space units": [unit] * 3})
    volume = ms.read_volume(tmp_path / "scan.nrrd")
    np.testing.assert_allclose(volume.spacing_mm, np.array((3.0, 1.25, 0.75)) * factor)
    assert bool(volume.warnings) == (unit != "mm")


@pytest.mark.parametrize("first", [True, False])
def test_volumes_over_time_are_never_mixed_into_space(tmp_path, first):
    runs = [phantom_ijk() + 100 * t for t in range(4)]
    none = np.full(3, np.nan)
    header = {
        "space": "right-anterior-superior",
        "space origin": [0, 0, 0],
        "kinds": ["list", "domain", "domain", "domain"] if first else ["domain", "domain", "domain", "time"],
        "space directions": [none, *np.eye(3)] if first else [*np.eye(3), none],
    }
    nrrd.write(str(tmp_path / "run.nrrd"), np.stack(runs, axis=0 if first else -1), header)
    volumes = ms.read_volumes(tmp_path / "run.nrrd")
    assert len(volumes) == 4
    for volume, run in zip(volumes, runs, strict=True):
        assert_same_voxels(volume, run)
    alone = ms.read_volume(tmp_path / "run.nrrd")
    assert_same_voxels(alone, runs[0])
    assert "holds 4 volumes" in alone.warnings[0]


def test_a_flat_image_is_a_volume_of_one_slice(tmp_path):
    nrrd.write(str(tmp_path / "xray.nrrd"), phantom_ijk()[..., 0], {"spacings": [0.2, 0.3]})
    volume = ms.read_volume(tmp_path / "xray.nrrd")
    assert volume.data.shape == (1, 8, 6)
    assert volume.spacing_mm == (1.0, 0.3, 0.2)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_detached_data_in_the_same_folder(tmp_path, encoding):
    nrrd.write(str(tmp_path / "scan.nhdr"), phantom_ijk(), {**HEADER, "encoding": encoding}, detached_header=True)
    volume = ms.read_volume(tmp_path / "scan.nhdr")
    assert_same_voxels(volume, phantom_ijk())
    assert len(volume.metadata["fingerprint"].files) == 2


@pytest.mark.parametrize(
    "data_file", ["slice%02d.raw 1 10 1", "LIST\n" + "\n".join(f"slice{n:02}.raw" for n in range(1, 11))]
)
def test_one_file_a_slice(tmp_path, data_file):
    for k in range(10):
        (tmp_path / f"slice{k + 1:02}.raw").write_bytes(phantom_ijk()[..., k].T.tobytes())
    lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 6 8 10", "spacings: 1 1 3", "endian: little"]
    lines += ["encoding: raw", f"data file: {data_file}"]
    (tmp_path / "scan.nhdr").write_text("\n".join(lines) + "\n")
    assert_same_voxels(ms.read_volume(tmp_path / "scan.nhdr"), phantom_ijk())


def test_skips_before_the_voxels(tmp_path):
    raw = phantom_ijk().T.tobytes()
    for number, (skips, content) in enumerate(
        [
            (["line skip: 2", "byte skip: 3"], b"one\ntwo\nabc" + raw),
            (["byte skip: -1"], b"anything at all" + raw),
        ]
    ):
        lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 6 8 10", "spacings: 1 1 3", "endian: little"]
        text = "\n".join([*lines, "encoding: raw", *skips]) + "\n\n"
        path = tmp_path / f"scan{number}.nrrd"
        path.write_bytes(text.encode() + content)
        assert_same_voxels(ms.read_volume(path), phantom_ijk())


def test_names_and_colours_of_segments_go_both_ways(tmp_path):
    mask = ms.LabelMap(
        label_phantom_ijk().T,
        np.diag([3.0, 1, 1, 1]),
        {1: "Läsion: links", 3: "a\\nb", 9: "not drawn yet"},
        metadata={"colours": {1: (0.5, 0.25, 1.0)}},
    )
    again = ms.read_label_map(ms.write_label_map(tmp_path / "mask.seg.nrrd", mask))
    assert dict(again.names) == {1: "Läsion: links", 2: "Segment 2", 3: "a\\nb", 9: "not drawn yet"}
    assert again.metadata["colours"][1] == (0.5, 0.25, 1.0)
    header = nrrd.read_header(str(tmp_path / "mask.seg.nrrd"))
    assert header["Segment0_LabelValue"] == "1"
    assert header["Segmentation_MasterRepresentation"] == "Binary labelmap"
    plain = ms.write_label_map(tmp_path / "mask.nrrd", mask).read_bytes()
    assert b"Segment" not in plain


def seg_header(n_layers, *segments):
    header = {f"Segment{i}_{key}": value for i, segment in enumerate(segments) for key, value in segment.items()}
    directions = [np.full(3, np.nan), *np.eye(3)]
    kinds = ["list", "domain", "domain", "domain"]
    space = {"space": "left-posterior-superior", "space origin": [0, 0, 0]}
    skip = 0 if n_layers > 1 else 1
    return {**space, "space directions": directions[skip:], "kinds": kinds[skip:], **header}


def test_overlapping_layers_become_one_label_map_and_the_overlap_is_said(tmp_path):
    layers = np.zeros((2, 6, 8, 10), np.uint8)
    layers[0, :4], layers[1, 3:] = 1, 1
    header = seg_header(
        2,
        {"Name": "tumour", "LabelValue": "1", "Layer": "0", "Color": "1 0 0"},
        {"Name": "oedema", "LabelValue": "1", "Layer": "1", "Color": "0 1 0"},
    )
    nrrd.write(str(tmp_path / "mask.seg.nrrd"), layers, header)
    mask = ms.read_label_map(tmp_path / "mask.seg.nrrd")
    assert dict(mask.names) == {1: "tumour", 2: "oedema"}
    assert mask.metadata["colours"] == {1: (1.0, 0.0, 0.0), 2: (0.0, 1.0, 0.0)}
    assert "overlap in 80 voxels" in mask.warnings[0]
    assert np.bincount(mask.data.ravel()).tolist() == [0, 240, 240]


def test_old_files_with_one_segment_a_layer(tmp_path):
    layers = np.zeros((2, 6, 8, 10), np.uint8)
    layers[0, :3], layers[1, 3:] = 1, 1
    nrrd.write(str(tmp_path / "mask.seg.nrrd"), layers, seg_header(2, {"Name": "a"}, {"Name": "b"}))
    mask = ms.read_label_map(tmp_path / "mask.seg.nrrd")
    assert dict(mask.names) == {1: "a", 2: "b"}
    assert mask.warnings == ()
    assert np.bincount(mask.data.ravel()).tolist() == [0, 240, 240]
