"""Which open scans belong together: those of one patient lie over each other, all others wait off stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.source import dicom_source
from napari_medseg.imaging.volume import Volume

_LEAST_SHARED = 0.02
_WORDS_OF_ONE_PATIENT = re.compile(
    r"(ct|mri?|pet|pt|us|anat|func|dwi|perf|flair|t[12]|(visit|ses|session|study|scan|series|tp|timepoint)[-_ ]?\w*)",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(r"(?<![a-z0-9])(t[12]\w*|b\d+)(?![a-z0-9])", re.IGNORECASE)
_CHANNEL = re.compile(r"_000\d$")
_SUFFIXES = re.compile(r"(\.(nii|gz|nrrd|nhdr|mha|mhd|tiff?|dcm|img|hdr))+$", re.IGNORECASE)


def on_stage(volume: Volume, scans: Sequence[Volume]) -> tuple[Volume, ...]:
    """Return the scans that are shown while one of them is worked on: itself, and what belongs to it."""
    return tuple(scan for scan in scans if belong_together(volume, scan))


def distinct_names(scans: Sequence[Volume]) -> list[str]:
    """Return the scans' names, with their folder where several are called the same."""
    names = [scan.name or "scan" for scan in scans]
    folders = [scan.path.parent.name if scan.path is not None else "" for scan in scans]
    return [
        f"{name} ({folder})" if folder and names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]


def belong_together(a: Volume, b: Volume) -> bool:
    """Whether two scans are of one patient and place, so that one means something over the other.

    DICOM says so itself: one frame of reference, or one study where the frames differ. Other files do where both know
    their sides, their boxes overlap, and their paths do not speak against one patient. In doubt they are apart: a scan
    that is hidden is shown by one click, a wrong overlay misleads.
    """
    if a is b:
        return True
    first, second = dicom_source(a.metadata), dicom_source(b.metadata)
    if first is not None and second is not None:
        frames = {first.frame_of_reference_uid, second.frame_of_reference_uid}
        if len(frames) == 1 and "" not in frames:
            return True
        return first.study_uid == second.study_uid != "" and _overlap(a, b)
    return a.sides_are_known and b.sides_are_known and _overlap(a, b) and _may_be_one_patient(a.path, b.path)


def _overlap(a: Volume, b: Volume) -> bool:
    """Whether the boxes round two scans share a noticeable part of the smaller one."""
    (low_a, high_a), (low_b, high_b) = _box(a), _box(b)
    shared = np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None)
    smaller = min(float(np.prod(high_a - low_a)), float(np.prod(high_b - low_b)))
    return float(np.prod(shared)) > _LEAST_SHARED * smaller


def _box(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner in RAS+ millimetres, voxels included."""
    ends = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in volume.data.shape), indexing="ij")).reshape(3, -1)
    corners = volume.affine[:3, :3] @ ends + volume.affine[:3, 3:]
    return corners.min(axis=1), corners.max(axis=1)


def _may_be_one_patient(a: Path | None, b: Path | None) -> bool:
    """Whether two paths can name scans of one patient; what has no path belongs only to what has none either."""
    if a is None or b is None:
        return a is b
    if a.parent == b.parent:
        return not _is_another_case(a.name, b.name)
    if a.parent.parent == b.parent.parent:
        return all(_WORDS_OF_ONE_PATIENT.fullmatch(path.parent.name) for path in (a, b))
    return False


def _is_another_case(a: str, b: str) -> bool:
    """Whether two names number cases: the same beginning, then another number; ``visit1`` and ``visit2`` are one."""
    (stem_a, number_a), (stem_b, number_b) = _numbered(a), _numbered(b)
    return stem_a == stem_b and number_a != number_b and _WORDS_OF_ONE_PATIENT.fullmatch(stem_a) is None


def _numbered(name: str) -> tuple[str, str]:
    """What stands before the first number of a file's name, and that number; sequences (T1) are no numbers."""
    bare = _SEQUENCE.sub("", _CHANNEL.sub("", _SUFFIXES.sub("", name)).replace("_", " ")).strip()
    found = re.match(r"(\D*)(\d*)", bare)
    assert found is not None
    stem, number = found.groups()
    return (stem.strip().lower(), number) if number else (bare.lower(), "")
