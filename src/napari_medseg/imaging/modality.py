"""Guessing what kind of scan a file holds that does not say it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLES_AN_AXIS = 64
_AIR_HU = (-1050, -900)
_LEAST_RESAMPLED_HU = -1200
_SOFT_TISSUE_HU = (-150, 250)


def guess_modality(data: NDArray[Any]) -> str:
    """``"CT"`` where the values are beyond doubt Hounsfield units, else ``""``.

    Beyond doubt: at least 2 % air near -1000 and 5 % soft tissue round 0. Whole numbers may go lower than air, as
    scanners mark what lies outside their field so; fractions come from resampling and may not.
    """
    sample = data[tuple(slice(None, None, max(1, n // _SAMPLES_AN_AXIS)) for n in data.shape)]
    if sample.dtype.kind not in "if":
        return ""
    values = np.asarray(sample, dtype=np.float64)
    if not np.isfinite(values).all() or values.min() < -4096 or values.max() > 32767:
        return ""
    if values.min() < _LEAST_RESAMPLED_HU and not np.array_equal(values, np.rint(values)):
        return ""
    air = np.mean((values >= _AIR_HU[0]) & (values <= _AIR_HU[1]))
    soft = np.mean((values >= _SOFT_TISSUE_HU[0]) & (values <= _SOFT_TISSUE_HU[1]) & (values != 0))
    return "CT" if air >= 0.02 and soft >= 0.05 else ""
