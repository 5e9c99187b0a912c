"""What one DICOM image file says: its pixel layout, its identity, and where each of its frames lies in the patient."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom_elements import DamagedDicom, Elements
from napari_medseg.imaging.dicom_file import DicomFile, open_dicom
from napari_medseg.imaging.dicom_layout import PixelLayout, PixelPlace, read_layout, read_place

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
_WHOLE_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_NOT_IMAGES = frozenset({"SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "SEG", "DOC", "ECG", "AU"})
_FLAT_MODALITIES = frozenset(
    {"CR", "DX", "MG", "US", "IVUS", "XA", "RF", "IO", "PX", "OP", "OPT", "XC", "ES", "GM", "SM", "OT", "SC", "RTIMAGE"}
)

# Positions and sizes beyond this are not those of a person on a scanner's table.
_FARTHEST_MM = 1e5

Vector = tuple[float, float, float]


class NotAnImage(Exception):
    """A DICOM object without an image: a report, a plan, a contour set. The text says what."""


class UnusableImage(Exception):
    """An image that cannot be read; the text says why, ``series_uid`` which series it breaks."""

    def __init__(self, reason: str, series_uid: str = "") -> None:
        super().__init__(reason)
        self.series_uid = series_uid


@dataclass(frozen=True, slots=True)
class PatientKey:
    """Short one-way hashes of who the patient is, enough to notice that two files are of two people."""

    identifier: str
    name: str
    birth_date: str

    def is_other_person(self, other: PatientKey) -> bool:
        """Whether the identifiers differ, or the names where an identifier is missing."""
        if self.identifier and other.identifier:
            return self.identifier != other.identifier
        return bool(self.name and other.name and self.name != other.name)

    def differs(self, other: PatientKey) -> bool:
        """Whether a name or a birth date differs though the person seems the same."""
        pairs = ((self.name, other.name), (self.birth_date, other.birth_date))
        return any(a and b and a != b for a, b in pairs)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Everything needed from one file's header. Lengths in mm; positions and directions in DICOM's LPS+."""

    path: Path
    size: int
    mtime_ns: int
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    patient: PatientKey
    modality: str
    description: str
    series_number: int | None
    layout: PixelLayout
    place: PixelPlace
    is_flat_modality: bool
    gantry_tilt_degrees: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plane:
    """One 2-D image: a single-frame file or one frame of a multi-frame file.

    Parameters
    ----------
    file : ImageFile
        Where it is stored.
    frame : int
        Which frame of the file.
    position, row_direction, column_direction : tuple of float, optional
        Centre of the first pixel (mm, LPS+), and the directions in which the column and the row index grow.
    spacing_mm : tuple of float, optional
        Between rows, between columns.
    thickness_mm : float, optional
        Slice thickness, or the distance to the next slice where that is given.
    slope, intercept : float
        Stored value to scanner units.
    marks : tuple
        What tells planes at one position apart (echo, b-value, time), most telling first.
    instance : int
        Instance or frame number.
    """

    file: ImageFile
    frame: int
    position: Vector | None
    row_direction: Vector | None
    column_direction: Vector | None
    spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    slope: float
    intercept: float
    marks: tuple[tuple[str, object], ...]
    instance: int
    missing: str = ""

    @property
    def is_placed(self) -> bool:
        """Whether position, orientation and spacing are all known."""
        return self.position is not None and self.row_direction is not None and self.spacing_mm is not None


def read_planes(path: Path) -> tuple[Plane, ...]:
    """Read the header of one file and return its planes.

    Raises
    ------
    NotDicom, NotAnImage
        If there is no image to read.
    UnusableImage
        If there is one that cannot be read.
    """
    try:
        opened = open_dicom(path)
    except DamagedDicom as error:
        raise UnusableImage(str(error)) from error
    elements = opened.elements
    _refuse_other_objects(opened)
    series = elements.text(0x0020000E)
    try:
        file = _image_file(opened)
        if 0x52009230 in elements:
            return _enhanced_planes(elements, file)
        if file.place.n_frames > 1 and 0x3004000C in elements:
            return _dose_planes(elements, file)
        if file.place.n_frames > 1 and 0x00540080 in elements and 0x00540022 in elements:
            return _nuclear_planes(elements, file)
        return _classic_planes(elements, file)
    except DamagedDicom as error:
        raise UnusableImage(str(error), series) from error


