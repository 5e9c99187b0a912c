"""Reading and writing scans and masks by path: the content decides which format it is, the ending only helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.content_type import FORMAT_NAMES, content_type
from napari_medseg.imaging.limits import refusing_damage
from napari_medseg.imaging.provenance import fingerprint
from napari_medseg.imaging.suffixes import (
    LABEL_MAP_SUFFIXES,
    VOLUME_SUFFIXES,
    WRITABLE_SUFFIXES,
    suffix_of,
)
from napari_medseg.imaging.volume import LabelMap, Volume

__all__ = [
    "LABEL_MAP_SUFFIXES",
    "VOLUME_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "read_label_map",
    "read_volume",
    "read_volumes",
    "write_label_map",
]

# Format -> module and function; modules are imported when a file of theirs is opened.
_VOLUME_READERS = {
    "nifti": ("nifti", "read_nifti"),
    "nrrd": ("nrrd", "read_nrrd"),
    "metaimage": ("metaimage", "read_metaimage"),
    "tiff": ("tiff", "read_tiff"),
    "raster": ("raster", "read_raster"),
}
_LABEL_MAP_READERS = {
    "nifti": ("nifti", "read_nifti_label_map"),
    "nrrd": ("nrrd", "read_nrrd_label_map"),
    "metaimage": ("metaimage", "read_metaimage_label_map"),
    "tiff": ("tiff", "read_tiff_label_map"),
    "raster": ("raster", "read_raster_label_map"),
    "dicom": ("dicom_seg", "read_dicom_seg"),
}
_LABEL_MAP_WRITERS = {
    ".nii": ("nifti", "write_nifti_label_map"),
    ".nii.gz": ("nifti", "write_nifti_label_map"),
    ".nrrd": ("nrrd", "write_nrrd_label_map"),
    ".seg.nrrd": ("nrrd", "write_nrrd_label_map"),
    ".mha": ("metaimage", "write_metaimage_label_map"),
    ".dcm": ("dicom_seg", "write_dicom_seg"),
}


def read_volume(path: str | Path) -> Volume:
    """Read a scan: NIfTI, NRRD, MetaImage, TIFF, PNG, JPEG, a DICOM file or a folder of a DICOM series.

    Where the path holds several volumes it is the one with most slices (of a 4-D file the first), and
    ``volume.warnings`` says so; `read_volumes` gives them all.

    Raises
    ------
    ImagingError
        One sentence: which file, what is wrong with it, what to do.
    """
    volumes = _read_volumes(Path(path), first_only=True)
    if len(volumes) == 1:
        return volumes[0]
    note = f"{Path(path).name} holds {len(volumes)} scans; this is the one with most slices."
    return replace(volumes[0], warnings=(*volumes[0].warnings, note))


def read_volumes(path: str | Path) -> tuple[Volume, ...]:
    """Read every volume under a path, most slices first: each series of a folder, each time point of a 4-D file.

    Raises
    ------
    ImagingError
        If nothing readable is there; files that are damaged beside readable ones are named in a warning.
    """
    return _read_volumes(Path(path), first_only=False)


def read_label_map(path: str | Path) -> LabelMap:
    """Read a mask: NIfTI, NRRD, .seg.nrrd, MetaImage, TIFF, PNG, a DICOM SEG or RTSTRUCT.

    Raises
    ------
    ImagingError
        If it cannot be read or its values are no labels (0 to 65535, whole numbers).
    """
    path = Path(path)
    with refusing_damage(path, "mask"):
        if path.is_dir():
            return _only_label_map(path)
        kind = content_type(path)
        if kind == "dicom":
            return _read_dicom_label_map(path)
        label_map: LabelMap = _function(_LABEL_MAP_READERS[kind])(path)
        return label_map


def write_label_map(path: str | Path, label_map: LabelMap) -> Path:
    """Save a mask on its scan's on-disk grid, durably: written beside, read back, compared, then put in place.

    Parameters
    ----------
    path : str or Path
        Ends in .nii, .nii.gz, .nrrd, .seg.nrrd, .mha or .dcm (a DICOM SEG). Names go along where the format holds them.
    label_map : LabelMap
        Saved on ``label_map.grid`` where it has one.

    Returns
    -------
    Path
        The file that now holds the mask.

    Raises
    ------
    ImagingError
        If it could not be saved in full; a previous file is then untouched.
    """
    path = Path(path)
    suffix = suffix_of(path, WRITABLE_SUFFIXES)
    if not suffix:
        endings = ", ".join(WRITABLE_SUFFIXES)
        raise ImagingError(f"{path.name} has no ending that a mask can be saved as; choose one of {endings}")
    written: Path = _function(_LABEL_MAP_WRITERS[suffix])(path, label_map)
    return written


def _function(home: tuple[str, str]) -> Callable[..., Any]:
    module, name = home
    function: Callable[..., Any] = getattr(import_module(f"napari_medseg.imaging.{module}"), name)
    return function


def _read_volumes(path: Path, *, first_only: bool) -> tuple[Volume, ...]:
    with refusing_damage(path, "scan"):
        volumes = _read_folder(path) if path.is_dir() else _read_file(path, first_only=first_only)
    return tuple(sorted(volumes, key=_n_slices, reverse=True))


def _n_slices(volume: Volume) -> int:
    from napari_medseg.imaging.orientation import acquisition_axis

    return int(volume.data.shape[acquisition_axis(volume)])


def _read_file(path: Path, *, first_only: bool) -> tuple[Volume, ...]:
    kind = content_type(path)
    mark = fingerprint(path)
    if kind == "dicom":
        volumes: tuple[Volume, ...] = _function(("dicom", "read_series"))(path)
    else:
        with refusing_damage(path, FORMAT_NAMES[kind]):
            volumes = _function(_VOLUME_READERS[kind])(path, first_only=first_only)
    return tuple(_marked(volume, mark) for volume in volumes)


def _marked(volume: Volume, mark: Any) -> Volume:
    return replace(volume, metadata=MappingProxyType({**volume.metadata, "fingerprint": mark}))


def _read_folder(folder: Path) -> tuple[Volume, ...]:
    """Every scan in a folder: its DICOM series, and its files of other formats."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    if not files:
        raise ImagingError(f"the folder {folder.name} holds no files; choose the folder with the scan in it")
    volumes: list[Volume] = []
    skipped: list[str] = []
    scans = [file for file in files if _is_scan_of_its_own(file)]
    for file in scans:
        try:
            volumes += _read_file(file, first_only=True)
        except ImagingError as error:
            skipped.append(str(error))
    if len(scans) < len(files):
        try:
            mark = fingerprint(folder)
            volumes += [_marked(volume, mark) for volume in _function(("dicom", "read_series"))(folder)]
        except ImagingError as error:
            skipped.append(str(error))
    if not volumes:
        raise ImagingError(skipped[0])
    if skipped and len(scans) > 1:
        note = f"{len(skipped)} files of this folder were left out: {skipped[0]}"
        volumes[0] = replace(volumes[0], warnings=(*volumes[0].warnings, note))
    return tuple(volumes)


def _is_scan_of_its_own(file: Path) -> bool:
    """Whether a file of a folder is a scan of another format than DICOM, by its ending (opening thousands is slow)."""
    suffix = suffix_of(file)
    return suffix not in ("", ".img", ".img.gz", ".dcm", ".dicom", ".ima")


def _only_label_map(folder: Path) -> LabelMap:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    if len(files) == 1:
        return read_label_map(files[0])
    raise ImagingError(f"the folder {folder.name} holds {len(files)} files; choose the file with the mask")


def _read_dicom_label_map(path: Path) -> LabelMap:
    import pydicom

    modality = str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
    home = ("rtstruct", "read_rtstruct") if modality == "RTSTRUCT" else _LABEL_MAP_READERS["dicom"]
    label_map: LabelMap = _function(home)(path)
    return label_map
