"""Rigid registration of two scans of one patient, in world millimetres (RAS+)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging.volume import Volume

Matrix = NDArray[np.float64]

# What counts as found (see `Registration`). Visits of one patient reach a similarity of 0.25, heads of two patients
# 0.10, different parts of the body less.
LEAST_SIMILARITY = 0.12
LEAST_OVERLAP = 0.25
MOST_DEGREES = 60.0
_FINEST_MM, _MOST_VOXELS = 1.5, 3e6
# Spacing of each level in parts of the finest, share of its voxels that the metric samples, most iterations.
_LEVELS = ((4.0, 1.0, 80), (2.0, 0.5, 60), (1.0, 0.25, 60))
_MARGIN_MM, _TURN_DEGREES, _N_STARTS, _BINS, _SEED = 8.0, 20.0, 3, 32, 12061
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """How one scan lies against another.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        Rigid: a place in the moving scan (RAS+ mm) to the same place of the patient in the fixed one.
    similarity : float
        Entropy correlation coefficient (Astola & Virtanen 1982) of the common part of both bodies after registration,
        0 (unrelated) to 1 (each follows from the other).
    overlap : float
        Share of the smaller body that lies inside both scans, 0 to 1.
    """

    matrix: Matrix
    similarity: float
    overlap: float

    @property
    def is_plausible(self) -> bool:
        """Whether the scans agree as well as two scans of one patient should."""
        agrees = self.similarity >= LEAST_SIMILARITY and self.overlap >= LEAST_OVERLAP
        return agrees and self.turn_degrees <= MOST_DEGREES

    @property
    def turn_degrees(self) -> float:
        """Angle of the rotation."""
        cosine = (np.trace(self.matrix[:3, :3]) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def register_rigid(
    moving: Volume,
    fixed: Volume,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Registration:
    """Find the rigid motion between two scans of one patient, also of different sequences, grids and fields of view.

    Mutual information after Mattes (2003), coarse to fine, from the scans' own positions, their middles and the middles
    of the bodies in them. The same scans give the same result.

    Parameters
    ----------
    moving, fixed : Volume
        The matrix takes places of the first to places of the second.
    progress : callable
        Told how far the work is, 0 to 1.
    should_stop : callable
        Asked in every iteration.

    Raises
    ------
    ImagingError
        If either is a single picture, holds nothing, or the two do not show the same part of a patient.
    Cancelled
        If ``should_stop`` said so.
    """
    for volume in (moving, fixed):
        _check(volume)
    finest = max(_finest_mm(moving), _finest_mm(fixed))
    pairs = [(_Level(fixed, finest * factor), _Level(moving, finest * factor)) for factor, _, _ in _LEVELS]
    reports = _Reports(progress, should_stop, total=_N_STARTS * _LEVELS[0][2] + sum(n for *_, n in _LEVELS[1:]))
    coarse_fixed, coarse_moving = pairs[0]
    starts = sorted(_starts(*pairs[0]), key=lambda at: -_score(coarse_fixed, coarse_moving, at))
    tried = [_optimised(*pairs[0], start, _LEVELS[0], reports) for start in _distinct(starts)]
    best = max(tried, key=lambda at: _score(coarse_fixed, coarse_moving, at))
    for pair, level in zip(pairs[1:], _LEVELS[1:], strict=True):
        best = _optimised(*pair, best, level, reports)
    found = Registration(np.asarray(np.linalg.inv(best), np.float64), *_agreement(*pairs[1], best))
    if not found.is_plausible:
        raise ImagingError(
            f"'{moving.name}' and '{fixed.name}' could not be laid over each other (similarity {found.similarity:.2f}, "
            f"common part {found.overlap:.0%}): choose two scans of the same part of one patient"
        )
    progress(1.0)
    return found


class _Level:
    """A scan at one spacing: averaged over blocks, with its body marked."""

    def __init__(self, volume: Volume, spacing_mm: float) -> None:
        blocks = [
            max(1, min(int(spacing_mm / s + 1e-6), n // 4))
            for s, n in zip(volume.spacing_mm, volume.data.shape, strict=True)
        ]
        self.data = _clipped(block_means(volume.data, blocks))
        to_blocks = np.diag([*(float(b) for b in blocks), 1.0])
        to_blocks[:3, 3] = [(b - 1) / 2 for b in blocks]
        self.affine = volume.affine @ to_blocks
        self.body = body_of(self.data)
        if not self.body.any():
            raise ImagingError(f"'{volume.name}' is empty: there is nothing to lay over another scan")

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def centre(self) -> NDArray[np.float64]:
        return _at(self.affine, (np.array(self.data.shape) - 1) / 2)

    @property
    def middle_of_body(self) -> NDArray[np.float64]:
        return _at(self.affine, np.argwhere(self.body).mean(0))

    def image(self, data: NDArray[Any]) -> Any:
        import SimpleITK as sitk

        affine = _RAS_TO_LPS @ self.affine @ np.eye(4)[[2, 1, 0, 3]]
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image = sitk.GetImageFromArray(data)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        return image

    def sampled(self, data: NDArray[Any], places: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Nearest values at places (3, N), and which of them lie inside the scan."""
        index = np.linalg.solve(self.affine, np.vstack([places, np.ones(places.shape[1])]))[:3]
        nearest = np.round(index).astype(int)
        limits = np.array(data.shape)[:, None]
        inside = np.asarray(((nearest >= 0) & (nearest < limits)).all(0), bool)
        return data[tuple(np.clip(nearest, 0, limits - 1))], inside


