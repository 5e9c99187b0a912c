"""What one DICOM image file says: whose it is, how its pixels are stored, and where each of its frames lies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from napari_medseg.imaging.dicom.elements import DamagedDicom, Elements
from napari_medseg.imaging.dicom.file import DicomFile, NotDicom, open_dicom
from napari_medseg.imaging.dicom.layout import PixelLayout, PixelPlace, read_layout, read_place
from napari_medseg.imaging.dicom.patient import PatientKey, patient_key
from napari_medseg.imaging.dicom.placement import Placement, flat_spacing_mm, read_placement, read_rescale
from napari_medseg.imaging.dicom.units import read_unit

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
_WHOLE_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_NOT_IMAGES = frozenset({"SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "SEG", "DOC", "ECG", "AU"})
_FLAT_MODALITIES = frozenset(
    {"CR", "DX", "MG", "US", "IVUS", "XA", "RF", "IO", "PX", "OP", "OPT", "XC", "ES", "GM", "SM", "OT", "SC", "RTIMAGE"}
)


class NotAnImage(Exception):
    """A DICOM object without an image: a report, a plan, a contour set. The text says what."""


class UnusableImage(Exception):
    """An image that cannot be read; the text says why, ``series_uid`` which series it breaks."""

    def __init__(self, reason: str, series_uid: str = "") -> None:
        super().__init__(reason)
        self.series_uid = series_uid


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
    unit: str
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
    placement : Placement
        Where it lies.
    is_in_time : bool
        Whether it is a frame of a cine: its frames follow each other in time, not in space.
    slope, intercept : float
        Stored value to scanner units.
    marks : tuple
        What tells planes at one position apart (echo, b-value, time), most telling first.
    instance : int
        Instance or frame number.
    """

    file: ImageFile
    frame: int
    placement: Placement
    is_in_time: bool
    slope: float
    intercept: float
    marks: tuple[tuple[str, object], ...]
    instance: int

    @property
    def is_flat(self) -> bool:
        """Whether it is an image without a place, as projections, ultrasound and cines are."""
        return self.is_in_time or (self.file.is_flat_modality and bool(self.placement.missing))


def read_planes(path: Path) -> tuple[Plane, ...]:
    """Read the header of one file and return its planes.

    Raises
    ------
    NotDicom, NotAnImage
        If there is no image to read.
    UnusableImage
        If there is one that cannot be read.
    """
    with _refusing_damage(""):
        opened = open_dicom(path)
    elements = opened.elements
    _refuse_other_objects(opened)
    series = elements.text(0x0020000E)
    with _refusing_damage(series):
        file = image_file(opened)
        if 0x52009230 in elements:
            return enhanced_planes(elements, file)
        if file.place.n_frames > 1 and 0x3004000C in elements:
            return _dose_planes(elements, file)
        if file.place.n_frames > 1 and 0x00540080 in elements and 0x00540022 in elements:
            return _nuclear_planes(elements, file)
        return _classic_planes(elements, file)


@contextmanager
def _refusing_damage(series_uid: str) -> Iterator[None]:
    """Turn whatever damaged bytes make a parser raise into an unusable image; only then is its series refused."""
    try:
        yield
    except (NotDicom, OSError, MemoryError):
        raise
    except DamagedDicom as error:
        raise UnusableImage(str(error), series_uid) from error
    except Exception as error:
        raise UnusableImage(f"its header is damaged ({type(error).__name__})", series_uid) from error


def _refuse_other_objects(opened: DicomFile) -> None:
    elements = opened.elements
    sop_class, modality = opened.sop_class_uid, elements.word(0x00080060)
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
        raise NotAnImage(f"an object without an image ({modality or sop_class[:64] or 'of unknown kind'})")
    if "MOSAIC" in elements.texts(0x00080008):
        reason = "it is a Siemens mosaic (a volume tiled into one image): convert the series to NIfTI with dcm2niix"
        raise UnusableImage(reason, elements.text(0x0020000E))


def image_file(opened: DicomFile) -> ImageFile:
    """Identity and pixel layout of an opened file that holds pixel data."""
    elements = opened.elements
    layout = read_layout(elements)
    place, warnings = read_place(opened, layout)
    modality = elements.word(0x00080060)
    return ImageFile(
        path=opened.path,
        size=opened.size,
        mtime_ns=opened.mtime_ns,
        sop_class_uid=opened.sop_class_uid,
        sop_instance_uid=opened.sop_instance_uid,
        series_uid=elements.text(0x0020000E),
        study_uid=elements.text(0x0020000D),
        frame_of_reference_uid=elements.text(0x00200052),
        patient=patient_key(elements),
        modality=modality,
        description=(elements.text(0x0008103E) or elements.text(0x00181030))[:64],
        series_number=elements.integer(0x00200011, b"IS"),
        layout=layout,
        place=place,
        is_flat_modality=modality in _FLAT_MODALITIES or _is_secondary_capture(opened.sop_class_uid),
        gantry_tilt_degrees=elements.number(0x00181120, b"DS") or 0.0,
        unit=read_unit(elements),
        warnings=(*warnings, *_detector_warning(elements)),
    )


