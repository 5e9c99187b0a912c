"""Training samples of the click model: a view with simulated prompts, and the truth in that view."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from napari_medseg.errors import LearningError
from napari_medseg.imaging.files import read_label_map, read_volume
from napari_medseg.learning.click_simulation import correcting_click, damaged, place_click
from napari_medseg.learning.regions import Regions, draw_region
from napari_medseg.learning.synthetic import SyntheticScan, make_scan
from napari_medseg.segmentation.views import VALID, Area, Prompts, View, render, sample

Floats = NDArray[np.float32]
_LEAST_VOXELS = 8
_IMAGE = "_image.nii.gz"
_IN_NAMES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PET": "PT"}
Target = tuple[NDArray[Any], NDArray[np.bool_], tuple[float, float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledScan:
    """A real scan with the mask of its lesion.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
        The scan.
    mask : ndarray of bool, shape (Z, Y, X)
        The lesion.
    spacing_mm : tuple of float
        Voxel size along (z, y, x).
    group : str
        The collection it belongs to; collections are drawn equally often.
    patient : str
        Never split: all scans of a patient train, or none does.
    regions : sequence of Regions
        What else in it may be clicked, though nobody outlined it.
    modality : str
        DICOM's two letters; empty where neither the file nor a name says it.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    group: str
    patient: str
    regions: Sequence[Regions] = ()
    modality: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One view for the network.

    Parameters
    ----------
    inputs : ndarray of float32, shape (7, N, N, N)
        As `segmentation.views.render` makes them.
    truth : ndarray of float32, shape (N, N, N)
        Share of each point that belongs to the lesion.
    total : float
        Size of the whole lesion in the view's points, the part outside the view included.
    """

    inputs: Floats
    truth: Floats
    total: float


def collections_in(root: Path) -> tuple[str, ...]:
    """Names of the folders in `root` that hold pairs ``x_image.nii.gz``, ``x_mask.nii.gz``, at any depth.

    Raises
    ------
    LearningError
        If there is none.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = tuple(folder.name for folder in folders if any(_pairs_in(folder)))
    if not found:
        raise LearningError(
            f"found no pair x_image.nii.gz, x_mask.nii.gz in any folder of {root}: give the folder that holds your "
            "collections, and keep the pairs in these"
        )
    return found


def find_pairs(root: Path, collections: Sequence[str]) -> list[tuple[Path, Path, str, str]]:
    """Find `x_image` / `x_mask` pairs in ``root/collection/patient/`` or as ``root/collection/patient_...``.

    Returns
    -------
    list of (image, mask, collection, patient)
        Sorted by path. Sequences in one patient's folder are collections of their own (``sarcoma/CT``).

    Raises
    ------
    LearningError
        If a collection has none.
    """
    pairs, empty = [], []
    for collection in collections:
        found = sorted(_pairs_in(root / collection))
        if not found:
            empty.append(collection)
        for image, mask in found:
            nested = image.parent != root / collection
            patient = image.parent.name if nested else image.name.split("_")[0]
            group = f"{collection}/{image.name.removesuffix(_IMAGE)}" if nested else collection
            pairs.append((image, mask, group, f"{collection}/{patient}"))
    if empty:
        raise LearningError(f"found no pair x_image.nii.gz, x_mask.nii.gz in {root} for {', '.join(empty)}")
    return pairs


def _pairs_in(folder: Path) -> Iterator[tuple[Path, Path]]:
    for image in folder.rglob(f"*{_IMAGE}"):
        mask = image.with_name(image.name.removesuffix(_IMAGE) + "_mask.nii.gz")
        if mask.exists():
            yield image, mask


def is_held_out(patient: str) -> bool:
    """Whether a patient is kept out of training: about one in four, by a hash of the name, whatever else is there."""
    return int(sha1(patient.encode(), usedforsecurity=False).hexdigest(), 16) % 4 == 0


def read_pairs(pairs: Iterable[tuple[Path, Path, str, str]]) -> list[LabelledScan]:
    """Read scans with their masks into memory.

    Raises
    ------
    LearningError
        If a mask has not its scan's shape.
    """
    scans = []
    for image, mask, group, patient in pairs:
        volume, truth = read_volume(image), read_label_map(mask)
        if truth.data.shape != volume.data.shape:
            raise LearningError(
                f"{mask} has {truth.data.shape} voxels and its scan {volume.data.shape}: put it onto its scan's grid "
                "(napari-medseg convert --scan) or take the pair away"
            )
        lesion, modality = np.asarray(truth.data) > 0, volume.modality or _named_modality(image, group)
        scans.append(LabelledScan(volume.data, lesion, volume.spacing_mm, group, patient, modality=modality))
    return scans


