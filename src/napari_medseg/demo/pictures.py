"""Pictures of the demo: slices as a radiologist sees them, with outlines, and the learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASK, TRUTH, EARLIER = "#ff5a36", "#3ddc97", "#6aa9ff"


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A mask to draw as a line."""

    mask: NDArray[Any]
    colour: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One axial slice of a scan with outlines, and the point that was clicked.

    The picture shows a square round what is outlined, or round the masks in `frame`.
    """

    title: str
    volume: Volume
    z: int
    outlines: tuple[Outline, ...]
    click_mm: tuple[float, float, float] | None = None
    frame: tuple[NDArray[Any], ...] = ()


def draw_slices(path: Path, panels: Sequence[Panel], *, window: tuple[float, float] = (-140.0, 210.0)) -> Path:
    """Save slices side by side, zoomed to what is outlined; patient right on the left, anterior up.

    Parameters
    ----------
    path : Path
        Picture to write.
    panels : sequence of Panel
        From left to right.
    window : tuple of float
        Intensities shown as black and white.
    """
    from matplotlib.figure import Figure

    page = Figure(figsize=(4.6 * len(panels), 4.9), layout="constrained", facecolor="#111111")
    for axes, panel in zip(page.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_slice(axes, panel, window)
    page.savefig(path, dpi=120)
    return path


def draw_learning(path: Path, steps: Sequence[int], losses: Sequence[float], dice: Sequence[tuple[int, float]]) -> Path:
    """Save the learning curve: loss of every report and Dice of every validation, over steps."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(7.5, 3.8), layout="constrained")
    left = page.subplots()
    left.plot(steps, losses, color="#888888", label="loss")
    left.set(xlabel="step", ylabel="loss")
    left.set_ylim(bottom=0)
    right = left.twinx()
    right.plot([step for step, _ in dice], [value for _, value in dice], "o-", color=MASK, label="held-out Dice")
    right.set(ylabel="held-out Dice", ylim=(0, 1))
    left.legend(handles=[*left.get_lines(), *right.get_lines()], loc="upper center", ncols=2, frameon=False)
    page.savefig(path, dpi=120)
    return path


def _draw_slice(axes: Axes, panel: Panel, window: tuple[float, float]) -> None:
    _, dy, dx = panel.volume.spacing_mm
    shown = np.asarray(panel.volume.data[panel.z], dtype=np.float32)
    axes.imshow(shown, cmap="gray", vmin=window[0], vmax=window[1], aspect=dy / dx, interpolation="bilinear")
    for outline in panel.outlines:
        if outline.mask[panel.z].any():
            axes.contour(outline.mask[panel.z] > 0, levels=[0.5], colors=[outline.colour], linewidths=1.6)
        axes.plot([], [], color=outline.colour, label=outline.name)
    if panel.click_mm is not None:
        _, y, x = panel.volume.index_of(panel.click_mm)
        axes.plot(x, y, "+", color="yellow", markersize=12, markeredgewidth=2, label="click")
    _zoom(axes, panel, margin_mm=32.0)
    axes.set_facecolor("black")
    axes.set_title(panel.title, color="white", fontsize=10)
    axes.legend(loc="lower right", fontsize=8, framealpha=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    for text, x, y in (("R", 0.02, 0.5), ("L", 0.95, 0.5), ("A", 0.485, 0.94), ("P", 0.485, 0.02)):
        axes.text(x, y, text, color="#ffd35c", transform=axes.transAxes, weight="bold")


def _zoom(axes: Axes, panel: Panel, *, margin_mm: float) -> None:
    """Show a square round everything that is outlined in this slice."""
    masks = panel.frame or tuple(outline.mask for outline in panel.outlines)
    outlined = np.any([mask[panel.z] > 0 for mask in masks], axis=0)
    if not outlined.any():
        return
    _, dy, dx = panel.volume.spacing_mm
    rows, columns = np.nonzero(outlined)
    middle_y, middle_x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    half_mm = max(np.ptp(rows) * dy, np.ptp(columns) * dx) / 2 + margin_mm
    axes.set_xlim(middle_x - half_mm / dx, middle_x + half_mm / dx)
    axes.set_ylim(middle_y + half_mm / dy, middle_y - half_mm / dy)
