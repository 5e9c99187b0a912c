"""Read the contours of an RTSTRUCT and fill them on the grid of their scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.contours import Points
from napari_medseg.imaging.dicom.contours_fill import Filled, fill
from napari_medseg.imaging.dicom.elements import DamagedDicom, Elements
from napari_medseg.imaging.dicom.file import NotDicom, open_dicom
from napari_medseg.imaging.dicom.headers import RTSTRUCT_CLASS
from napari_medseg.imaging.dicom.references import MaskReferences, references_of_rtstruct
from napari_medseg.imaging.dicom.rtstruct_scan import scan_of
from napari_medseg.imaging.limits import refusing_damage
from napari_medseg.imaging.volume import LabelMap, Volume

_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", ""})


@dataclass(slots=True)
class Region:
    """One region of interest: its contours in LPS+ millimetres."""

    number: int
    name: str
    colour: tuple[float, float, float] | None = None
    contours: list[Points] = field(default_factory=list)
    n_open: int = 0


def read_rtstruct(path: str | Path, like: Volume | LabelMap | None = None) -> LabelMap:
    """Read contours as a label map on a scan's grid: voxels whose centre lies inside, contours in contours being holes.

    Contours in any plane are filled; where their planes lie further apart than the scan's slices, a slice takes the
    nearest contour within half that distance. Where regions overlap the smaller one is on top.

    Parameters
    ----------
    path : str or Path
        The RTSTRUCT file.
    like : Volume or LabelMap, optional
        The scan to fill them on. Without one the series that the file refers to is looked for beside it.

    Raises
    ------
    ImagingError
        If it is no RTSTRUCT, damaged, has no closed contour inside the scan, or its scan is not found.
    """
    path = Path(path)
    with refusing_damage(path, "RTSTRUCT"):
        try:
            elements = _opened(path)
            regions = _regions(elements)
        except NotDicom:
            raise ImagingError(f"{path.name} is not a DICOM file; choose a mask") from None
        except DamagedDicom as error:
            raise ImagingError(f"{path.name} cannot be read: {error}; export it again") from error
        like = like if like is not None else scan_of(path, elements)
        return _label_map(path, regions, like, references_of_rtstruct(elements))


def rtstruct_references(path: str | Path) -> MaskReferences:
    """Read only which scan an RTSTRUCT refers to.

    Raises
    ------
    ImagingError
        If it is no RTSTRUCT or damaged.
    """
    path = Path(path)
    with refusing_damage(path, "RTSTRUCT"):
        try:
            return references_of_rtstruct(_opened(path))
        except (NotDicom, DamagedDicom) as error:
            raise ImagingError(f"{path.name} cannot be read as a DICOM file; export it again") from error


def _opened(path: Path) -> Elements:
    opened = open_dicom(path)
    modality = opened.elements.word(0x00080060)
    if opened.sop_class_uid != RTSTRUCT_CLASS and modality != "RTSTRUCT":
        raise ImagingError(f"{path.name} is a DICOM {modality or 'object'}, not a set of contours (RTSTRUCT)")
    if not opened.elements.is_complete:
        raise DamagedDicom("it is cut off")
    return opened.elements


def _regions(elements: Elements) -> list[Region]:
    regions: dict[int, Region] = {}
    for item in elements.items(0x30060020):
        number = item.integer(0x30060022, b"IS")
        if number is None:
            raise DamagedDicom("one of its regions has no number")
        regions[number] = Region(number, item.text(0x30060026)[:64] or f"Region {number}")
    for item in elements.items(0x30060039):
        number = item.integer(0x30060084, b"IS")
        if number is None or number not in regions:
            continue
        region = regions[number]
        colour = item.numbers(0x3006002A, b"IS")
        if len(colour) == 3:
            region.colour = (colour[0] / 255, colour[1] / 255, colour[2] / 255)
        for contour in item.items(0x30060040):
            if contour.text(0x30060042) in _CLOSED:
                region.contours.append(_points(contour, region.name))
            else:
                region.n_open += 1
    return list(regions.values())


def _points(contour: Elements, name: str) -> Points:
    raw = contour.raw(0x30060050).strip(b" \0")
    try:
        values = np.array(raw.split(b"\\")).astype(np.float64) if raw else np.zeros(0)
    except ValueError:
        raise DamagedDicom(f"a contour of '{name}' has coordinates that are not numbers") from None
    if len(values) % 3 or not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > 1e5:
        raise DamagedDicom(f"a contour of '{name}' has coordinates that cannot be")
    return values.reshape(-1, 3)


def _label_map(path: Path, regions: list[Region], like: Volume | LabelMap, references: MaskReferences) -> LabelMap:
    warnings: list[str] = []
    if references.contradict(like.metadata):
        warnings.append("The contours name another frame of reference than the scan: check that they fit.")
    labels = _labels(regions)
    filled: list[tuple[int, Filled]] = []
    names, colours = {}, {}
    for region, label in zip(regions, labels, strict=True):
        part = _filled(region, like, warnings)
        if part is None:
            continue
        filled.append((label, part))
        names[label] = region.name
        if region.colour is not None:
            colours[label] = region.colour
    if not filled:
        reason = f" ({warnings[-1]})" if warnings else ""
        raise ImagingError(
            f"{path.name} has no closed contour inside the scan{reason}; choose the scan it was drawn on"
        )
    data = _painted(filled, like.data.shape, warnings)
    own = {"references": references, **({"colours": colours} if colours else {})}
    metadata = MappingProxyType({**like.metadata, **own})
    return LabelMap(data, like.affine, names, like.grid, path, tuple(warnings), metadata)


def _labels(regions: Sequence[Region]) -> list[int]:
    """Region numbers where they can be labels, else 1, 2, 3, ..."""
    numbers = [region.number for region in regions]
    return numbers if all(0 < number < 65536 for number in numbers) else list(range(1, len(numbers) + 1))


def _filled(region: Region, like: Volume | LabelMap, warnings: list[str]) -> Filled | None:
    if region.n_open:
        warnings.append(f"'{region.name}' has {region.n_open} points or open lines, which mark no voxels.")
    contours = [contour for contour in region.contours if len(contour) >= 3]
    distinct = list({contour.tobytes(): contour for contour in contours}.values())
    if len(distinct) < len(contours):
        warnings.append(f"'{region.name}' repeats {len(contours) - len(distinct)} contours; they were taken once.")
    if not distinct:
        warnings.append(f"'{region.name}' has no closed contour and was left out.")
        return None
    part = fill(distinct, like.affine, like.data.shape)
    warnings += [f"'{region.name}': {note}" for note in part.notes]
    if not part.mask.any():
        warnings.append(f"'{region.name}' lies outside the scan and was left out.")
        return None
    return part


def _painted(
    filled: list[tuple[int, Filled]], shape: tuple[int, ...], warnings: list[str]
) -> NDArray[np.uint8 | np.uint16]:
    highest = max(label for label, _ in filled)
    data = np.zeros(shape, np.uint8 if highest <= 255 else np.uint16)
    n_overlapping = 0
    for label, part in sorted(filled, key=lambda pair: -int(np.count_nonzero(pair[1].mask))):
        view = data[part.box]
        n_overlapping += int(np.count_nonzero(view[part.mask]))
        view[part.mask] = label
    if n_overlapping:
        warnings.append(f"Regions overlap in {n_overlapping} voxels; there the smaller region was taken.")
    return data
