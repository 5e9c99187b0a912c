"""What is held out: cases, or parts of them, that do not teach until they have been measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_medseg.learning.cases import Case
from napari_medseg.segmentation.automatic import resized

_BLOCK = 1 / 3
_MOST_OFF = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """One corrected case, or part of one, that does not teach in the first phase.

    Parameters
    ----------
    index : int
        Which case.
    region : tuple of slice
        Part of the scan's own array that figures are measured in.
    is_whole : bool
        Whether that is the whole scan.
    """

    index: int
    region: tuple[slice, slice, slice]
    is_whole: bool


def choose_held_out(cases: Sequence[Case]) -> tuple[HeldOut, ...]:
    """Hold out the newest case (the newest fifth of many) from three on; else about a third of the only scans."""
    whole = slice(0, None)
    if len(cases) >= 3:
        n = min(4, max(1, len(cases) // 5))
        usable = [k for k, case in enumerate(cases) if (case.truth[case.seen] > 0).any()]
        return tuple(HeldOut(k, (whole, whole, whole), is_whole=True) for k in usable[-n:])
    blocks = [(k, _block(case)) for k, case in enumerate(cases)]
    return tuple(HeldOut(k, block, is_whole=False) for k, block in blocks if block is not None)


def describe(held_out: Sequence[HeldOut], n_cases: int) -> str:
    """What figures are measured on, for a person."""
    if not held_out:
        return "nothing was held out: the masks are too small"
    if held_out[0].is_whole:
        return f"{len(held_out)} of {n_cases} corrected cases, held out"
    return f"a held-out third of {'the only corrected case' if n_cases == 1 else 'each corrected case'}"


def weights_without(cases: Sequence[Case], held_out: Sequence[HeldOut]) -> list[Tensor]:
    """Voxel weights of all cases, 0 in what is held out."""
    weights = [case.weight for case in cases]
    for held in held_out:
        hidden = hidden_part(cases[held.index], held)
        weights[held.index] = torch.where(hidden > 0, 0.0, weights[held.index])
    return weights


def hidden_part(case: Case, held: HeldOut) -> Tensor:
    """How much of each voxel of the network's grid is held out."""
    hidden = np.zeros(case.truth.shape, np.float32)
    hidden[held.region] = 1.0
    return resized(torch.from_numpy(hidden), tuple(case.weight.shape))


def _block(case: Case) -> tuple[slice, slice, slice] | None:
    """End of the scan, along some axis, that holds about a third of every label; None where no end does."""
    truth = np.where(case.seen, case.truth, 0)
    counts = [np.bincount(truth[truth > 0].ravel(), minlength=2)]
    labels = np.flatnonzero(counts[0])
    least, chosen = _MOST_OFF, None
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        profiles = np.stack([(truth == k).sum(others) for k in labels]) if len(labels) else np.zeros((0, 1))
        for backwards in (False, True):
            ordered = profiles[:, ::-1] if backwards else profiles
            shares = ordered.cumsum(1) / np.maximum(ordered.sum(1, keepdims=True), 1)
            if shares.shape[1] < 3 or not len(labels):
                continue
            off = np.abs(shares - _BLOCK).max(0)
            at = int(off.argmin())
            if off[at] < least:
                n = truth.shape[axis]
                part = slice(n - 1 - at, n) if backwards else slice(0, at + 1)
                least = float(off[at])
                chosen = tuple(part if a == axis else slice(0, None) for a in range(3))
    return None if chosen is None else (chosen[0], chosen[1], chosen[2])