def _named_modality(image: Path, group: str) -> str:
    """What the name of a sequence, a file (its patient left out) or a collection says; empty where none does."""
    collection, *sequence = group.split("/")
    for name in (*sequence, image.name.partition("_")[2], collection):
        told = {_IN_NAMES[word] for word in re.split(r"[^A-Z]+", name.upper()) if word in _IN_NAMES}
        if len(told) == 1:
            return told.pop()
    return ""


def draw_samples(
    rng: Generator,
    scans: Sequence[LabelledScan],
    *,
    n: int,
    size: int,
    synthetic_share: float = 0.5,
    region_share: float = 0.0,
) -> list[Sample]:
    """Draw a batch: views of one fresh synthetic scan, and of real ones, each collection as often as the others.

    Of the real ones `region_share` show regions that nobody outlined, where a scan has any.
    """
    n_synthetic = n if not scans else int(rng.binomial(n, synthetic_share))
    fresh = make_scan(rng) if n_synthetic else None
    samples = []
    for k in range(n):
        if k < n_synthetic and fresh is not None:
            target, fresh = _synthetic_target(rng, fresh)
        else:
            target = _real_target(rng, scans, region_share)
        samples.append(_augmented(rng, make_sample(rng, *target, size)))
    return samples


def draw_target(
    rng: Generator, scans: Sequence[LabelledScan], synthetic_share: float, region_share: float = 0.0
) -> Target:
    """Draw one scan and one lesion, organ or region in it."""
    if rng.random() < synthetic_share:
        return _synthetic_target(rng, make_scan(rng))[0]
    return _real_target(rng, scans, region_share)


def _real_target(rng: Generator, scans: Sequence[LabelledScan], region_share: float = 0.0) -> Target:
    """A scan of a random collection: each collection as often as the others, however many scans it has."""
    names = sorted({s.group for s in scans})
    name = names[int(rng.integers(len(names)))]
    group = [s for s in scans if s.group == name]
    scan = group[int(rng.integers(len(group)))]
    if region_share and scan.regions and rng.random() < region_share:
        region = draw_region(rng, scan.regions, scan.image.shape)
        if region.sum() >= _LEAST_VOXELS:
            return scan.image, region, scan.spacing_mm
    return scan.image, scan.mask, scan.spacing_mm


def _synthetic_target(rng: Generator, scan: SyntheticScan) -> tuple[Target, SyntheticScan]:
    """One object of the scan, lesions more often than organs: the component that a random voxel of it lies in.

    A scan without an object large enough is replaced; the one in use is returned too.
    """
    while True:
        numbers, counts = np.unique(scan.objects, return_counts=True)
        large = numbers[(numbers > 0) & (counts >= _LEAST_VOXELS)]
        usable = [(int(k), k in scan.lesions) for k in large]
        if usable:
            weights = np.array([5.0 if is_lesion else 1.0 for _, is_lesion in usable])
            number = usable[int(rng.choice(len(usable), p=weights / weights.sum()))][0]
            components = cc3d.connected_components(scan.objects == number, connectivity=6)
            inside = np.argwhere(components)
            mask = components == components[tuple(inside[int(rng.integers(len(inside)))])]
            if mask.sum() >= _LEAST_VOXELS:
                return (scan.image, mask, scan.spacing_mm), scan
        scan = make_scan(rng)


def make_sample(
    rng: Generator, image: NDArray[np.generic], mask: NDArray[np.bool_], spacing_mm: Sequence[float], size: int
) -> Sample:
    """Simulate one moment of a user's work on a lesion: the first prompt, or a correction of a wrong mask."""
    low, high = _bounding_box(mask)
    spacing = np.asarray(spacing_mm, float)
    diameter = float(((high - low) * spacing).max())
    correcting = rng.random() < 0.4
    previous = _damaged_in_array(rng, mask, low, high) if correcting else None
    prompts = _prompts(rng, mask, previous, low, high, spacing)
    if previous is None:
        extent = diameter * float(np.exp(rng.uniform(np.log(0.3), np.log(6.0))))
        anchor = prompts.points[0] if len(prompts.points) else (low + high - 1) / 2
    else:
        extent = diameter * float(rng.uniform(1.1, 2.6))
        anchor = (low + high - 1) / 2 + rng.normal(0, 0.08, 3) * diameter / spacing
    extent = float(np.clip(extent, 10.0 * spacing.min(), 1.6 * (spacing * mask.shape).max()))
    view = View(np.asarray(anchor, float), extent, size)
    inputs = render(image, view, spacing_mm, prompts, previous)
    truth = sample(mask, view, spacing_mm) * inputs[VALID]
    total = float(mask.sum() * spacing.prod() / (extent / size) ** 3)
    return Sample(inputs, truth, total)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    where = np.argwhere(mask)
    return where.min(0), where.max(0) + 1


