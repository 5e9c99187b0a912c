"""What a file or folder offers where it holds several scans, known before any of them is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.imaging.volume import LabelMap, Volume

if TYPE_CHECKING:
    from napari_medseg.imaging.dicom.find import Found, SeriesInfo

_PICTURE = 96
_LISTING = 0.6  # the share of the headers in the progress
Progress = Callable[[float], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """One scan to choose.

    Parameters
    ----------
    name : str
        Series description or file name.
    modality : str
        DICOM's two letters, or empty.
    shape : tuple of int
        Columns, rows, slices.
    spacing_mm : tuple of float
        Between columns, rows, slices.
    picture : ndarray of uint8, shape (rows, columns)
        The middle slice, small.
    warnings : tuple of str
        What a reader has to assume.
    refusal : str
        Why it cannot be opened; empty where it can.
    read : callable
        Returns its volumes (several for a cine); takes ``progress`` and ``should_stop``.
    """

    name: str
    modality: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    picture: NDArray[np.uint8]
    warnings: tuple[str, ...]
    refusal: str
    read: Callable[[Progress, ShouldStop], tuple[Volume, ...]] = field(repr=False)


def look_into(path: Path, *, progress: Progress, should_stop: ShouldStop) -> tuple[Volume, ...] | tuple[Offer, ...]:
    """Read the one scan that a path holds, or say which ones it offers; DICOM series are listed by their headers.

    Raises
    ------
    ImagingError
        If nothing there can be read.
    Cancelled
        If ``should_stop`` said so.
    """
    from napari_medseg.imaging.files import read_listed_series, read_volumes

    found = _series(path, progress, should_stop) if path.is_dir() else None
    if found is None or (len(found.series) == 1 and _has_others(path)):
        volumes = read_volumes(path, progress=progress, should_stop=should_stop)
    elif len(found.series) == 1:
        share = partial(_report_rest, progress)
        volumes = read_listed_series(found.series[0], found.notes, progress=share, should_stop=should_stop)
    else:
        return (*_offers_of_series(found, progress, should_stop), *_others(path, should_stop))
    if should_stop():
        raise Cancelled("Stopped.")
    return volumes if len(volumes) == 1 else tuple(offer_of_volume(volume) for volume in volumes)


def offer_of_volume(volume: Volume) -> Offer:
    """Offer a scan that is in memory already."""
    z, y, x = volume.data.shape
    slices_mm, rows_mm, columns_mm = volume.spacing_mm
    return Offer(
        name=volume.name,
        modality=volume.modality,
        shape=(x, y, z),
        spacing_mm=(columns_mm, rows_mm, slices_mm),
        picture=picture_of(volume),
        warnings=volume.warnings,
        refusal="",
        read=lambda _progress, _should_stop: (volume,),
    )


def picture_of(volume: Volume | LabelMap) -> NDArray[np.uint8]:
    """Return the middle slice of the plane of acquisition as a small grey picture."""
    axis = acquisition_axis(volume)
    middle = np.asarray(volume.data.take(volume.data.shape[axis] // 2, axis))
    if axis:  # superior is up
        middle = middle[::-1]
    step = max(1, max(middle.shape) // _PICTURE)
    small = np.nan_to_num(middle[::step, ::step].astype(np.float32))
    low, high = np.percentile(small, (1, 99))
    return np.ascontiguousarray((np.clip((small - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8))


def _series(path: Path, progress: Progress, should_stop: ShouldStop) -> Found | None:
    """List the series of a folder; None where the readers of the other formats know better what is there."""
    from napari_medseg.imaging.dicom.find import find_series

    try:
        return find_series(path, progress=lambda share: progress(_LISTING * share), should_stop=should_stop)
    except ImagingError:
        return None


def _report_rest(progress: Progress, share: float) -> None:
    progress(_LISTING + (1 - _LISTING) * share)


def _offers_of_series(found: Found, progress: Progress, should_stop: ShouldStop) -> list[Offer]:
    offers = []
    for done, info in enumerate(found.series):
        if should_stop():
            raise Cancelled("Stopped.")
        offers.append(_offer_of_series(info, found.notes if not done else ()))
        progress(_LISTING + (1 - _LISTING) * (done + 1) / len(found.series))
    return offers


def _offer_of_series(info: SeriesInfo, notes: tuple[str, ...]) -> Offer:
    slices_mm, rows_mm, columns_mm = info.spacing_mm
    frames = (f"{info.n_frames} frames",) if info.n_frames > 1 else ()
    return Offer(
        name=" - ".join((info.description or info.folder.name, *frames)),
        modality=info.modality,
        shape=(info.shape[1], info.shape[0], info.n_slices),
        spacing_mm=(columns_mm, rows_mm, slices_mm),
        picture=info.thumbnail(),
        warnings=(*info.warnings, *notes),
        refusal=info.refusal,
        read=partial(_read_series, info, notes),
    )


def _read_series(
    info: SeriesInfo, notes: tuple[str, ...], progress: Progress, should_stop: ShouldStop
) -> tuple[Volume, ...]:
    from napari_medseg.imaging.files import read_listed_series

    return read_listed_series(info, notes, progress=progress, should_stop=should_stop)


def _has_others(path: Path) -> bool:
    from napari_medseg.imaging.files import other_scan_files

    return bool(other_scan_files(path))


def _others(path: Path, should_stop: ShouldStop) -> tuple[Offer, ...]:
    """Scans of other formats beside the series."""
    from napari_medseg.imaging.files import read_other_scans

    return tuple(offer_of_volume(volume) for volume in read_other_scans(path, should_stop=should_stop))
