"""The header of a NIfTI-1 or NIfTI-2 file, checked before one voxel is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import file_affine
from napari_medseg.imaging.orientation import check_affine, corner_distance_mm

_INTEGERS_AND_FLOATS: dict[int, str] = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
}
_REFUSED_TYPES: dict[int, str] = {
    **{0: "no known type", 1: "single bits", 32: "complex numbers", 128: "RGB colours", 1536: "128-bit floats"},
    **{1792: "complex numbers", 2048: "complex numbers", 2304: "RGBA colours"},
}
_UNIT_MM: dict[int, tuple[str, float]] = {1: ("metres", 1000.0), 2: ("millimetres", 1.0), 3: ("microns", 0.001)}
_VECTOR_INTENTS = (1006, 1007)


@dataclass(frozen=True, slots=True, eq=False)
class NiftiHeader:
    """What a NIfTI header says, in the units of this package.

    Parameters
    ----------
    shape : tuple of int, (I, J, K)
        Spatial shape on disk, fastest axis first.
    n_volumes : int
        How many volumes follow each other (time points, echoes).
    dtype : numpy dtype
        Type on disk, with its byte order.
    offset : int
        First byte of the voxels.
    affine : ndarray, shape (4, 4)
        Voxel index to world millimetres, RAS+.
    slope, intercept : float
        Stored value to intensity.
    is_pair : bool
        Whether the voxels are in a second file.
    sides_are_known : bool
        Whether a qform or an sform says how the voxels lie in the patient.
    warnings : tuple of str
        What had to be assumed.
    """

    shape: tuple[int, int, int]
    n_volumes: int
    dtype: np.dtype[Any]
    offset: int
    affine: NDArray[np.float64]
    slope: float
    intercept: float
    is_pair: bool
    sides_are_known: bool
    warnings: tuple[str, ...]

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume on disk."""
        return math.prod(self.shape) * self.dtype.itemsize


def header_bytes(block: bytes) -> int:
    """Size of the NIfTI header that a file with this beginning has: 348, 540, or 0 where it has none."""
    layout = _layout(block)
    return 0 if layout is None else layout[0].template_dtype.itemsize


def parse_header(block: bytes, name: str) -> NiftiHeader:
    """Read and check the header, of which ``block`` holds all `header_bytes`.

    Raises
    ------
    ImagingError
        If anything the voxels depend on is missing, contradictory or impossible; names the file and the value.
    """
    layout = _layout(block)
    if layout is None:
        raise ImagingError(f"{name} is not a NIfTI file: its first bytes are no NIfTI header")
    kind, order = layout
    size = kind.template_dtype.itemsize
    if len(block) < size:
        raise ImagingError(f"{name} ends inside its header; copy or export it again")
    fields = np.frombuffer(block[:size], dtype=kind.template_dtype.newbyteorder(order))[0]
    is_pair = _is_pair(fields, "1" if kind is Nifti1Header else "2", name)
    shape, n_volumes = _shape(fields, name)
    dtype, type_warnings = _dtype(fields, order, name)
    slope, intercept, slope_warnings = _scaling(fields, name)
    affine, affine_warnings = _affine(fields, shape, name)
    return NiftiHeader(
        shape=shape,
        n_volumes=n_volumes,
        dtype=dtype,
        offset=_offset(fields, size, is_pair, name),
        affine=affine,
        slope=slope,
        intercept=intercept,
        is_pair=is_pair,
        sides_are_known=int(fields["sform_code"]) > 0 or int(fields["qform_code"]) > 0,
        warnings=(*type_warnings, *slope_warnings, *affine_warnings),
    )


def _layout(block: bytes) -> tuple[type[Nifti1Header], Literal["<", ">"]] | None:
    if len(block) < 4:
        return None
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        size = int.from_bytes(block[:4], "little" if order == "<" else "big")
        if size in (348, 540):
            return (Nifti1Header if size == 348 else Nifti2Header), order
    return None


def _is_pair(fields: Any, version: str, name: str) -> bool:
    magic = bytes(fields["magic"])
    if "eol_check" in fields.dtype.names and bytes(fields["eol_check"]) not in (b"\r\n\x1a\n", b"\0\0\0\0"):
        raise ImagingError(
            f"{name} was damaged by a transfer as text (line ends were changed); copy it again as binary"
        )
    if magic in (f"n+{version}".encode(), f"ni{version}".encode()):
        return magic.startswith(b"ni")
    if magic == b"":
        raise ImagingError(
            f"{name} is an Analyze 7.5 file, which does not say which side is left; convert it to NIfTI with the "
            "program that made it"
        )
    raise ImagingError(f"{name} is not a NIfTI file: its magic is {magic!r} instead of n+{version} or ni{version}")


