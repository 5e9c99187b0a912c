"""Everything that is measured of one mask against its reference, label by label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_medseg.errors import EvaluationError
from napari_medseg.evaluation.detection import detection_figures
from napari_medseg.evaluation.overlap import overlap
from napari_medseg.evaluation.surface import surface_figures
from napari_medseg.imaging.orientation import describe_grid, same_grid
from napari_medseg.imaging.volume import LabelMap


@dataclass(frozen=True, slots=True)
class MaskFigures:
    """One label of a mask against the same label of its reference; label 0 stands for all labels together."""

    label: int
    name: str
    dice: float
    iou: float
    sensitivity: float
    precision: float
    hd95_mm: float
    assd_mm: float
    nsd: float
    tolerance_mm: float
    volume_ml: float
    reference_ml: float
    volume_difference_percent: float
    n_lesions: int
    n_reference_lesions: int
    lesion_recall: float
    lesion_precision: float

    def as_json(self) -> dict[str, Any]:
        """The same as JSON can hold it: what is not finite is null."""
        return finite_or_none(asdict(self))


def compare_masks(mask: LabelMap, reference: LabelMap, *, tolerance_mm: float = 2.0) -> tuple[MaskFigures, ...]:
    """Measure a mask against its reference.

    Parameters
    ----------
    mask, reference : LabelMap
        On the same grid.
    tolerance_mm : float
        For the normalised surface Dice.

    Returns
    -------
    tuple of MaskFigures
        All labels together first, then each label that either of them holds, unless there is just one.

    Raises
    ------
    EvaluationError
        If the grids differ.
    """
    if not same_grid(mask, reference):
        raise EvaluationError(
            f"{_called(mask, 'the mask')} ({describe_grid(mask)}) and {_called(reference, 'the reference')} "
            f"({describe_grid(reference)}) lie on different grids: export the mask on the reference's grid first"
        )
    labels = np.union1d(np.unique(mask.data), np.unique(reference.data))
    labels = labels[labels > 0]
    names = {0: "all labels", **{int(k): f"label {k}" for k in labels}, **mask.names, **reference.names}
    if len(labels) == 1:
        return (_figures(mask, reference, int(labels[0]), names, tolerance_mm),)
    return tuple(_figures(mask, reference, label, names, tolerance_mm) for label in (0, *(int(k) for k in labels)))


def finite_or_none(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose infinite and undefined numbers are None: JSON has no word for them."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}


def _figures(
    mask: LabelMap, reference: LabelMap, label: int, names: Mapping[int, str], tolerance_mm: float
) -> MaskFigures:
    inside, truth = (m.data == label if label else m.data > 0 for m in (mask, reference))
    common = overlap(inside, truth)
    surfaces = surface_figures(inside, truth, spacing_mm=reference.spacing_mm, tolerance_mm=tolerance_mm)
    lesions = detection_figures(inside, truth)
    return MaskFigures(
        label=label,
        name=names[label],
        dice=common.dice,
        iou=common.iou,
        sensitivity=common.sensitivity,
        precision=common.precision,
        hd95_mm=surfaces.hd95_mm,
        assd_mm=surfaces.assd_mm,
        nsd=surfaces.nsd,
        tolerance_mm=tolerance_mm,
        volume_ml=common.n_mask * reference.voxel_ml,
        reference_ml=common.n_reference * reference.voxel_ml,
        volume_difference_percent=common.volume_difference_percent,
        n_lesions=lesions.n_proposed,
        n_reference_lesions=lesions.n_reference,
        lesion_recall=lesions.recall,
        lesion_precision=lesions.precision,
    )


def _called(label_map: LabelMap, otherwise: str) -> str:
    return label_map.path.name if label_map.path else otherwise
