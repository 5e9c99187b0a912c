"""What a lesion measures: its volume, its diameters, and the scan's values inside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_medseg.imaging.amounts import millilitres
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.labels import WorkingLabels


@dataclass(frozen=True, slots=True)
class Measure:
    """One lesion in figures.

    Parameters
    ----------
    volume_ml : float
        Number of voxels by their volume.
    long_mm, short_mm : float
        Long axis in the plane of acquisition and the longest line perpendicular to it in the same slice, between the
        outer edges of voxels (RECIST 1.1: Eisenhauer et al., Eur J Cancer 2009, 45:228).
    mean, sd, low, high : float
        Mean, standard deviation (divided by n), least and greatest value of the scan inside, in the scan's own unit;
        what is not finite has no part in them, and they are NaN where nothing is finite or nobody asked.
    """

    volume_ml: float
    long_mm: float
    short_mm: float
    mean: float
    sd: float
    low: float
    high: float

    @property
    def size(self) -> str:
        """As ``"142 ml, 93 x 61 mm"``."""
        return f"{millilitres(self.volume_ml)}, {_mm(self.long_mm)} x {_mm(self.short_mm)} mm"

    def sentence(self, unit: str = "") -> str:
        """As ``"142 ml, 93 x 61 mm (long and short axis, RECIST 1.1), mean 48 ± 22 HU, -40 to 180"``."""
        text = f"{self.size} (long and short axis, RECIST 1.1)"
        if math.isnan(self.mean):
            return text
        decimals = 0 if unit == "HU" else _decimals(max(abs(self.low), abs(self.high)))
        figures = (self.mean, self.sd, self.low, self.high)
        mean, sd, low, high = (f"{round(value, decimals) + 0.0:.{decimals}f}" for value in figures)  # no "-0"
        return f"{text}, mean {f'{mean} ± {sd} {unit}'.rstrip()}, {low} to {high}"


def measure_of(volume: Volume, labels: WorkingLabels, label: int, *, values: bool = True) -> Measure | None:
    """Measure a lesion of a scan, with or without the scan's values inside; None where it has no voxel."""
    from napari_medseg.followup.findings import diameters_mm

    box = labels.box_of(label)
    mask = labels.data[box] == label if box is not None else np.zeros((0, 0, 0), bool)
    tight = filled_box(mask)
    if box is None or tight is None:
        return None
    mask = mask[tight]
    volume_ml = float(np.count_nonzero(mask)) * LabelMap(labels.data, volume.affine).voxel_ml
    diameters = diameters_mm(mask, volume.affine, acquisition_axis(volume))
    inside = volume.data[box][tight][mask] if values else np.empty(0)
    inside = inside[np.isfinite(inside)]
    if not inside.size:
        return Measure(volume_ml, *diameters, math.nan, math.nan, math.nan, math.nan)
    mean, sd = inside.mean(dtype=np.float64), inside.std(dtype=np.float64)
    return Measure(volume_ml, *diameters, float(mean), float(sd), float(inside.min()), float(inside.max()))


def as_json(measure: Measure | None) -> dict[str, float | None]:
    """Diameters in mm and the scan's values, to six digits; None where there are none."""
    keys = ("long_axis_mm", "short_axis_mm", "mean", "sd", "min", "max")
    if measure is None:
        return dict.fromkeys(keys)
    m = measure
    figures = zip(keys, (m.long_mm, m.short_mm, m.mean, m.sd, m.low, m.high), strict=True)
    return {key: float(f"{value:.6g}") if math.isfinite(value) else None for key, value in figures}


def _mm(length_mm: float) -> str:
    """Whole millimetres, and tenths below 10."""
    return f"{length_mm:.1f}" if length_mm < 9.95 else f"{length_mm:.0f}"


def _decimals(greatest: float) -> int:
    """How many decimals leave three digits to the greatest value."""
    return max(0, 2 - math.floor(math.log10(greatest))) if greatest else 0