def _refuse_other_objects(opened: DicomFile) -> None:
    elements = opened.elements
    sop_class, modality = opened.sop_class_uid, elements.text(0x00080060)
    if sop_class == _DICOMDIR_CLASS:
        raise NotAnImage("a DICOMDIR")
    if sop_class in SEGMENTATION_CLASSES or modality == "SEG":
        raise NotAnImage("a segmentation")
    if sop_class == _WHOLE_SLIDE_CLASS:
        raise NotAnImage("a whole-slide microscopy image")
    has_rows = 0x00280010 in elements
    if modality in _NOT_IMAGES and not (has_rows and elements.pixels):
        raise NotAnImage({"RTSTRUCT": "a set of contours (RTSTRUCT)", "SR": "a report"}.get(modality, modality))
    if has_rows and elements.pixels is None:
        state = "it has no pixel data" if elements.is_complete else "it is cut off before its pixel data"
        raise UnusableImage(state, elements.text(0x0020000E))
    if elements.pixels is None:
        if not elements.is_complete:
            raise UnusableImage("it is cut off in its header", elements.text(0x0020000E))
        raise NotAnImage(f"an object without an image ({modality or sop_class or 'of unknown kind'})")
    if "MOSAIC" in elements.texts(0x00080008):
        reason = "it is a Siemens mosaic (a volume tiled into one image): convert the series to NIfTI with dcm2niix"
        raise UnusableImage(reason, elements.text(0x0020000E))


def _image_file(opened: DicomFile) -> ImageFile:
    elements = opened.elements
    layout = read_layout(elements)
    place, warnings = read_place(opened, layout)
    modality = elements.text(0x00080060)
    return ImageFile(
        path=opened.path,
        size=opened.size,
        mtime_ns=opened.mtime_ns,
        sop_class_uid=opened.sop_class_uid,
        sop_instance_uid=opened.sop_instance_uid,
        series_uid=elements.text(0x0020000E),
        study_uid=elements.text(0x0020000D),
        frame_of_reference_uid=elements.text(0x00200052),
        patient=_patient_key(elements),
        modality=modality,
        description=elements.text(0x0008103E) or elements.text(0x00181030),
        series_number=elements.integer(0x00200011, b"IS"),
        layout=layout,
        place=place,
        is_flat_modality=modality in _FLAT_MODALITIES or opened.sop_class_uid.startswith(_SECONDARY_CAPTURE),
        gantry_tilt_degrees=elements.number(0x00181120, b"DS") or 0.0,
        warnings=warnings,
    )


def _patient_key(elements: Elements) -> PatientKey:
    name = elements.text(0x00100010).split("=")[0].upper()
    parts = (elements.text(0x00100020), "^".join(name.replace("^", " ").split()), elements.text(0x00100030))
    hashes = [hashlib.sha256(part.encode()).hexdigest()[:16] if part else "" for part in parts]
    return PatientKey(*hashes)


def _classic_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    n_frames = file.place.n_frames
    slope, intercept = read_rescale(elements)
    placement = _placement(elements, elements, elements)
    if n_frames > 1:
        # Frames of a cine follow each other in time; one position for all of them is no stack.
        placement = (None, None, None, placement[3], placement[4], "")
    if not placement[3]:
        placement = (*placement[:3], flat_spacing_mm(elements) if file.is_flat_modality else None, *placement[4:])
    marks = _classic_marks(elements)
    instance = elements.integer(0x00200013, b"IS") or 0
    return tuple(
        Plane(file, frame, *placement[:5], slope, intercept, marks, instance or frame, placement[5])
        for frame in range(n_frames)
    )


