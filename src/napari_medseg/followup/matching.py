"""Which lesion of the prior is which of the current scan, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_medseg.followup.findings import Finding, Point
from napari_medseg.followup.settings import CompareSettings
from napari_medseg.imaging.volume import LabelMap, Volume

Matrix = NDArray[np.float64]


class State(str, Enum):
    """What became of a lesion."""

    NEW = "new"
    GROWN = "grown"
    SHRUNK = "shrunk"
    STABLE = "stable"
    RESOLVED = "resolved"
    OUTSIDE = "outside"
    PROPOSED = "proposed"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One lesion over time: of the prior, of the current scan, or of both.

    Parameters
    ----------
    state : State
        ``OUTSIDE``: its place lies outside the other scan, so that nobody can tell. ``PROPOSED``: the other visit's
        mask stands in for one that nobody has drawn yet, so that its size says nothing.
    prior, current : tuple of Finding
        More than one where a lesion split or lesions merged.
    position_mm : tuple of float
        Where to look in the current scan, RAS+ mm.
    note : str
        How it was matched, where that is not by a common part; splits and merges.
    change_score : float, optional
        1 minus the similarity that the Siamese network sees, 0 (the same) to 1; None where it was not asked.
    """

    state: State
    prior: tuple[Finding, ...]
    current: tuple[Finding, ...]
    position_mm: Point
    note: str = ""
    change_score: float | None = None

    @property
    def name(self) -> str:
        """Name of the lesion, that of the current scan where there is one."""
        return " + ".join(each.name for each in (self.current or self.prior))

    @property
    def prior_ml(self) -> float | None:
        """Volume in the prior; None where it is not there."""
        return _sum_ml(self.prior)

    @property
    def current_ml(self) -> float | None:
        """Volume in the current scan; None where it is not there."""
        return _sum_ml(self.current)

    @property
    def volume_percent(self) -> float | None:
        """Change of volume in per cent of the prior's; None where either is missing or only proposed."""
        return None if self.state is State.PROPOSED else _percent(self.prior_ml, self.current_ml)

    @property
    def long_percent(self) -> float | None:
        """Change of the long axis in per cent of the prior's; None where either is missing or only proposed."""
        return None if self.state is State.PROPOSED else _percent(_largest(self.prior)[0], _largest(self.current)[0])

    @property
    def short_percent(self) -> float | None:
        """Change of the largest part's short axis in per cent of the prior's; None as for the long axis."""
        return None if self.state is State.PROPOSED else _percent(_largest(self.prior)[1], _largest(self.current)[1])

    def as_json(self) -> dict[str, Any]:
        """The same as one flat line of a table; diameters are those of the largest part."""
        return {
            "lesion": self.name,
            "state": self.state.value,
            "prior_ml": _rounded(self.prior_ml),
            "current_ml": _rounded(self.current_ml),
            "volume_percent": _rounded(self.volume_percent, 1),
            "prior_long_mm": _rounded(_largest(self.prior)[0], 2),
            "prior_short_mm": _rounded(_largest(self.prior)[1], 2),
            "current_long_mm": _rounded(_largest(self.current)[0], 2),
            "current_short_mm": _rounded(_largest(self.current)[1], 2),
            "long_percent": _rounded(self.long_percent, 1),
            "short_percent": _rounded(self.short_percent, 1),
            "change_score": _rounded(self.change_score),
            "prior_lesions": " + ".join(each.name for each in self.prior),
            "current_lesions": " + ".join(each.name for each in self.current),
            "x_mm": round(self.position_mm[0], 2),
            "y_mm": round(self.position_mm[1], 2),
            "z_mm": round(self.position_mm[2], 2),
            "note": self.note,
        }


def match(
    prior: Sequence[Finding],
    current: Sequence[Finding],
    *,
    prior_scan: Volume | LabelMap,
    current_scan: Volume | LabelMap,
    matrix: Matrix,
    settings: CompareSettings | None = None,
) -> tuple[Row, ...]:
    """Match the lesions of two visits: by their common part, then by nearness, the nearest pairs first.

    Parameters
    ----------
    prior, current : sequence of Finding
        Lesions of each visit, on the grids of their scans.
    prior_scan, current_scan : Volume or LabelMap
        Those grids.
    matrix : ndarray, shape (4, 4)
        World of the prior to world of the current scan, RAS+ mm.
    settings : CompareSettings, optional
        Tolerances and thresholds.

    Returns
    -------
    tuple of Row
        Those of the current scan in its order, then those that are only in the prior.
    """
    settings = settings or CompareSettings()
    places = [_moved(matrix, _centre(each, prior_scan)) for each in prior]
    there = [_centre(each, current_scan) for each in current]
    shares = np.array([[_common_share(p, c, prior_scan, current_scan, matrix) for c in current] for p in prior])
    joined = shares.reshape(len(prior), len(current)) >= settings.common_share
    near = _nearest_pairs(joined, places, there, settings.tolerance_mm)
    joined[tuple(zip(*near, strict=True)) if near else ([], [])] = True
    rows = []
    for ps, cs in _groups(joined):
        notes = [
            f"matched by nearness, {np.linalg.norm(places[p] - there[c]):.1f} mm apart" for p, c in near if p in ps
        ]
        row = _row([prior[p] for p in ps], [current[c] for c in cs], [places[p] for p in ps], notes, settings)
        rows.append(_seen(row, places, ps, prior_scan, current_scan, matrix))
    return tuple(rows)


