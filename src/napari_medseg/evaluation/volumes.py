"""How far measured volumes agree with their references."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WIDE = 1.96


def agreement(volumes_ml: NDArray[np.floating], references_ml: NDArray[np.floating]) -> tuple[float, float, float]:
    """Bias of volumes and its 95 % limits of agreement, in ml (Bland and Altman, Lancet 1986).

    Parameters
    ----------
    volumes_ml, references_ml : ndarray, shape (N,)
        Of the same cases.

    Returns
    -------
    tuple of float
        Mean difference, and that minus and plus 1.96 standard deviations (not a number for fewer than two cases).
    """
    difference = np.asarray(volumes_ml, np.float64) - np.asarray(references_ml, np.float64)
    if not len(difference):
        return float("nan"), float("nan"), float("nan")
    bias = float(difference.mean())
    spread = _WIDE * float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    return bias, bias - spread, bias + spread
