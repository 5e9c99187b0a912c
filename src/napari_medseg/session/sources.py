"""What a scan was when it was opened: its content in a few bytes, and its file's state on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume

Stamp = tuple[tuple[str, int, int], ...]

_SAMPLES = 4096


def fingerprint(volume: Volume) -> str:
    """Return 16 letters that stay the same for one scan and differ for another: shape, place and sampled voxels."""
    digest = hashlib.sha256()
    digest.update(repr(volume.data.shape).encode())
    digest.update(np.round(volume.affine, 4).astype(np.float64).tobytes())
    flat = volume.data.reshape(-1) if volume.data.flags.c_contiguous else _sampled_planes(volume.data)
    digest.update(np.ascontiguousarray(flat[:: max(1, flat.size // _SAMPLES)]).astype(np.float64).tobytes())
    return digest.hexdigest()[:16]


def stamp(path: Path | None) -> Stamp:
    """Return sizes and times of a scan's files: another value after somebody changed one of them."""
    if path is None or not path.exists():
        return ()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return tuple((name, found.st_size, found.st_mtime_ns) for name, found in stats)


def _sampled_planes(data: NDArray[np.generic]) -> NDArray[np.generic]:
    # Flattening a view would copy the whole scan: a few voxels a plane do.
    z, y, x = (max(1, size // 16) for size in data.shape)
    return np.asarray(data[::z, ::y, ::x]).reshape(-1)