def _shape(fields: Any, name: str) -> tuple[tuple[int, int, int], int]:
    dim = [int(n) for n in fields["dim"]]
    n_axes = dim[0]
    if not 1 <= n_axes <= 7:
        raise ImagingError(f"{name} says that it has {n_axes} axes; NIfTI allows 1 to 7, so the header is damaged")
    sizes = dim[1 : n_axes + 1]
    if min(sizes) < 1:
        raise ImagingError(f"{name} says that its size is {' x '.join(map(str, sizes))}; every size must be 1 or more")
    i, j, k, t, *more = (*sizes, *[1] * (7 - n_axes))
    if n_axes == 1:
        raise ImagingError(f"{name} holds a line of {i} numbers, not an image; choose an image")
    intent = int(fields["intent_code"])
    if more[0] > 1 and (intent in _VECTOR_INTENTS or t == 1):
        raise ImagingError(f"{name} holds {more[0]} components in each voxel, not one intensity; choose a scalar image")
    return (i, j, k), math.prod((t, *more))


def _dtype(fields: Any, order: Literal["<", ">"], name: str) -> tuple[np.dtype[Any], list[str]]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code in _REFUSED_TYPES:
        raise ImagingError(f"{name} holds {_REFUSED_TYPES[code]} in each voxel; convert it to integers or floats first")
    if code not in _INTEGERS_AND_FLOATS:
        raise ImagingError(f"{name} has the unknown data type {code}, so the header is damaged; export it again")
    dtype = np.dtype(_INTEGERS_AND_FLOATS[code]).newbyteorder(order)
    if bits == dtype.itemsize * 8:
        return dtype, []
    if bits == 0:
        return dtype, [f"{name} does not say how many bits a voxel has; its data type ({dtype.name}) was taken."]
    raise ImagingError(
        f"{name} contradicts itself: its data type {dtype.name} has {dtype.itemsize * 8} bits a voxel but the header "
        f"says {bits}; export it again"
    )


def _scaling(fields: Any, name: str) -> tuple[float, float, list[str]]:
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0, []
    if math.isinf(slope):
        return 1.0, 0.0, [f"{name} has an infinite intensity slope; the stored values are shown unscaled."]
    if not math.isfinite(intercept):
        raise ImagingError(f"{name} has a slope of {slope:g} but the intercept {intercept}; export it again")
    return slope, intercept, []


def _offset(fields: Any, header_bytes: int, is_pair: bool, name: str) -> int:
    offset = float(fields["vox_offset"])
    least = 0 if is_pair else header_bytes + 4
    if not math.isfinite(offset) or offset != int(offset) or offset < 0 or offset > 2**60:
        raise ImagingError(f"{name} says that its voxels begin at byte {offset:g}, which is no place in a file")
    if offset < least:
        raise ImagingError(
            f"{name} says that its voxels begin at byte {offset:g}, inside the header ({least} bytes); export it again"
        )
    return int(offset)


def _affine(fields: Any, shape: tuple[int, int, int], name: str) -> tuple[NDArray[np.float64], list[str]]:
    """Affine in mm (sform, else qform, else voxel sizes alone) and what had to be assumed for it."""
    warnings: list[str] = []
    if int(fields["sform_code"]) > 0:
        affine = _with_thickness(_sform(fields), shape, name, warnings)
        if int(fields["qform_code"]) > 0:
            warnings += _disagreement(fields, affine, shape, name)
    elif int(fields["qform_code"]) > 0:
        affine = _qform(fields, shape, name, warnings)
    else:
        affine = _from_voxel_sizes(fields, shape, name, warnings)
    affine = _in_mm(file_affine(affine, name), int(fields["xyzt_units"]), name, warnings)
    return file_affine(affine, name), warnings


def _sform(fields: Any) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3] = [fields["srow_x"], fields["srow_y"], fields["srow_z"]]
    return affine


