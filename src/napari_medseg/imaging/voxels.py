"""Stored voxels into intensities and labels, a slab at a time, so that nothing is ever held a third time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.watch import Tell, part, silent

_SLAB_BYTES = 4 * 1024 * 1024
_MAX_LABEL = 65535
_ROUNDING = 1e-3
_WHOLE_TYPES = (np.int16, np.uint16, np.int32)


def slabs(array: NDArray[Any], tell: Tell = silent) -> Iterator[slice]:
    """Slices along the first axis, each of a few megabytes; the share done is told before each."""
    step = max(1, _SLAB_BYTES // max(1, array[:1].size * array.itemsize))
    for start in range(0, array.shape[0], step):
        tell(start / array.shape[0])
        yield slice(start, min(start + step, array.shape[0]))


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in this machine's byte order, swapped in place where it was not."""
    if array.dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def scaled(stored: NDArray[Any], slope: float, intercept: float, *, tell: Tell = silent) -> NDArray[Any]:
    """``stored * slope + intercept``, integers where all of it is whole numbers that 32 bits hold, else floats.

    The stored array is given back where that changes nothing, and used again where the result is as wide.
    """
    if slope == 1.0 and intercept == 0.0:
        return stored
    target = _whole_dtype(stored, slope, intercept, part(tell, 0.0, 0.5))
    if target is not None:
        return _scaled_whole(stored, int(slope), int(intercept), target, part(tell, 0.5, 1.0))
    out = np.empty(stored.shape, scaled_dtype(stored.dtype, slope, intercept))
    with np.errstate(over="ignore", invalid="ignore"):
        for slab in slabs(stored, tell):
            out[slab] = stored[slab] * np.float64(slope) + np.float64(intercept)
    return out


def _whole_dtype(stored: NDArray[Any], slope: float, intercept: float, tell: Tell) -> np.dtype[Any] | None:
    """Integer type of the intensities: int16 or uint16 where they fit, else int32; None where they are no integers."""
    if stored.dtype.kind not in "iu" or not (slope.is_integer() and intercept.is_integer()):
        return None
    ends = [
        int(end) * int(slope) + int(intercept)
        for slab in slabs(stored, tell)
        for end in (stored[slab].min(), stored[slab].max())
    ]
    fitting = (t for t in _WHOLE_TYPES if np.iinfo(t).min <= min(ends) and max(ends) <= np.iinfo(t).max)
    found = next(fitting, None)
    return None if found is None else np.dtype(found)


def _scaled_whole(stored: NDArray[Any], slope: int, intercept: int, target: np.dtype[Any], tell: Tell) -> NDArray[Any]:
    out = stored.view(target) if stored.dtype.itemsize == target.itemsize else np.empty(stored.shape, target)
    for slab in slabs(stored, tell):
        out[slab] = stored[slab].astype(np.int64) * slope + intercept
    return out


def scaled_dtype(stored: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """Widest type that intensities may need: the stored one where scaling changes nothing, else a float."""
    if slope == 1.0 and intercept == 0.0:
        return stored.newbyteorder("=")
    return np.dtype(np.float64 if stored == np.float64 else np.float32)


def not_finite_warning(data: NDArray[Any], name: str, *, tell: Tell = silent) -> tuple[str, ...]:
    """One sentence if some voxels are no number, which thresholds and networks cannot use."""
    if data.dtype.kind != "f":
        return ()
    n_bad = sum(int(data[slab].size - np.isfinite(data[slab]).sum()) for slab in slabs(data, tell))
    if n_bad == 0:
        return ()
    if n_bad == data.size:
        raise ImagingError(f"{name} holds no number in any voxel (all are NaN or infinite); export it again")
    return (f"{name} holds {n_bad} voxels that are not a number or infinite.",)


def as_labels(data: NDArray[Any], name: str, *, tell: Tell = silent) -> NDArray[Any]:
    """Return the array as labels: uint8 where 255 suffice, else uint16.

    Raises
    ------
    ImagingError
        If a voxel is negative, fractional, not a number or above 65535; names the value.
    """
    if data.dtype == np.uint8 or data.dtype == np.bool_:
        return data.view(np.uint8)
    largest = 0
    for slab in slabs(data, part(tell, 0.0, 0.5)):
        largest = max(largest, _checked_maximum(data[slab], name))
    out = np.empty_like(data, dtype=np.uint8 if largest <= 255 else np.uint16)
    for slab in slabs(data, part(tell, 0.5, 1.0)):
        out[slab] = np.rint(data[slab]) if data.dtype.kind == "f" else data[slab]
    return out


def _checked_maximum(data: NDArray[Any], name: str) -> int:
    smallest, largest = data.min(), data.max()
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise ImagingError(f"{name} is no label map: a voxel is not a number; choose the mask, not an image")
    if smallest < -_ROUNDING:
        raise ImagingError(f"{name} is no label map: it holds the negative value {smallest:g}; labels are 0 to 65535")
    if largest > _MAX_LABEL:
        raise ImagingError(f"{name} holds the label {largest:g}; labels are 0 to {_MAX_LABEL}, so renumber them first")
    if data.dtype.kind == "f":
        away = np.abs(data - np.rint(data))
        if away.max() > _ROUNDING:
            value = data.flat[int(away.argmax())]
            raise ImagingError(
                f"{name} is no label map: it holds the fraction {value:g}; choose the mask, or threshold it first"
            )
    return round(float(largest))
