"""The surface of a lesion in the patient's millimetres."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.files import write_label_map
from napari_medseg.imaging.surface import surface_of, write_surface
from napari_medseg.imaging.volume import LabelMap


def sphere(affine: np.ndarray, radius_mm: float = 8.0, label: int = 2) -> tuple[LabelMap, np.ndarray]:
    shape = (16, 26, 30)
    centre = (affine @ [7.5, 12.0, 14.0, 1.0])[:3]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    distance = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1)
    return LabelMap(((distance <= radius_mm) * label).astype(np.uint8), affine, {label: "Lesion"}), centre


def affines() -> dict[str, np.ndarray]:
    plain = np.array([[0, 0, -0.8, 30.0], [0, -0.9, 0, 40], [1.5, 0, 0, -20], [0, 0, 0, 1]])
    mirrored = plain @ np.diag([1, 1, -1, 1])
    turned = plain.copy()
    c, s = np.cos(0.5), np.sin(0.5)
    turned[:3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ plain[:3]
    sheared = plain.copy()
    sheared[1, 0] = 0.4
    return {"plain": plain, "mirrored": mirrored, "turned": turned, "sheared": sheared}


@pytest.mark.parametrize("name", affines())
def test_it_lies_round_the_lesion_and_faces_outwards(name: str) -> None:
    mask, centre = sphere(affines()[name])
    surface = surface_of(mask, 2)
    distance = np.linalg.norm(surface.vertices - centre, axis=1)
    assert 6.8 < distance.min() < distance.max() < 9.2
    assert surface.volume_ml == pytest.approx(np.count_nonzero(mask.data) * mask.voxel_ml, rel=0.05)
    assert surface.vertices.mean(axis=0) == pytest.approx(centre, abs=0.5)


def test_it_is_closed_at_the_edge_of_the_scan() -> None:
    data = np.ones((3, 4, 5), np.uint8)
    surface = surface_of(LabelMap(data, np.diag([2.0, 1.0, 1.0, 1.0])), 1)
    edges = np.sort(np.concatenate([surface.triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]), axis=1)
    counts = np.unique(edges, axis=0, return_counts=True)[1]
    assert (counts == 2).all()


def test_stl_says_its_space_and_holds_the_triangles(tmp_path: Path) -> None:
    mask, _ = sphere(affines()["plain"])
    raw = write_surface(tmp_path / "lesion.stl", mask, 2).read_bytes()
    surface = surface_of(mask, 2)
    assert b"SPACE=RAS" in raw[:80]
    assert not raw.startswith(b"solid")
    assert struct.unpack_from("<I", raw, 80)[0] == len(surface.triangles)
    assert len(raw) == 84 + 50 * len(surface.triangles)
    first = np.frombuffer(raw, "<f4", count=12, offset=84)
    assert first[3:].reshape(3, 3) == pytest.approx(surface.vertices[surface.triangles[0]], abs=1e-4)
    assert np.linalg.norm(first[:3]) == pytest.approx(1.0, abs=1e-5)


def test_obj_says_its_space_and_holds_the_vertices(tmp_path: Path) -> None:
    mask, _ = sphere(affines()["turned"])
    lines = write_surface(tmp_path / "lesion.obj", mask, 2).read_text().splitlines()
    surface = surface_of(mask, 2)
    assert "# SPACE=RAS" in lines
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], int)
    assert vertices == pytest.approx(surface.vertices, abs=1e-4)
    assert np.array_equal(faces - 1, surface.triangles)


def test_every_label_is_an_object_of_its_own(tmp_path: Path) -> None:
    mask, _ = sphere(affines()["turned"])
    both = LabelMap(mask.data.copy(), mask.affine, {2: "Lesion", 3: "Lesion"})
    both.data[:7][both.data[:7] == 2] = 3
    lines = write_label_map(tmp_path / "lesions.obj", both).read_text().splitlines()
    assert lines.count("o Lesion") == 2
    vertices = [line for line in lines if line.startswith("v ")]
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], int)
    assert sorted(np.unique(faces)) == list(range(1, len(vertices) + 1))
    n_triangles = sum(len(surface_of(both, label).triangles) for label in (2, 3))
    assert len(faces) == n_triangles
    assert struct.unpack_from("<I", write_label_map(tmp_path / "l.stl", both).read_bytes(), 80)[0] == n_triangles
    with pytest.raises(ImagingError, match="the mask is empty"):
        write_label_map(tmp_path / "e.stl", LabelMap(np.zeros((2, 2, 2), np.uint8), np.eye(4)))


def test_what_has_no_surface_is_refused(tmp_path: Path) -> None:
    mask, _ = sphere(affines()["plain"])
    with pytest.raises(ImagingError, match="no voxel has label 5"):
        write_surface(tmp_path / "lesion.stl", mask, 5)
    with pytest.raises(ImagingError, match=r"does not end in \.stl or \.obj"):
        write_surface(tmp_path / "lesion.ply", mask, 2)
    assert list(tmp_path.iterdir()) == []
