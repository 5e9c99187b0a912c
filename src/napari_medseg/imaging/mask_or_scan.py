"""Whether a file is a mask or a scan, where its format leaves it open: by its kind, its name and its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.file import modality_of

_FEW_LABELS = 32
_WORDS = {"mask", "masks", "label", "labels", "labelmap", "seg", "segmentation", "gt", "truth", "lesion", "roi"}


def is_surely_mask(path: Path) -> bool:
    """Whether the format says mask: a .seg.nrrd, a DICOM SEG or RTSTRUCT."""
    return path.name.lower().endswith((".seg.nrrd", ".seg.nhdr")) or modality_of(path) in ("SEG", "RTSTRUCT")


def may_be_mask(path: Path) -> bool:
    """Whether the format or the name says mask."""
    name = path.name.lower()
    for separator in "-. ":
        name = name.replace(separator, "_")
    return bool(_WORDS & set(name.split("_"))) or is_surely_mask(path)


def has_few_values(data: NDArray[Any]) -> bool:
    """Whether what was read as a scan holds few whole numbers from 0 on, as masks do."""
    step = tuple(slice(None, None, max(1, n // 64)) for n in data.shape)
    return bool(data.dtype.kind in "iu" and data.min() == 0 < data.max() <= 255) and (
        len(np.unique(data[step])) <= _FEW_LABELS
    )


def looks_like_labels(data: NDArray[Any]) -> bool:
    """Whether whole numbers are labels, not intensities: few of them, or most neighbours alike."""
    if len(np.unique(data)) <= _FEW_LABELS:
        return True
    inside = data[..., 1:] > 0
    alike = (data[..., 1:] == data[..., :-1])[inside]
    return alike.size == 0 or float(alike.mean()) > 0.5
