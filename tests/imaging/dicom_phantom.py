"""DICOM objects made from nothing, for tests and benchmarks: good ones to begin with, and the means to spoil them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
DX, US, US_CINE = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def asymmetric_voxels(shape: tuple[int, int, int] = (6, 8, 10)) -> NDArray[np.uint16]:
    """Every voxel different, so that no flip, swap or loss of a slice can pass."""
    return (np.arange(np.prod(shape)).reshape(shape) * 3 + 100).astype(np.uint16)


def image_header(sop_class: str = CT, modality: str = "CT") -> FileDataset:
    """Header of an image without pixels: patient, study, series, frame of reference."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.Modality = modality
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom^One", "P1", "19700101", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.FrameOfReferenceUID = generate_uid()
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AccessionNumber = "1", 1, 1, ""
    ds.StudyDate, ds.StudyTime, ds.ReferringPhysicianName = "20240101", "120000", ""
    ds.SeriesDescription, ds.Manufacturer = "Phantom", "Nobody"
    ds.PositionReferenceIndicator, ds.PatientPosition = "", "HFS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return ds


def set_pixels(ds: Dataset, pixels: NDArray[np.generic], *, bits_stored: int | None = None) -> None:
    """Store a grey image ``(rows, columns)`` or ``(frames, rows, columns)``."""
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored = bits, bits_stored or bits
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    raw = pixels.tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"


def ct_slices(
    voxels: NDArray[np.generic],
    *,
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.6),
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    orientation: Sequence[float] = AXIAL,
    slope: float = 1,
    intercept: float = -1024,
    sop_class: str = CT,
    modality: str = "CT",
) -> list[FileDataset]:
    """Slices of a series in order along the normal; ``spacing_mm`` is between slices, rows, columns."""
    normal = np.cross(orientation[:3], orientation[3:])
    first = image_header(sop_class, modality)
    slices = []
    for k, pixels in enumerate(voxels):
        ds = image_header(sop_class, modality)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
        ds.FrameOfReferenceUID = first.FrameOfReferenceUID
        ds.InstanceNumber = k + 1
        ds.ImageOrientationPatient = [float(v) for v in orientation]
        ds.ImagePositionPatient = [round(float(v), 6) for v in np.asarray(origin) + k * spacing_mm[0] * normal]
        ds.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
        ds.SliceThickness = spacing_mm[0]
        if modality != "MR":
            ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        set_pixels(ds, pixels)
        slices.append(ds)
    return slices


def save(path: Path, ds: Dataset) -> Path:
    """Write one object, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def save_slices(folder: Path, slices: Sequence[Dataset]) -> Path:
    """Write slices under names that say nothing about their order."""
    order = np.random.default_rng(7).permutation(len(slices))
    for number, k in enumerate(order):
        save(folder / f"IM{number:04d}", slices[k])
    return folder


def enhanced(
    voxels: NDArray[np.generic],
    *,
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.6),
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    orientation: Sequence[float] = AXIAL,
    slopes: Sequence[float] | None = None,
    sop_class: str = ENHANCED_CT,
    modality: str = "CT",
) -> FileDataset:
    """One enhanced multi-frame object with the same geometry as `ct_slices`."""
    normal = np.cross(orientation[:3], orientation[3:])
    ds = image_header(sop_class, modality)
    set_pixels(ds, voxels)
    measures, plane_orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing_mm[1], spacing_mm[2]], spacing_mm[0]
    plane_orientation.ImageOrientationPatient = [float(v) for v in orientation]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane_orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in range(len(voxels)):
        position, transformation, content, item = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [round(float(v), 6) for v in np.asarray(origin) + k * spacing_mm[0] * normal]
        transformation.RescaleSlope = slopes[k] if slopes is not None else 1
        transformation.RescaleIntercept, transformation.RescaleType = (-1024 if slopes is None else 0), "HU"
        content.StackID, content.InStackPositionNumber = "1", k + 1
        item.PlanePositionSequence, item.PixelValueTransformationSequence = [position], [transformation]
        item.FrameContentSequence = [content]
        frames.append(item)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def spoiled_copies(data: bytes, n: int, seed: int = 5) -> Iterator[bytes]:
    """Yield copies with a few random bytes changed after the preamble."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        copy = bytearray(data)
        for at in rng.integers(132, len(data), 4):
            copy[at] = rng.integers(256)
        yield bytes(copy)
