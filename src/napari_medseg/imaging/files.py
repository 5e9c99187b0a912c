"""Reading and writing scans and masks by path: the content decides which format it is, the ending only helps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.content_type import FORMAT_NAMES, content_type
from napari_medseg.imaging.dicom.file import is_dicom, modality_of
from napari_medseg.imaging.dicom.source import changed_files, dicom_source
from napari_medseg.imaging.limits import refusing_damage
from napari_medseg.imaging.mask_formats import mask_format
from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.imaging.picture_stack import picture_stack, read_label_stack, read_picture_stack
from napari_medseg.imaging.provenance import fingerprint, refuse_scan_itself
from napari_medseg.imaging.suffixes import (
    DICOM_SUFFIXES,
    LABEL_MAP_SUFFIXES,
    VOLUME_SUFFIXES,
    WRITABLE_SUFFIXES,
    suffix_of,
)
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.imaging.watch import Tell, part, silent, telling

if TYPE_CHECKING:
    from napari_medseg.imaging.dicom import SeriesInfo

__all__ = [
    "LABEL_MAP_SUFFIXES",
    "VOLUME_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "other_scan_files",
    "read_label_map",
    "read_listed_series",
    "read_other_scans",
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
    "dicom": ("dicom.seg", "read_dicom_seg"),
}


# Masks by name, voxels without header, and everything that may be DICOM or no scan at all.
_NO_SCAN_OF_ITS_OWN = ("", ".img", ".img.gz", ".seg.nrrd", ".seg.nhdr", *DICOM_SUFFIXES)


def read_volume(path: str | Path) -> Volume:
    """Read a scan: NIfTI, NRRD, MetaImage, TIFF, PNG, JPEG, a DICOM file or a folder of a DICOM series.

    Where the path holds several volumes it is the one with most slices (of a 4-D file the first), and
    ``volume.warnings`` says so; `read_volumes` gives them all.

    Raises
    ------
    ImagingError
        One sentence: which file, what is wrong with it, what to do.
    """
    return _read_volumes(Path(path), first_only=True)[0]


def read_volumes(
    path: str | Path,
    *,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Volume, ...]:
    """Read every volume under a path, most slices first: each series of a folder, each time point of a 4-D file.

    Parameters
    ----------
    path : str or Path
        A file or a folder.
    progress : callable, optional
        Called with the share done, 0 to 1.
    should_stop : callable, optional
        Asked every few milliseconds whether to stop.

    Raises
    ------
    ImagingError
        If nothing readable is there; files that are damaged beside readable ones are named in a warning.
    Cancelled
        If ``should_stop`` said so.
    """
    return _read_volumes(Path(path), first_only=False, tell=telling(progress, should_stop))


def read_listed_series(
    info: SeriesInfo,
    notes: tuple[str, ...] = (),
    *,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Volume, ...]:
    """Read one entry of `napari_medseg.imaging.dicom.list_series`, as `read_volumes` would have read it.

    Parameters
    ----------
    info : SeriesInfo
        The entry.
    notes : tuple of str
        What the first volume's warnings shall say as well.
    progress : callable, optional
        Called with the share done, 0 to 1.
    should_stop : callable, optional
        Asked between slices.

    Raises
    ------
    ImagingError
        If it cannot be read.
    Cancelled
        If ``should_stop`` said so.
    """
    with refusing_damage(info.folder, "scan"):
        read = _function(("dicom", "read_listed"))
        first, *others = read(info, progress=progress, should_stop=should_stop)
        first = replace(first, warnings=(*first.warnings, *notes))
        return tuple(_marked(volume, info.folder) for volume in (first, *others))


def other_scan_files(folder: Path) -> list[Path]:
    """List the files below a folder that say by their ending that they are scans, and no DICOM."""
    return _scan_files(_files_of(folder))


def read_other_scans(folder: Path, *, should_stop: Callable[[], bool] | None = None) -> tuple[Volume, ...]:
    """Read the scans below a folder that are not DICOM; files that cannot be read are left out."""
    volumes: list[Volume] = []
    for file in other_scan_files(folder):
        with suppress(ImagingError):
            volumes += read_volumes(file, should_stop=should_stop)
    return tuple(volumes)


def read_label_map(
    path: str | Path,
    *,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LabelMap:
    """Read a mask: NIfTI, NRRD, .seg.nrrd, MetaImage, TIFF, PNG, a DICOM SEG or RTSTRUCT.

    Parameters
    ----------
    path : str or Path
        The file, or a folder with one in it.
    progress : callable, optional
        Called with the share done, 0 to 1.
    should_stop : callable, optional
        Asked every few milliseconds whether to stop.

    Raises
    ------
    ImagingError
        If it cannot be read or its values are no labels (0 to 65535, whole numbers).
    Cancelled
        If ``should_stop`` said so.
    """
    path, tell = Path(path), telling(progress, should_stop)
    with refusing_damage(path, "mask"):
        if path.is_dir():
            return _only_label_map(path, tell)
        kind = content_type(path)
        if kind == "dicom":
            return _read_dicom_label_map(path, tell)
        label_map: LabelMap = _function(_LABEL_MAP_READERS[kind])(path, tell=tell)
        return label_map


def write_label_map(
    path: str | Path, label_map: LabelMap, *, format: str | None = None, deidentified: bool = False
) -> Path:
    """Save a mask on its scan's on-disk grid, durably: written beside, read back, compared, then put in place.

    Parameters
    ----------
    path : str or Path
        Ends in .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .dcm (a DICOM SEG), or .stl or .obj (surfaces of the labels, RAS+
        millimetres). Names go along where the format holds them.
    label_map : LabelMap
        Saved on ``label_map.grid`` where it has one.
    format : str, optional
        Where the ending leaves it open: ``"rtstruct"`` makes a .dcm the contours of an RTSTRUCT. One of nifti, nrrd,
        seg-nrrd, metaimage, dicom-seg, rtstruct, stl, obj.
    deidentified : bool
        Leave the patient out of a DICOM SEG or RTSTRUCT and give it fresh UIDs, always the same for the same scan. The
        other formats never carry a patient.

    Returns
    -------
    Path
        The file that now holds the mask.

    Raises
    ------
    ImagingError
        If it could not be saved in full, or the path is that of the scan it was made on; what is there is then
        untouched.
    """
    path = Path(path)
    refuse_scan_itself(path, label_map)
    chosen = mask_format(path, format)
    options = {"deidentified": deidentified} if chosen.needs_dicom else {}
    written: Path = _function(chosen.home)(path, label_map, **options)
    return written


def _function(home: tuple[str, str]) -> Callable[..., Any]:
    module, name = home
    function: Callable[..., Any] = getattr(import_module(f"napari_medseg.imaging.{module}"), name)
    return function


def _read_volumes(path: Path, *, first_only: bool, tell: Tell = silent) -> tuple[Volume, ...]:
    with refusing_damage(path, "scan"):
        read = _read_folder if path.is_dir() else _read_file
        volumes = read(path, first_only=first_only, tell=tell)
    return tuple(sorted(volumes, key=_n_slices, reverse=True))


def _n_slices(volume: Volume) -> int:
    return int(volume.data.shape[acquisition_axis(volume)])


def _read_file(path: Path, *, first_only: bool, tell: Tell = silent) -> tuple[Volume, ...]:
    kind = content_type(path)
    before = fingerprint(path)
    if kind == "dicom":
        volumes = _read_dicom(path, first_only=first_only, tell=tell)
    else:
        with refusing_damage(path, FORMAT_NAMES[kind]):
            volumes = _function(_VOLUME_READERS[kind])(path, first_only=first_only, tell=tell)
    if before.has_changed():
        raise ImagingError(f"{path.name} changed while it was being read; open it again when it is complete")
    return tuple(_marked(volume, path) for volume in volumes)


def _read_dicom(path: Path, *, first_only: bool, tell: Tell) -> tuple[Volume, ...]:
    if first_only:
        return (_function(("dicom", "read_first"))(path, progress=tell),)
    volumes: tuple[Volume, ...] = _function(("dicom", "read_series"))(path, progress=tell)
    return volumes


def _marked(volume: Volume, path: Path) -> Volume:
    """Add the fingerprint of the files that a volume came from."""
    source = dicom_source(volume.metadata)
    changed = changed_files(source) if source else ()
    if changed:
        raise ImagingError(f"{changed[0].name} changed while it was being read; open it again when it is complete")
    files = {plane.path for plane in source.planes if plane is not None} if source else volume.metadata.get("files", ())
    mark = fingerprint(path, tuple(sorted(files)))
    return replace(volume, metadata=MappingProxyType({**volume.metadata, "fingerprint": mark}))


def _read_folder(folder: Path, *, first_only: bool, tell: Tell) -> tuple[Volume, ...]:
    """Every scan in a folder, or the one with most slices: its DICOM series, and its files of other formats."""
    files = _files_of(folder)
    if not files:
        raise ImagingError(f"the folder {folder.name} holds no files; choose the folder with the scan in it")
    scans = _scan_files(files)
    volumes: list[Volume] = []
    skipped: list[str] = []
    share = len(scans) / len(files)
    if any(is_dicom(file) for file in files if file not in set(scans)):
        try:
            volumes += [
                _marked(volume, folder)
                for volume in _read_dicom(folder, first_only=first_only, tell=part(tell, 0, 1 - share))
            ]
        except ImagingError as error:
            skipped.append(str(error))
    stacked: tuple[Volume, ...] = ()
    try:
        stacked = _read_stack(scans, part(tell, 1 - share, 1.0))
    except ImagingError as error:
        # A stack with a damaged picture is no scan, and its pictures are none either.
        skipped, scans = [*skipped, str(error)], []
    volumes += stacked
    for n_done, file in enumerate(() if stacked else scans):
        own = part(tell, 1 - share * (1 - n_done / len(scans)), 1 - share * (1 - (n_done + 1) / len(scans)))
        try:
            volumes += _read_file(file, first_only=first_only, tell=own)
        except ImagingError as error:
            skipped.append(str(error))
        if first_only and len(volumes) > 1:
            volumes = [max(volumes, key=_n_slices)]
    if not volumes:
        nothing = (
            f"the folder {folder.name} holds no scan among its {len(files)} files; choose the folder with the scan"
        )
        raise ImagingError(skipped[0] if skipped else nothing)
    return (_with_notes(volumes[0], folder, len(scans), skipped, first_only=first_only), *volumes[1:])


def _scan_files(files: list[Path]) -> list[Path]:
    return [file for file in files if suffix_of(file) not in _NO_SCAN_OF_ITS_OWN]


def _read_stack(files: list[Path], tell: Tell) -> tuple[Volume, ...]:
    """One volume where the files are the numbered pictures of a stack; none otherwise."""
    stack = picture_stack(files)
    if stack is None:
        return ()
    before = fingerprint(stack.files[0].parent, stack.files)
    volume = read_picture_stack(stack, partial(_read_file, first_only=False), tell=tell)
    if volume is None:
        return ()
    if before.has_changed():
        raise ImagingError(f"{before.path.name} changed while it was being read; open it again when it is complete")
    return (_marked(volume, before.path),)


def _with_notes(volume: Volume, folder: Path, n_files: int, skipped: list[str], *, first_only: bool) -> Volume:
    notes = []
    if first_only and n_files > 1 and volume.path != folder:
        notes.append(f"{folder.name} holds {n_files} files of scans; this is the scan with most slices.")
    if skipped:
        notes.append(f"{len(skipped)} of {folder.name} could not be read: {skipped[0]}")
    return replace(volume, warnings=(*volume.warnings, *notes))


def _files_of(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]


def _only_label_map(folder: Path, tell: Tell) -> LabelMap:
    files = _files_of(folder)
    if len(files) == 1:
        return read_label_map(files[0], progress=tell)
    stack = picture_stack(files)
    label_map = read_label_stack(stack, read_label_map, tell=tell) if stack else None
    if label_map is not None:
        return label_map
    raise ImagingError(f"the folder {folder.name} holds {len(files)} files; choose the file with the mask")


def _read_dicom_label_map(path: Path, tell: Tell) -> LabelMap:
    if modality_of(path) == "RTSTRUCT":
        label_map: LabelMap = _function(("dicom.rtstruct", "read_rtstruct"))(path)
    else:
        label_map = _function(_LABEL_MAP_READERS["dicom"])(path, tell=tell)
    return label_map
