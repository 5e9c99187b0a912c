"""Where the model is not sure: the next place worth a look, and what to be careful about with this scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.amounts import millilitres
from napari_medseg.imaging.volume import Confidence, Volume
from napari_medseg.models.checkpoint import read_card
from napari_medseg.models.library import Library
from napari_medseg.segmentation.doubt import DoubtfulRegion, doubtful_regions, reach_of
from napari_medseg.segmentation.familiarity import unlike_training
from napari_medseg.session.labels import union
from napari_medseg.session.lesions import Lesion, Region
from napari_medseg.session.work import Editor

NOTHING_ASKED = "Segment a lesion first: then the places where the model is not sure can be visited."
_MIDDLE = 0.5
_SIDES = (("lower", "upper"), ("front", "rear"), ("right", "left"))  # arrays run to superior, posterior, left
NO_DOUBT = "The model has no doubt about what it answered."


class DoubtController:
    """Leads from one doubtful region to the next, that with most to gain first.

    Parameters
    ----------
    editor : Editor
        Knows the open scan and its lesions.
    library : Library
        Where models' cards are.

    Attributes
    ----------
    jumped : Signal
        Emits the voxel ``(z, y, x)`` to look at.
    """

    jumped = Signal(tuple)

    def __init__(self, editor: Editor, library: Library) -> None:
        self.editor, self.session, self._library = editor, editor.session, library
        self._known: tuple[object, ...] = ()
        self._regions: tuple[DoubtfulRegion, ...] = ()
        self._at = -1
        self._cautions: tuple[Volume | None, str, str] = (None, "", "")

    def next_region(self) -> None:
        """Go to the doubtful region with most to gain, then to the next one; after the last one from the start."""
        confidences = self.confidences()
        if not confidences:
            self.session.message = NOTHING_ASKED
            return
        state = (self.session.work, *confidences)
        if len(state) != len(self._known) or any(a is not b for a, b in zip(state, self._known, strict=True)):
            self._known, self._regions, self._at = state, self._find(confidences), -1
        if not self._regions:
            self.session.message = NO_DOUBT
            return
        self._at = (self._at + 1) % len(self._regions)
        region = self._regions[self._at]
        self.jumped.emit(region.index)
        self.session.message = (
            f"Doubtful region {self._at + 1} of {len(self._regions)}: {millilitres(region.volume_ml)} "
            f"{self._place(region)}."
        )

    def confidences(self) -> tuple[Confidence, ...]:
        """The confidences of the lesions' last answers, each once."""
        proposals = [lesion.proposal for lesion in self.session.lesions if lesion.visible]
        found = [each.confidence for each in proposals if each is not None and each.confidence is not None]
        return tuple({id(each): each for each in found}.values())

    def doubt(self) -> tuple[NDArray[np.uint8], Region] | None:
        """How unsure the model is (0 to 255), in the box of the scan that holds all of it; None without an answer."""
        confidences = self.confidences()
        if not confidences or self.session.work is None:
            return None
        box = confidences[0].region
        for each in confidences[1:]:
            box = union(each.region, box)
        doubt = np.zeros([part.stop - part.start for part in box], np.uint8)
        for each in confidences:
            inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(each.region, box, strict=True))
            np.maximum(doubt[inner], 255 - each.values, out=doubt[inner])
        doubt[self.session.work.labels.locked[box]] = 0
        return doubt, box

    def caution(self) -> str:
        """What about the open scan the chosen model has never seen, in a sentence; empty for ordinary scans."""
        volume, name = self.session.volume, self.session.model_name
        if volume is None:
            return ""
        if (volume, name) != self._cautions[:2]:
            try:
                told = unlike_training(volume, read_card(self._library.path(name)))
            except MedSegError:
                told = ()  # a model without a card, or that is no longer there, says so when it is asked
            sentence = ". ".join(text[0].upper() + text[1:] for text in told)
            self._cautions = (volume, name, f"{sentence}." if sentence else "")
        return self._cautions[2]

    def _find(self, confidences: tuple[Confidence, ...]) -> tuple[DoubtfulRegion, ...]:
        work = self.editor.work
        found = [
            region
            for confidence in confidences
            for region in doubtful_regions(
                confidence,
                work.volume.spacing_mm,
                settled=work.labels.locked,
                reach_mm=reach_of(self._largest_ml(confidence)),
                axis=work.axis,
            )
        ]
        return tuple(sorted(found, key=lambda region: -region.gain_ml))

    def _largest_ml(self, confidence: Confidence) -> float:
        """Volume of the largest lesion of an answer."""
        proposals = [lesion.proposal for lesion in self.session.lesions]
        sizes = [int(each.mask.sum()) for each in proposals if each is not None and each.confidence is confidence]
        return max(sizes, default=0) * float(np.prod(self.editor.work.volume.spacing_mm)) / 1000.0

    def _place(self, region: DoubtfulRegion) -> str:
        """Where it lies in (or at) its lesion, in words."""
        lesions = [lesion for lesion in self.session.lesions if lesion.proposal is not None and lesion.visible]
        offsets = [(_offset(region.middle, lesion), lesion) for lesion in lesions]
        offset, lesion = min(offsets, key=lambda each: float(np.abs(each[0]).max()))
        name = f"'{lesion.name}'" if len(lesions) > 1 else "the lesion"
        axis = int(np.abs(offset).argmax())
        if abs(offset[axis]) < _MIDDLE:
            return f"in the middle of {name}"
        if not self.editor.work.volume.sides_are_known:
            return f"at the border of {name}"
        return f"at the {_SIDES[axis][int(offset[axis] > 0)]} border of {name}"


def _offset(middle: tuple[float, float, float], lesion: Lesion) -> NDArray[np.float64]:
    """How far a place lies from a lesion's middle along (z, y, x), in parts of its half width there."""
    assert lesion.proposal is not None
    mask, offset = lesion.proposal.mask, np.zeros(3)
    for axis, part in enumerate(lesion.proposal.region):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(there):
            half = 0.5 * (there[-1] - there[0] + 1)
            offset[axis] = (middle[axis] - part.start - 0.5 * (there[0] + there[-1])) / half
    return offset