def _detector_warning(elements: Elements) -> tuple[str, ...]:
    """Say that lengths of a projection are those at its detector, where nobody calibrated them."""
    if 0x00181164 not in elements or 0x00280030 in elements or 0x52009230 in elements:
        return ()
    return ("Pixel spacing is that at the detector: lengths in the patient are smaller, by the unknown magnification.",)


def _is_secondary_capture(sop_class_uid: str) -> bool:
    return sop_class_uid == _SECONDARY_CAPTURE or sop_class_uid.startswith(_SECONDARY_CAPTURE + ".")


def _classic_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    n_frames = file.place.n_frames
    slope, intercept = read_rescale(elements)
    placement = read_placement(elements, elements, elements)
    if n_frames > 1:
        # One position for all frames is no stack.
        placement = replace(placement, position=None)
    if placement.missing and (file.is_flat_modality or n_frames > 1):
        placement = replace(placement, spacing_mm=flat_spacing_mm(elements))
    marks = _classic_marks(elements)
    instance = elements.integer(0x00200013, b"IS") or 0
    return tuple(
        Plane(file, frame, placement, n_frames > 1, slope, intercept, marks, instance or frame)
        for frame in range(n_frames)
    )


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
        ("frame reference time", elements.text(0x00541300)),
        ("acquisition time", elements.text(0x00080032)),
        ("content time", elements.text(0x00080033)),
    )


def enhanced_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    """Planes of an enhanced multi-frame object, placed by their functional groups."""
    per_frame, shared = elements.items(0x52009230), elements.first_item(0x52009229)
    if len(per_frame) != file.place.n_frames:
        raise DamagedDicom(f"NumberOfFrames is {file.place.n_frames} but {len(per_frame)} frames are described")
    return tuple(_enhanced_plane(elements, shared, item, file, index) for index, item in enumerate(per_frame))


def _enhanced_plane(elements: Elements, shared: Elements | None, item: Elements, file: ImageFile, index: int) -> Plane:
    def group(tag: int) -> Elements | None:
        return item.first_item(tag) or (shared.first_item(tag) if shared else None)

    placement = read_placement(group(0x00209113), group(0x00209116), group(0x00289110))
    if placement.missing and file.is_flat_modality:
        placement = read_placement(group(0x0020930E), group(0x0020930F), group(0x00289110), tags="Volume")
    if placement.missing and file.is_flat_modality:
        placement = replace(placement, spacing_mm=placement.spacing_mm or flat_spacing_mm(elements))
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
    is_in_time = bool(placement.missing) and file.is_flat_modality and file.place.n_frames > 1
    return Plane(file, index, placement, is_in_time, slope, intercept, marks, index)


def _dose_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    """Frames of a dose grid: one position, and the offset of every frame along the normal."""
    placement = read_placement(elements, elements, elements)
    offsets = elements.numbers(0x3004000C, b"DS")
    scale = elements.number(0x3004000E, b"DS")
    slope = scale if scale and math.isfinite(scale) else 1.0
    if len(offsets) != file.place.n_frames or not all(math.isfinite(offset) for offset in offsets):
        raise DamagedDicom(f"it has {file.place.n_frames} frames but {len(offsets)} frame offsets")
    # Offsets count from the position, or, in another allowed spelling, are positions along the axis themselves.
    start = 0.0 if offsets[0] == 0 else offsets[0]
    return _stepped_planes(file, placement, [offset - start for offset in offsets], (slope, 0.0))


def _nuclear_planes(elements: Elements, file: ImageFile) -> tuple[Plane, ...]:
    """Frames of a nuclear-medicine tomogram: the detector item places the first, SliceVector numbers the others.

    They follow each other along the normal, or against it where SpacingBetweenSlices is negative (PS3.3 C.8.4.15).
    """
    detector = elements.first_item(0x00540022)
    placement = read_placement(detector, detector, elements)
    slices = elements.numbers(0x00540080, b"US")
    if len(slices) != file.place.n_frames or placement.missing or not placement.thickness_mm:
        return _classic_planes(elements, file)
    step = math.copysign(placement.thickness_mm, elements.number(0x00180088, b"DS") or 1.0)
    offsets = [(number - 1.0) * step for number in slices]
    return _stepped_planes(file, placement, offsets, read_rescale(elements))


def _stepped_planes(
    file: ImageFile, placement: Placement, offsets: list[float], rescale: tuple[float, float]
) -> tuple[Plane, ...]:
    if placement.missing:
        return tuple(Plane(file, n, placement, False, *rescale, (), n) for n in range(len(offsets)))
    return tuple(Plane(file, n, placement.moved(offset), False, *rescale, (), n) for n, offset in enumerate(offsets))
