"""Clicks as a person would make them: first inside the lesion, then where the mask is most wrong."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import edt
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def largest_component(mask: Bools) -> tuple[Bools, tuple[slice, ...]] | None:
    """The largest 6-connected component, cropped, and where the crop lies; None for an empty mask."""
    labels, n = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6, return_N=True)
    if n == 0:
        return None
    statistics = cc3d.statistics(labels)
    k = 1 + int(np.argmax(statistics["voxel_counts"][1:]))
    cut = statistics["bounding_boxes"][k]
    return labels[cut] == k, cut


def place_click(
    region: Bools, rng: Generator, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), *, centred: float = 0.5
) -> NDArray[np.float64] | None:
    """Index of a click in the largest component of `region`.

    Parameters
    ----------
    region : ndarray of bool, shape (Z, Y, X)
        Where a click makes sense: the lesion, or one kind of error.
    rng : Generator
        Source of chance.
    spacing_mm : sequence of float
        Voxel size along (z, y, x).
    centred : float
        Probability of a click in the deep part; otherwise anywhere inside.

    Returns
    -------
    ndarray, shape (3,), or None
        None where `region` is empty.
    """
    found = largest_component(region)
    return None if found is None else _click_in(*found, rng, spacing_mm, centred)


def _click_in(
    component: Bools, cut: tuple[slice, ...], rng: Generator, spacing_mm: Sequence[float], centred: float
) -> NDArray[np.float64]:
    if rng.random() < centred:
        depth = edt.edt(np.ascontiguousarray(component), anisotropy=tuple(spacing_mm), black_border=True)
        candidates = np.flatnonzero(depth >= 0.75 * depth.max())
    else:
        candidates = np.flatnonzero(component)
    index = np.unravel_index(candidates[int(rng.integers(len(candidates)))], component.shape)
    return np.asarray(np.array(index) + np.array([s.start for s in cut]), float)


def correcting_click(
    truth: Bools, mask: Bools, rng: Generator, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[NDArray[np.float64], bool] | None:
    """A click in the larger of the largest missed and the largest spilled component; None where nothing is wrong.

    Returns
    -------
    ndarray, shape (3,)
        Index of the click.
    bool
        True for a missed part (a positive click), False for a spill.
    """
    errors = [(largest_component(truth & ~mask), True), (largest_component(mask & ~truth), False)]
    found = [(int(error[0].sum()), error, positive) for error, positive in errors if error is not None]
    if not found:
        return None
    _, (component, cut), positive = max(found, key=lambda f: (f[0], f[2]))
    return _click_in(component, cut, rng, spacing_mm, 0.7), positive


def damaged(truth: Bools, rng: Generator) -> Bools:
    """A plausible wrong mask: grown, shrunk, shifted, with parts missing and parts spilled."""
    mask = truth.copy()
    size = max(1.0, float(truth.sum()) ** (1 / 3))
    depth = _signed_depth(truth)
    if rng.random() < 0.6:
        mask = depth > rng.uniform(-0.2, 0.25) * size
    if rng.random() < 0.3:
        shift = np.rint(rng.normal(0, 0.12 * size, 3)).astype(int)
        mask = np.roll(mask, tuple(shift), (0, 1, 2))
    near = np.flatnonzero(np.abs(depth) < 0.25 * size)
    for _ in range(int(rng.integers(0, 4)) if len(near) else 0):
        centre = np.array(np.unravel_index(near[int(rng.integers(len(near)))], truth.shape))
        radii = size * rng.uniform(0.15, 0.6, 3) + 0.5
        low = np.maximum(np.floor(centre - radii), 0).astype(int)
        high = np.minimum(np.ceil(centre + radii) + 1, truth.shape).astype(int)
        cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = (((np.arange(a, b) - c) / r) ** 2 for a, b, c, r in zip(low, high, centre, radii, strict=True))
        mask[cut][z[:, None, None] + y[:, None] + x < 1.0] = rng.random() < 0.5
    return mask


def _signed_depth(mask: Bools) -> NDArray[np.float32]:
    """Distance to the surface in voxels, positive inside; on every second voxel of a large mask."""
    coarse = 2 if mask.size > 100_000 else 1
    thin = np.ascontiguousarray(mask[::coarse, ::coarse, ::coarse])
    depth = coarse * (edt.edt(thin, black_border=False) - edt.edt(~thin))
    if coarse > 1:
        for axis in range(3):
            depth = np.repeat(depth, coarse, axis)
        depth = depth[tuple(slice(0, n) for n in mask.shape)]
    return np.asarray(depth, np.float32)
