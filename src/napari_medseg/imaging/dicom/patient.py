"""Notice that two files are of two people, without keeping who they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from napari_medseg.imaging.dicom.elements import Elements


@dataclass(frozen=True, slots=True)
class PatientKey:
    """Short one-way hashes of who the patient is, enough to notice that two files are of two people."""

    identifier: str
    name: str
    birth_date: str

    def is_other_person(self, other: PatientKey) -> bool:
        """Whether the identifiers differ, or the names where an identifier is missing."""
        if self.identifier and other.identifier:
            return self.identifier != other.identifier
        return bool(self.name and other.name and self.name != other.name)

    def differs(self, other: PatientKey) -> bool:
        """Whether a name or a birth date differs though the person seems the same."""
        pairs = ((self.name, other.name), (self.birth_date, other.birth_date))
        return any(a and b and a != b for a, b in pairs)


def patient_key(elements: Elements) -> PatientKey:
    """Key of the patient whom a data set is about."""
    name = elements.text(0x00100010).split("=")[0].upper()
    parts = (elements.text(0x00100020), "^".join(name.replace("^", " ").split()), elements.text(0x00100030))
    hashes = [hashlib.sha256(part.encode()).hexdigest()[:16] if part else "" for part in parts]
    return PatientKey(*hashes)
