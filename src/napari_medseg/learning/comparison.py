"""Two versions of a model on one corrected case, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import edt
import numpy as np

from napari_medseg.errors import LearningError
from napari_medseg.evaluation.overlap import dice
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.corrections import StoredCorrection
from napari_medseg.segmentation.prompts import Click, Prompt


@dataclass(frozen=True, slots=True, eq=False)
class VersionAnswer:
    """What one version answered.

    Parameters
    ----------
    version : int
        Its number in the library.
    mask : LabelMap
        On the scan's grid.
    how : str
        ``"without a click"`` or ``"with the case's clicks"``.
    dice : float
        With the correction, on the slices that were reviewed, all labels together.
    """

    version: int
    mask: LabelMap
    how: str
    dice: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A corrected case with the answers of an old and a new version."""

    name: str
    volume: Volume
    corrected: LabelMap
    old: VersionAnswer
    new: VersionAnswer

    @property
    def sentence(self) -> str:
        """Both figures, for a person."""
        return (
            f"{self.name}: Dice {self.old.dice:.2f} by version {self.old.version} ({self.old.how}), "
            f"{self.new.dice:.2f} by version {self.new.version} ({self.new.how})"
        )


def compare_versions(
    stored: StoredCorrection,
    folders: tuple[tuple[int, Path], tuple[int, Path]],
    *,
    should_stop: Callable[[], bool] | None = None,
) -> Comparison:
    """Let two versions segment a corrected case as they would for its user.

    Parameters
    ----------
    stored : StoredCorrection
        The case.
    folders : pair of (int, Path)
        Number and model folder of the old and of the new version.
    should_stop : callable, optional
        Asked now and then; True stops with `Cancelled`.

    Raises
    ------
    LearningError
        If the scan is gone, or the correction is empty.
    """
    correction = stored.load()
    old, new = (_answer(number, folder, correction, should_stop) for number, folder in folders)
    return Comparison(correction.name, correction.volume, correction.corrected, old, new)


def _answer(number: int, folder: Path, correction: Correction, should_stop: Callable[[], bool] | None) -> VersionAnswer:
    from napari_medseg.segmentation.load import load_model

    model = load_model(folder)
    prompts = _prompts(correction) if model.needs_click else ()
    mask = model.segment(correction.volume, prompts, should_stop=should_stop)
    how = "with the case's clicks" if prompts else "without a click"
    seen = correction.seen()
    return VersionAnswer(number, mask, how, dice((mask.data > 0) & seen, (correction.corrected.data > 0) & seen))


def _prompts(correction: Correction) -> tuple[Prompt, ...]:
    """The user's own; a click in the middle of the mask where none are known."""
    if correction.prompts:
        return correction.prompts
    mask = np.ascontiguousarray((correction.corrected.data > 0) & correction.seen())
    if not mask.any():
        raise LearningError(f"the correction of '{correction.name}' is empty: there is nothing to compare")
    depth = edt.edt(mask, anisotropy=correction.volume.spacing_mm, black_border=True)
    middle = np.array(np.unravel_index(int(depth.argmax()), mask.shape), float)
    x, y, z = correction.volume.position_of(middle)
    return (Click((float(x), float(y), float(z))),)
