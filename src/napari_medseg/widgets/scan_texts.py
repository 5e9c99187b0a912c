"""What the texts on the canvas say: the scan, its plane and window, the position under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_medseg.widgets.orientation_letters import PLANES, angle_between_deg, obliqueness_deg
from napari_medseg.widgets.scan_layers import plane_of, shown_volume, volume_of
from napari_medseg.widgets.windows import unit_of, window_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.imaging.volume import Volume

_TILT_WORTH_A_WORD_DEG = 1.0


def describe_position(layer: Image, world: tuple[float, ...]) -> str:
    """Patient position under a world position, and the intensity there with its unit.

    Parameters
    ----------
    layer : napari.layers.Image
        A scan's layer.
    world : tuple of float
        napari world coordinates, as in ``viewer.cursor.position``.

    Returns
    -------
    str
        As ``"R 12.0  A 40.5  S 88.0 mm"`` and ``"43 HU"`` on a second line; without an intensity outside of the scan.
    """
    volume, shown = volume_of(layer), shown_volume(layer)
    if volume is None or shown is None or len(world) < 3:
        return ""
    index = np.asarray(layer.world_to_data(world), float)
    text = _place(shown, index)
    if shown is not volume:  # the scan's own voxel, not the one that was interpolated
        index = volume.index_of(shown.position_of(index[-3:]))
    voxel = tuple(int(n) for n in np.round(index))
    if all(0 <= n < size for n, size in zip(voxel, volume.data.shape, strict=True)):
        text += f"\n{_number(volume.data[voxel])} {_unit_of(layer)}".rstrip()
    return text


def _place(volume: Volume, index: NDArray[np.float64]) -> str:
    """Patient position in words; distances from the first pixel where the file does not say which side is which."""
    if not volume.sides_are_known:
        z, y, x = index * volume.spacing_mm
        return f"x {x:.1f}  y {y:.1f}  z {z:.1f} mm"
    position = volume.position_of(index)
    letters = ("RL"[int(position[0] < 0)], "AP"[int(position[1] < 0)], "SI"[int(position[2] < 0)])
    return "  ".join(f"{letter} {abs(value):.1f}" for letter, value in zip(letters, position, strict=True)) + " mm"


def _unit_of(layer: Image) -> str:
    """Unit of a scan's intensities, worked out once: it is asked for with every move of the mouse."""
    own = layer.metadata["napari_medseg"]
    if "unit" not in own:
        own["unit"] = unit_of(own["volume"])
    return str(own["unit"])


def describe_scan(viewer: ViewerModel, layer: Image) -> str:
    """Write what is shown: name, plane and slice, window, and what the eye cannot see (an oblique or tilted scan)."""
    volume = shown_volume(layer)
    if volume is None:
        return ""
    lines = [layer.name]
    plane = plane_of(viewer)
    if plane is not None:
        axis = PLANES.index(plane)
        index = round(float(layer.world_to_data(viewer.dims.point)[axis])) + 1
        n_slices = volume.data.shape[axis]
        where = f"slice {index} of {n_slices}" if 1 <= index <= n_slices else "outside of the scan"
        lines.append(f"{plane.capitalize()}, {where}")
        if n_slices > 1:  # on a line of its own: the letter at the top edge stands where a longer line would end
            lines.append(f"{volume.spacing_mm[axis]:.3g} mm apart")
    window = window_of(layer)
    low, high = layer.contrast_limits
    lines.append(f"{window.name if window else 'Window'}: W {_number(high - low)} L {_number((low + high) / 2)}")
    notes = placement_warnings(viewer, volume)
    if volume is not volume_of(layer):
        notes = tuple(note for note in notes if not note.startswith("Oblique"))
    return "\n".join([*lines, *notes])


def placement_warnings(viewer: ViewerModel, volume: Volume) -> tuple[str, ...]:
    """Sentences on what napari does not show: it draws every scan along the scan's own axes.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its other visible scans are compared with this one.
    volume : Volume
        The scan that is looked at.
    """
    notes = []
    if not volume.sides_are_known:
        notes.append("Sides unknown: the file does not say how it lies in the patient")
    tilt = obliqueness_deg(volume)
    if tilt > _TILT_WORTH_A_WORD_DEG:
        notes.append(f"Oblique by {tilt:.0f}°: shown along its own slices")
    others = [shown_volume(layer) for layer in viewer.layers if isinstance(layer, Image) and layer.visible]
    turns = [angle_between_deg(volume, other) for other in others if other is not None and other is not volume]
    if turns and max(turns) > _TILT_WORTH_A_WORD_DEG:
        notes.append(f"Turned by {max(turns):.0f}° against another open scan: the two do not lie over each other")
    return tuple(notes)


def _number(value: float) -> str:
    """Whole numbers as such, small ones with three digits."""
    value = float(value)
    return f"{value:.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:.3g}"
