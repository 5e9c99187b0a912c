"""How alike two lesions look, said in terms of what different lesions usually reach.

How likely two views are of one lesion is no measure of likeness: it is near 0 for nearly all pairs of different
lesions, also for those that look much alike. The share of such pairs that look less alike says what a reader asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.view import Floats

Reference = tuple[tuple[float, float], ...]

WHAT_ALIKE_MEANS = "Per cent: share of pairs of different lesions that look less alike."

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1.0)


def reference_of(embedded: Floats, patients: Sequence[str]) -> Reference:
    """Which cosine each share of the pairs of different lesions stays below.

    Parameters
    ----------
    embedded : ndarray, shape (N, E)
        Unit vectors of lesions.
    patients : sequence of str
        Of the N lesions; two lesions of one patient are no pair, as they may be the same one.

    Returns
    -------
    tuple of (share, cosine)
        Both rising; empty where there is no pair.
    """
    people = np.asarray(patients)
    pairs = np.triu(people[:, None] != people[None], 1)
    if not pairs.any():
        return ()
    cosines = np.quantile((embedded @ embedded.T)[pairs], SHARES)
    return tuple((share, round(float(cosine), 3)) for share, cosine in zip(SHARES, cosines, strict=True))


def likeness_of(cosines: NDArray[np.floating], reference: Reference) -> NDArray[np.float64]:
    """Share of the pairs of different lesions whose cosine is smaller, 0 to 1, shape as `cosines`."""
    shares, known = zip(*reference, strict=True)
    return np.asarray(np.interp(cosines, known, shares), np.float64)


def in_percent(likeness: float | None) -> str:
    """Say a likeness: never 100 %, which would sound like the same lesion; a dash where nobody knows."""
    if likeness is None:
        return "–"
    return "> 99 %" if likeness >= 0.995 else f"{int(100 * likeness)} %"
