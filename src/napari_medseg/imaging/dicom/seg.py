"""DICOM segmentation objects: label maps out, with references to the scan they were drawn on, and in again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.dicom.codes import Code, codes_of
from napari_medseg.imaging.dicom.identity import remove_identity
from napari_medseg.imaging.dicom.reopen import Scan, reopened_scan
from napari_medseg.imaging.dicom.seg_read import LABEL_NOTE, read_dicom_seg
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.mask_fit import place_on
from napari_medseg.imaging.volume import LabelMap

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

__all__ = ["place_on", "read_dicom_seg", "write_dicom_seg"]


def write_dicom_seg(path: str | Path, label_map: LabelMap, *, deidentified: bool = False) -> Path:
    """Save a mask as a binary DICOM segmentation that refers to its scan, read back and compared.

    It carries the identity of patient and study, as the format is meant to; the scan's files are read again for it.

    Parameters
    ----------
    path : str or Path
        Where to save.
    label_map : LabelMap
        On the grid of a DICOM series, with that scan's metadata.
    deidentified : bool
        Leave the patient and the dates out and give every instance a fresh UID, on one computer always the same for
        the same scan: the file refers to the scan as such a copy of it would call itself, not to the scan itself.

    Raises
    ------
    ImagingError
        If the mask does not belong to a DICOM series, the series' files are gone or changed, or saving failed.
    """
    path = Path(path)
    scan = reopened_scan(label_map, path.name, "a DICOM SEG")
    masks = scan.slices(label_map)
    segmentation = _segmentation(masks, label_map, scan)
    if not scan.source.is_placed:
        segmentation.PatientOrientation = scan.first.get("PatientOrientation", "")
        for measures in segmentation.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", ()):
            # The object must have one, a projection has none: that of the one slice which it is in memory.
            measures.SliceThickness = measures.get("SliceThickness") or 1.0
    if deidentified:
        remove_identity(segmentation)

    def verify(temporary: Path) -> None:
        written = read_dicom_seg(temporary)
        if not _is_same(written, label_map, is_placed=scan.source.is_placed):
            raise ImagingError(f"{path.name} did not read back as it was written, so it was not kept; save it again")

    return write_durably(path, lambda temporary: segmentation.save_as(temporary), verify)


def _segmentation(masks: NDArray[Any], label_map: LabelMap, scan: Scan) -> Segmentation:
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    from napari_medseg import __version__

    labels = [int(label) for label in np.unique(masks[masks > 0])] or sorted(label_map.names)[:1] or [1]
    numbers = np.zeros(max(labels) + 1, np.uint8 if len(labels) <= 255 else np.uint16)
    numbers[labels] = np.arange(1, len(labels) + 1)
    present = scan.present
    kept = [k for k in present if masks[k].any() or k in (present[0], present[-1])]
    pixels = numbers[masks[kept]]
    placeholders = _hold_open(pixels)
    try:
        with warnings.catch_warnings():
            # pydicom warns about unusual values in the scan's headers, which are none of our making.
            warnings.simplefilter("ignore")
            segmentation = Segmentation(
                **scan.frames_for(kept),
                pixel_array=pixels,
                segmentation_type="BINARY",
                segment_descriptions=[_description(n + 1, label, labels, label_map) for n, label in enumerate(labels)],
                series_instance_uid=generate_uid(),
                series_number=900,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="napari-medseg",
                manufacturer_model_name="napari-medseg",
                software_versions=__version__,
                device_serial_number="0",
                content_label="LESIONS",
                content_description="Segmentation",
                omit_empty_frames=True,
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ImagingError(
            f"the scan's DICOM files do not carry what a DICOM SEG must refer to ({reason}); save the mask as .nii.gz"
        ) from error
    _clear(segmentation, [scan.affine_lps[:3, 3] + kept[n] * scan.affine_lps[:3, 2] for n in placeholders])
    return segmentation


def _hold_open(pixels: NDArray[Any]) -> list[int]:
    """Mark one voxel of an empty first or last slice, and return which slices were marked.

    Empty frames are left out of the file, but these two say how far the scan reaches, so that the mask reads back on
    the whole grid. The voxels are cleared again once the frames are there.
    """
    empty = [n for n in {0, len(pixels) - 1} if not pixels[n].any()]
    pixels[empty, 0, 0] = 1
    return empty


def _clear(segmentation: Segmentation, positions: list[NDArray[np.float64]]) -> None:
    """Clear the first voxel of the frames at these positions (LPS+ mm)."""
    bits = bytearray(segmentation.PixelData)
    for position in positions:
        frame = _frame_at(segmentation, position)
        first = frame * segmentation.Rows * segmentation.Columns
        bits[first // 8] &= ~(1 << first % 8) & 0xFF
    used = -(-segmentation.NumberOfFrames * segmentation.Rows * segmentation.Columns // 8)
    bits[used:] = b"\0" * (len(bits) - used)
    segmentation.PixelData = bytes(bits)


def _frame_at(segmentation: Segmentation, position: NDArray[np.float64]) -> int:
    items = segmentation.PerFrameFunctionalGroupsSequence
    if "PlanePositionSequence" not in items[0]:
        return 0
    places = np.array([item.PlanePositionSequence[0].ImagePositionPatient for item in items], dtype=np.float64)
    return int(np.argmin(np.linalg.norm(places - position, axis=1)))


def _description(number: int, label: int, labels: list[int], label_map: LabelMap) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    from napari_medseg import __version__

    name = (label_map.names.get(label) or f"Label {label}")[:64]
    coded = codes_of(name)
    description = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=_concept(coded.category),
        segmented_property_type=_concept(coded.type),
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name="napari-medseg", version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
    )
    if labels != list(range(1, len(labels) + 1)):
        description.SegmentDescription = f"{LABEL_NOTE}{label}"
    colour = label_map.metadata.get("colours", {}).get(label)
    if colour is not None:
        description.RecommendedDisplayCIELabValue = _lab_of_rgb(colour)
    return description


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _lab_of_rgb(colour: Any) -> list[int]:
    from skimage.color import rgb2lab

    lightness, a, b = rgb2lab(np.asarray(colour, dtype=np.float64)[None, :3])[0]
    values = (lightness / 100 * 65535, (a + 128) / 255 * 65535, (b + 128) / 255 * 65535)
    return [int(np.clip(round(value), 0, 65535)) for value in values]


def _is_same(written: LabelMap, label_map: LabelMap, *, is_placed: bool) -> bool:
    if is_placed:
        placed = place_on(written, label_map)
        return placed is not None and bool(np.array_equal(placed.data, label_map.data))
    return bool(np.array_equal(written.data, label_map.data))
