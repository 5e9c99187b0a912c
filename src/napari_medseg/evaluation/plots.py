"""Plots of figures, drawn without a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.evaluation.classification import Floats, calibration, roc
from napari_medseg.evaluation.masks import MaskFigures
from napari_medseg.evaluation.study import Case
from napari_medseg.evaluation.volumes import agreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WHOLE = (-0.03, 1.03)


def plot_cases(cases: Sequence[Case], *, agrees: bool = False) -> Figure:
    """Dice and HD95 of every case by label, and volume against reference volume.

    Parameters
    ----------
    cases : sequence of Case
        What was compared.
    agrees : bool
        Also draw the agreement of volumes beside it, all labels in one plot.
    """
    from matplotlib.figure import Figure

    page = Figure(figsize=(14.6 if agrees else 11, 3.6), layout="constrained")
    left, middle, right, *beside_it = page.subplots(1, 4 if agrees else 3)
    names = list(dict.fromkeys(figures.name for case in cases for figures in case.figures))
    for position, name in enumerate(names):
        rows = [figures for case in cases for figures in case.figures if figures.name == name]
        beside = position + np.linspace(-0.2, 0.2, len(rows))
        left.plot(beside, [row.dice for row in rows], "o", markersize=4)
        middle.plot(beside, [row.hd95_mm for row in rows], "o", markersize=4)
        right.plot([row.reference_ml for row in rows], [row.volume_ml for row in rows], "o", markersize=4, label=name)
        for axes in beside_it:
            limits = _draw_agreement(axes, rows, colour=f"C{position}")
            if not position:
                axes.set_title(_agreement_title(name, limits), fontsize=9)
    for axes, what in ((left, "Dice"), (middle, "HD95 (mm)")):
        axes.set(ylabel=what, xticks=range(len(names)), xticklabels=names, xlim=(-0.5, len(names) - 0.5))
    left.set_ylim(0, 1.02)
    middle.margins(y=0.15)
    middle.set_ylim(bottom=0)
    _diagonal(right, max((f.reference_ml for case in cases for f in case.figures), default=0.0) or 1.0)
    right.set(xlabel="reference volume (ml)", ylabel="volume (ml)")
    right.legend(frameon=False)
    return page


def plot_agreement(cases: Sequence[Case]) -> Figure:
    """Difference of the volumes against their mean (Bland and Altman, Lancet 1986), with bias and limits by label."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys((figures.label, figures.name) for case in cases for figures in case.figures))
    page = Figure(figsize=(3.6 * min(3, len(labels)) + 1.2, 3.6 * -(-len(labels) // 3)), layout="constrained")
    panels = page.subplots(-(-len(labels) // 3), min(3, len(labels)), squeeze=False).ravel()
    for axes, (label, name) in zip(panels, labels, strict=False):
        rows = [figures for case in cases for figures in case.figures if figures.label == label]
        axes.set_title(_agreement_title(name, _draw_agreement(axes, rows)), fontsize=9)
    for axes in panels[len(labels) :]:
        axes.set_axis_off()
    return page


def _draw_agreement(axes: Axes, rows: Sequence[MaskFigures], *, colour: str = "C0") -> tuple[float, float, float]:
    """Draw one label's differences with their bias and limits, and return these in ml."""
    volumes = np.array([(row.volume_ml, row.reference_ml) for row in rows])
    axes.plot(volumes.mean(1), volumes[:, 0] - volumes[:, 1], "o", markersize=4, color=colour)
    bias, low, high = agreement(volumes[:, 0], volumes[:, 1])
    axes.axhline(bias, color=colour, linewidth=1)
    for limit in (low, high):
        axes.axhline(limit, color=colour, linewidth=1, linestyle="--", alpha=0.6)
    axes.set(xlabel="mean of both volumes (ml)", ylabel="volume - reference (ml)")
    return bias, low, high


def _agreement_title(name: str, limits: tuple[float, float, float]) -> str:
    bias, low, high = limits
    return f"{name}: bias {bias:+.2f} ml" + (f" ({low:+.2f} to {high:+.2f})" if np.isfinite(low) else "")


def plot_classification(truth: Sequence[str], probabilities: Floats, classes: Sequence[str]) -> Figure:
    """ROC curves of each class against the rest (of the second class alone where there are two), and calibration."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(8, 3.8), layout="constrained")
    left, right = page.subplots(1, 2)
    answers = np.asarray(truth)
    shown = list(enumerate(classes))[1 if len(classes) == 2 else 0 :]
    for column, name in shown:
        positive = answers == name
        if 0 < positive.sum() < len(positive):
            false_positive, true_positive, _ = roc(positive, probabilities[:, column])
            left.plot(false_positive, true_positive, label=name)
        bins = calibration(probabilities[:, column], positive)
        right.plot(bins.predicted, bins.observed, "o-", label=name)
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    right.set(
        xlabel="predicted probability", ylabel="observed frequency", title="Calibration", xlim=_WHOLE, ylim=_WHOLE
    )
    for axes in (left, right):
        _diagonal(axes, 1.0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return page


def _diagonal(axes: Axes, end: float) -> None:
    axes.plot([0, end], [0, end], color="0.7", linewidth=1, zorder=0)
