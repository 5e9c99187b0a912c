"""The file endings this package knows, and the name of a file without its ending."""

from __future__ import annotations

from pathlib import Path

NIFTI_SUFFIXES = (".nii.gz", ".nii", ".hdr.gz", ".hdr", ".img.gz", ".img")
NRRD_SUFFIXES = (".seg.nrrd", ".nrrd", ".seg.nhdr", ".nhdr")
META_IMAGE_SUFFIXES = (".mha", ".mhd")
TIFF_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
RASTER_SUFFIXES = (".png", ".jpeg", ".jpg")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

VOLUME_SUFFIXES = (
    *(*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *META_IMAGE_SUFFIXES),
    *(*TIFF_SUFFIXES, *RASTER_SUFFIXES, *DICOM_SUFFIXES),
)
LABEL_MAP_SUFFIXES = VOLUME_SUFFIXES
WRITABLE_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".dcm")


def suffix_of(path: Path, known: tuple[str, ...] = VOLUME_SUFFIXES) -> str:
    """Return the longest known ending of a file name, lower case, or ``""``."""
    name = path.name.lower()
    return max((suffix for suffix in known if name.endswith(suffix) and name != suffix), key=len, default="")


def stem_of(path: Path) -> str:
    """Return the file name without its known ending."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name
