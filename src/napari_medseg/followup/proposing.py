"""Lesions that were marked at one visit alone, proposed on the scan of the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import edt
import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, MedSegError
from napari_medseg.followup.findings import Finding
from napari_medseg.imaging.orientation import resample_label_map
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.prompts import Click

# An answer that is this many times larger or smaller than the lesion was is not believed.
_MOST_TIMES = 8.0


class Segments(Protocol):
    """What is asked of a model: the lesion under a click."""

    def segment(
        self, volume: Volume, prompts: Sequence[Click] = (), *, should_stop: Callable[[], bool] | None = None
    ) -> LabelMap:
        """Segment one lesion from its prompts."""


def propose(
    findings: Sequence[Finding],
    marked: LabelMap,
    onto: Volume,
    matrix: NDArray[np.float64],
    *,
    model: Segments | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[LabelMap, tuple[int, ...]]:
    """Propose the lesions of one visit on the scan of another.

    The model is asked with a click at the deepest place of each lesion's moved mask. Where it finds nothing there, or
    something of quite another size, the moved mask itself is proposed.

    Parameters
    ----------
    findings : sequence of Finding
        The lesions.
    marked : LabelMap
        The mask that they were found in.
    onto : Volume
        The other scan.
    matrix : ndarray, shape (4, 4)
        World of the mask to world of that scan, RAS+ mm.
    model : optional
        Asked with clicks; the moved masks alone where there is none.

    Returns
    -------
    label_map : LabelMap
        A label a lesion, 1 for the first; lesions outside the scan are missing.
    moved : tuple of int
        Labels of the lesions whose moved mask was proposed.

    Raises
    ------
    Cancelled
        If ``should_stop`` said so.
    """
    kind = np.uint8 if len(findings) < 256 else np.uint16
    data, names, moved = np.zeros(onto.data.shape, kind), dict[int, str](), []
    for label, finding in enumerate(findings, 1):
        if should_stop():
            raise Cancelled("Stopped.")
        mask = moved_mask(finding, marked, onto, matrix)
        if mask.any():
            answer = _answered(model, onto, mask, should_stop)
            if answer is None:
                moved.append(label)
            data[(mask if answer is None else answer) & (data == 0)] = label
            names[label] = finding.name
        progress(label / len(findings))
    return LabelMap(data, onto.affine, names, onto.grid, metadata=onto.metadata), tuple(moved)


def moved_mask(finding: Finding, marked: LabelMap, onto: Volume, matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A lesion's voxels on the other scan's grid; at least one voxel where its middle lies inside."""
    corner = np.eye(4)
    corner[:3, 3] = [part.start for part in finding.region]
    affine = matrix @ marked.affine @ corner
    out = np.zeros(onto.data.shape, bool)
    ends = np.array(np.meshgrid(*([-1, n] for n in finding.mask.shape), indexing="ij")).reshape(3, -1)
    at = np.linalg.solve(onto.affine, affine @ np.vstack([ends, np.ones(8)]))[:3]
    low = np.clip(np.floor(at.min(1)).astype(int), 0, out.shape)
    high = np.clip(np.ceil(at.max(1)).astype(int) + 1, 0, out.shape)
    if (high > low).all():
        corner[:3, 3] = low
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = LabelMap(np.zeros(high - low, np.uint8), onto.affine @ corner)
        out[box] = resample_label_map(LabelMap(finding.mask.astype(np.uint8), affine), grid).data > 0
    if not out.any():
        index = np.round(onto.index_of(matrix[:3, :3] @ finding.position_mm + matrix[:3, 3])).astype(int)
        if (index >= 0).all() and (index < out.shape).all():
            out[tuple(index)] = True
    return out


def _answered(
    model: Segments | None, onto: Volume, mask: NDArray[np.bool_], should_stop: Callable[[], bool]
) -> NDArray[np.bool_] | None:
    """What the model finds at a mask's deepest place; None where that cannot be the same lesion."""
    if model is None:
        return None
    depth = edt.edt(mask, anisotropy=onto.spacing_mm, black_border=True)
    r, a, s = onto.position_of(np.array(np.unravel_index(int(depth.argmax()), mask.shape), float))
    try:
        answer = model.segment(onto, [Click((float(r), float(a), float(s)))], should_stop=should_stop).data > 0
    except Cancelled:
        raise
    except MedSegError:
        return None
    times = answer.sum() / mask.sum()
    return answer if 1 / _MOST_TIMES <= times <= _MOST_TIMES and (answer & mask).any() else None
