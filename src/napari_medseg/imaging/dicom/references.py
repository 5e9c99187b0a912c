"""What a DICOM mask says about the scan that it was drawn on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_medseg.imaging.dicom.elements import Elements
from napari_medseg.imaging.dicom.source import dicom_source

_KEY = "references"


@dataclass(frozen=True, slots=True)
class MaskReferences:
    """The series and the frames of reference that a mask names; stands in ``metadata["references"]`` of the mask.

    Parameters
    ----------
    series_uids : frozenset of str
        Series instance UIDs; empty where the mask names none.
    frame_of_reference_uids : frozenset of str
        Positions in millimetres mean the same place only within one of these.
    """

    series_uids: frozenset[str]
    frame_of_reference_uids: frozenset[str]

    def names_series(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the mask names the very series that a volume's metadata speak of."""
        source = dicom_source(metadata)
        return source is not None and bool(source.series_uid) and source.series_uid in self.series_uids

    def shares_frame(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the mask and a volume say that they lie in one frame of reference."""
        source = dicom_source(metadata)
        return source is not None and source.frame_of_reference_uid in self.frame_of_reference_uids - {""}

    def contradict(self, metadata: Mapping[str, Any]) -> bool:
        """Whether the mask belongs to another frame of reference, or to another image that has no position at all."""
        source = dicom_source(metadata)
        if source is None or self.names_series(metadata):
            return False
        if not source.is_placed:
            return bool(self.series_uids)
        has_both = bool(source.frame_of_reference_uid) and bool(self.frame_of_reference_uids)
        return has_both and not self.shares_frame(metadata)


def references_of(metadata: Mapping[str, Any]) -> MaskReferences | None:
    """Return what a mask's metadata say about its scan, or None where its file says nothing."""
    references = metadata.get(_KEY)
    return references if isinstance(references, MaskReferences) else None


def references_of_seg(elements: Elements) -> MaskReferences:
    """Read the references of a DICOM segmentation."""
    series = {item.text(0x0020000E) for item in elements.items(0x00081115)}
    return MaskReferences(frozenset(series - {""}), frozenset({elements.text(0x00200052)} - {""}))


def references_of_rtstruct(elements: Elements) -> MaskReferences:
    """Read the references of an RTSTRUCT."""
    frames = {item.text(0x30060024) for item in elements.items(0x30060020)}
    series: set[str] = set()
    for frame in elements.items(0x30060010):
        frames.add(frame.text(0x00200052))
        for study in frame.items(0x30060012):
            series |= {item.text(0x0020000E) for item in study.items(0x30060014)}
    return MaskReferences(frozenset(series - {""}), frozenset(frames - {""}))
