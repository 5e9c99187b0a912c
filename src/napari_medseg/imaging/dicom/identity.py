"""Leave the patient out of a DICOM object that is about to be written: an explicit act, never the default."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from napari_medseg.errors import ImagingError
from napari_medseg.home import home_folder

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Everything about patient, visit, study and place that highdicom copies from the scan, or that we write ourselves.
_EMPTIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "OperatorsName", "SeriesDate", "SeriesTime"),
)
# Dates that an object must have: those of the export can give away those of the visit.
_NO_DATE, _NO_TIME = "19000101", "000000"
_DATES = {
    "ContentDate": _NO_DATE,
    "ContentTime": _NO_TIME,
    "StructureSetDate": _NO_DATE,
    "StructureSetTime": _NO_TIME,
}
# Patient, clinical trial, requests, visits, procedures.
_GROUPS_OF_IDENTITY = (0x0010, 0x0012, 0x0032, 0x0038, 0x0040)
_REMOVED = (
    *("StudyDescription", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
    *("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "PerformingPhysicianName"),
    *("ReferringPhysicianIdentificationSequence", "RequestingPhysician", "ConsultingPhysicianName"),
    *("ContributingEquipmentSequence", "ReferencedStudySequence", "RequestAttributesSequence", "AdmissionID"),
    *("PersonName", "ContentCreatorName", "ReferencedPatientSequence", "ProcedureCodeSequence", "IssuerOfAdmissionID"),
    *("InstanceCreationDate", "InstanceCreationTime", "AcquisitionDate", "AcquisitionTime", "TimezoneOffsetFromUTC"),
    *("SeriesDescription", "ProtocolName", "RequestingService", "InstanceCreatorUID"),
)
# UIDs that name a kind of thing, the same in every file in the world.
_PUBLIC_ROOT = "1.2.840.10008."


def remove_identity(ds: Dataset) -> None:
    """Empty or remove what says who the patient is and when he or she came, and give fresh UIDs, in place.

    On one computer the same UID always becomes the same fresh one, so objects written for one scan still refer to each
    other; without this computer's key nobody can tell which UID was the old one. Names of lesions stay.
    """
    for element in list(ds):
        is_of_patient = element.tag.group in _GROUPS_OF_IDENTITY and element.keyword not in _EMPTIED
        if is_of_patient or element.tag.is_private:
            del ds[element.tag]
    for keyword in _REMOVED:
        if keyword in ds:
            del ds[keyword]
    for keyword in _EMPTIED:
        if keyword in ds:
            setattr(ds, keyword, "")
    for keyword, nothing in _DATES.items():
        if keyword in ds:
            setattr(ds, keyword, nothing)
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "napari-medseg: identity and dates left out, UIDs replaced"
    _replace_uids(ds, _key())
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID


def _replace_uids(ds: Dataset, key: bytes) -> None:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _replace_uids(item, key)
        elif element.VR == "UI" and element.value:
            is_list = not isinstance(element.value, str)
            values = [_fresh(str(uid), key) for uid in (element.value if is_list else [element.value])]
            element.value = values if is_list else values[0]


def _fresh(uid: str, key: bytes) -> str:
    """Return a UID under 2.25, the root for numbers made from nothing but bits."""
    if uid.startswith(_PUBLIC_ROOT):
        return uid
    number = int.from_bytes(hmac.new(key, uid.encode(), hashlib.sha256).digest()[:16], "big")
    return f"2.25.{number}"


def _key() -> bytes:
    """Return this computer's own secret, made at the first de-identified export."""
    path = home_folder() / "deidentification.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
    key = path.read_bytes()
    if len(key) < 32:
        raise ImagingError(f"{path} is damaged: remove it, then export again (earlier exports keep their own UIDs)")
    return key
