"""Write the labels of a mask as the contours of an RTSTRUCT that refers to the mask's scan."""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from napari_medseg.imaging.dicom.codes import codes_of
from napari_medseg.imaging.dicom.contours import contours_of
from napari_medseg.imaging.dicom.headers import RTSTRUCT_CLASS
from napari_medseg.imaging.dicom.reopen import Scan
from napari_medseg.imaging.volume import LabelMap

_DETACHED_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_COPIED = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
_COLOURS = ((255, 0, 0), (0, 170, 255), (0, 200, 80), (255, 170, 0), (200, 0, 255), (0, 220, 220))
# Coordinates are written with this many decimals: ten nanometres are far below any voxel.
_DECIMALS = 5


def structure_set(masks: NDArray[Any], label_map: LabelMap, scan: Scan) -> FileDataset:
    """Build the object.

    Parameters
    ----------
    masks : ndarray, shape (slices, rows, columns)
        Labels in the order of the scan's slices.
    label_map : LabelMap
        Whose names and colours are used.
    scan : Scan
        The series to refer to.
    """
    with warnings.catch_warnings():
        # pydicom warns about unusual values in the scan's headers, which are none of our making.
        warnings.simplefilter("ignore")
        ds = _empty_object(scan.first)
        ds.ReferencedFrameOfReferenceSequence = [_frame_of_reference(scan)]
        labels = [int(label) for label in np.unique(masks[masks > 0])]
        ds.StructureSetROISequence = [_region(label, label_map, scan) for label in labels]
        ds.ROIContourSequence = [_region_contours(label, masks, label_map, scan) for label in labels]
        ds.RTROIObservationsSequence = [_observation(label, label_map) for label in labels]
    return ds


def _empty_object(header: Dataset) -> FileDataset:
    from napari_medseg import __version__

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(RTSTRUCT_CLASS), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in _COPIED:
        if keyword in header:
            ds[keyword] = header[keyword]
    now = datetime.datetime.now()
    ds.SOPClassUID, ds.SOPInstanceUID = RTSTRUCT_CLASS, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "RTSTRUCT", generate_uid(), 901
    ds.InstanceNumber, ds.OperatorsName = 1, ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "napari-medseg", "napari-medseg", __version__
    ds.StructureSetLabel = "LESIONS"
    ds.StructureSetDate, ds.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.InstanceCreationDate, ds.InstanceCreationTime = ds.StructureSetDate, ds.StructureSetTime
    ds.SeriesDate, ds.SeriesTime = ds.StructureSetDate, ds.StructureSetTime
    ds.FrameOfReferenceUID = header.FrameOfReferenceUID
    ds.PositionReferenceIndicator = ""
    ds.ApprovalStatus = "UNAPPROVED"
    return ds


def _frame_of_reference(scan: Scan) -> Dataset:
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = scan.first.SeriesInstanceUID
    series.ContourImageSequence = [_image(scan, k) for k in scan.present]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _DETACHED_STUDY_CLASS, scan.first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = scan.first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(scan: Scan, k: int) -> Dataset:
    plane, header, image = scan.source.planes[k], scan.headers[k], Dataset()
    assert plane is not None
    assert header is not None
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if plane.n_frames > 1:
        image.ReferencedFrameNumber = plane.frame + 1
    return image


def _name(label: int, label_map: LabelMap) -> str:
    return (label_map.names.get(label) or f"Label {label}")[:64]


def _region(label: int, label_map: LabelMap, scan: Scan) -> Dataset:
    region = Dataset()
    region.ROINumber, region.ROIName = label, _name(label, label_map)
    region.ReferencedFrameOfReferenceUID = scan.first.FrameOfReferenceUID
    region.ROIGenerationAlgorithm = "SEMIAUTOMATIC"
    return region


def _region_contours(label: int, masks: NDArray[Any], label_map: LabelMap, scan: Scan) -> Dataset:
    item = Dataset()
    colour = label_map.metadata.get("colours", {}).get(label)
    rgb = _COLOURS[(label - 1) % len(_COLOURS)] if colour is None else [round(float(v) * 255) for v in colour[:3]]
    item.ROIDisplayColor = [int(v) for v in rgb]
    item.ReferencedROINumber = label
    contours = []
    for k, mask in enumerate(masks):
        is_label = mask == label
        if not is_label.any():
            continue
        for points in contours_of(is_label):
            contours.append(_contour(points, k, scan))
    item.ContourSequence = contours
    return item


def _contour(points: NDArray[np.float64], k: int, scan: Scan) -> Dataset:
    affine = scan.affine_lps
    position = points[:, 1:] * affine[:3, 0] + points[:, :1] * affine[:3, 1] + k * affine[:3, 2] + affine[:3, 3]
    contour = Dataset()
    contour.ContourImageSequence = [_image(scan, k)]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [f"{value:.{_DECIMALS}f}" for value in position.ravel()]
    return contour


def _observation(label: int, label_map: LabelMap) -> Dataset:
    observation, code = Dataset(), Dataset()
    coded = codes_of(_name(label, label_map)).type
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = coded.value, coded.scheme, coded.meaning
    observation.ObservationNumber, observation.ReferencedROINumber = label, label
    observation.RTROIIdentificationCodeSequence = [code]
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    return observation
