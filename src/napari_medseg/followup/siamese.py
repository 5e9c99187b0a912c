"""How much each lesion changed in the eyes of the Siamese network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.errors import Cancelled, ModelError
from napari_medseg.followup.compare import FollowUp
from napari_medseg.followup.findings import Finding
from napari_medseg.followup.matching import Row
from napari_medseg.imaging.volume import Volume

if TYPE_CHECKING:
    from napari_medseg.classification import Matcher


def with_scores(
    found: FollowUp,
    prior: Volume,
    matcher: Matcher | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> FollowUp:
    """Add the change score of each lesion that both scans show: 1 minus the similarity of its places.

    A new or resolved lesion has none. The network knows a place by all that surrounds it, also without its lesion.

    Parameters
    ----------
    found : FollowUp
        A comparison.
    prior : Volume
        The prior as it was read, not moved.
    matcher : Matcher, optional
        The bundled Siamese network where nothing is given; without one a note says that there is none.

    Raises
    ------
    Cancelled
        If ``should_stop`` said so.
    """
    from napari_medseg.classification import load_matcher

    try:
        matcher = matcher or load_matcher()
    except ModelError as error:
        return replace(found, notes=(*found.notes, f"No change scores: {error}."))
    rows = []
    for row in found.rows:
        if should_stop():
            raise Cancelled("Stopped.")
        in_both = row.current and row.prior
        rows.append(replace(row, change_score=_score(row, found, prior, matcher) if in_both else None))
    return replace(found, rows=tuple(rows))


def _score(row: Row, found: FollowUp, prior: Volume, matcher: Matcher) -> float | None:
    """Score of one lesion, seen at one size at its place in both scans; None where a scan does not show it."""
    from napari_medseg.classification import Subject

    lesions: tuple[Finding, ...] = row.current
    largest = max(lesions, key=lambda each: each.volume_ml)
    there = np.linalg.solve(found.registration.matrix, [*row.position_mm, 1.0])
    try:
        now = Subject.at(found.current, row.position_mm)
        before = Subject.at(prior, (float(there[0]), float(there[1]), float(there[2])))
    except ModelError:
        return None
    size = max(largest.long_mm, 1.0)
    a, b = (matcher.embed(each, diameter_mm=size) for each in (before, now))
    return 1.0 - float(np.asarray(matcher.similarity(a, b)).item())
