"""Saliency maps as files, on their scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.orientation import grid_of, to_disk
from napari_medseg.imaging.provenance import refuse_scan_itself
from napari_medseg.imaging.volume import LabelMap, Volume


def write_map(path: str | Path, values: Volume, scans: Sequence[Path] = ()) -> Path:
    """Write a map of values as NIfTI, read it back and compare, and return its path; never that of one of the scans.

    Raises
    ------
    ImagingError
        If the name does not end in ``.nii`` or ``.nii.gz``, is that of a scan, or the file could not be written whole.
    """
    import nibabel

    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ImagingError(f"{path} has none of the endings .nii, .nii.gz: choose one of them for a map")
    refuse_scan_itself(path, *scans)
    grid = values.grid or grid_of(LabelMap(np.zeros(values.data.shape, np.uint8), values.affine))
    data = np.asarray(to_disk(values.data, grid), np.float32)

    def write(part: Path) -> None:
        nibabel.nifti1.Nifti1Image(data, grid.affine).to_filename(part)  # type: ignore[no-untyped-call]

    def verify(part: Path) -> None:
        if not np.array_equal(np.asarray(nibabel.nifti1.load(part).dataobj), data):  # type: ignore[no-untyped-call]
            raise ImagingError(f"{path} was not written completely: is the disk full?")

    return write_durably(path, write, verify)
