"""Find the scan that an RTSTRUCT was drawn on among the files beside it, as a grid without pixels."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.elements import Elements
from napari_medseg.imaging.dicom.find import find_series
from napari_medseg.imaging.dicom.references import references_of_rtstruct
from napari_medseg.imaging.dicom.series import Stack
from napari_medseg.imaging.dicom.source import source_of_stack
from napari_medseg.imaging.orientation import to_memory
from napari_medseg.imaging.volume import LabelMap

# The folder above may be anything, a whole home folder too.
_MOST_FILES = 10_000


def scan_of(path: Path, elements: Elements) -> LabelMap:
    """Return an empty mask on the grid of the series that an RTSTRUCT refers to, from its folder or the one above.

    Raises
    ------
    ImagingError
        If no such series is there.
    """
    wanted = references_of_rtstruct(elements).series_uids
    for folder in (path.parent, path.parent.parent):
        try:
            found = find_series(folder, progress=None, should_stop=None, most_files=_MOST_FILES)
        except ImagingError:
            continue
        for info in found.series:
            if info.uid and info.uid in wanted and info.stacks and not info.refusal:
                return _empty_mask(info.stacks[0])
    raise ImagingError(
        f"{path.name} holds contours (RTSTRUCT), and the scan they were drawn on is not beside it: open the scan first"
    )


def _empty_mask(stack: Stack) -> LabelMap:
    layout = stack.first.file.layout
    # One zero seen as a whole volume: nothing is stored for a grid that is only asked where it lies.
    zeros = np.broadcast_to(np.zeros(1, np.uint8), (layout.columns, layout.rows, len(stack.planes)))
    data, affine, grid = to_memory(zeros, stack.affine_ijk)
    return LabelMap(data, affine, grid=grid, metadata=MappingProxyType({"dicom": source_of_stack(stack)}))
