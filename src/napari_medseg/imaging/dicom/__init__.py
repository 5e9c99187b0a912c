"""DICOM scans: files and folders in, volumes out; `list_series` says what is there without reading pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.file import is_dicom, modality_of
from napari_medseg.imaging.dicom.find import Found, Progress, SeriesInfo, ShouldStop, find_series
from napari_medseg.imaging.dicom.pixels import read_stack
from napari_medseg.imaging.dicom.series import Stack
from napari_medseg.imaging.dicom.source import DicomSource, changed_files, dicom_source, source_of_stack
from napari_medseg.imaging.orientation import to_memory
from napari_medseg.imaging.volume import Volume

__all__ = [
    "DicomSource",
    "SeriesInfo",
    "changed_files",
    "dicom_source",
    "is_dicom",
    "list_series",
    "modality_of",
    "read_first",
    "read_listed",
    "read_series",
]

# Listing a folder takes about as long as reading a few slices of it, so it gets this share of the progress.
_LISTING_SHARE = 0.2


def list_series(
    folder: str | Path, *, progress: Progress | None = None, should_stop: ShouldStop | None = None
) -> tuple[SeriesInfo, ...]:
    """List the volumes of a folder (or file), most slices first, from headers alone.

    Those that cannot be opened come last and say why in ``refusal``.

    Raises
    ------
    ImagingError
        If no DICOM image is there.
    Cancelled
        If ``should_stop`` said so.
    """
    return find_series(Path(folder), progress=progress, should_stop=should_stop).series


def read_series(
    path: str | Path, *, progress: Progress | None = None, should_stop: ShouldStop | None = None
) -> tuple[Volume, ...]:
    """Read every volume of a DICOM file or folder, most slices first.

    A file that is one slice gives one slice; open its folder for the series. A cine gives one volume a frame.

    Parameters
    ----------
    path : str or Path
        A file, or a folder that is searched with its subfolders.
    progress : callable, optional
        Called with the share done, 0 to 1.
    should_stop : callable, optional
        Asked between files.

    Raises
    ------
    ImagingError
        If nothing there can be read; the sentence says why. Where at least one series can, the others are named in the
        first volume's ``warnings``.
    Cancelled
        If ``should_stop`` said so.
    """
    path = Path(path)
    found = find_series(path, progress=_part(progress, 0.0, _LISTING_SHARE), should_stop=should_stop)
    return _read_all(found, path, progress=_part(progress, _LISTING_SHARE, 1.0), should_stop=should_stop)


def read_first(path: str | Path, *, progress: Progress | None = None, should_stop: ShouldStop | None = None) -> Volume:
    """Read only the volume with most slices (of a cine: its first frame); its ``warnings`` count the others.

    Raises
    ------
    ImagingError
        If nothing there can be read.
    Cancelled
        If ``should_stop`` said so.
    """
    path = Path(path)
    found = find_series(path, progress=_part(progress, 0.0, _LISTING_SHARE), should_stop=should_stop)
    readable = [info for info in found.series if not info.refusal]
    refused = [info for info in found.series if info.refusal]
    notes = found.notes
    if len(readable) > 1:
        others = ", ".join(f"'{info.description}'" for info in readable[1:4])
        more = " and more" if len(readable) > 4 else ""
        notes = (
            *notes,
            f"'{path.name}' holds {len(readable)} volumes, this is the largest; others: {others}{more}.",
        )
    one = tuple(replace(info, stacks=info.stacks[:1]) for info in readable[:1])
    found = Found((*one, *refused), notes)
    return _read_all(found, path, progress=_part(progress, _LISTING_SHARE, 1.0), should_stop=should_stop)[0]


def read_listed(
    info: SeriesInfo, *, progress: Progress | None = None, should_stop: ShouldStop | None = None
) -> tuple[Volume, ...]:
    """Read one entry of `list_series`: one volume, or one a frame of a cine.

    Raises
    ------
    ImagingError
        If it cannot be read.
    Cancelled
        If ``should_stop`` said so.
    """
    return _read_all(Found((info,), ()), info.folder, progress=progress, should_stop=should_stop)


def _read_all(
    found: Found, path: Path, *, progress: Progress | None, should_stop: ShouldStop | None
) -> tuple[Volume, ...]:
    stacks = [stack for info in found.series for stack in info.stacks]
    failures = [info.refusal for info in found.series if info.refusal]
    volumes: list[Volume] = []
    n_planes, n_done = sum(len(stack.planes) for stack in stacks), 0
    for stack in stacks:
        share = _part(progress, n_done / n_planes, (n_done + len(stack.planes)) / n_planes)
        n_done += len(stack.planes)
        try:
            volumes.append(_read_volume(stack, path, progress=share, should_stop=should_stop))
        except ImagingError as error:
            failures.append(str(error))
    if not volumes:
        more = f" ({len(failures) - 1} more series could not be opened either)" if len(failures) > 1 else ""
        raise ImagingError(failures[0] + more)
    left_out = tuple(f"Left out: {failure}" for failure in failures)
    if found.notes or left_out:
        volumes[0] = replace(volumes[0], warnings=(*volumes[0].warnings, *found.notes, *left_out))
    return tuple(volumes)


def _read_volume(stack: Stack, path: Path, *, progress: Progress | None, should_stop: ShouldStop | None) -> Volume:
    pixels = read_stack(stack, progress=progress, should_stop=should_stop)
    # The file's fastest axis is the column, and disk axes are (column, row, slice).
    data, affine, grid = to_memory(pixels.data.transpose(2, 1, 0), stack.affine_ijk)
    file = stack.first.file
    return Volume(
        data,
        affine,
        name=stack.title or path.name,
        modality=file.modality,
        path=path,
        grid=grid,
        warnings=(*stack.warnings, *pixels.warnings),
        metadata=MappingProxyType({"dicom": source_of_stack(stack)}),
        sides_are_known=stack.is_placed,
    )


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """Progress of a part that runs from ``start`` to ``stop`` of the whole."""
    if progress is None:
        return None
    whole = progress
    return lambda share: whole(start + share * (stop - start))
