"""The surface of a lesion as a triangle mesh in the patient's millimetres, for printing, planning and 3-D viewers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.volume import LabelMap

__all__ = ["SURFACE_SUFFIXES", "Surface", "surface_of", "write_surface"]

SURFACE_SUFFIXES = (".stl", ".obj")

# 3D Slicer reads this note and takes the file for LPS without it.
_SPACE = "SPACE=RAS"
_STL_HEADER_BYTES = 80
_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A closed triangle mesh.

    Parameters
    ----------
    vertices : ndarray, shape (N, 3)
        World millimetres, RAS+.
    triangles : ndarray, shape (M, 3)
        Vertex numbers, counter-clockwise seen from outside.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]

    @property
    def volume_ml(self) -> float:
        """Volume inside, in millilitres; negative if the triangles face inwards."""
        a, b, c = (self.vertices[self.triangles[:, n]] for n in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6000.0)


def surface_of(label_map: LabelMap, label: int = 1) -> Surface:
    """Surface half-way between voxels inside and outside (marching cubes), without smoothing.

    Parameters
    ----------
    label_map : LabelMap
        The mask; any grid, oblique or sheared ones too.
    label : int
        Which label.

    Raises
    ------
    ImagingError
        If no voxel has this label.
    """
    from skimage.measure import marching_cubes

    is_label = label_map.data == label
    if not is_label.any():
        raise ImagingError(f"no voxel has label {label}, so it has no surface; choose one of the mask's labels")
    box = filled_box(is_label)
    assert box is not None
    # One voxel of background on every side closes the surface at the edge of the scan.
    padded = np.pad(is_label[box], 1).astype(np.float32)
    corners, triangles, _, _ = marching_cubes(padded, 0.5)
    index = corners.astype(np.float64) - 1.0 + [part.start for part in box]
    vertices = index @ label_map.affine[:3, :3].T + label_map.affine[:3, 3]
    surface = Surface(vertices, triangles.astype(np.int64))
    if surface.volume_ml < 0:
        surface = Surface(vertices, triangles[:, ::-1].astype(np.int64))
    return surface


def write_surface(path: str | Path, label_map: LabelMap, label: int | None = None) -> Path:
    """Save the surfaces of labels as binary STL or as OBJ, in RAS+ millimetres, and check the file.

    RAS+, as all positions of this package and of NIfTI viewers. The header says ``SPACE=RAS``, which 3D Slicer obeys
    (it takes files without that note for LPS+); for programs that expect LPS+ negate the first two coordinates. An
    OBJ file holds one named object a label; STL knows no names and holds all triangles, one closed surface a label.

    Parameters
    ----------
    path : str or Path
        Ends in .stl or .obj.
    label_map : LabelMap
        The mask.
    label : int, optional
        Which label; all of them where none is given.

    Raises
    ------
    ImagingError
        If the ending is another one, no voxel has the label (or any), or saving failed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SURFACE_SUFFIXES:
        raise ImagingError(f"{path.name} does not end in .stl or .obj; surfaces are saved as one of these")
    labels = [label] if label is not None else [int(each) for each in np.unique(label_map.data) if each]
    if not labels:
        raise ImagingError("the mask is empty, so it has no surface; segment a lesion first")
    surfaces = [surface_of(label_map, each) for each in labels]
    names = [label_map.names.get(each) or f"Label {each}" for each in labels]
    content = _stl(surfaces) if suffix == ".stl" else _obj(surfaces, names)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    def verify(temporary: Path) -> None:
        if temporary.read_bytes() != content:
            raise ImagingError(f"{path.name} did not read back as it was written, so it was not kept; save it again")

    return write_durably(path, write, verify)


def _stl(surfaces: list[Surface]) -> bytes:
    corners = np.concatenate([surface.vertices[surface.triangles] for surface in surfaces])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    records = np.zeros(len(corners), _STL_TRIANGLE)
    records["normal"] = normals / np.where(lengths == 0, 1.0, lengths)
    records["corners"] = corners
    # A text that began with "solid" would be taken for the other kind of STL.
    header = f"napari-medseg surface, millimetres {_SPACE}".encode().ljust(_STL_HEADER_BYTES, b" ")
    return header + struct.pack("<I", len(records)) + records.tobytes()


def _obj(surfaces: list[Surface], names: list[str]) -> bytes:
    lines = ["# napari-medseg surface, millimetres", f"# {_SPACE}"]
    n_before = 0
    for name, surface in zip(names, surfaces, strict=True):
        lines.append(f"o {'_'.join(name.split())}")
        lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in surface.vertices]
        lines += [f"f {a} {b} {c}" for a, b, c in surface.triangles + (1 + n_before)]
        n_before += len(surface.vertices)
    return ("\n".join(lines) + "\n").encode()
