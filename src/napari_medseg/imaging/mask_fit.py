"""Whether a mask lies on a scan, voxel for voxel; nothing here interpolates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.references import references_of
from napari_medseg.imaging.orientation import describe_grid
from napari_medseg.imaging.volume import LabelMap, Volume

# Headers round positions: two grids share their voxels if they differ by less than this share of a voxel anywhere.
_SAME_VOXEL = 0.02


def fitted(label_map: LabelMap, scan: Volume) -> LabelMap | None:
    """Put a mask onto its scan's grid if it lies there already.

    Returns
    -------
    LabelMap or None
        The same labels at the same places on the scan's whole grid. None where the mask names another frame of
        reference, the grids do not share their voxels, or something is marked outside the scan; `misfit` says which.
    """
    return None if is_elsewhere(label_map, scan) else place_on(label_map, scan)


def read_mask_of(
    path: Path,
    scans: Sequence[Volume],
    *,
    progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LabelMap:
    """Read a mask; contours (RTSTRUCT) are filled on the scan of these that they name.

    Where contours name none of them, the scan that they were drawn on is looked for beside the file. ``progress`` and
    ``should_stop`` are those of `read_label_map`.

    Raises
    ------
    ImagingError
        If it cannot be read as a mask.
    """
    from napari_medseg.imaging.dicom.file import modality_of
    from napari_medseg.imaging.files import read_label_map

    if not path.is_file() or modality_of(path) != "RTSTRUCT":
        return read_label_map(path, progress=progress, should_stop=should_stop)
    from napari_medseg.imaging.dicom.rtstruct import read_rtstruct, rtstruct_references

    references = rtstruct_references(path)
    of_series = [scan for scan in scans if references.names_series(scan.metadata)]
    of_frame = [scan for scan in scans if references.shares_frame(scan.metadata)]
    return read_rtstruct(path, next(iter((*of_series, *of_frame)), None))


def scan_of_mask(label_map: LabelMap, scans: Sequence[Volume]) -> Volume | None:
    """Return the scan on which a mask lies: the series that it names, else the first one that it fits."""
    references = references_of(label_map.metadata)
    named = [scan for scan in scans if references is not None and references.names_series(scan.metadata)]
    return next((scan for scan in (*named, *scans) if fitted(label_map, scan) is not None), None)


def resampled(label_map: LabelMap, scan: Volume, method: str) -> LabelMap:
    """Put a mask onto a scan's grid because somebody asked for it.

    Parameters
    ----------
    label_map : LabelMap
        The mask, on any grid.
    scan : Volume
        The scan.
    method : str
        "nearest" keeps every label as it is, stairs included; "smooth" rounds the stairs off.

    Raises
    ------
    ImagingError
        If nothing of the mask lies inside the scan.
    """
    from napari_medseg.imaging.label_smooth import resample_label_map_smooth
    from napari_medseg.imaging.orientation import resample_label_map

    found = (resample_label_map_smooth if method == "smooth" else resample_label_map)(label_map, scan)
    if label_map.data.any() and not found.data.any():
        raise ImagingError(f"Nothing of the mask lies inside '{scan.name or 'the scan'}': {misfit(label_map, scan)}")
    return found


def misfit(label_map: LabelMap, scan: Volume) -> str:
    """Say in one sentence why a mask does not lie on a scan, naming both grids."""
    name = label_map.path.name if label_map.path is not None else "The mask"
    grids = f"{name} lies on {describe_grid(label_map)}, '{scan.name or 'the scan'}' on {describe_grid(scan)}"
    if is_elsewhere(label_map, scan):
        return f"{name} was drawn on another scan (its frame of reference is another one): {grids}."
    offset = np.linalg.norm(label_map.position_of((0, 0, 0)) - scan.position_of((0, 0, 0)))
    return f"{grids}; their first voxels are {offset:.3g} mm apart."


def place_on(label_map: LabelMap, like: Volume | LabelMap) -> LabelMap | None:
    """Put a mask that covers a part of a grid (empty slices left out, say) onto the whole of it, voxel for voxel.

    Returns
    -------
    LabelMap or None
        None where the two grids do not share their voxels, or the mask marks something outside the scan; it would then
        have to be resampled.
    """
    step = np.linalg.solve(like.affine, label_map.affine)
    start = np.rint(step[:3, 3]).astype(int)
    corners = np.array(np.meshgrid(*([0, n - 1] for n in label_map.data.shape), indexing="ij"), float).reshape(3, -1)
    off = step[:3, :3] @ corners + step[:3, 3:] - (corners + start[:, None])
    if np.abs(off).max() > _SAME_VOXEL:
        return None
    data = np.zeros(like.data.shape, label_map.data.dtype)
    spans = list(zip(start, label_map.data.shape, data.shape, strict=True))
    inside = tuple(slice(min(n, max(0, s)), max(0, min(n, s + m))) for s, m, n in spans)
    own = tuple(slice(part.start - s, max(part.start, part.stop) - s) for part, s in zip(inside, start, strict=True))
    if any(part.stop <= part.start for part in inside):
        return None if label_map.data.any() else replace(label_map, data=data, affine=like.affine, grid=like.grid)
    if np.count_nonzero(label_map.data[own]) < np.count_nonzero(label_map.data):
        return None
    data[inside] = label_map.data[own]
    return replace(label_map, data=data, affine=like.affine, grid=like.grid)


def is_elsewhere(label_map: LabelMap, scan: Volume) -> bool:
    """Whether a mask says that it was drawn on another scan (or in another frame of reference) than this one."""
    references = references_of(label_map.metadata)
    return references is not None and references.contradict(scan.metadata)
