"""Corrected cases, prepared once for training: on the network's grid, with what may teach and how strongly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cc3d
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from napari_medseg.errors import LearningError
from napari_medseg.imaging.volume import Volume
from napari_medseg.learning.correction import Correction
from napari_medseg.segmentation.automatic import network_image, network_shape, resized

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

_PATCH_VOXELS = 64**3
_LEAST_ACROSS, _MOST_ACROSS = 32, 40  # voxels of the largest structures
_CLOSELY = 4 * 64**3  # voxels of a scan on a finer grid: seconds on two cores
_MOST_ANCHORS = 20_000
_NUMBERED = re.compile(r"(.*\S)\s*#?\s*\d+")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One corrected scan.

    Parameters
    ----------
    correction : Correction
        What the user accepted.
    truth : ndarray of int, shape (Z, Y, X)
        On the scan's own grid: 0 background, k + 1 for output k.
    seen : ndarray of bool, shape (Z, Y, X)
        On the scan's own grid: slices that somebody reviewed.
    image : Tensor, shape (z, y, x)
        The scan as the network sees it, on the network's grid.
    labels : Tensor of uint8, shape (z, y, x)
        `truth` on the network's grid; where it says nothing, what the old version found of its other labels.
    weight : Tensor, shape (z, y, x)
        How much each voxel counts: 0 unreviewed, 1 reviewed, more where it was corrected.
    taught : Tensor of bool, shape (K,)
        Outputs that the user's mask speaks of.
    kept : Tensor of bool, shape (K,)
        Outputs that the old version knew and the mask does not speak of: they shall answer as they did.
    anchors : ndarray, shape (N, 3)
        Voxels of the network's grid that a label covers or somebody corrected.
    """

    correction: Correction
    truth: NDArray[np.uint8]
    seen: NDArray[np.bool_]
    image: Tensor
    labels: Tensor
    weight: Tensor
    taught: Tensor
    kept: Tensor
    anchors: NDArray[np.int64]

    @property
    def volume(self) -> Volume:
        """The scan."""
        return self.correction.volume

    def anchor(self, rng: Generator) -> NDArray[np.float64] | None:
        """A voxel worth looking at, each label as often as the others; None where there is none."""
        if not len(self.anchors):
            return None
        return np.asarray(self.anchors[int(rng.integers(len(self.anchors)))] + 0.5, float)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which output of the network each value of each label map teaches.

    Parameters
    ----------
    labels : dict of int to str
        Value and name of each output, in the order of the outputs; old ones first.
    of_case : tuple of dict
        For each correction: its label values, and the output that each teaches.
    """

    labels: dict[int, str]
    of_case: tuple[dict[int, int], ...]


def match_outputs(known: Mapping[int, str], corrections: Sequence[Correction]) -> Outputs:
    """Find the output for each label of the corrections; new ones come after those that the model has.

    A label is recognised by its name, or by its value where it has no name. Numbered names are one kind of thing:
    'Lesion 1' and 'Lesion 2' both teach 'Lesion'.
    """
    labels = dict(known)
    unnamed = {int(v) for c in corrections if not c.corrected.names for v in _values(c)}
    maps = []
    for correction in corrections:
        names = correction.corrected.names
        values = {*_values(correction), *(int(v) for v in names if v > 0)} if names else unnamed
        maps.append({v: _output(labels, v, _kind(names.get(v, ""))) for v in sorted(values)})
    if not labels:
        raise LearningError("the corrected masks are empty: correct at least one lesion before fine-tuning")
    return Outputs(labels, tuple(maps))


def _values(correction: Correction) -> list[int]:
    """Label values on reviewed slices; what stands on the others says nothing."""
    return [int(v) for v in np.unique(correction.corrected.data[correction.seen()]) if v > 0]


def _kind(name: str) -> str:
    numbered = _NUMBERED.fullmatch(name.strip())
    return numbered.group(1) if numbered else name.strip()


def _output(labels: dict[int, str], value: int, name: str) -> int:
    """Index of the output for a label; adds it where the model does not have it."""
    same = [v for v, n in labels.items() if n.casefold() == (name or f"label {value}").casefold()]
    if same:
        return list(labels).index(same[0])
    if not name and value in labels:
        return list(labels).index(value)
    free = value if value not in labels else max(labels) + 1
    labels[free] = name or f"label {value}"
    return list(labels).index(free)


def choose_grid(corrections: Sequence[Correction]) -> tuple[Spacing, Shape]:
    """Spacing and patch that suit the corrected cases.

    The median spacing, but coarser where the largest structures would not fit into a patch with their surroundings (and
    never so coarse that the smallest ones get lost, 8 voxels), and up to twice as fine where they are small and the
    scans small enough to be looked at closely.
    """
    native = np.median([c.volume.spacing_mm for c in corrections], axis=0)
    finest = native * np.clip((np.median([c.volume.data.size for c in corrections]) / _CLOSELY) ** (1 / 3), 0.5, 1.0)
    extents = [e for c in corrections for e in _extents_mm(c)]
    spacing = native
    if extents:
        largest = float(np.median([max(e) for e in extents]))
        smallest = float(np.min([np.prod(e) ** (1 / 3) for e in extents]))
        wanted = np.clip(native, largest / _MOST_ACROSS, largest / _LEAST_ACROSS)
        spacing = np.maximum(finest, np.minimum(wanted, np.maximum(native, smallest / 8)))
    shapes = [network_shape(c.volume.data.shape, c.volume.spacing_mm, list(spacing)) for c in corrections]
    z, y, x = (float(round(s, 4)) for s in spacing)
    return (z, y, x), choose_patch(np.median(shapes, axis=0))


def choose_patch(shape: Sequence[float] | NDArray[np.float64]) -> Shape:
    """Patch for scans of this size: up to 64 a side, longer in some axes where others are short; multiples of 16."""
    whole = [16 * max(1, int(np.ceil(n / 16))) for n in shape]
    patch = [min(64, n) for n in whole]
    while True:
        longer = [p + 16 if n > p else p for p, n in zip(patch, whole, strict=True)]
        if longer == patch or np.prod(longer) > _PATCH_VOXELS:
            return patch[0], patch[1], patch[2]
        patch = longer


def _extents_mm(correction: Correction) -> list[NDArray[np.float64]]:
    """Sides of the box round the largest component of each label."""
    sides = []
    data = np.where(correction.seen(), correction.corrected.data, 0)
    for value in _values(correction):
        found = cc3d.connected_components(data == value, connectivity=26)
        statistics = cc3d.statistics(found)
        k = 1 + int(np.argmax(statistics["voxel_counts"][1:]))
        box = statistics["bounding_boxes"][k]
        sides.append(np.array([s.stop - s.start for s in box]) * correction.volume.spacing_mm)
    return sides


def prepare(
    correction: Correction, outputs: Mapping[int, int], n_outputs: int, spacing_mm: Spacing, corrected_weight: float
) -> Case:
    """Put one correction on the network's grid."""
    volume = correction.volume
    lookup = np.zeros(int(correction.corrected.data.max()) + 1, np.uint8)
    for value, output in outputs.items():
        if value < len(lookup):
            lookup[value] = output + 1
    truth = lookup[correction.corrected.data]
    seen = correction.seen()
    if not seen.any():
        raise LearningError(f"no slice of '{volume.name or 'a correction'}' was reviewed: mark the slices you checked")
    shape = network_shape(volume.data.shape, volume.spacing_mm, spacing_mm)
    labels = _labels_on(truth, seen, shape, n_outputs)
    weight = (_share(seen, shape) > 0.5).float()
    edited = correction.edited()
    if edited is not None and edited.any():
        weight = weight * (1.0 + (corrected_weight - 1.0) * (_share(edited, shape) > 0.25).float())
    taught = torch.zeros(n_outputs, dtype=torch.bool)
    taught[list(outputs.values())] = True
    anchors = _anchors(labels, weight)
    kept = torch.zeros(n_outputs, dtype=torch.bool)
    return Case(correction, truth, seen, network_image(volume, spacing_mm), labels, weight, taught, kept, anchors)


