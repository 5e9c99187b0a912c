"""What a volume remembers of the DICOM files it came from, so that masks of it can refer to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_medseg.imaging.dicom.headers import Plane
from napari_medseg.imaging.dicom.series import Stack


@dataclass(frozen=True, slots=True, repr=False)
class SourcePlane:
    """One slice's file, and which image it was when it was read."""

    path: Path
    size: int
    mtime_ns: int
    sop_class_uid: str
    sop_instance_uid: str
    frame: int
    n_frames: int


@dataclass(frozen=True, slots=True, repr=False)
class DicomSource:
    """The series behind a volume; stands in ``metadata["dicom"]`` of volumes and of their masks.

    Parameters
    ----------
    series_uid, study_uid, frame_of_reference_uid : str
        As in the files; empty where they do not say.
    is_placed : bool
        Whether the slices have a position in the patient; without one no object can refer to places in them.
    planes : tuple
        One a slice in disk order; None where a slice is missing.
    unit : str
        Of the intensities, as PET states it (``"SUV"``, ``"Bq/ml"``); empty where the files do not say.
    """

    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    is_placed: bool
    planes: tuple[SourcePlane | None, ...]
    unit: str = ""


def source_of_stack(stack: Stack) -> DicomSource:
    """Describe the files of a stack."""
    file = stack.first.file
    return DicomSource(
        series_uid=file.series_uid,
        study_uid=file.study_uid,
        frame_of_reference_uid=file.frame_of_reference_uid,
        is_placed=stack.is_placed,
        planes=tuple(None if plane is None else _source_plane(plane) for plane in stack.planes),
        unit=file.unit,
    )


def dicom_source(metadata: Mapping[str, Any]) -> DicomSource | None:
    """Return the DICOM series in a volume's or mask's metadata, or None where it came from another format."""
    source = metadata.get("dicom")
    return source if isinstance(source, DicomSource) else None


def changed_files(source: DicomSource) -> tuple[Path, ...]:
    """Files that are gone, or whose size or time of change is no longer that of when they were read."""
    changed: dict[Path, None] = {}
    for plane in source.planes:
        if plane is None or plane.path in changed:
            continue
        try:
            status = plane.path.stat()
        except OSError:
            changed[plane.path] = None
            continue
        if (status.st_size, status.st_mtime_ns) != (plane.size, plane.mtime_ns):
            changed[plane.path] = None
    return tuple(changed)


def _source_plane(plane: Plane) -> SourcePlane:
    file = plane.file
    return SourcePlane(
        path=file.path,
        size=file.size,
        mtime_ns=file.mtime_ns,
        sop_class_uid=file.sop_class_uid,
        sop_instance_uid=file.sop_instance_uid,
        frame=plane.frame,
        n_frames=file.place.n_frames,
    )