class _Reports:
    """Counts iterations; the metric's callback is also where the work can be stopped."""

    def __init__(self, progress: Callable[[float], None], should_stop: Callable[[], bool], total: int) -> None:
        self._progress, self.should_stop, self._total, self._done = progress, should_stop, total, 0
        self._reserved = 0

    def iterated(self) -> None:
        self._done += 1
        self._progress(min(0.95, self._done / self._total))

    def finished(self, n: int) -> None:
        """A level that may have needed fewer iterations is through."""
        self._reserved += n
        self._done = self._reserved


def _optimised(
    fixed: _Level, moving: _Level, start: Matrix, level: tuple[float, float, int], reports: _Reports
) -> Matrix:
    """Improve a transform (fixed to moving, RAS+ mm) on one level."""
    import SimpleITK as sitk

    _, share, n_iterations = level
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums over threads are not the same from run to run
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(fixed.image(_grown(fixed.body, fixed.spacing_mm).astype(np.uint8)))
    method.SetMetricSamplingStrategy(method.NONE if share == 1.0 else method.RANDOM)
    if share < 1.0:
        method.SetMetricSamplingPercentage(share, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    step = float(fixed.spacing_mm.min())
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step / 2, minStep=step / 500, numberOfIterations=n_iterations, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = _to_itk(start, fixed.middle_of_body)
    method.SetInitialTransform(transform, inPlace=True)

    def on_iteration() -> None:
        reports.iterated()
        if reports.should_stop():
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, on_iteration)
    try:
        method.Execute(fixed.image(fixed.data), moving.image(moving.data))
    except RuntimeError:
        return start  # the metric found too few common voxels on the way: what was there before is judged
    finally:
        reports.finished(n_iterations)
    if reports.should_stop():
        raise Cancelled("Stopped.")
    return _from_itk(transform)


def _starts(fixed: _Level, moving: _Level) -> Iterator[Matrix]:
    """Transforms (fixed to moving) to begin with: as the files say, by the scans' and the bodies' middles; turned."""
    about = fixed.middle_of_body
    shifts = [np.zeros(3), moving.centre - fixed.centre, moving.middle_of_body - about]
    turns = [np.eye(3)]
    for axis, sign in product(range(3), (-1, 1)):
        turns.append(_turn(axis, sign * _TURN_DEGREES))
    for shift, turn in product(shifts, turns):
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        matrix[:3, 3] = about + shift - turn @ about
        yield matrix


def _distinct(starts: list[Matrix]) -> list[Matrix]:
    """The best few starts, no two of which are nearly the same."""
    kept: list[Matrix] = []
    for start in starts:
        if all(not np.allclose(start, other, atol=0.5) for other in kept):
            kept.append(start)
    return kept[:_N_STARTS]


