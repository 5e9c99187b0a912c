"""Whether a scan is like those that a model learned from: a few robust figures, compared with those in its card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import Card, Domain

_PLANES, _ACROSS = 9, 256
_LEAST_VOXELS_ACROSS = 3
_SLACK = 1.5


def unlike_training(volume: Volume, card: Card) -> tuple[str, ...]:
    """Say in a sentence each what about a scan the model has never seen; nothing for ordinary scans.

    Parameters
    ----------
    volume : Volume
        The scan.
    card : Card
        Of the model; one without a `Domain` is taken for the bundled click model's.
    """
    domain = card.domain or Domain()
    told = []
    if volume.modality and volume.modality not in domain.modalities:
        seen = ", ".join(domain.modalities)
        told.append(f"the model has learned from {seen}, not from {volume.modality}: check every slice")
    finest, coarsest = min(volume.spacing_mm), max(volume.spacing_mm)
    low, high = domain.finest_mm
    if not low <= finest <= high:
        told.append(
            f"voxels of {finest:.2g} mm are unlike those the model has learned from ({low:.2g} to {high:.2g} mm): "
            "check that the scan's voxel size is right"
        )
    elif volume.data.shape[0] > 1 and coarsest / finest > domain.most_anisotropy:
        told.append(
            f"slices {coarsest / finest:.0f} times as far apart as pixels are unlike what the model has learned from: "
            "check every slice"
        )
    return (*told, *_unusual_intensities(volume, domain))


def _unusual_intensities(volume: Volume, domain: Domain) -> Iterable[str]:
    n_values, smoothness = texture(volume.data)
    if n_values < domain.least_values:
        yield f"the scan holds only {n_values} different intensities: is it a mask or a picture?"
    elif smoothness < domain.least_smoothness:
        yield "neighbouring voxels have hardly anything in common, unlike the scans the model has learned from"


def texture(data: NDArray[np.generic]) -> tuple[int, float]:
    """How many intensities a sample of the scan holds, and how much neighbours in a slice have in common (-1 to 1)."""
    planes = np.unique(np.linspace(0, data.shape[0] - 1, min(_PLANES, data.shape[0])).astype(int))
    rows, columns = (slice(max(0, (n - _ACROSS) // 2), max(0, (n - _ACROSS) // 2) + _ACROSS) for n in data.shape[1:])
    sample = np.asarray(data[planes][:, rows, columns], np.float64)
    sample = np.where(np.isfinite(sample), sample, 0.0)
    low, high = np.percentile(sample, (0.5, 99.5))
    clipped = np.clip(sample, low, high)
    variance = float(clipped.var())
    if variance <= 0 or clipped.shape[2] < 2:
        return len(np.unique(sample)), 1.0
    difference = float((np.diff(clipped, axis=2) ** 2).mean())
    return len(np.unique(sample[:, ::2, ::2])), 1.0 - difference / (2.0 * variance)


def unusual_size(extent_mm: float, spacing_mm: Sequence[float], card: Card) -> tuple[str, ...]:
    """Say that a lesion is smaller or larger than those the model learned from; nothing for ordinary ones."""
    domain = card.domain or Domain()
    if extent_mm < _LEAST_VOXELS_ACROSS * min(spacing_mm):
        return (f"the lesion is only {extent_mm:.1f} mm across, less than three voxels: its volume is rough",)
    if extent_mm > domain.largest_mm:
        return (f"the lesion is {extent_mm:.0f} mm across, larger than any the model has learned from: check its ends",)
    return ()


def domain_of(
    scans: Iterable[tuple[NDArray[np.generic], Sequence[float], NDArray[np.bool_]]], modalities: Iterable[str] = ()
) -> Domain:
    """Describe scans, given as voxels, voxel size in mm and lesion's mask, with some slack, for a model's card.

    `modalities` are those of the scans; where one of them is not known (empty), the usual ones may be among them.
    """
    finest, ratios, smoothness, extents = [], [], [], []
    for image, spacing_mm, mask in scans:
        spacing = np.asarray(spacing_mm)
        finest.append(float(spacing.min()))
        ratios.append(float(spacing.max() / spacing.min()))
        smoothness.append(texture(image)[1])
        where = np.argwhere(mask)
        if len(where):
            extents.append(float(((np.ptp(where, axis=0) + 1) * spacing).max()))
    usual, seen = Domain(), set(modalities)
    if not seen or "" in seen:
        seen.update(usual.modalities)
    return Domain(
        modalities=sorted(seen - {""}),
        finest_mm=(min(usual.finest_mm[0], min(finest) / _SLACK), max(usual.finest_mm[1], max(finest) * _SLACK)),
        most_anisotropy=max(usual.most_anisotropy, max(ratios) * _SLACK),
        least_smoothness=min(usual.least_smoothness, min(smoothness) / _SLACK),
        largest_mm=max(usual.largest_mm, max(extents, default=0.0) * _SLACK),
    )