def _row(
    prior: list[Finding],
    current: list[Finding],
    places: list[NDArray[np.float64]],
    notes: list[str],
    by: CompareSettings,
) -> Row:
    if len(prior) > 1 and current:
        notes.append(f"{len(prior)} lesions merged" if len(current) == 1 else f"{len(prior)} became {len(current)}")
    elif len(current) > 1 and prior:
        notes.append(f"split into {len(current)}")
    x, y, z = max(current, key=_size).position_mm if current else tuple(float(v) for v in places[0])
    row = Row(State.STABLE, tuple(prior), tuple(current), (x, y, z), "; ".join(notes))
    return replace(row, state=state_of(row, by))


def state_of(row: Row, settings: CompareSettings) -> State:
    """What became of a lesion, by the criterion and the thresholds of the settings."""
    before, now = row.prior_ml, row.current_ml
    if before is None or now is None:
        return State.NEW if before is None else State.RESOLVED
    if settings.criterion == "volume":
        change = row.volume_percent or 0.0
        if abs(change) < settings.volume_percent or abs(now - before) < settings.least_ml:
            return State.STABLE
        return State.GROWN if change > 0 else State.SHRUNK
    change, longer = row.long_percent or 0.0, (_largest(row.current)[0] or 0.0) - (_largest(row.prior)[0] or 0.0)
    if change >= settings.growth_percent and longer >= settings.growth_mm:
        return State.GROWN
    return State.SHRUNK if change <= -settings.shrinkage_percent else State.STABLE


def _seen(
    row: Row,
    places: list[NDArray[np.float64]],
    ps: list[int],
    prior_scan: Volume | LabelMap,
    current_scan: Volume | LabelMap,
    matrix: Matrix,
) -> Row:
    """A lesion whose place the other scan does not show is neither new nor resolved."""
    if row.state is State.RESOLVED and not any(_lies_in(current_scan, places[p]) for p in ps):
        return replace(row, state=State.OUTSIDE, note="its place lies outside the current scan")
    if row.state is State.NEW and not _lies_in(
        prior_scan, _moved(np.asarray(np.linalg.inv(matrix), np.float64), np.array(row.position_mm))
    ):
        return replace(row, state=State.OUTSIDE, note="its place lies outside the prior")
    return row


def _common_share(
    prior: Finding, current: Finding, prior_scan: Volume | LabelMap, current_scan: Volume | LabelMap, matrix: Matrix
) -> float:
    """Part of the smaller of two lesions that both share, 0 to 1, on the current scan's voxels."""
    index = np.argwhere(current.mask) + [part.start for part in current.region]
    step = np.linalg.solve(matrix @ prior_scan.affine, current_scan.affine)
    at = np.round(index @ step[:3, :3].T + step[:3, 3]).astype(int) - [part.start for part in prior.region]
    inside = ((at >= 0) & (at < prior.mask.shape)).all(1)
    n_common = int(prior.mask[tuple(at[inside].T)].sum())
    voxel_ml = current.volume_ml / len(index)
    return min(1.0, n_common * voxel_ml / min(prior.volume_ml, current.volume_ml))


def _nearest_pairs(
    joined: NDArray[np.bool_], places: list[NDArray[np.float64]], there: list[NDArray[np.float64]], tolerance_mm: float
) -> list[tuple[int, int]]:
    """Pairs of lesions that have no common part with any other, so that the sum of distances is least."""
    ps, cs = np.flatnonzero(~joined.any(1)), np.flatnonzero(~joined.any(0))
    if not ps.size or not cs.size:
        return []
    apart = np.array([[np.linalg.norm(places[p] - there[c]) for c in cs] for p in ps])
    rows, columns = linear_sum_assignment(np.where(apart <= tolerance_mm, apart, 1e6))
    pairs = zip(rows, columns, strict=True)
    return [(int(ps[r]), int(cs[c])) for r, c in pairs if apart[r, c] <= tolerance_mm]


def _groups(joined: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Lesions that hang together, those of the current scan first and in order."""
    n_prior, n_current = joined.shape
    p, c = np.nonzero(joined)
    graph = coo_array((np.ones(len(p)), (p, c + n_prior)), shape=(n_prior + n_current,) * 2)
    _, group = connected_components(graph, directed=False)
    order = dict.fromkeys([*group[n_prior:], *group[:n_prior]])
    members = [np.flatnonzero(group == each) for each in order]
    return [([int(k) for k in m if k < n_prior], [int(k) - n_prior for k in m if k >= n_prior]) for m in members]


def _centre(finding: Finding, scan: Volume | LabelMap) -> NDArray[np.float64]:
    return scan.position_of(np.argwhere(finding.mask).mean(0) + [part.start for part in finding.region])


def _moved(matrix: Matrix, place: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(matrix[:3, :3] @ place + matrix[:3, 3])


def _lies_in(scan: Volume | LabelMap, place: NDArray[np.float64]) -> bool:
    index = scan.index_of(place)
    return bool(((index >= -0.5) & (index <= np.array(scan.data.shape) - 0.5)).all())


def _size(finding: Finding) -> float:
    return finding.volume_ml


def _sum_ml(findings: tuple[Finding, ...]) -> float | None:
    return sum(each.volume_ml for each in findings) if findings else None


def _largest(findings: tuple[Finding, ...]) -> tuple[float | None, float | None]:
    if not findings:
        return None, None
    largest = max(findings, key=lambda each: each.long_mm)
    return largest.long_mm, largest.short_mm


def _percent(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None or not before else 100.0 * (now - before) / before


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
