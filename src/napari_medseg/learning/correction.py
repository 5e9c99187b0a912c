"""One correction: a scan with the mask that a user accepted, and what is known of how it came about."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import LearningError
from napari_medseg.imaging.orientation import describe_grid, same_grid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.prompts import Prompt

_SAME_PLACE_MM = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """One scan whose mask a user corrected and accepted.

    Parameters
    ----------
    volume : Volume
        The scan.
    proposed : LabelMap, optional
        What the model had answered.
    corrected : LabelMap
        What the user accepted, on the scan's grid.
    reviewed : tuple of int, optional
        Slices along `axis` that the user has checked; None for all of them. Other slices teach nothing.
    axis : int
        Axis of the memory array along which slices were reviewed.
    corrected_voxels : ndarray of bool, shape (Z, Y, X), optional
        Voxels that the user painted or erased; where `proposed` and `corrected` differ if not given.
    prompts : tuple of Prompt
        What the user told the model.
    model : str
        The model that proposed, with its version.
    seconds : float
        How long the user worked on it.
    edited_voxels : int
        How many voxels the user changed.
    pinned : bool
        Whether it never teaches: no new version may get worse on it.
    name : str
        What a person calls it; the scan's name if empty.

    Raises
    ------
    LearningError
        If scan and masks have different shapes, or lie at different places.
    """

    volume: Volume
    proposed: LabelMap | None
    corrected: LabelMap
    reviewed: tuple[int, ...] | None = None
    axis: int = 0
    corrected_voxels: NDArray[np.bool_] | None = None
    prompts: tuple[Prompt, ...] = ()
    model: str = ""
    seconds: float = 0.0
    edited_voxels: int = 0
    pinned: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        shape, scan = self.volume.data.shape, self.volume.name or "without a name"
        for name, mask in (("corrected", self.corrected), ("proposed", self.proposed)):
            if mask is not None and mask.data.shape != shape:
                raise LearningError(
                    f"the {name} mask has shape {mask.data.shape} but its scan '{scan}' has {shape}: "
                    "resample the mask onto the scan"
                )
            if mask is not None and not same_grid(self.volume, mask, tol_mm=_SAME_PLACE_MM):
                raise LearningError(
                    f"the {name} mask and its scan '{scan}' lie on different grids ({describe_grid(mask)} and "
                    f"{describe_grid(self.volume)}): export the mask on the scan's own grid"
                )

    def seen(self) -> NDArray[np.bool_]:
        """Voxels on slices that somebody reviewed."""
        seen = np.ones(self.volume.data.shape, bool)
        if self.reviewed is not None:
            chosen = np.zeros(seen.shape[self.axis], bool)
            chosen[[k for k in self.reviewed if 0 <= k < len(chosen)]] = True
            seen &= np.expand_dims(chosen, [a for a in range(3) if a != self.axis])
        return seen

    def edited(self) -> NDArray[np.bool_] | None:
        """Voxels that a person changed; None where nobody knows."""
        if self.corrected_voxels is not None:
            return self.corrected_voxels
        if self.proposed is not None and self.proposed.data.any():
            return np.asarray(self.proposed.data != self.corrected.data)
        return None


def content_hash(volume: Volume) -> str:
    """SHA-256 of a scan's voxels and of where they lie, whatever its file is called."""
    data = np.ascontiguousarray(volume.data)
    digest = hashlib.sha256(f"{data.dtype.str} {data.shape} {np.round(volume.affine, 4).tolist()}".encode())
    digest.update(data.view(np.uint8).data)
    return digest.hexdigest()
