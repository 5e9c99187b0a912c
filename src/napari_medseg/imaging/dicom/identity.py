"""Leave the patient out of a DICOM object that is about to be written: an explicit act, never the default."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Everything about patient, visit, study and place that highdicom copies from the scan, or that we write ourselves.
_EMPTIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "OperatorsName"),
)
_REMOVED = (
    *("StudyDescription", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
    *("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "PerformingPhysicianName"),
    *("ReferringPhysicianIdentificationSequence", "RequestingPhysician", "ConsultingPhysicianName"),
    *("ContributingEquipmentSequence", "ReferencedStudySequence", "RequestAttributesSequence", "AdmissionID"),
    *("PersonName", "ContentCreatorName", "ReferencedPatientSequence", "ProcedureCodeSequence", "IssuerOfAdmissionID"),
)
# UIDs that name a kind of thing, the same in every file in the world.
_PUBLIC_ROOT = "1.2.840.10008."


def remove_identity(ds: Dataset) -> None:
    """Empty or remove what says who the patient is, and replace every instance UID by a hash of it, in place.

    The same UID always becomes the same one, so objects written for one scan still refer to each other.
    """
    for element in list(ds):
        is_of_patient = element.tag.group == 0x0010 and element.keyword not in _EMPTIED
        if is_of_patient or element.tag.is_private:
            del ds[element.tag]
    for keyword in _REMOVED:
        if keyword in ds:
            del ds[keyword]
    for keyword in _EMPTIED:
        if keyword in ds:
            setattr(ds, keyword, "")
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "napari-medseg: identity left out, UIDs replaced by hashes"
    _replace_uids(ds)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID


def _replace_uids(ds: Dataset) -> None:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _replace_uids(item)
        elif element.VR == "UI" and element.value:
            is_list = not isinstance(element.value, str)
            values = [_hashed(str(uid)) for uid in (element.value if is_list else [element.value])]
            element.value = values if is_list else values[0]


def _hashed(uid: str) -> str:
    """Return a UID under 2.25, the root for numbers made from nothing but bits."""
    if uid.startswith(_PUBLIC_ROOT):
        return uid
    number = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:16], "big")
    return f"2.25.{number}"
