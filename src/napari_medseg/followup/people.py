"""Notice that two scans are of two people."""

from __future__ import annotations

from napari_medseg.errors import EvaluationError, ImagingError
from napari_medseg.imaging.dicom.file import open_dicom
from napari_medseg.imaging.dicom.patient import PatientKey, patient_key
from napari_medseg.imaging.dicom.source import dicom_source
from napari_medseg.imaging.volume import Volume


def check_same_person(prior: Volume, current: Volume) -> None:
    """Refuse scans whose DICOM files name two patients; other formats name none.

    Raises
    ------
    EvaluationError
        If they do.
    """
    keys = [_key(volume) for volume in (prior, current)]
    if keys[0] is not None and keys[1] is not None and keys[0].is_other_person(keys[1]):
        raise EvaluationError(
            f"'{prior.name}' and '{current.name}' are of two patients, as their files say: choose scans of one"
        )


def _key(volume: Volume) -> PatientKey | None:
    source = dicom_source(volume.metadata)
    plane = next((each for each in source.planes if each is not None), None) if source is not None else None
    if plane is None:
        return None
    try:
        return patient_key(open_dicom(plane.path).elements)
    except (ImagingError, OSError):  # the files are no longer there
        return None
