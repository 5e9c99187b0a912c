"""Which format a file has, from its first bytes; its ending only decides where the bytes leave it open."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.content import Content
from napari_medseg.imaging.dicom.file import is_dicom
from napari_medseg.imaging.nifti_header import header_bytes
from napari_medseg.imaging.suffixes import DICOM_SUFFIXES, META_IMAGE_SUFFIXES, NIFTI_SUFFIXES, suffix_of

FORMAT_NAMES = {
    "nifti": "NIfTI",
    "nrrd": "NRRD",
    "metaimage": "MetaImage",
    "tiff": "TIFF",
    "raster": "PNG or JPEG",
    "dicom": "DICOM",
}
_PEEK = 1024
_MAGIC = (
    (b"NRRD", "nrrd"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x89PNG\r\n\x1a\n", "raster"),
    (b"\xff\xd8\xff", "raster"),
)
_REFUSED = (
    (b"PK\x03\x04", "a ZIP archive; unpack it and open what is inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it and open what is inside"),
    (b"Rar!", "a RAR archive; unpack it and open what is inside"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
    (b"\x89HDF", "an HDF5 file, which is not read here; convert it to NIfTI or NRRD"),
    (b"%PDF", "a PDF document, not a scan"),
)
_READABLE = "NIfTI, NRRD, MetaImage, TIFF, PNG, JPEG and DICOM are read"


def content_type(path: Path) -> str:
    """``"nifti"``, ``"nrrd"``, ``"metaimage"``, ``"tiff"``, ``"raster"`` or ``"dicom"``.

    Raises
    ------
    ImagingError
        If the file is missing, empty or of no known format; says what it is instead where that shows.
    """
    if not path.exists():
        raise ImagingError(f"{path} does not exist; check the path")
    if not path.is_file():
        raise ImagingError(f"{path.name} is not a file that can be read")
    suffix = suffix_of(path)
    if suffix in (".img", ".img.gz"):
        return "nifti"
    with Content(path) as content:
        if content.most_bytes == 0:
            raise ImagingError(f"{path.name} is empty; copy or export it again")
        block = content.read(_PEEK)
        is_gzip = not content.is_raw
    if header_bytes(block):
        return "nifti"
    if is_gzip:
        inside = "a text" if is_text(block) else "something else"
        raise ImagingError(
            f"{path.name} is compressed, but {inside} is inside instead of a NIfTI scan; choose the scan"
        )
    if block[128:132] == b"DICM":
        return "dicom"
    for magic, kind in _MAGIC:
        if block.startswith(magic):
            return kind
    for magic, what in _REFUSED:
        if block.startswith(magic):
            raise ImagingError(f"{path.name} is {what}")
    return _by_text_or_ending(path, suffix, block)


def is_text(block: bytes) -> bool:
    """Whether bytes look like something a person wrote."""
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n\f" or byte >= 128 for byte in block)
    return b"\0" not in block and printable >= 0.95 * len(block)


def _by_text_or_ending(path: Path, suffix: str, block: bytes) -> str:
    if _is_metaimage(block) or (suffix in META_IMAGE_SUFFIXES and b"=" in block):
        return "metaimage"
    if not is_text(block) and (suffix in DICOM_SUFFIXES or is_dicom(path)):
        return "dicom"
    if is_text(block):
        raise ImagingError(f"{path.name} is a text, not a scan; {_READABLE}")
    if suffix in NIFTI_SUFFIXES:
        raise ImagingError(f"{path.name} is not a NIfTI file, whatever its name says: it begins with no NIfTI header")
    raise ImagingError(f"{path.name} is of no known format; {_READABLE}")


def _is_metaimage(block: bytes) -> bool:
    first = block.split(b"\n", 1)[0].split(b"=")
    return len(first) == 2 and first[0].strip() in (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType")
