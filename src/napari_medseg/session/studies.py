"""Which open scans make up the study in view, and whom they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress

from napari_medseg.session.stage import belong_together
from napari_medseg.session.work import ScanWork

Works = Callable[[], tuple[ScanWork, ...]]


class StudyScans:
    """The open scan with the other open scans of its patient: views, sequences, modalities.

    Parameters
    ----------
    works : callable
        Gives all open scans, oldest first.

    Attributes
    ----------
    is_whole : bool
        Whether the other scans count; otherwise the open scan is the study.
    """

    def __init__(self, works: Works) -> None:
        self._works, self.is_whole = works, True

    def available(self, work: ScanWork) -> tuple[ScanWork, ...]:
        """All open scans of a scan's patient, by name, so that a sequence has the same place in every study.

        What came from no file belongs to nothing else.
        """
        known = self._works()
        if work.volume.path is None or not any(each is work for each in known):
            return (work,)
        found = (
            each
            for each in known
            if each is work or (each.volume.path is not None and belong_together(work.volume, each.volume))
        )
        return tuple(sorted(found, key=lambda each: each.volume.name))

    def of(self, work: ScanWork) -> tuple[ScanWork, ...]:
        """The scans of the study that a scan belongs to, as the user wants it."""
        return self.available(work) if self.is_whole else (work,)


def patient_of(work: ScanWork) -> str:
    """Whom a scan belongs to, in letters that name nobody: all lesions of a patient stand on one side of a split."""
    from napari_medseg.imaging.dicom.source import dicom_source  # not needed to open the dock

    source = dicom_source(work.volume.metadata)
    plane = next((plane for plane in source.planes if plane is not None), None) if source is not None else None
    if plane is not None:
        import pydicom

        with suppress(OSError, pydicom.errors.InvalidDicomError):
            header = pydicom.dcmread(plane.path, stop_before_pixels=True, specific_tags=["PatientID"])
            known = str(header.get("PatientID", "") or "")
            if known:
                return f"patient {hashlib.sha256(known.encode()).hexdigest()[:12]}"
    return f"scan {work.fingerprint}"
