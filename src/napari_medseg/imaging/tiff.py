"""TIFF stacks: plain, ImageJ and OME; checked page by page, as TIFF tags may lie about what the file holds."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffPageSeries

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import first_of_many, label_map_of, volumes_of
from napari_medseg.imaging.colours import luminance
from napari_medseg.imaging.limits import refusing_damage
from napari_medseg.imaging.tiff_pages import check_chain, check_series, read_pages
from napari_medseg.imaging.tiff_spacing import spacing_zyx_mm
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.imaging.watch import Tell, part, silent

_MAX_SAMPLES = 4


def read_tiff(path: Path, *, first_only: bool = False, tell: Tell = silent) -> tuple[Volume, ...]:
    """Read every volume of a TIFF file (time points, channels), or the first one alone.

    Axes follow the usual axial order. Spacing comes from ImageJ or OME metadata; else 1 mm is assumed and said.
    Colours become luminance, with a warning.

    Raises
    ------
    ImagingError
        If a page lies outside the file, contradicts its tags, or holds something else than numbers.
    """
    with refusing_damage(path, "TIFF"), _complaints() as complaints:
        stored, spacing, warnings = _read_stored(path, colours=True, tell=part(tell, 0.0, 0.9))
        warnings = (*warnings, *_told(complaints, path.name))
        if first_only and len(stored) > 1:
            warnings = (*warnings, first_of_many(path.name, len(stored)))
            stored = stored[:1].copy()
        return volumes_of(
            path, stored, _axial_affine(spacing), warnings=warnings, sides_are_known=False, tell=part(tell, 0.9, 1.0)
        )


def read_tiff_label_map(path: Path, *, tell: Tell = silent) -> LabelMap:
    """Read a mask of whole numbers; a palette is ignored, colours are refused."""
    with refusing_damage(path, "TIFF"), _complaints() as complaints:
        stored, spacing, warnings = _read_stored(path, colours=False, tell=part(tell, 0.0, 0.9))
        warnings = (*warnings, *_told(complaints, path.name))
        if len(stored) > 1:
            warnings = (*warnings, first_of_many(path.name, len(stored)))
        return label_map_of(path, stored[0], _axial_affine(spacing), warnings=warnings, tell=part(tell, 0.9, 1.0))


class _Listener(logging.Handler):
    """Keeps what tifffile only logs: damaged tags that it reads past."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.heard.append(record.getMessage())


@contextmanager
def _complaints() -> Iterator[list[str]]:
    listener = _Listener()
    logger = logging.getLogger("tifffile")
    logger.addHandler(listener)
    try:
        yield listener.heard
    finally:
        logger.removeHandler(listener)


def _told(complaints: list[str], name: str) -> tuple[str, ...]:
    if not complaints:
        return ()
    first = " ".join(re.sub(r"<tifffile\.|>", "", complaints[0]).split())[:100]
    return (f"{name} has damaged or unusual tags ({first}); check that it shows what it should.",)


def _axial_affine(spacing_zyx: tuple[float, float, float]) -> NDArray[np.float64]:
    z, y, x = spacing_zyx
    return np.diag([-x, -y, z, 1.0])


def _read_stored(
    path: Path, *, colours: bool, tell: Tell
) -> tuple[NDArray[Any], tuple[float, float, float], tuple[str, ...]]:
    """Voxels (N, Z, Y, X), spacing (z, y, x) in mm, and warnings."""
    warnings: list[str] = []
    check_chain(path)
    # One file alone: OME metadata could otherwise name any other file to be opened.
    with TiffFile(path, _multifile=False) as tiff:
        series = max(tiff.series, key=lambda one: one.size)
        if len(tiff.series) > 1:
            warnings.append(f"{path.name} holds {len(tiff.series)} images of different size; this is the largest.")
        check_series(path, series, is_imagej=tiff.is_imagej)
        data = read_pages(path, series, tell)
        if data.dtype == np.float16:
            data = data.astype(np.float32)
        data, axes = _without_colours(path, series, data, warnings, wanted=colours)
        spacing = spacing_zyx_mm(tiff, path.name, warnings)
    return _as_stacks(path, data, axes, warnings), spacing, tuple(warnings)


def _without_colours(
    path: Path, series: TiffPageSeries, data: NDArray[Any], warnings: list[str], *, wanted: bool
) -> tuple[NDArray[Any], str]:
    """Intensities of colours, palettes and inverted greys; and the axes that are left."""
    axes, page = series.axes, series.keyframe
    kind = page.photometric
    if "S" in axes and data.shape[axes.index("S")] <= _MAX_SAMPLES:
        if not wanted and data.shape[axes.index("S")] > 1:
            raise ImagingError(f"{path.name} is no label map: it holds colours; choose the mask")
        data = luminance(np.moveaxis(data, axes.index("S"), -1), path.name, warnings)
        axes = axes.replace("S", "")
    if kind == PHOTOMETRIC.PALETTE and wanted and page.colormap is not None:
        palette = np.asarray(page.colormap).T
        data = luminance(palette[np.clip(data, 0, len(palette) - 1)], path.name, warnings)
    if kind == PHOTOMETRIC.MINISWHITE and wanted and data.dtype.kind in "ub":
        warnings.append(f"{path.name} stores white as 0; its values were inverted.")
        data = data.dtype.type(2**page.bitspersample - 1) - data
    return data.view(np.uint8) if data.dtype == np.bool_ else data, axes


def _as_stacks(path: Path, data: NDArray[Any], axes: str, warnings: list[str]) -> NDArray[Any]:
    """Volumes (N, Z, Y, X): depth is Z, or an unnamed sequence; time and channels are volumes of their own."""
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise ImagingError(f"{path.name} holds no image of rows and columns (its axes are {axes})")
    others = [axis for axis in range(data.ndim) if axes[axis] not in "YX"]
    depths = [axis for name in "ZIQA" for axis in others if axes[axis] == name and data.shape[axis] > 1][:1]
    outer = [axis for axis in others if axis not in depths]
    ordered = data.transpose([*outer, *depths, axes.index("Y"), axes.index("X")])
    n_volumes = math.prod(data.shape[axis] for axis in outer)
    stacks = ordered.reshape(n_volumes, *([] if depths else [1]), *ordered.shape[len(outer) :])
    if n_volumes > 1:
        warnings.append(f"{path.name} holds {n_volumes} time points or channels; each is a volume of its own.")
    return stacks
