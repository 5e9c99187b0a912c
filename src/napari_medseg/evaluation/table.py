"""Figures as lines of a table, as a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_medseg.evaluation.masks import MaskFigures
from napari_medseg.evaluation.study import Summary

# Field, what a person calls it, decimals.
_ROWS = (
    ("dice", "Dice", 3),
    ("iou", "IoU", 3),
    ("sensitivity", "sensitivity", 3),
    ("precision", "precision", 3),
    ("hd95_mm", "HD95 (mm)", 2),
    ("assd_mm", "ASSD (mm)", 2),
    ("nsd", "NSD", 3),
    ("volume_ml", "volume (ml)", 2),
    ("reference_ml", "reference (ml)", 2),
    ("volume_difference_percent", "difference (%)", 1),
    ("n_lesions", "lesions", 0),
    ("n_reference_lesions", "lesions in reference", 0),
    ("lesion_recall", "lesions found", 3),
    ("lesion_precision", "lesions real", 3),
)


def figures_lines(figures: Sequence[MaskFigures]) -> list[list[str]]:
    """One column a label, one line a figure; a dash where a figure is not defined."""
    titles = {"nsd": f"NSD at {figures[0].tolerance_mm:g} mm"}
    lines = [["", *(f.name for f in figures)]]
    for field, title, decimals in _ROWS:
        lines.append([titles.get(field, title), *(_number(getattr(f, field), decimals) for f in figures)])
    return lines


def summary_lines(summaries: Sequence[Summary]) -> list[list[str]]:
    """Means with their intervals, one column a label."""
    lines = [["", *(f"{s.name} ({s.n_cases})" for s in summaries)]]
    for field, title, _ in _ROWS:
        lines.append([title, *(str(s.means[field]) for s in summaries)])
    return lines


def _number(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "-"
    return "inf" if math.isinf(value) else f"{value:.{decimals}f}"