def _voxel_sizes(fields: Any, shape: tuple[int, int, int], name: str, warnings: list[str]) -> NDArray[np.float64]:
    sizes = np.array(fields["pixdim"][1:4], dtype=np.float64)
    for axis, (size, n) in enumerate(zip(sizes, shape, strict=True)):
        if size == 0 and n == 1:
            warnings.append(f"{name} does not say how thick its single slice is; 1 mm is assumed.")
            sizes[axis] = 1.0
        elif size == 0 or not math.isfinite(size):
            raise ImagingError(f"{name} has the voxel size {size:g} along axis {axis + 1}; export it again")
    if (sizes < 0).any():
        warnings.append(f"{name} has negative voxel sizes; their amounts were taken.")
    return np.abs(sizes)


def _qform(fields: Any, shape: tuple[int, int, int], name: str, warnings: list[str]) -> NDArray[np.float64]:
    sizes = _voxel_sizes(fields, shape, name, warnings)
    bcd = np.array([fields["quatern_b"], fields["quatern_c"], fields["quatern_d"]], dtype=np.float64)
    length = float(bcd @ bcd)
    if not length <= 1.001:
        raise ImagingError(f"{name} has a rotation (quaternion) that is no rotation: {bcd.tolist()}; export it again")
    # Below this, rounding in the stored type leaves nothing of the real part, as in the reference library.
    least = 3 * float(np.finfo(fields["quatern_b"].dtype).eps)
    real = math.sqrt(1.0 - length) if 1.0 - length > least else 0.0
    if real == 0.0:
        bcd = bcd / math.sqrt(length)
    if float(fields["pixdim"][0]) < 0:
        sizes[2] = -sizes[2]
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([real, *bcd]) * sizes  # type: ignore[no-untyped-call]
    affine[:3, 3] = [fields["qoffset_x"], fields["qoffset_y"], fields["qoffset_z"]]
    return affine


def _from_voxel_sizes(fields: Any, shape: tuple[int, int, int], name: str, warnings: list[str]) -> NDArray[np.float64]:
    sizes = _voxel_sizes(fields, shape, name, warnings)
    warnings.append(
        f"{name} does not say how it lies in the patient (no qform, no sform): radiological order is assumed, so left "
        "and right may be swapped."
    )
    affine = np.diag([-sizes[0], sizes[1], sizes[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _with_thickness(
    affine: NDArray[np.float64], shape: tuple[int, int, int], name: str, warnings: list[str]
) -> NDArray[np.float64]:
    """Give the single slice of a 2-D image a thickness where the header leaves it out."""
    empty = [axis for axis in range(3) if shape[axis] == 1 and not affine[:3, axis].any()]
    if len(empty) == 1:
        first, second = (affine[:3, (empty[0] + step) % 3] for step in (1, 2))
        normal = np.cross(first, second)
        if normal.any():
            affine[:3, empty[0]] = normal / np.linalg.norm(normal)
            warnings.append(f"{name} does not say how thick its single slice is; 1 mm is assumed.")
    return affine


def _disagreement(fields: Any, affine: NDArray[np.float64], shape: tuple[int, int, int], name: str) -> list[str]:
    try:
        qform = check_affine(_qform(fields, shape, name, []))
    except ImagingError:
        return [f"{name} has a damaged qform; its sform was used."]
    diagonal = np.linalg.norm(affine[:3, :3] @ (np.array(shape) - 1))
    # Quaternions in float32 turn a large scan by up to half a per mille; that is no disagreement.
    tolerance = max(0.1 * float(np.linalg.norm(affine[:3, :3], axis=0).min()), 5e-4 * float(diagonal))
    distance = corner_distance_mm(affine, qform, shape)
    if distance <= tolerance:
        return []
    return [f"{name} places its voxels twice, {distance:.3g} mm apart (sform and qform disagree); the sform was used."]


def _in_mm(affine: NDArray[np.float64], units: int, name: str, warnings: list[str]) -> NDArray[np.float64]:
    code = units & 7
    if code == 0 or code == 2:
        return affine
    if code not in _UNIT_MM:
        warnings.append(f"{name} has an unknown unit of length ({code}); millimetres are assumed.")
        return affine
    unit, factor = _UNIT_MM[code]
    sizes = " x ".join(f"{s:.3g}" for s in np.linalg.norm(affine[:3, :3], axis=0) * factor)
    warnings.append(f"{name} is measured in {unit}; it was converted to millimetres (voxels of {sizes} mm).")
    return np.asarray(np.diag([factor, factor, factor, 1.0]) @ affine)
