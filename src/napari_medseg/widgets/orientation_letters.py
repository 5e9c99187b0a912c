"""Which way the patient lies on the screen: directions, edge letters and planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.imaging.volume import Volume

Edge = Literal["left", "right", "top", "bottom"]
EDGES: tuple[Edge, ...] = ("left", "right", "top", "bottom")
Plane = Literal["axial", "coronal", "sagittal"]
# napari axes (slice, down, right) of S, P, L volumes, and the axis that points up must be superior where there is one
UPRIGHT: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")  # by the axis that is sliced
AXIS_LABELS = ("S", "P", "L")

_SPL_IN_RAS = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
# A second letter stands for a direction that is at least this far off the first letter's axis.
_SECOND_LETTER = float(np.sin(np.radians(20.0)))


def letters_of(direction: NDArray[np.float64]) -> str:
    """Name a direction in the patient: ``"R"``, or ``"RA"`` where it is more than 20 degrees oblique.

    Parameters
    ----------
    direction : ndarray, shape (3,)
        RAS; any length.

    Returns
    -------
    str
        One to three of ``R L A P S I``, the strongest first; empty for a zero vector.
    """
    length = float(np.linalg.norm(direction))
    if length == 0:
        return ""
    unit = np.asarray(direction, float) / length
    strongest_first = [int(axis) for axis in np.argsort(-np.abs(unit), kind="stable")]
    strong = [axis for axis in strongest_first if abs(unit[axis]) > _SECOND_LETTER]
    return "".join("RAS"[axis] if unit[axis] > 0 else "LPI"[axis] for axis in strong)


def directions_of(volume: Volume) -> NDArray[np.float64]:
    """Unit vectors (RAS) along the volume's axes ``(z, y, x)``, one a row."""
    columns = volume.affine[:3, :3]
    return np.asarray((columns / np.linalg.norm(columns, axis=0)).T)


def obliqueness_deg(volume: Volume) -> float:
    """Largest angle between one of the volume's axes and the patient's axis that it stands for."""
    cosines = np.abs(np.sum(directions_of(volume) * _SPL_IN_RAS, axis=1))
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))).max())


def angle_between_deg(first: Volume, second: Volume) -> float:
    """Angle by which one scan's grid is turned against another's."""
    turn = directions_of(first) @ directions_of(second).T
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1.0, 1.0))))


def edge_letters(viewer: ViewerModel, volume: Volume) -> dict[Edge, str]:
    """Letters at the canvas edges for a scan shown in a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its ``dims.order``, ``dims.ndisplay`` and camera (flips, and angles in 3-D) are read.
    volume : Volume
        The scan whose directions are named.

    Returns
    -------
    dict
        ``left``, ``right``, ``top``, ``bottom``; empty text where an axis that is not the scan's is displayed.
    """
    right, up = _screen_directions(viewer)
    along = _displayed_directions(viewer, volume)
    to_right, to_top = right @ along, up @ along
    return {
        "left": letters_of(-to_right),
        "right": letters_of(to_right),
        "top": letters_of(to_top),
        "bottom": letters_of(-to_top),
    }


def _displayed_directions(viewer: ViewerModel, volume: Volume) -> NDArray[np.float64]:
    """RAS direction of each of the last three displayed axes (depth, vertical, horizontal); zero for foreign axes."""
    directions = directions_of(volume)
    rows = np.zeros((3, 3))
    for row, axis in enumerate(viewer.dims.order[-3:], start=3 - min(3, viewer.dims.ndim)):
        own = axis - (viewer.dims.ndim - 3)
        if own >= 0:
            rows[row] = directions[own]
    return rows


def _screen_directions(viewer: ViewerModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Screen right and screen up in the displayed axes (depth, vertical, horizontal)."""
    camera = viewer.scene.camera
    flip_up = -1.0 if str(camera.orientation[1]) == "down" else 1.0
    flip_right = 1.0 if str(camera.orientation[2]) == "right" else -1.0
    right, up = np.array([0.0, 0.0, flip_right]), np.array([0.0, flip_up, 0.0])
    if viewer.dims.ndisplay == 2:
        return right, up
    towards = str(camera.orientation[0]) == "towards"
    view_at_rest = np.array([-1.0 if towards else 1.0, 0.0, 0.0])
    mirror = float(np.dot(right, np.cross(view_at_rest, up)))
    view, turned_up = np.array(camera.view_direction), np.array(camera.up_direction)
    return mirror * np.cross(view, turned_up), turned_up


def upright_orientation(order: tuple[int, ...]) -> tuple[str, str, str]:
    """Camera orientation that puts superior (else anterior) up, right on the left, and never mirrors in 3-D.

    Parameters
    ----------
    order : tuple of int
        Displayed axes as ``(depth, vertical, horizontal)`` of an S, P, L volume.
    """
    vertical = "up" if order[1] == 0 else "down"
    patient = np.linalg.det(_SPL_IN_RAS[list(order)])
    # the screen's axes, x to the right, y up, z towards the viewer, listed as (depth, vertical, horizontal)
    screen = -1.0 if vertical == "up" else 1.0
    return ("towards" if patient * screen > 0 else "away"), vertical, "right"
