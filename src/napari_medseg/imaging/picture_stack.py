"""A folder of numbered pictures (slice_001.tif, slice_002.tif, ...) as one stack."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import label_map_of, volumes_of
from napari_medseg.imaging.limits import check_memory
from napari_medseg.imaging.orientation import to_disk
from napari_medseg.imaging.suffixes import RASTER_SUFFIXES, TIFF_SUFFIXES, suffix_of
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.imaging.watch import Tell, silent

_FEWEST = 3
# As for DICOM: with more slices missing than this share of those present, too little is there.
_MOST_MISSING = 0.25
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class PictureStack:
    """Pictures of one folder whose names differ in one number alone.

    Parameters
    ----------
    files : tuple of Path
        In the order of their numbers.
    slots : tuple of int
        Slice of each, from 0; a slot that none has is a picture that is missing.
    """

    files: tuple[Path, ...]
    slots: tuple[int, ...]

    @property
    def n_slices(self) -> int:
        """Slices, missing ones included."""
        return self.slots[-1] + 1


def picture_stack(files: Iterable[Path]) -> PictureStack | None:
    """Find the stack that files make: three or more TIFF, PNG or JPEG pictures numbered in one place of their name.

    Returns None where the files are anything else, as pictures of different patients are.
    """
    files = list(files)
    if len(files) < _FEWEST or len({file.parent for file in files}) > 1:
        return None
    if len({suffix_of(file) for file in files}) > 1 or suffix_of(files[0]) not in (*TIFF_SUFFIXES, *RASTER_SUFFIXES):
        return None
    varying = _varying_numbers([file.name for file in files])
    if varying is None:
        return None
    order = np.argsort(varying)
    numbers = [varying[n] for n in order]
    step = math.gcd(*(number - numbers[0] for number in numbers[1:]))
    if len(set(numbers)) < len(numbers):
        return None
    slots = tuple((number - numbers[0]) // step for number in numbers)
    return PictureStack(tuple(files[n] for n in order), slots)


def read_picture_stack(
    stack: PictureStack, read: Callable[[Path], tuple[Volume, ...]], *, tell: Tell = silent
) -> Volume | None:
    """Read a stack as one volume, or return None where the pictures differ in size, type or pixel spacing.

    Nothing says how far apart the slices are, or on which side the first lies; ``warnings`` say so.

    Raises
    ------
    ImagingError
        If a picture is damaged or too many are missing.
    """
    first = read(stack.files[0])
    data = _read_slices(stack, first, read, tell)
    if data is None:
        return None
    spacing = first[0].spacing_mm
    folder = stack.files[0].parent
    notes = [
        f"{folder.name} is a stack of {len(stack.files)} pictures in the order of their numbers: nothing says how far "
        "apart the slices are, so 1 mm is assumed and lengths across them are not real.",
        *_missing_note(stack, folder.name),
        *(warning.replace(stack.files[0].name, "each picture") for warning in first[0].warnings),
    ]
    affine = np.diag([-spacing[2], -spacing[1], 1.0, 1.0])
    (volume,) = volumes_of(folder, data[None], affine, warnings=notes, files=stack.files, sides_are_known=False)
    return replace(volume, name=folder.name, metadata=MappingProxyType({"files": stack.files}))


def read_label_stack(stack: PictureStack, read: Callable[[Path], LabelMap], *, tell: Tell = silent) -> LabelMap | None:
    """Read a stack of masks as one label map, or return None where the pictures differ in size."""
    first = read(stack.files[0])
    data = _read_slices(stack, (first,), lambda file: (read(file),), tell, dtype=np.dtype(np.uint16))
    if data is None:
        return None
    folder = stack.files[0].parent
    affine = np.diag([-first.spacing_mm[2], -first.spacing_mm[1], 1.0, 1.0])
    notes = [
        f"{folder.name} is a stack of {len(stack.files)} pictures in the order of their numbers; 1 mm between them is "
        "assumed.",
        *_missing_note(stack, folder.name),
    ]
    return label_map_of(folder, data, affine, warnings=notes)


def _read_slices(
    stack: PictureStack,
    first: Sequence[Volume | LabelMap],
    read: Callable[[Path], Sequence[Volume | LabelMap]],
    tell: Tell,
    dtype: np.dtype[Any] | None = None,
) -> NDArray[Any] | None:
    """Slices (K, J, I) as they lie on disk; None where one is no single picture of the first one's size and type."""
    _refuse_holes(stack)
    model = first[0]
    if len(first) > 1 or model.data.shape[0] != 1:
        return None
    shape = (stack.n_slices, *model.data.shape[1:])
    dtype = dtype or model.data.dtype
    check_memory(stack.files[0].parent.name, shape, math.prod(shape) * dtype.itemsize)
    data = np.empty(shape, dtype)
    for n_done, (file, slot) in enumerate(zip(stack.files, stack.slots, strict=True)):
        tell(n_done / len(stack.files))
        found = first if file == stack.files[0] else read(file)
        one = found[0]
        if len(found) > 1 or one.data.shape != model.data.shape or one.spacing_mm != model.spacing_mm:
            return None
        if isinstance(one, Volume) and one.data.dtype != dtype:
            return None
        assert one.grid is not None
        data[slot] = to_disk(one.data, one.grid)[..., 0].T
    empty = sorted(set(range(stack.n_slices)) - set(stack.slots))
    data[empty] = 0 if isinstance(model, LabelMap) else data[list(stack.slots)].min() if empty else 0
    return data


def _refuse_holes(stack: PictureStack) -> None:
    n_missing = stack.n_slices - len(stack.files)
    if n_missing > _MOST_MISSING * len(stack.files):
        raise ImagingError(
            f"{stack.files[0].parent.name} holds {len(stack.files)} numbered pictures but {n_missing} numbers between "
            "them are missing; export the complete stack, or open the pictures one by one"
        )


def _missing_note(stack: PictureStack, name: str) -> list[str]:
    n_missing = stack.n_slices - len(stack.files)
    if not n_missing:
        return []
    return [f"{n_missing} of {stack.n_slices} pictures of {name} are missing by their numbers: they are shown empty."]


def _varying_numbers(names: list[str]) -> list[int] | None:
    """Return the one number in which names differ; None where they differ otherwise."""
    if len({_NUMBER.sub("#", name) for name in names}) > 1:
        return None
    columns = list(zip(*([int(digits[:18]) for digits in _NUMBER.findall(name)] for name in names), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    return list(varying[0]) if len(varying) == 1 else None
