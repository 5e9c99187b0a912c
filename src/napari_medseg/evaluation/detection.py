"""Lesion by lesion: which were found, and which of those proposed are real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.overlap import Mask, as_masks

Connectivity = Literal[6, 18, 26]


@dataclass(frozen=True, slots=True)
class DetectionFigures:
    """Counts of lesions, and the ratios made of them.

    A ratio without a denominator is not a number: recall without a reference lesion, precision without a proposed one.
    """

    n_reference: int
    n_found: int
    n_proposed: int
    n_real: int

    @property
    def recall(self) -> float:
        """Share of the reference's lesions that were found, 0..1."""
        return self.n_found / self.n_reference if self.n_reference else float("nan")

    @property
    def precision(self) -> float:
        """Share of the mask's lesions that are real, 0..1."""
        return self.n_real / self.n_proposed if self.n_proposed else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision, 0..1; 1 where there is no lesion on either side."""
        if not self.n_reference and not self.n_proposed:
            return 1.0
        if not self.n_reference or not self.n_proposed or not self.n_found or not self.n_real:
            return 0.0
        return 2.0 * self.recall * self.precision / (self.recall + self.precision)


def detection_figures(
    mask: Mask, reference: Mask, *, min_cover: float = 0.1, connectivity: Connectivity = 26
) -> DetectionFigures:
    """Compare the connected components of two masks of one shape.

    A lesion of the reference is found when the mask covers at least `min_cover` of its voxels; a lesion of the mask is
    real when the reference covers as much of it. So two reference lesions under one large component are both found, and
    a component that drowns a small lesion is not real.

    Parameters
    ----------
    mask, reference : ndarray, 2-D or 3-D
        Every value but 0 is inside; labels are not told apart.
    min_cover : float
        Share of a lesion's voxels, above 0 and at most 1.
    connectivity : int
        26, 18 or 6 neighbours of a voxel belong to the same lesion.

    Raises
    ------
    EvaluationError
        If the shapes differ, or `min_cover` lies outside its range.
    """
    if not 0.0 < min_cover <= 1.0:
        raise EvaluationError(f"the covered share of a lesion lies above 0 and at most at 1, got {min_cover}")
    inside, truth = as_masks(mask, reference)
    found = _covered_shares(truth, inside, connectivity) >= min_cover
    real = _covered_shares(inside, truth, connectivity) >= min_cover
    return DetectionFigures(found.size, int(found.sum()), real.size, int(real.sum()))


def _covered_shares(
    lesions: NDArray[np.bool_], cover: NDArray[np.bool_], connectivity: Connectivity
) -> NDArray[np.float64]:
    """Share of each connected component of `lesions` that `cover` covers."""
    components, n = cc3d.connected_components(np.ascontiguousarray(lesions), connectivity=connectivity, return_N=True)
    sizes = np.bincount(components.ravel(), minlength=n + 1)[1:]
    covered = np.bincount(components[cover], minlength=n + 1)[1:]
    return np.asarray(covered / sizes, dtype=np.float64)
