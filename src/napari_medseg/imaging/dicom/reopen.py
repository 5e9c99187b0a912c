"""The DICOM series behind a mask, opened again, so that an object written about the mask can refer to it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.geometry import LPS_TO_RAS
from napari_medseg.imaging.dicom.source import DicomSource, SourcePlane, dicom_source
from napari_medseg.imaging.orientation import to_disk
from napari_medseg.imaging.volume import DiskGrid, LabelMap

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


_SHORT, _MOST_SHORT = ("StudyID", "AccessionNumber"), 16


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Headers of the series' files in disk order.

    Parameters
    ----------
    grid : DiskGrid
        Of the scan.
    source : DicomSource
        Which file each slice came from.
    headers : tuple
        One a slice (the same object for frames of one file), without pixels; None where a slice is missing.
    """

    grid: DiskGrid
    source: DicomSource
    headers: tuple[Dataset | None, ...]

    @property
    def present(self) -> list[int]:
        """Slices that exist in the series."""
        return [k for k, header in enumerate(self.headers) if header is not None]

    @property
    def first(self) -> Dataset:
        """Header of the first slice that exists."""
        return next(header for header in self.headers if header is not None)

    @property
    def affine_lps(self) -> NDArray[np.float64]:
        """Index ``(column, row, slice, 1)`` to DICOM's LPS+ millimetres."""
        return np.asarray(LPS_TO_RAS @ self.grid.affine)

    def slices(self, label_map: LabelMap) -> NDArray[Any]:
        """Labels as ``(slices, rows, columns)``; refuses labels on slices that the series does not have."""
        masks = to_disk(label_map.data, self.grid).transpose(2, 1, 0)
        for k in set(range(len(self.headers))) - set(self.present):
            if masks[k].any():
                raise ImagingError(
                    f"the mask marks slice {k + 1}, which the DICOM series lacks; erase it there or save a .nii.gz"
                )
        return masks

    def frames_for(self, kept: list[int]) -> dict[str, Any]:
        """Source images of these slices, as highdicom wants them."""
        planes = self.source.planes
        frames = [plane for plane in planes if plane is not None]
        if frames[0].n_frames == 1:
            return {"source_images": [self.headers[k] for k in kept]}
        from highdicom import PlanePositionSequence

        affine = self.affine_lps
        positions = [affine[:3, 3] + k * affine[:3, 2] for k in kept]
        return {
            "source_images": [self.first],
            "plane_positions": [PlanePositionSequence("PATIENT", [float(v) for v in p]) for p in positions],
        }


def reopened_scan(label_map: LabelMap, name: str, what: str) -> Scan:
    """Open the headers of the series that a mask belongs to.

    Raises
    ------
    ImagingError
        If there is no such series, its files are gone or hold something else, or lack what must be referred to.
    """
    source = dicom_source(label_map.metadata)
    if source is None or label_map.grid is None:
        raise ImagingError(
            f"{name} cannot be {what}: the mask's scan was not opened from a DICOM series; save it as .nii.gz or .nrrd"
        )
    i, j, n_slices = label_map.grid.shape
    if n_slices != len(source.planes):
        raise ImagingError(
            f"the mask has {n_slices} slices but its DICOM series {len(source.planes)}; resample it first"
        )
    opened: dict[Any, Dataset] = {}
    headers = tuple(None if plane is None else _header(plane, opened) for plane in source.planes)
    scan = Scan(label_map.grid, source, headers)
    _check(scan, what, (j, i))
    for header in _distinct(headers):
        _complete(header)
        if source.is_placed:
            _even_out(header, scan.affine_lps)
    return scan


def _header(plane: SourcePlane, opened: dict[Any, Dataset]) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    if plane.path not in opened:
        try:
            header = pydicom.dcmread(plane.path, stop_before_pixels=True, force=True)
        except (OSError, InvalidDicomError, ValueError) as error:
            raise ImagingError(
                f"{plane.path.name} of the scan cannot be opened any more; put it back or save the mask as .nii.gz"
            ) from error
        meta_uid = str(header.file_meta.get("MediaStorageSOPInstanceUID", ""))
        if plane.sop_instance_uid not in (str(header.get("SOPInstanceUID", "")), meta_uid):
            raise ImagingError(f"{plane.path.name} has changed since the scan was opened; open the scan again")
        opened[plane.path] = header
    return opened[plane.path]


def _check(scan: Scan, what: str, shape: tuple[int, int]) -> None:
    header = scan.first
    needed = (*_NEEDED, "FrameOfReferenceUID") if scan.source.is_placed else _NEEDED
    lacking = [keyword for keyword in needed if not header.get(keyword)]
    if lacking:
        raise ImagingError(
            f"{what} must refer to its scan, but the scan's files have no {lacking[0]} (anonymised?); save a .nii.gz"
        )
    frames = [plane for plane in scan.source.planes if plane is not None]
    if not scan.source.is_placed and frames[0].n_frames > 1:
        raise ImagingError(f"a mask of one frame of a cine cannot be {what}; save it as .nii.gz")
    if len({plane.path for plane in frames}) > 1 and frames[0].n_frames > 1:
        raise ImagingError(f"a scan of several multi-frame files cannot be referred to by {what}; save it as .nii.gz")
    if (header.Rows, header.Columns) != shape:
        raise ImagingError(
            f"the scan's files are {header.Rows} x {header.Columns} but the mask {shape[0]} x {shape[1]}"
        )


def _distinct(headers: tuple[Dataset | None, ...]) -> list[Dataset]:
    return list({id(header): header for header in headers if header is not None}.values())


def _complete(header: Dataset) -> None:
    """Add what may be empty but not missing, and empty what is too long for the format.

    Cut off it could name another study, and the UIDs say which one it is.
    """
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about what is mended here
        for keyword in _SHORT:
            if len(str(header[keyword].value)) > _MOST_SHORT:
                setattr(header, keyword, "")


def _even_out(header: Dataset, affine_lps: NDArray[np.float64]) -> None:
    """Give a header the grid's own numbers: rounding that differs between slices would count as different grids."""
    from pydicom.dataset import Dataset

    columns_mm, rows_mm = (float(mm) for mm in np.linalg.norm(affine_lps[:3, :2], axis=0))
    cosines = [*(affine_lps[:3, 0] / columns_mm), *(affine_lps[:3, 1] / rows_mm)]
    step_mm = float(affine_lps[:3, 2] @ np.cross(cosines[:3], cosines[3:]))
    orientation, measures = header, header
    if "PerFrameFunctionalGroupsSequence" in header:
        orientation, measures = Dataset(), Dataset()
        shared = header.SharedFunctionalGroupsSequence[0] if header.get("SharedFunctionalGroupsSequence") else Dataset()
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        header.SharedFunctionalGroupsSequence = [shared]
    orientation.ImageOrientationPatient = [_decimal(v) for v in cosines]
    measures.PixelSpacing = [_decimal(rows_mm), _decimal(columns_mm)]
    measures.SpacingBetweenSlices = _decimal(step_mm)
    if not measures.get("SliceThickness"):
        measures.SliceThickness = _decimal(step_mm)


def _decimal(value: float) -> str:
    """A number in the 16 characters that DICOM gives it."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))