Placement = tuple["Vector | None", "Vector | None", "Vector | None", "tuple[float, float] | None", "float | None", str]


def _placement(position: Elements | None, orientation: Elements | None, measures: Elements | None) -> Placement:
    """Position, directions, spacing, thickness, and the name of the first one that is missing or wrong."""
    missing = ""
    at = _finite(position.numbers(0x00200032, b"DS") if position else (), 3)
    if at is None or max(abs(mm) for mm in at) > _FARTHEST_MM:
        at = None
        missing = "ImagePositionPatient"
    cosines = _finite(orientation.numbers(0x00200037, b"DS") if orientation else (), 6)
    directions = _directions(cosines) if cosines else None
    if directions is None:
        missing = missing or "ImageOrientationPatient"
    spacing = _finite(measures.numbers(0x00280030, b"DS") if measures else (), 2)
    if spacing is None or min(spacing) <= 1e-6 or max(spacing) > _FARTHEST_MM:
        spacing = None
        missing = missing or "PixelSpacing"
    thickness = None
    for tag in (0x00180088, 0x00180050):
        value = measures.number(tag, b"DS") if measures else None
        if thickness is None and value is not None and math.isfinite(value) and 1e-6 < abs(value) < _FARTHEST_MM:
            thickness = abs(value)
    row, column = directions if directions else (None, None)
    return (
        (at[0], at[1], at[2]) if at else None,
        row,
        column,
        (spacing[0], spacing[1]) if spacing else None,
        thickness,
        missing,
    )


def _finite(values: tuple[float, ...], count: int) -> tuple[float, ...] | None:
    return values[:count] if len(values) >= count and all(math.isfinite(v) for v in values[:count]) else None


def _directions(cosines: tuple[float, ...]) -> tuple[Vector, Vector] | None:
    """Unit row and column directions, or None where they are not perpendicular unit vectors within header rounding."""
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(row @ column)) > 1e-2:
        return None
    row, column = row / lengths[0], column / lengths[1]
    return _vector(row), _vector(column)


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z


def read_rescale(elements: Elements) -> tuple[float, float]:
    """Slope and intercept; a slope of zero stays zero here and is judged where the series is read."""
    slope, intercept = elements.number(0x00281053, b"DS"), elements.number(0x00281052, b"DS")
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise DamagedDicom(f"RescaleSlope {slope} or RescaleIntercept {intercept} is not a number")
    return slope, intercept


def _classic_marks(elements: Elements) -> tuple[tuple[str, object], ...]:
    return (
        ("temporal position", elements.text(0x00200100)),
        ("echo", elements.text(0x00180086) + "/" + elements.text(0x00180081)),
        ("b-value", elements.numbers(0x00189087, b"FD")[:1]),
        ("image type", elements.text(0x00080008)),
        ("inversion time", elements.text(0x00180082)),
        ("acquisition", elements.text(0x00200012)),
        ("trigger time", elements.text(0x00181060)),
        ("convolution kernel", elements.text(0x00181210)),
        ("gradient direction", elements.numbers(0x00189089, b"FD")[:3]),
    )


def flat_spacing_mm(elements: Elements) -> tuple[float, float] | None:
    """Pixel spacing of a projection or ultrasound image: at the detector, on the scanned film, or in the scan's region."""
    for tag in (0x00280030, 0x00181164, 0x00182010):
        spacing = _finite(elements.numbers(tag, b"DS"), 2)
        if spacing and min(spacing) > 0:
            return spacing[0], spacing[1]
    for region in elements.items(0x00186011):
        columns_cm, rows_cm = region.number(0x0018602C, b"FD"), region.number(0x0018602E, b"FD")
        if region.integer(0x00186024) == 3 and columns_cm and rows_cm:
            return abs(rows_cm) * 10.0, abs(columns_cm) * 10.0
    return None