def _turn(axis: int, degrees: float) -> Matrix:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    a, b = (k for k in range(3) if k != axis)
    turn[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
    return turn


def _score(fixed: _Level, moving: _Level, at: Matrix) -> float:
    similarity, overlap = _agreement(fixed, moving, at)
    return float(similarity * np.sqrt(overlap))


def _agreement(fixed: _Level, moving: _Level, at: Matrix) -> tuple[float, float]:
    """Similarity and overlap (see `Registration`) of two levels under a transform fixed to moving."""
    index = np.indices(fixed.data.shape).reshape(3, -1)
    places = (at @ fixed.affine)[:3, :3] @ index + (at @ fixed.affine)[:3, 3:]
    values, inside = moving.sampled(moving.data, places)
    other_body, _ = moving.sampled(moving.body, places)
    body = fixed.body.ravel()
    voxel = abs(np.linalg.det(fixed.affine[:3, :3]))
    smaller = min(body.sum() * voxel, moving.body.sum() * abs(np.linalg.det(moving.affine[:3, :3])))
    common = body & other_body & inside
    overlap = float(min(1.0, common.sum() * voxel / smaller))
    compared = (body | other_body) & inside
    if common.sum() < 100:
        return 0.0, overlap
    return entropy_correlation(fixed.data.ravel()[compared], values[compared]), overlap


def entropy_correlation(a: NDArray[Any], b: NDArray[Any], bins: int = 24) -> float:
    """Twice the mutual information over the sum of the entropies of two arrays of values, 0 to 1."""
    counts, _, _ = np.histogram2d(a, b, bins)
    joint = counts / counts.sum()
    entropies = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (joint, joint.sum(0), joint.sum(1))]
    total = entropies[1] + entropies[2]
    return 2.0 * (total - entropies[0]) / total if total else 0.0


def _check(volume: Volume) -> None:
    if min(volume.data.shape) < 4:
        shape = " x ".join(map(str, volume.data.shape))
        raise ImagingError(f"'{volume.name}' ({shape} voxels) is too thin to be registered in 3-D: choose a volume")


def _finest_mm(volume: Volume) -> float:
    extent = float(np.prod([n * s for n, s in zip(volume.data.shape, volume.spacing_mm, strict=True)]))
    return float(max(_FINEST_MM, (extent / _MOST_VOXELS) ** (1 / 3)))


def block_means(data: NDArray[Any], blocks: list[int]) -> NDArray[np.float32]:
    """Means of blocks of so many voxels along each axis; what fills no block at the end is left out."""
    means: NDArray[Any] = data
    for axis, block in enumerate(blocks):
        if block > 1:
            n = means.shape[axis] // block
            cut = np.take(means, range(n * block), axis) if n * block < means.shape[axis] else means
            shape = (*cut.shape[:axis], n, block, *cut.shape[axis + 1 :])
            means = cut.reshape(shape).mean(axis + 1, dtype=np.float32)
    return np.ascontiguousarray(means, dtype=np.float32)


def _clipped(data: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the few values that would leave all others in one bin: metal, vessels, what is not a number."""
    finite = np.nan_to_num(data)
    low, high = np.percentile(finite, [0.2, 99.8])
    return np.clip(finite, low, high)


def body_of(data: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels of the patient: brighter than what lies around (Otsu), holes filled slice by slice."""
    from scipy.ndimage import binary_fill_holes
    from skimage.filters import threshold_otsu

    if data.min() == data.max():
        return np.zeros(data.shape, bool)
    bright = data > threshold_otsu(data)
    return np.stack([binary_fill_holes(each) for each in bright])


def _grown(body: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """With its edge: that is where most of the information is."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~body, sampling=spacing_mm) <= _MARGIN_MM)


def _to_itk(matrix: Matrix, about: NDArray[np.float64]) -> Any:
    """Rigid transform of ITK (LPS) that turns about a place (RAS+)."""
    import SimpleITK as sitk

    lps = _RAS_TO_LPS @ matrix @ _RAS_TO_LPS
    centre = _RAS_TO_LPS[:3, :3] @ about
    u, _, v = np.linalg.svd(lps[:3, :3])
    turn = u @ v
    transform = sitk.VersorRigid3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(turn.ravel().tolist())
    transform.SetTranslation((lps[:3, 3] - centre + turn @ centre).tolist())
    return transform


def _from_itk(transform: Any) -> Matrix:
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    centre = np.array(transform.GetCenter())
    lps[:3, 3] = np.array(transform.GetTranslation()) + centre - lps[:3, :3] @ centre
    return _RAS_TO_LPS @ lps @ _RAS_TO_LPS


def _at(affine: Matrix, index: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(affine[:3, :3] @ index + affine[:3, 3])
