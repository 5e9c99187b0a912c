"""What is kept of a scan: the surroundings of a lesion, or a study at the resolution that a classifier needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medseg.classification.subject import Subject
from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.imaging.view import View, sample_slices
from napari_medseg.imaging.volume import LabelMap, Volume

_LEAST_REACH_MM, _REACH = 60.0, 1.5
_MOST_SLICES, _MOST_PIXELS = 64, 192
_PICTURE = 96


def excerpt(subject: Subject) -> Subject:
    """Return a smaller subject that classifiers see as they see the whole one."""
    if subject.is_lesion:
        return _surroundings(subject)
    return Subject(tuple(_reduced(scan) for scan in subject.scans), patient=subject.patient)


def thumbnail(subject: Subject) -> NDArray[np.uint8]:
    """A grey picture (96, 96) of the slice in the middle of a lesion, or of a scan."""
    scan = subject.scans[0]
    axis = acquisition_axis(scan)
    data, spacing = np.moveaxis(scan.data, axis, 0), np.array(scan.spacing_mm)
    spacing = np.array([spacing[axis], *np.delete(spacing, axis)])
    centre = subject.centre()
    centre = np.array([centre[axis], *np.delete(centre, axis)])
    widest = float(max(np.array(data.shape[1:]) * spacing[1:]))
    diameter = subject.diameter_mm()
    extent = min(widest, 2.5 * diameter) if diameter else min(widest, 80.0) if subject.is_lesion else widest
    index = int(np.clip(round(float(centre[0])), 0, len(data) - 1))
    picture = sample_slices(data, [index], View(centre, max(extent, 10.0), _PICTURE), spacing.tolist())[0]
    low, high = np.percentile(picture, (1, 99))
    return np.asarray(np.clip((picture - low) / max(high - low, 1e-6), 0, 1) * 255, np.uint8)


def _surroundings(subject: Subject) -> Subject:
    scan = subject.scans[0]
    reach_mm = max(_LEAST_REACH_MM, _REACH * (subject.diameter_mm() or 0.0))
    box = []
    for middle, step, n in zip(subject.centre(), scan.spacing_mm, scan.data.shape, strict=True):
        low = int(np.clip(np.floor(middle - reach_mm / step), 0, n - 1))
        box.append(slice(low, max(low + 1, int(np.clip(np.ceil(middle + reach_mm / step) + 1, 1, n)))))
    affine = scan.affine.copy()
    affine[:3, 3] = scan.position_of(np.array([part.start for part in box], float))
    cut = Volume(scan.data[tuple(box)], affine, scan.name, scan.modality)
    if subject.mask is None:
        return Subject((cut,), position_mm=subject.position_mm, patient=subject.patient)
    marked = subject.marked()[tuple(box)].astype(np.uint8)
    return Subject((cut,), LabelMap(marked, affine), patient=subject.patient)


def _reduced(scan: Volume) -> Volume:
    """At most 64 slices of at most 192 x 192 points: every second or third voxel's mean."""
    from skimage.transform import downscale_local_mean

    axis = acquisition_axis(scan)
    n = np.array(scan.data.shape)
    factors = np.maximum(1, np.ceil(n / _MOST_PIXELS)).astype(int)
    factors[axis] = max(1, int(np.ceil(n[axis] / _MOST_SLICES)))
    if (factors == 1).all():
        return Volume(scan.data, scan.affine, scan.name, scan.modality)
    kept = scan.data[tuple(slice(0, (m // f) * f) for m, f in zip(n, factors, strict=True))]
    data = downscale_local_mean(kept.astype(np.float32), tuple(factors)).astype(np.float32)
    affine = scan.affine.copy()
    affine[:3, :3] = scan.affine[:3, :3] * factors
    affine[:3, 3] = scan.position_of((factors - 1) / 2.0)
    return Volume(data, affine, scan.name, scan.modality)
