"""Sizes of lesions, and which of one visit is which of the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_medseg.followup.findings import diameters_mm, findings_of
from napari_medseg.followup.matching import State, match
from napari_medseg.followup.settings import CompareSettings
from napari_medseg.imaging.volume import LabelMap

GRID = np.diag([2.0, 1.0, 1.0, 1.0])
SHAPE = (12, 40, 50)


def drawn(*boxes: tuple[slice, slice, slice], labels: bool = True) -> LabelMap:
    data = np.zeros(SHAPE, np.uint8)
    for label, box in enumerate(boxes, 1):
        data[box] = label if labels else 1
    return LabelMap(data, GRID, {1: "first"})


def box(z: int, y: int, x: int, size: int = 4) -> tuple[slice, slice, slice]:
    return slice(z, z + 2), slice(y, y + size), slice(x, x + size)


def rows_of(prior: LabelMap, current: LabelMap, matrix: np.ndarray | None = None, **settings):
    return match(
        findings_of(prior),
        findings_of(current),
        prior_scan=prior,
        current_scan=current,
        matrix=np.eye(4) if matrix is None else matrix,
        settings=CompareSettings(**settings),
    )


def test_diameters_of_a_known_shape() -> None:
    mask = np.zeros((3, 30, 30), bool)
    mask[1, 5:15, 4:28] = True
    mask[0, 5:7, 5:7] = True
    long_mm, short_mm = diameters_mm(mask, np.diag([3.0, 0.5, 2.0, 1.0]), 0)
    assert long_mm == pytest.approx(48.0, rel=0.01)
    assert short_mm == pytest.approx(5.0, rel=0.05)
    (one,) = findings_of(drawn(box(2, 10, 10, 1)))
    assert (one.volume_ml, one.long_mm, one.short_mm) == pytest.approx((0.004, 1.0, 1.0))


def test_a_mask_of_one_label_is_taken_apart_and_labels_are_not() -> None:
    apart = findings_of(drawn(box(2, 4, 4), box(6, 20, 20), labels=False))
    assert [each.name for each in apart] == ["first 1", "first 2"]
    assert [each.name for each in findings_of(drawn(box(2, 4, 4), box(6, 20, 20)))] == ["first", "Lesion 2"]


def test_every_state_with_its_figures() -> None:
    prior = drawn(box(2, 4, 4), box(2, 4, 20), box(2, 20, 4, 6), box(2, 20, 20))
    current = drawn(box(2, 4, 4), box(2, 4, 20, 6), box(2, 20, 4), box(8, 30, 40))
    states = [row.state for row in rows_of(prior, current)]
    assert states == [State.STABLE, State.GROWN, State.SHRUNK, State.NEW, State.RESOLVED]
    grown = rows_of(prior, current)[1]
    assert grown.volume_percent == pytest.approx(125.0)
    assert grown.as_json()["prior_ml"] == pytest.approx(0.064)
    assert grown.long_percent == pytest.approx(50.0, abs=12.0)
    assert grown.short_percent == pytest.approx(50.0, abs=12.0)
    assert rows_of(prior, current, volume_percent=200.0)[1].state is State.STABLE
    by_diameter = rows_of(prior, current, criterion="diameter", growth_mm=1.0)
    assert [row.state for row in by_diameter][:3] == [State.STABLE, State.GROWN, State.SHRUNK]
    assert rows_of(prior, current, criterion="diameter")[1].state is State.STABLE


def test_the_short_axis_changes_on_its_own() -> None:
    prior = drawn((slice(2, 4), slice(4, 24), slice(4, 10)), box(6, 30, 40))
    current = drawn((slice(2, 4), slice(4, 24), slice(4, 13)))
    wider, gone = rows_of(prior, current)
    assert wider.short_percent == pytest.approx(50.0, abs=12.0)
    assert abs(wider.long_percent) < 10.0
    assert wider.as_json()["short_percent"] == pytest.approx(wider.short_percent, abs=0.05)
    assert gone.short_percent is None
    assert replace(wider, state=State.PROPOSED).short_percent is None


def test_splits_and_merges_are_named() -> None:
    one, two = drawn((slice(2, 4), slice(4, 8), slice(4, 20))), drawn(box(2, 4, 4, 4), box(2, 4, 16, 4))
    (split,) = rows_of(one, two)
    assert (split.note, len(split.current)) == ("split into 2", 2)
    (merged,) = rows_of(two, one)
    assert (merged.note, len(merged.prior)) == ("2 lesions merged", 2)
    assert merged.state is State.GROWN


def test_small_lesions_that_miss_each_other_are_matched_by_nearness_within_the_tolerance() -> None:
    prior, current = drawn(box(2, 4, 4, 2), box(2, 4, 30, 2)), drawn(box(2, 4, 7, 2), box(2, 4, 45, 2))
    near, new, resolved = rows_of(prior, current)
    assert (near.state, near.note) == (State.STABLE, "matched by nearness, 3.0 mm apart")
    assert (new.state, resolved.state) == (State.NEW, State.RESOLVED)
    assert len(rows_of(prior, current, tolerance_mm=1.0)) == 4


def test_what_the_other_scan_does_not_show_is_neither_new_nor_resolved() -> None:
    matrix = np.eye(4)
    matrix[2, 3] = 30.0
    prior, current = drawn(box(2, 4, 35)), drawn(box(2, 30, 4))
    (_, gone) = rows_of(prior, current, matrix)
    assert gone.state is State.OUTSIDE
    assert gone.note == "its place lies outside the current scan"


def test_one_visit_without_lesions() -> None:
    empty, marked = drawn(), drawn(box(2, 4, 4))
    assert [row.state for row in rows_of(empty, marked)] == [State.NEW]
    assert [row.state for row in rows_of(marked, empty)] == [State.RESOLVED]
    assert rows_of(empty, empty) == ()
