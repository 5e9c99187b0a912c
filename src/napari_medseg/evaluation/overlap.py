"""How much of two masks is common: Dice, intersection over union, sensitivity, precision, volumes.

Conventions for empty masks, everywhere in this package: two empty masks agree (Dice and IoU 1). One empty mask overlaps
with nothing (0). A ratio whose denominator is empty is not a number: sensitivity without a reference, precision
without a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import EvaluationError

Mask = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxel counts of two masks and the ratios made of them."""

    n_common: int
    n_mask: int
    n_reference: int

    @property
    def dice(self) -> float:
        """Twice the common voxels over the sum of both, 0..1."""
        total = self.n_mask + self.n_reference
        return 2.0 * self.n_common / total if total else 1.0

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index), 0..1."""
        union = self.n_mask + self.n_reference - self.n_common
        return self.n_common / union if union else 1.0

    @property
    def sensitivity(self) -> float:
        """Share of the reference that the mask covers, 0..1."""
        return self.n_common / self.n_reference if self.n_reference else float("nan")

    @property
    def precision(self) -> float:
        """Share of the mask that lies in the reference, 0..1."""
        return self.n_common / self.n_mask if self.n_mask else float("nan")

    @property
    def volume_difference_percent(self) -> float:
        """Volume of the mask minus that of the reference, in per cent of the reference."""
        if not self.n_reference:
            return float("nan") if self.n_mask else 0.0
        return 100.0 * (self.n_mask - self.n_reference) / self.n_reference


def overlap(mask: Mask, reference: Mask) -> Overlap:
    """Count what two masks of one shape have in common; every value but 0 is inside.

    Raises
    ------
    EvaluationError
        If the shapes differ.
    """
    inside, truth = as_masks(mask, reference)
    return Overlap(
        n_common=int(np.count_nonzero(inside & truth)),
        n_mask=int(np.count_nonzero(inside)),
        n_reference=int(np.count_nonzero(truth)),
    )


def dice(mask: Mask, reference: Mask) -> float:
    """Dice coefficient of two masks of one shape, 0..1; 1 where both are empty."""
    return overlap(mask, reference).dice


def as_masks(mask: Mask, reference: Mask) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both as boolean arrays, after a check that their shapes agree."""
    if mask.shape != reference.shape:
        raise EvaluationError(f"a mask of shape {mask.shape} cannot be compared with a reference of {reference.shape}")
    return np.asarray(mask) != 0, np.asarray(reference) != 0