def _damaged_in_array(
    rng: Generator, mask: NDArray[np.bool_], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.bool_]:
    margin = np.maximum((high - low) // 3, 2)
    cut = tuple(slice(int(max(0, a - m)), int(b + m)) for a, b, m in zip(low, high, margin, strict=True))
    previous = np.zeros_like(mask)
    previous[cut] = damaged(mask[cut], rng)
    return previous


def _prompts(
    rng: Generator,
    mask: NDArray[np.bool_],
    previous: NDArray[np.bool_] | None,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    spacing: NDArray[np.float64],
) -> Prompts:
    """Points (clicks and scribbles) and boxes, which are what the network sees of lassos too; oldest first."""
    points: list[NDArray[np.float64]] = []
    signs: list[bool] = []
    ages: list[int] = []
    areas: tuple[Area, ...] = ()
    kind = rng.random()
    if kind < 0.15:
        areas = (_loose_box(rng, low, high),)
    if kind > 0.07 or not areas:
        first = _inside(rng, mask, low, high, spacing)
        scribble = _scribble(rng, mask, first) if rng.random() < 0.12 else first[None]
        points.extend(scribble)
        signs.extend([True] * len(scribble))
        ages.extend([0] * len(scribble))
    if previous is not None:
        for _ in range(int(rng.integers(1, 4))):
            cut = tuple(slice(int(max(0, a - 3)), int(b + 3)) for a, b in zip(low, high, strict=True))
            found = correcting_click(mask[cut], previous[cut], rng, tuple(spacing))
            if found is None:
                break
            ages = [a + 1 for a in ages]
            points.append(found[0] + np.array([c.start for c in cut]))
            signs.append(found[1])
            ages.append(0)
    elif rng.random() < 0.12:  # a click outside from the start
        outside = np.clip((low + high) / 2 + rng.normal(0, 0.6, 3) * (high - low), 0, np.array(mask.shape) - 1)
        if not mask[tuple(outside.astype(int))]:
            points.append(np.floor(outside))
            signs.append(False)
            ages.append(0)
    jitter = rng.uniform(-0.5, 0.5, (len(points), 3))
    array = np.array(points, float).reshape(-1, 3) + jitter
    return Prompts(array, np.array(signs, bool), np.array(ages, np.int64), areas)


def _inside(
    rng: Generator,
    mask: NDArray[np.bool_],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    spacing: NDArray[np.float64],
) -> NDArray[np.float64]:
    cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    index = place_click(mask[cut], rng, tuple(spacing), centred=0.6)
    assert index is not None
    return index + low


def _scribble(rng: Generator, mask: NDArray[np.bool_], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """A wandering line in the slice of `start`, as far as it stays inside."""
    direction, point = rng.normal(0, 1, 2), start.copy()
    line = [point.copy()]
    for _ in range(int(rng.integers(4, 30))):
        direction += rng.normal(0, 0.4, 2)
        point[1:] += direction / (np.linalg.norm(direction) + 1e-6)
        index = np.rint(point).astype(int)
        if (index < 0).any() or (index >= mask.shape).any() or not mask[tuple(index)]:
            break
        line.append(point.copy())
    return np.array(line)


def _loose_box(rng: Generator, low: NDArray[np.int64], high: NDArray[np.int64]) -> Area:
    slack = np.maximum((high - low) * 0.1, 1.0)
    a = low - 0.5 - slack * rng.uniform(-0.3, 1.5, 3)
    b = high - 0.5 + slack * rng.uniform(-0.3, 1.5, 3)
    if rng.random() < 0.6:  # drawn on one slice, as lassos are: no thickness across it
        flat = int(rng.choice(3, p=[0.6, 0.2, 0.2]))
        a[flat] = b[flat] = np.rint((low[flat] + high[flat] - 1) / 2)
    return Area(a, b, True)


def _augmented(rng: Generator, s: Sample) -> Sample:
    """Mirror and turn at random: the click model knows no sides."""
    axes = tuple(int(k) for k in np.flatnonzero(rng.random(3) < 0.5))
    order = rng.permutation(3)
    inputs = np.flip(s.inputs, tuple(a + 1 for a in axes)).transpose(0, *(order + 1))
    truth = np.flip(s.truth, axes).transpose(*order)
    inputs = np.ascontiguousarray(inputs)
    if rng.random() < 0.5:
        inputs[0] = inputs[0] * rng.uniform(0.8, 1.2) + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.15:
        inputs[0] += rng.normal(0, rng.uniform(0.02, 0.2), inputs[0].shape).astype(np.float32)
    return Sample(inputs, np.ascontiguousarray(truth), s.total)
