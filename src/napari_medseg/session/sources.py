"""What a scan is, in a few letters."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume

_SAMPLES = 4096


def fingerprint(volume: Volume) -> str:
    """Return 16 letters that stay the same for one scan and differ for another: shape, place and sampled voxels."""
    digest = hashlib.sha256()
    digest.update(repr(volume.data.shape).encode())
    digest.update(np.round(volume.affine, 4).astype(np.float64).tobytes())
    flat = volume.data.reshape(-1) if volume.data.flags.c_contiguous else _sampled_planes(volume.data)
    digest.update(np.ascontiguousarray(flat[:: max(1, flat.size // _SAMPLES)]).astype(np.float64).tobytes())
    return digest.hexdigest()[:16]


def _sampled_planes(data: NDArray[np.generic]) -> NDArray[np.generic]:
    # Flattening a view would copy the whole scan: a few voxels a plane do.
    z, y, x = (max(1, size // 16) for size in data.shape)
    return np.asarray(data[::z, ::y, ::x]).reshape(-1)
