"""The formats in which a mask can be saved: what each is called, how its files end, and what it needs of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.source import dicom_source
from napari_medseg.imaging.suffixes import suffix_of


@dataclass(frozen=True, slots=True)
class MaskFormat:
    """One format.

    Parameters
    ----------
    key : str
        What a script calls it: ``"rtstruct"``.
    name : str
        What a person calls it.
    suffixes : tuple of str
        Endings of its files, the usual one first.
    home : tuple of str
        Module and function that write it.
    about : str
        What it keeps, in a sentence.
    needs_dicom : bool
        Whether the scan must have come from DICOM files, to which the mask refers.
    is_surface : bool
        Whether it holds triangles, which cannot be read back as a mask.
    """

    key: str
    name: str
    suffixes: tuple[str, ...]
    home: tuple[str, str]
    about: str
    needs_dicom: bool = False
    is_surface: bool = False

    def refusal(self, metadata: Mapping[str, Any]) -> str:
        """Say why a mask of the scan with these metadata cannot be saved in this format; empty where it can."""
        if not self.needs_dicom:
            return ""
        source = dicom_source(metadata)
        if source is None:
            return f"A {self.name} refers to the DICOM files of its scan, and this scan was not opened from DICOM."
        if self.key == "rtstruct" and not source.is_placed:
            return "An RTSTRUCT needs a scan with a position in the patient, and these images have none."
        if source.is_placed and not source.frame_of_reference_uid:
            return f"A {self.name} refers to the scan's frame of reference, and these files name none (anonymised?)."
        return ""


_GEOMETRY = "Same grid as the scan's file; geometry and labels alone, no patient data."
_TRIANGLES = (
    "Triangles in the patient's millimetres, RAS as all positions here; the header says SPACE=RAS, which 3D Slicer "
    "obeys. One closed surface a lesion."
)
MASK_FORMATS = (
    MaskFormat("nifti", "NIfTI", (".nii.gz", ".nii"), ("nifti", "write_nifti_label_map"), _GEOMETRY),
    MaskFormat("nrrd", "NRRD", (".nrrd",), ("nrrd", "write_nrrd_label_map"), _GEOMETRY),
    MaskFormat(
        "seg-nrrd",
        "3D Slicer segmentation",
        (".seg.nrrd",),
        ("nrrd", "write_nrrd_label_map"),
        "Same grid as the scan's file, with the lesions' names and colours; no patient data.",
    ),
    MaskFormat("metaimage", "MetaImage", (".mha",), ("metaimage", "write_metaimage_label_map"), _GEOMETRY),
    MaskFormat(
        "dicom-seg",
        "DICOM SEG",
        (".dcm",),
        ("dicom.seg", "write_dicom_seg"),
        "Voxels with coded names, and references to each slice of the scan.",
        needs_dicom=True,
    ),
    MaskFormat(
        "rtstruct",
        "DICOM RTSTRUCT",
        (".dcm",),
        ("dicom.rtstruct", "write_rtstruct"),
        "Contours for planning systems, and references to each slice of the scan.",
        needs_dicom=True,
    ),
    MaskFormat("stl", "STL surface", (".stl",), ("surface", "write_surface"), _TRIANGLES, is_surface=True),
    MaskFormat("obj", "OBJ surface", (".obj",), ("surface", "write_surface"), _TRIANGLES, is_surface=True),
)
FORMAT_KEYS = tuple(each.key for each in MASK_FORMATS)
MASK_ENDINGS = tuple(dict.fromkeys(suffix for each in MASK_FORMATS for suffix in each.suffixes))


def mask_format(path: Path, key: str | None = None) -> MaskFormat:
    """Return the format to save a mask in.

    Parameters
    ----------
    path : Path
        Its ending decides where no key is given; ``.dcm`` is then a DICOM SEG.
    key : str, optional
        One of `FORMAT_KEYS`.

    Raises
    ------
    ImagingError
        If there is no such key, the ending belongs to no format, or to another one than the key's.
    """
    suffix = suffix_of(path, MASK_ENDINGS)
    if key is None:
        found = next((each for each in MASK_FORMATS if suffix in each.suffixes), None)
        if found is None:
            endings = ", ".join(MASK_ENDINGS)
            raise ImagingError(f"{path.name} has no ending that a mask can be saved as; choose one of {endings}")
        return found
    wanted = next((each for each in MASK_FORMATS if each.key == key), None)
    if wanted is None:
        raise ImagingError(f"there is no mask format '{key}'; choose one of {', '.join(FORMAT_KEYS)}")
    # DICOM files may be called anything; all others are told apart by their endings.
    if suffix not in wanted.suffixes and (suffix or not wanted.needs_dicom):
        raise ImagingError(f"{path.name} does not end in {' or '.join(wanted.suffixes)}, as {wanted.name} files do")
    return wanted
