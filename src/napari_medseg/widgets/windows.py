"""Window presets: which intensities a scan is shown with, by modality."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.source import dicom_source

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_medseg.imaging.volume import Volume

_SAMPLE = 500_000


@dataclass(frozen=True, slots=True)
class Window:
    """A named range of intensities.

    Parameters
    ----------
    name : str
        What a radiologist calls it.
    low, high : float
        Intensities shown as black and as white, in the scan's own unit.
    colormap : str
        A napari colour map; ``"gray_r"`` shows high uptake dark, as PET is often read.
    """

    name: str
    low: float
    high: float
    colormap: str = "gray"


# level - width / 2 .. level + width / 2, as on the consoles of CT scanners
_CT = (
    Window("Soft tissue", -160, 240),  # W 400 L 40
    Window("Lung", -1350, 150),  # W 1500 L -600
    Window("Bone", -500, 1300),  # W 1800 L 400
    Window("Brain", 0, 80),  # W 80 L 40
    Window("Liver", -45, 105),  # W 150 L 30
)
# Fixed, so that two patients look alike; the liver lies near 2, most tumours between 3 and 20.
_SUV = (
    Window("SUV 0-10", 0, 10),
    Window("SUV 0-5", 0, 5),
    Window("SUV 0-20", 0, 20),
    Window("SUV inverted", 0, 10, "gray_r"),
)
_NAME_HINTS = {"PT": {"pt", "pet", "suv"}, "MR": {"mr", "mri", "t1", "t2", "t1w", "t2w", "t1ce", "flair", "dwi", "adc"}}


def modality_of(volume: Volume) -> str:
    """Modality of a scan; guessed from Hounsfield-like values, then from its name, where its file does not say.

    NIfTI and NRRD files carry no modality. Whole numbers that reach from below -150 to above 150 are Hounsfield units:
    no other modality stores such negative values.
    """
    if volume.modality:
        return volume.modality
    sample = _sample(volume.data)
    if sample.size and -3200 <= sample.min() <= -150 and sample.max() >= 150 and np.abs(sample % 1).mean() < 0.01:
        return "CT"
    words = set(re.split(r"[^a-z0-9]+", volume.name.lower()))
    return next((modality for modality, hints in _NAME_HINTS.items() if words & hints), "")


def unit_of(volume: Volume) -> str:
    """Unit to write behind an intensity: ``"HU"`` for CT, what the files of a PET state, else nothing."""
    if modality_of(volume) == "CT":
        return "HU"
    source = dicom_source(volume.metadata)
    return source.unit if source is not None else ""


def presets_for(volume: Volume) -> tuple[Window, ...]:
    """Window presets that suit a scan, the default first.

    Parameters
    ----------
    volume : Volume
        CT gets the usual Hounsfield windows, PET in SUV fixed ones; everything else percentiles of its own voxels
        (background left out).

    Returns
    -------
    tuple of Window
        Never empty.
    """
    sample = _sample(volume.data)
    full = Window("Full range", *_apart(sample.min(), sample.max()) if sample.size else (0.0, 1.0))
    modality = modality_of(volume)
    if modality == "CT":
        return (*_CT, full)
    if modality == "PT" and unit_of(volume).startswith("SUV"):
        return (*_SUV, full)
    inside = _foreground(sample)
    if modality == "PT":
        low, high = _apart(min(0.0, float(sample.min(initial=0.0))), _percentile(inside, 99.5))
        return Window("PET", low, high), Window("PET inverted", low, high, "gray_r"), full
    low, high = _apart(float(sample.min(initial=0.0)), _percentile(inside, 99.5))
    bright = _apart(_percentile(inside, 10), _percentile(inside, 99.9))
    dark = _apart(low, _percentile(inside, 80))
    return Window("Standard", low, high), Window("High contrast", *bright), Window("Dark detail", *dark), full


def apply_window(layer: Image, preset: Window | str) -> None:
    """Show a scan's layer with a window.

    Parameters
    ----------
    layer : napari.layers.Image
        A layer made by this plugin; with a :class:`Window`, any Image layer.
    preset : Window or str
        A window, or the name of one of the scan's presets.

    Raises
    ------
    ValueError
        If the scan has no preset of that name.
    """
    window = preset if isinstance(preset, Window) else _preset_named(layer, preset)
    low, high = layer.contrast_limits_range
    layer.contrast_limits_range = (min(low, window.low), max(high, window.high))
    layer.contrast_limits = (window.low, window.high)
    layer.colormap = window.colormap


def presets_of(layer: Image) -> tuple[Window, ...]:
    """Window presets of a scan's layer, worked out once; none for a foreign layer."""
    own = layer.metadata.get("napari_medseg", {})
    if "volume" not in own:
        return ()
    if "windows" not in own:
        own["windows"] = presets_for(own["volume"])
    presets: tuple[Window, ...] = own["windows"]
    return presets


def window_of(layer: Image) -> Window | None:
    """Give the preset a scan's layer is shown with now, or None where its limits were set by hand."""
    low, high = layer.contrast_limits
    tolerance = 1e-4 * (high - low)
    for window in presets_of(layer):
        alike = abs(window.low - low) <= tolerance and abs(window.high - high) <= tolerance
        if alike and window.colormap == layer.colormap.name:
            return window
    return None


def next_window(layer: Image) -> Window:
    """Apply and return the preset after the present one."""
    presets = presets_of(layer)
    now = window_of(layer)
    window = presets[(presets.index(now) + 1) % len(presets)] if now is not None else presets[0]
    apply_window(layer, window)
    return window


def _preset_named(layer: Image, name: str) -> Window:
    presets = presets_of(layer)
    for window in presets:
        if window.name.lower() == name.lower():
            return window
    known = ", ".join(window.name for window in presets) or "none"
    raise ValueError(f"layer {layer.name!r} has no window preset {name!r}; it has: {known}")


def _sample(data: NDArray[Any]) -> NDArray[np.float64]:
    """At most about half a million voxels, spread evenly; NaN and infinity left out."""
    step = max(1, int(np.ceil((data.size / _SAMPLE) ** (1 / 3))))
    steps = tuple(slice(None, None, step if n > step else 1) for n in data.shape)
    sample = np.asarray(data[steps], dtype=np.float64).ravel()
    return sample[np.isfinite(sample)]


def _foreground(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxels brighter than the air around the patient: those above a tenth of the 99th percentile."""
    if sample.size == 0:
        return sample
    low = float(sample.min())
    inside = sample[sample > low + 0.1 * (float(np.percentile(sample, 99)) - low)]
    return inside if inside.size else sample


def _percentile(sample: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(sample, percent)) if sample.size else 1.0


def _apart(low: float, high: float) -> tuple[float, float]:
    """Make the limits differ: napari refuses a window of width 0."""
    low, high = float(low), float(high)
    return (low, high) if high > low else (low, low + 1.0)
