"""RTSTRUCT: contours in and out of label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.identity import remove_identity
from napari_medseg.imaging.dicom.reopen import reopened_scan
from napari_medseg.imaging.dicom.rtstruct_read import read_rtstruct, rtstruct_references
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.volume import LabelMap

__all__ = ["read_rtstruct", "rtstruct_references", "write_rtstruct"]


def write_rtstruct(path: str | Path, label_map: LabelMap, *, deidentified: bool = False) -> Path:
    """Save a mask as the contours of an RTSTRUCT that refers to its scan, read back and compared.

    Contours run half-way between voxel centres inside and outside, one set for each slice of the scan, in the plane in
    which it was acquired: filling them gives the same voxels again.

    Parameters
    ----------
    path : str or Path
        Where to save.
    label_map : LabelMap
        On the grid of a DICOM series, with that scan's metadata.
    deidentified : bool
        Leave the patient and the dates out and give every instance a fresh UID, on one computer always the same for
        the same scan: the file refers to the scan as such a copy of it would call itself, not to the scan itself.

    Raises
    ------
    ImagingError
        If the mask is empty or does not belong to a DICOM series, the series' files are gone or changed, or saving
        failed.
    """
    from napari_medseg.imaging.dicom.rtstruct_write import structure_set

    path = Path(path)
    scan = reopened_scan(label_map, path.name, "an RTSTRUCT")
    if not scan.source.is_placed:
        raise ImagingError("an RTSTRUCT needs a scan with a position in the patient; save the mask as .nii.gz")
    if not label_map.data.any():
        raise ImagingError("the mask is empty, so there are no contours to save; segment a lesion first")
    structures = structure_set(scan.slices(label_map), label_map, scan)
    if deidentified:
        remove_identity(structures)

    def verify(temporary: Path) -> None:
        written = read_rtstruct(temporary, label_map)
        if not np.array_equal(written.data, label_map.data):
            raise ImagingError(f"{path.name} did not read back as it was written, so it was not kept; save it again")

    return write_durably(path, lambda temporary: structures.save_as(temporary, enforce_file_format=True), verify)
