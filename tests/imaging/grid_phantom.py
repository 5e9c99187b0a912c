"""Grids in every axis order, and an asymmetric phantom with a one-voxel marker, for tests of formats."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (6, 8, 10)
MARKER = (1, 6, 3)
ORDERS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def order_affine(order, signs, angles_degrees=(0.0, 0.0, 0.0), spacing=(0.75, 1.25, 3.0)):
    """Disk affine (RAS+) whose axes run along the given world axes with the given signs, then turned."""
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for disk_axis, (world_axis, sign, step) in enumerate(zip(order, signs, spacing, strict=True)):
        affine[world_axis, disk_axis] = sign * step
    affine[:3, :3] = Rotation.from_euler("xyz", angles_degrees, degrees=True).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = (-31.0, 12.5, 77.25)
    return affine


def phantom_ijk(dtype=np.int16):
    """An asymmetric image on disk: a ramp with different steps along each axis, and one marked voxel."""
    i, j, k = np.indices(SHAPE)
    data = (i * 1 + j * 7 + k * 61).astype(dtype)
    data[MARKER] = 32000
    return data


def label_phantom_ijk(dtype=np.uint8):
    """An asymmetric mask on disk with three labels, one of them a single voxel."""
    data = np.zeros(SHAPE, dtype)
    data[1:3, 2:7, 4:9] = 1
    data[4:, :3, 1:3] = 2
    data[MARKER] = 3
    return data


def save_nifti(path: Path, data, affine, *, kind=nib.Nifti1Image, **header):
    """Write with nibabel, then set header fields in the file itself, where nibabel cannot put them right again."""
    image = kind(data, affine, dtype=data.dtype)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    nib.save(image, path)
    return patch_nifti(path, **header) if header else path


def patch_nifti(path: Path, **header):
    """Set fields in the header of an uncompressed NIfTI file; a pair (index, value) sets one entry of a list."""
    raw = bytearray(path.read_bytes())
    dtype = nib.Nifti1Header.template_dtype if raw[0] == 92 else nib.Nifti2Header.template_dtype
    fields = np.frombuffer(raw, dtype, count=1)[0]
    for field, value in header.items():
        if isinstance(value, tuple):
            fields[field][value[0]] = value[1]
        else:
            fields[field] = value
    path.write_bytes(raw)
    return path
