"""Read DICOM segmentation objects (binary, fractional, label map) into label maps, by our own bounded parser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.elements import DamagedDicom, Elements
from napari_medseg.imaging.dicom.file import DicomFile, NotDicom, open_dicom
from napari_medseg.imaging.dicom.frames import FrameReader
from napari_medseg.imaging.dicom.geometry import LPS_TO_RAS
from napari_medseg.imaging.dicom.headers import RTSTRUCT_CLASS, SEGMENTATION_CLASSES, Plane, enhanced_planes, image_file
from napari_medseg.imaging.dicom.references import references_of_seg
from napari_medseg.imaging.limits import check_memory, refusing_damage
from napari_medseg.imaging.orientation import to_memory
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.imaging.watch import Tell, silent

LABEL_NOTE = "label "
_SAME_COSINE = 1e-3
_JITTER = 0.05
# A segmentation leaves empty slices out; more slots than this for each frame would be a damaged position.
_MOST_SLOTS_A_FRAME = 2000


@dataclass(frozen=True, slots=True)
class _Grid:
    """Slot of each frame along the normal, and the affine of all slots."""

    slots: NDArray[np.int64]
    n_slots: int
    affine_ijk: NDArray[np.float64]


@dataclass(slots=True)
class _Segments:
    """Segment number to label, and what is said about the labels."""

    labels: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, tuple[float, float, float]] = field(default_factory=dict)


def read_dicom_seg(path: str | Path, *, tell: Tell = silent) -> LabelMap:
    """Read a DICOM segmentation.

    Slices without any frame are background; the grid reaches from the first to the last frame that is stored.
    Fractional segments are labelled where they reach one half. Where segments overlap the later one wins, and
    ``warnings`` say so.

    Raises
    ------
    ImagingError
        If it is no segmentation, damaged, or its frames do not lie on one grid.
    """
    path = Path(path)
    with refusing_damage(path, "DICOM segmentation"):
        try:
            opened = open_dicom(path)
            _check_kind(opened)
            return _label_map(opened, tell)
        except NotDicom:
            raise ImagingError(f"{path.name} is not a DICOM file; choose a mask") from None
        except DamagedDicom as error:
            raise ImagingError(f"{path.name} cannot be read: {error}; export it again") from error


def _check_kind(opened: DicomFile) -> None:
    name, modality = opened.path.name, opened.elements.word(0x00080060)
    if opened.sop_class_uid == RTSTRUCT_CLASS or modality == "RTSTRUCT":
        raise ImagingError(
            f"{name} holds contours (RTSTRUCT), which need their scan: open the scan first, then this file"
        )
    if opened.sop_class_uid not in SEGMENTATION_CLASSES and modality != "SEG":
        raise ImagingError(f"{name} is a DICOM {modality or 'object'}, not a segmentation; open it as a scan")
    if opened.elements.pixels is None:
        raise DamagedDicom("it has no pixel data or is cut off")
    if 0x52009230 not in opened.elements:
        raise DamagedDicom("it does not say where its frames lie (Per-Frame Functional Groups Sequence)")


def _label_map(opened: DicomFile, tell: Tell) -> LabelMap:
    elements = opened.elements
    file = image_file(opened)
    planes = enhanced_planes(elements, file)
    warnings: list[str] = list(file.warnings)
    placed = [plane for plane in planes if not plane.placement.missing]
    if not placed:
        grid = _flat_grid(planes)
        warnings.append("This mask has no position in the patient; it fits only the image it was drawn on.")
    elif len(placed) < len(planes):
        missing = next(plane.placement.missing for plane in planes if plane.placement.missing)
        raise DamagedDicom(f"{missing} is missing for some of its frames")
    else:
        grid = _grid(planes)
    shape = (grid.n_slots, file.layout.rows, file.layout.columns)
    segments = _read_segments(elements)
    highest = max([255, *segments.labels.values()])
    dtype = np.uint8 if highest <= 255 else np.uint16
    check_memory(opened.path.name, shape, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    data = np.zeros(shape, dtype)
    _paint(data, planes, grid, elements, segments, warnings, tell)
    array, affine, disk = to_memory(data.transpose(2, 1, 0), grid.affine_ijk)
    colours = {"colours": segments.colours} if segments.colours else {}
    metadata: Mapping[str, Any] = MappingProxyType({"references": references_of_seg(elements), **colours})
    return LabelMap(array, affine, segments.names, disk, opened.path, tuple(warnings), metadata)


def _grid(planes: tuple[Plane, ...]) -> _Grid:
    first = planes[0].placement
    directions = np.array([(p.placement.row_direction, p.placement.column_direction) for p in planes], dtype=np.float64)
    if np.abs(directions - directions[0]).max() > _SAME_COSINE:
        raise DamagedDicom("its frames have different orientations")
    positions = np.array([plane.placement.position for plane in planes], dtype=np.float64)
    distances = positions @ first.normal
    spacing = _spacing_mm(np.unique(distances.round(4)), first.thickness_mm)
    slots = np.rint((distances - distances.min()) / spacing)
    n_slots = int(slots.max()) + 1
    if np.abs(distances - distances.min() - slots * spacing).max() > _JITTER * spacing:
        raise DamagedDicom("its frames are unevenly spaced")
    if n_slots > _MOST_SLOTS_A_FRAME * len(planes):
        raise DamagedDicom(f"its {len(planes)} frames are spread over {n_slots} slices")
    lowest, highest = int(np.argmin(distances)), int(np.argmax(distances))
    step = first.normal * spacing
    if n_slots > 1:
        step = (positions[highest] - positions[lowest]) / slots[highest]
    rows_mm, columns_mm = first.spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(first.row_direction) * columns_mm
    affine[:3, 1] = np.asarray(first.column_direction) * rows_mm
    affine[:3, 2], affine[:3, 3] = step, positions[lowest]
    return _Grid(slots.astype(np.int64), n_slots, LPS_TO_RAS @ affine + 0.0)


def _flat_grid(planes: tuple[Plane, ...]) -> _Grid:
    rows_mm, columns_mm = planes[0].placement.spacing_mm or (1.0, 1.0)
    affine = LPS_TO_RAS @ np.diag([columns_mm, rows_mm, 1.0, 1.0])
    return _Grid(np.zeros(len(planes), np.int64), 1, affine + 0.0)


def _spacing_mm(distances: NDArray[np.float64], declared: float | None) -> float:
    """Distance between slices: as declared where the frames fit that, else the smallest between two frames."""
    if len(distances) < 2:
        return declared or 1.0
    steps = np.diff(distances)
    if declared:
        counts = steps / declared
        if counts.min() > 0.5 and np.abs(counts - np.rint(counts)).max() <= _JITTER:
            return float((distances[-1] - distances[0]) / np.rint(counts).sum())
    counts = np.rint(steps / steps.min())
    return float((distances[-1] - distances[0]) / counts.sum())


def _read_segments(elements: Elements) -> _Segments:
    segments = _Segments()
    items = elements.items(0x00620002)
    notes = [item.text(0x00620006) for item in items]
    # Labels that do not count 1, 2, 3, ... are kept in the description, as segment numbers must.
    is_kept = all(note.startswith(LABEL_NOTE) and note[len(LABEL_NOTE) :].isdigit() for note in notes)
    for number, (item, note) in enumerate(zip(items, notes, strict=True), start=1):
        segment = item.integer(0x00620004) or number
        label = int(note[len(LABEL_NOTE) :]) if is_kept else segment
        if not 0 < label < 65536:
            raise DamagedDicom(f"segment number {label} is not between 1 and 65535")
        segments.labels[segment] = label
        segments.names[label] = item.text(0x00620005)[:64] or f"Segment {segment}"
        lab = item.numbers(0x0062000D, b"US")
        if len(lab) >= 3:
            segments.colours[label] = _rgb_of_lab(lab)
    if not segments.labels:
        raise DamagedDicom("it describes no segment")
    return segments


def _paint(
    data: NDArray[Any],
    planes: tuple[Plane, ...],
    grid: _Grid,
    elements: Elements,
    segments: _Segments,
    warnings: list[str],
    tell: Tell,
) -> None:
    kind = elements.text(0x00620001)
    reader = FrameReader(planes[0].file)
    if kind == "LABELMAP":
        table = np.zeros(65536, data.dtype)
        table[list(segments.labels)] = list(segments.labels.values())
        for n_done, (plane, slot) in enumerate(zip(planes, grid.slots, strict=True)):
            tell(n_done / len(planes))
            data[slot] = table[reader.frame(plane.frame)]
        return
    threshold = 1.0
    if kind == "FRACTIONAL":
        threshold = 0.5 * (elements.integer(0x0062000E) or 255)
        warnings.append("The segments are fractional: voxels of at least one half were taken.")
    n_overlapping = 0
    numbers = _segment_of_frames(elements, len(planes))
    for n_done, (plane, slot, segment) in enumerate(zip(planes, grid.slots, numbers, strict=True)):
        tell(n_done / len(planes))
        if segment not in segments.labels:
            raise DamagedDicom(f"frame {plane.frame + 1} belongs to segment {segment}, which is not described")
        is_marked = reader.frame(plane.frame) >= threshold
        taken, label = data[slot][is_marked], segments.labels[segment]
        n_overlapping += int(np.count_nonzero((taken != 0) & (taken != label)))
        data[slot][is_marked] = label
    if n_overlapping:
        warnings.append(f"Segments overlap in {n_overlapping} voxels; there the later segment was taken.")


def _segment_of_frames(elements: Elements, n_frames: int) -> list[int]:
    shared = elements.first_item(0x52009229)
    everywhere = shared.first_item(0x0062000A) if shared else None
    numbers = []
    for item in elements.items(0x52009230)[:n_frames]:
        own = item.first_item(0x0062000A) or everywhere
        numbers.append((own.integer(0x0062000B) if own else None) or 0)
    return numbers


def _rgb_of_lab(lab: tuple[float, ...]) -> tuple[float, float, float]:
    from skimage.color import lab2rgb

    scaled = [lab[0] / 65535 * 100, lab[1] / 65535 * 255 - 128, lab[2] / 65535 * 255 - 128]
    red, green, blue = (float(v) for v in lab2rgb(np.array(scaled)[None])[0])
    return red, green, blue
