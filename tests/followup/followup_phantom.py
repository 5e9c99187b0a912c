"""Two visits of a made-up patient: the second one lies moved, on a grid of its own, with lesions that changed."""

from __future__ import annotations

import numpy as np

from napari_medseg.imaging.volume import LabelMap, Volume

# Middle (RAS mm) and radius (mm) of each lesion at the two visits; None: not there.
LESIONS = {
    "stable": ((18.0, 10.0, 5.0), 5.0, 5.0),
    "grown": ((-20.0, 15.0, 0.0), 4.0, 6.0),
    "shrunk": ((12.0, -22.0, 8.0), 6.0, 4.0),
    "new": ((-15.0, -15.0, 12.0), None, 4.0),
    "resolved": ((0.0, 24.0, -8.0), 4.0, None),
}


def rigid(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = (k for k in range(3) if k != axis)
        one = np.eye(3)
        one[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = turn @ one
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix


MOTION = rigid((6.0, -4.0, 9.0), (7.0, -5.0, 4.0))


def head(places: np.ndarray, visit: int) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and lesion at places (3, ...) of the patient."""
    x, y, z = places
    inside = np.sqrt((x / 48) ** 2 + (y / 58) ** 2 + (z / 42) ** 2)
    waves = np.sin(x / 5 + np.cos(y / 9)) * np.cos(y / 6 - z / 11) + np.sin(z / 5 + x / 17)
    values = np.where(inside < 1, np.where(inside > 0.9, 600, 300 + 45 * waves), 8.0)
    values = np.where((x / 9) ** 2 + ((y - 5) / 20) ** 2 + (z / 12) ** 2 < 1, 90, values)
    values = np.where((x - 30) ** 2 + (y + 30) ** 2 + (z + 10) ** 2 < 64, 60, values)
    labels = np.zeros(values.shape, np.uint8)
    for label, (middle, *radii) in enumerate(LESIONS.values(), 1):
        radius = radii[visit]
        if radius is not None:
            away = sum((p - m) ** 2 for p, m in zip(places, middle, strict=True))
            labels[away <= radius**2] = label
    return np.where(labels > 0, 520.0, values), labels


def scanned(
    visit: int,
    spacing: tuple[float, float, float],
    tilt: tuple[float, float, float],
    motion: np.ndarray,
    reach: float = 65,
) -> tuple[Volume, LabelMap]:
    """A visit on an oblique grid; ``motion`` takes the patient's places to the scanner's world."""
    affine = np.eye(4)
    memory = np.array([[0.0, 0, -1], [0, -1, 0], [1, 0, 0]])
    affine[:3, :3] = rigid(tilt, (0, 0, 0))[:3, :3] @ memory * spacing
    shape = tuple(round(2 * reach / step) for step in spacing)
    affine[:3, 3] = motion[:3, 3] - affine[:3, :3] @ (np.array(shape) - 1) / 2 + [2, -1, 3]
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    back = np.linalg.inv(motion)
    values, labels = head((back[:3, :3] @ world + back[:3, 3:]).reshape(3, *shape), visit)
    noisy = values + np.random.default_rng(visit).normal(0, 10, shape)
    names = dict(enumerate(LESIONS, 1))
    scan = Volume(noisy.astype(np.float32), affine, name=f"visit {visit + 1} FLAIR", modality="MR")
    return scan, LabelMap(labels.reshape(shape), affine, names)