def _enhanced_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    per_frame, shared = elements.items(0x52009230), elements.first_item(0x52009229)
    if len(per_frame) != file.place.n_frames:
        raise DamagedDicom(f"NumberOfFrames is {file.place.n_frames} but {len(per_frame)} frames are described")
    return tuple(_enhanced_plane(elements, shared, item, file, index) for index, item in enumerate(per_frame))


def _enhanced_plane(elements: Elements, shared: Elements | None, item: Elements, file: ImageFile, index: int) -> Plane:
    def group(tag: int) -> Elements | None:
        return item.first_item(tag) or (shared.first_item(tag) if shared else None)

    placement = _placement(group(0x00209113), group(0x00209116), group(0x00289110))
    if placement[5] in ("ImagePositionPatient", "ImageOrientationPatient") and file.is_flat_modality:
        placement = (None, None, None, placement[3] or flat_spacing_mm(elements), placement[4], "")
    transformation = group(0x00289145)
    slope, intercept = read_rescale(transformation if transformation else elements)
    content, echo, diffusion = group(0x00209111), group(0x00189114), group(0x00189117)
    cardiac, kind = group(0x00189118), group(0x00189226) or group(0x00189329)
    marks: tuple[tuple[str, object], ...] = (
        ("stack", content.text(0x00209056) if content else ""),
        ("temporal position", content.numbers(0x00209128, b"UL")[:1] if content else ()),
        ("echo", echo.numbers(0x00189082, b"FD")[:1] if echo else ()),
        ("b-value", diffusion.numbers(0x00189087, b"FD")[:1] if diffusion else ()),
        ("image type", kind.text(0x00089007) + "/" + kind.text(0x00089208) if kind else ""),
        ("trigger time", cardiac.numbers(0x00209153, b"FD")[:1] if cardiac else ()),
        ("acquisition", content.numbers(0x00209156, b"US")[:1] if content else ()),
    )
    return Plane(file, index, *placement[:5], slope, intercept, marks, index, placement[5])


def _dose_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    """Frames of a dose grid: one position, and the offset of every frame along the normal."""
    position, row, column, spacing, thickness, missing = _placement(elements, elements, elements)
    offsets = elements.numbers(0x3004000C, b"DS")
    scale = elements.number(0x3004000E, b"DS")
    slope = scale if scale and math.isfinite(scale) else 1.0
    if len(offsets) != file.place.n_frames or not position or not row or not column:
        raise DamagedDicom(f"it has {file.place.n_frames} frames but {len(offsets)} offsets or no {missing or 'place'}")
    start = offsets[0] if offsets[0] == 0 else 0.0
    return _stepped_planes(
        file, position, row, column, spacing, [o - start for o in offsets], thickness, (slope, 0.0), missing
    )


def _nuclear_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    """Frames of a nuclear-medicine tomogram: the detector item places the first, SliceVector numbers the others."""
    detector = elements.first_item(0x00540022)
    position, row, column, spacing, thickness, missing = _placement(detector, detector, elements)
    slices = elements.numbers(0x00540080, b"US")
    if len(slices) != file.place.n_frames or not position or not row or not column or not thickness:
        return _classic_planes(elements, file)
    offsets = [(number - 1.0) * thickness for number in slices]
    return _stepped_planes(file, position, row, column, spacing, offsets, thickness, read_rescale(elements), missing)


def _stepped_planes(
    file: ImageFile,
    position: Vector,
    row: Vector,
    column: Vector,
    spacing: tuple[float, float] | None,
    offsets: list[float],
    thickness: float | None,
    rescale: tuple[float, float],
    missing: str,
) -> tuple[Plane, ...]:
    normal = np.cross(row, column)
    return tuple(
        Plane(file, n, _vector(position + offset * normal), row, column, spacing, thickness, *rescale, (), n, missing)
        for n, offset in enumerate(offsets)
    )
