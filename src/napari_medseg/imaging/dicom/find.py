"""Find the DICOM images below a folder and sort them into series, reading headers alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging.dicom.file import NotDicom
from napari_medseg.imaging.dicom.headers import NotAnImage, Plane, UnusableImage, read_planes
from napari_medseg.imaging.dicom.pixels import same_pixels, thumbnail
from napari_medseg.imaging.dicom.series import Refusal, Stack, sort_into_stacks
from napari_medseg.imaging.suffixes import DICOM_SUFFIXES

Progress = Callable[[float], None]
ShouldStop = Callable[[], bool]

_MOST_FOLDERS_DEEP = 12
_FEWEST_TORN = 4


@dataclass(frozen=True, slots=True, eq=False)
class SeriesInfo:
    """What a chooser shows of one volume that can be opened.

    Parameters
    ----------
    uid : str
        Series instance UID; several volumes of one series share it.
    description : str
        Series description, with what tells this volume from others of its series.
    modality : str
        DICOM's two letters.
    n_slices : int
        Slices, missing ones included.
    n_frames : int
        Frames in time (a cine); 1 otherwise.
    shape : tuple of int
        Rows and columns.
    spacing_mm : tuple of float
        Between slices, rows, columns.
    patient : str
        A key that is the same for files of one patient and does not say who that is; empty where nobody is named.
    folder : Path
        Where its first file lies.
    warnings : tuple of str
        What the reader has to assume.
    refusal : str
        Why it cannot be opened; empty where it can.
    stacks : tuple of Stack
        The volumes behind it, for `read_listed`.
    """

    uid: str
    description: str
    modality: str
    n_slices: int
    n_frames: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float, float]
    patient: str
    folder: Path
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    stacks: tuple[Stack, ...] = field(default=(), repr=False)

    def thumbnail(self) -> NDArray[np.uint8]:
        """Small picture of the middle slice, shape up to (96, 96), read when asked; black where it cannot be read."""
        return thumbnail(self.stacks[0] if self.stacks else None)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The series of a folder, most slices first, and what the first volume's warnings should mention."""

    series: tuple[SeriesInfo, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Headers:
    planes: list[Plane] = field(default_factory=list)
    unusable: list[tuple[Path, str, str]] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    n_foreign: int = 0
    empty: list[Path] = field(default_factory=list)


def find_series(
    path: Path, *, progress: Progress | None, should_stop: ShouldStop | None, most_files: int | None = None
) -> Found:
    """Read the headers of a file, or of the files of a folder (the first ``most_files``), and sort them.

    Raises
    ------
    ImagingError
        If no DICOM image is there; the sentence says what is there instead.
    Cancelled
        If ``should_stop`` said so.
    """
    if not path.exists():
        raise ImagingError(f"'{path}' does not exist.")
    files = list(islice(_files(path), most_files))
    headers = _read_headers(files, progress, should_stop)
    if not headers.planes:
        raise ImagingError(_why_nothing(path, headers))
    stacks, refusals = sort_into_stacks(headers.planes, same_pixels)
    stacks, damaged, notes = _without_damaged(stacks, headers)
    notes += _torn_apart(stacks)
    infos = [_info(group) for group in _together(stacks)]
    infos.sort(key=lambda info: (-info.n_slices, -info.shape[0] * info.shape[1]))
    refused = [_refused_info(refusal, headers.planes, path) for refusal in (*refusals, *damaged)]
    return Found((*infos, *refused), tuple(notes))


def _files(path: Path) -> Iterator[Path]:
    """The file, or every regular file below the folder in a steady order; links to folders are not followed."""
    if not path.is_dir():
        yield path
        return
    pending = [(path, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name.upper() == "DICOMDIR":
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth < _MOST_FOLDERS_DEEP:
                    pending.append((Path(entry.path), depth + 1))
            elif _is_file(entry):
                yield Path(entry.path)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry leads to a file; a link that leads round in a circle, or nowhere, does not."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _read_headers(paths: list[Path], progress: Progress | None, should_stop: ShouldStop | None) -> _Headers:
    headers = _Headers()
    for done, path in enumerate(paths):
        if should_stop is not None and should_stop():
            raise Cancelled("Listing the folder was cancelled.")
        try:
            headers.planes += read_planes(path)
        except NotDicom:
            headers.n_foreign += 1
            if path.suffix.lower() in DICOM_SUFFIXES or path.stat().st_size == 0:
                headers.empty.append(path)
        except NotAnImage as error:
            headers.others[str(error)] = headers.others.get(str(error), 0) + 1
        except UnusableImage as error:
            headers.unusable.append((path, error.series_uid, str(error)))
        except OSError as error:
            headers.unusable.append((path, "", error.strerror or type(error).__name__))
        if progress is not None and (done % 16 == 15 or done + 1 == len(paths)):
            progress((done + 1) / len(paths))
    return headers


def _why_nothing(path: Path, headers: _Headers) -> str:
    if headers.unusable:
        file, _, reason = headers.unusable[0]
        more = (
            f" ({len(headers.unusable) - 1} more files could not be read either)" if len(headers.unusable) > 1 else ""
        )
        return f"Cannot read '{file}': {reason}; export or copy it again{more}."
    if list(headers.others) == ["a DICOMDIR"]:
        return f"'{path}' is a DICOMDIR, the index of a disc; open the folder that it lies in."
    if list(headers.others) == ["a segmentation"]:
        return f"'{path}' is no scan but a segmentation; open it as a mask."
    if headers.others:
        kinds = ", ".join(headers.others)
        return f"'{path}' holds no DICOM image but {kinds}; open the scan that belongs to it."
    if path.is_dir():
        return f"'{path}' holds no DICOM image ({headers.n_foreign} other files); choose the folder of a scan."
    return f"'{path}' is not a DICOM file."


def _without_damaged(stacks: list[Stack], headers: _Headers) -> tuple[list[Stack], list[Refusal], list[str]]:
    """Refuse series of which a file cannot be used: what is left has a hole or ends too early."""
    refusals: list[Refusal] = []
    notes: list[str] = []
    for path, series_uid, reason in headers.unusable:
        of_series = [stack for stack in stacks if series_uid and stack.first.file.series_uid == series_uid]
        if not of_series:
            notes.append(f"'{path.name}' cannot be read and was left out: {reason}.")
            continue
        stacks = [stack for stack in stacks if stack not in of_series]
        why = f"'{path.name}' cannot be read ({reason}); export or copy it again"
        refusals.append(Refusal(series_uid, of_series[0].first.file.description, why))
    if headers.empty:
        more = f" (and {len(headers.empty) - 1} more like it)" if len(headers.empty) > 1 else ""
        notes.append(f"'{headers.empty[0].name}'{more} is empty or no DICOM file: slices may be missing.")
    return stacks, refusals, notes


def _torn_apart(stacks: list[Stack]) -> list[str]:
    """Say that slices seem to belong together although each is a series of its own, as some anonymisers leave them."""
    groups: dict[object, set[str]] = {}
    for stack in stacks:
        file = stack.first.file
        if stack.is_placed and len(stack.planes) == 1:
            directions = tuple(round(v, 2) for v in stack.affine_ijk[:3, :2].ravel())
            key = (file.study_uid, file.frame_of_reference_uid, file.modality, file.layout, directions)
            groups.setdefault(key, set()).add(file.series_uid)
    n_slices = max((len(series) for series in groups.values()), default=0)
    if n_slices < _FEWEST_TORN:
        return []
    return [
        f"{n_slices} parallel slices of one study are each a series of their own: if they were one scan, its series UID"
        " was lost, and it must be exported again to open as one."
    ]


def _together(stacks: list[Stack]) -> list[list[Stack]]:
    """Frames of one cine together, every other volume alone."""
    groups: dict[object, list[Stack]] = {}
    for stack in stacks:
        key = id(stack) if stack.is_placed else stack.first.file.path
        groups.setdefault(key, []).append(stack)
    return list(groups.values())


def _info(stacks: list[Stack]) -> SeriesInfo:
    stack = stacks[0]
    file, layout = stack.first.file, stack.first.file.layout
    columns_mm, rows_mm, slices_mm = (float(mm) for mm in np.linalg.norm(stack.affine_ijk[:3, :3], axis=0))
    return SeriesInfo(
        uid=file.series_uid,
        description=(file.description if len(stacks) > 1 else stack.title) or file.path.stem,
        modality=file.modality,
        n_slices=len(stack.planes),
        n_frames=len(stacks),
        shape=(layout.rows, layout.columns),
        spacing_mm=(slices_mm, rows_mm, columns_mm),
        patient=file.patient.identifier or file.patient.name,
        folder=file.path.parent,
        warnings=stack.warnings,
        stacks=tuple(stacks),
    )


def _refused_info(refusal: Refusal, planes: list[Plane], path: Path) -> SeriesInfo:
    members = [plane for plane in planes if plane.file.series_uid == refusal.series_uid]
    file = members[0].file
    called = f"series '{refusal.description}'" if refusal.description else "the series"
    where = file.path.parent if path.is_dir() else file.path
    return SeriesInfo(
        uid=refusal.series_uid,
        description=refusal.description,
        modality=file.modality,
        n_slices=len(members),
        n_frames=1,
        shape=(file.layout.rows, file.layout.columns),
        spacing_mm=(0.0, 0.0, 0.0),
        patient=file.patient.identifier or file.patient.name,
        folder=file.path.parent,
        refusal=f"Cannot open {called} in '{where}': {refusal.reason}.",
    )
