"""What is classified: a lesion of a scan, a single 2-D image, or a whole study."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ModelError
from napari_medseg.imaging.orientation import describe_grid, same_grid
from napari_medseg.imaging.volume import LabelMap, Volume

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """Something that has a class; made by `lesion`, `at`, `image` or `study`.

    Parameters
    ----------
    scans : tuple of Volume
        One for a lesion or an image, one or more for a study.
    mask : LabelMap, optional
        On the scan's grid: where the lesion is.
    label : int, optional
        Which label of the mask; all of them where none is given.
    position_mm : tuple of float, optional
        RAS+ position in the lesion where there is no mask.
    patient : str
        Never split: all subjects of a patient train, or none does. Where it is empty, all subjects of a scan file are
        one patient's, and each that came from no file is a patient of its own.

    Raises
    ------
    ModelError
        If there is no scan, the mask lies on another grid or is empty, or the position lies outside the scan.
    """

    scans: tuple[Volume, ...]
    mask: LabelMap | None = None
    label: int | None = None
    position_mm: Point | None = None
    patient: str = ""

    def __post_init__(self) -> None:
        if not self.scans:
            raise ModelError("there is no scan to classify: open one")
        if self.mask is not None and not same_grid(self.mask, self.scans[0], tol_mm=0.1):
            grids = f"the mask ({describe_grid(self.mask)}) and the scan ({describe_grid(self.scans[0])})"
            raise ModelError(f"{grids} lie on different grids: export the mask on the scan's own grid first")
        if self.mask is not None and not self.marked().any():
            which = "is empty" if self.label is None else f"has no label {self.label}"
            raise ModelError(f"the mask of '{self.scans[0].name}' {which}: mark the lesion first")
        if self.position_mm is not None and not _lies_in(self.scans[0], self.position_mm):
            x, y, z = self.position_mm
            raise ModelError(f"the point ({x:.1f}, {y:.1f}, {z:.1f}) mm lies outside the scan: choose one inside it")

    @classmethod
    def lesion(cls, scan: Volume, mask: LabelMap, label: int | None = None, *, patient: str = "") -> Subject:
        """Return a lesion that is marked on its scan."""
        return cls((scan,), mask, label, patient=patient)

    @classmethod
    def at(cls, scan: Volume, position_mm: Point, *, patient: str = "") -> Subject:
        """Return a lesion that only a click says where it is."""
        return cls((scan,), position_mm=position_mm, patient=patient)

    @classmethod
    def image(cls, scan: Volume, *, patient: str = "") -> Subject:
        """Return a single 2-D image (a volume of one slice)."""
        return cls((scan,), patient=patient)

    @classmethod
    def study(cls, *scans: Volume, patient: str = "") -> Subject:
        """Return all scans of an examination."""
        return cls(tuple(scans), patient=patient)

    @property
    def is_lesion(self) -> bool:
        """Whether something says where to look."""
        return self.mask is not None or self.position_mm is not None

    def marked(self) -> NDArray[np.bool_]:
        """Voxels of the lesion, shape (Z, Y, X); none where there is no mask."""
        if self.mask is None:
            return np.zeros(self.scans[0].data.shape, bool)
        return np.asarray(self.mask.data > 0 if self.label is None else self.mask.data == self.label)

    def centre(self) -> NDArray[np.float64]:
        """Continuous ``(z, y, x)`` index to look at: the middle of the lesion, the click, or the scan's middle."""
        if self.mask is not None:
            box = bounding_box(self.marked())
            return np.array([(part.start + part.stop - 1) / 2 for part in box])
        if self.position_mm is not None:
            return self.scans[0].index_of(self.position_mm)
        return (np.array(self.scans[0].data.shape) - 1) / 2

    def diameter_mm(self) -> float | None:
        """Longest side of the lesion's bounding box; None without a mask."""
        if self.mask is None:
            return None
        sides = [part.stop - part.start for part in bounding_box(self.marked())]
        return float(max(n * s for n, s in zip(sides, self.scans[0].spacing_mm, strict=True)))


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box that holds all of a mask that is not empty."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _lies_in(scan: Volume, position_mm: Point) -> bool:
    index = scan.index_of(position_mm)
    return bool(((index >= -0.5) & (index <= np.array(scan.data.shape) - 0.5)).all())
