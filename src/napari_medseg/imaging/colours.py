"""Colours into one intensity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WEIGHTS = (0.299, 0.587, 0.114)


def luminance(samples: NDArray[Any], name: str, warnings: list[str]) -> NDArray[Any]:
    """One intensity for each colour, in the type of the samples.

    Parameters
    ----------
    samples : ndarray, shape (..., S)
        Grey, grey and opacity, RGB, or RGB and opacity.
    name : str
        The file, for warnings.
    warnings : list of str
        Where what was given up is appended: nothing where red, green and blue are the same everywhere.
    """
    if samples.shape[-1] < 3:
        if samples.shape[-1] == 2:
            warnings.append(f"{name} has an opacity, which is ignored.")
        return samples[..., 0]
    red, green, blue = (samples[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.ascontiguousarray(red)
    warnings.append(f"{name} holds colours; their luminance is shown and used.")
    out = np.empty(red.shape, samples.dtype)
    for row in range(len(red)):
        mixed = sum(weight * part[row] for weight, part in zip(_WEIGHTS, (red, green, blue), strict=True))
        out[row] = np.rint(mixed) if samples.dtype.kind in "iu" else mixed
    return out