def with_old_answers(case: Case, probabilities: Tensor) -> Case:
    """Let the old version's answers stand for the labels that it knew and this case's mask does not speak of.

    Without that, an output that no mask speaks of drifts while the layers below it learn (Li and Hoiem, Learning
    without forgetting, ECCV 2016).
    """
    kept = torch.zeros_like(case.taught)
    kept[: len(probabilities)] = ~case.taught[: len(probabilities)]
    if not kept.any():
        return case
    best, which = torch.where(kept[: len(probabilities), None, None, None], probabilities.float(), 0.0).max(0)
    labels = torch.where((case.labels == 0) & (best > 0.5), (which + 1).to(torch.uint8), case.labels)
    return replace(case, labels=labels, kept=kept)


def _share(mask: NDArray[np.bool_], shape: Shape) -> Tensor:
    return resized(torch.from_numpy(mask.astype(np.float32)), shape)


def _labels_on(truth: NDArray[np.uint8], seen: NDArray[np.bool_], shape: Shape, n_outputs: int) -> Tensor:
    """Label that covers the largest part of each voxel of another grid; what nobody reviewed has no say in it."""
    best = _share((truth == 0) & seen, shape)
    labels = torch.zeros(shape, dtype=torch.uint8)
    for k in range(1, n_outputs + 1):
        if (truth == k).any():
            share = _share((truth == k) & seen, shape)
            labels[share > best] = k
            best = torch.maximum(best, share)
    return labels


def _anchors(labels: Tensor, weight: Tensor) -> NDArray[np.int64]:
    """Voxels to cut patches round: as many of each label, and of the corrected ones, as of the others."""
    groups = [(labels == k) & (weight > 0) for k in range(1, int(labels.max()) + 1)] + [weight > 1.0]
    found = [torch.nonzero(g).numpy() for g in groups if g.any()]
    if not found:
        return np.zeros((0, 3), np.int64)
    n = min(_MOST_ANCHORS // len(found), max(len(f) for f in found))
    return np.concatenate([f[np.linspace(0, len(f) - 1, n).astype(int)] for f in found]).astype(np.int64)
