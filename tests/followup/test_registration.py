"""A known motion is found again; what cannot be laid over each other is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from followup_phantom import MOTION

from napari_medseg.errors import Cancelled, ImagingError
from napari_medseg.imaging.files import read_volume
from napari_medseg.imaging.registration import Registration, entropy_correlation, register_rigid
from napari_medseg.imaging.volume import Volume


def errors(found: Registration, truth: np.ndarray) -> tuple[float, float]:
    """Mean distance (mm) over the head, and the angle (degrees) left."""
    places = np.random.default_rng(0).uniform(-45, 45, (3, 500))
    off = found.matrix - truth
    left = found.matrix[:3, :3] @ truth[:3, :3].T
    angle = np.degrees(np.arccos(np.clip((np.trace(left) - 1) / 2, -1, 1)))
    return np.linalg.norm(off[:3, :3] @ places + off[:3, 3:], axis=0).mean(), angle


def test_a_known_motion_is_found_between_oblique_grids(visits) -> None:
    (prior, _), (current, _) = visits
    told: list[float] = []
    found = register_rigid(prior, current, progress=told.append)
    distance, angle = errors(found, MOTION)
    assert distance < 1.0
    assert angle < 1.0
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert found.is_plausible
    assert found.overlap > 0.9
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert np.allclose(register_rigid(prior, current).matrix, found.matrix, atol=1e-3)


def test_real_visits_lie_where_their_published_transforms_say(shared_data) -> None:
    folder = shared_data / "ms_longitudinal" / "patient01"
    prior, current = (read_volume(folder / f"study{k}_FLAIR.nii.gz") for k in (1, 2))
    to_prior, to_current = (itk_matrix(folder / f"study{k}_FLAIR_to_common_space.txt") for k in (1, 2))
    found = register_rigid(prior, current)
    off = found.matrix - to_current @ np.linalg.inv(to_prior)
    places = np.random.default_rng(0).uniform(-60, 60, (3, 500))
    assert np.linalg.norm(off[:3, :3] @ places + off[:3, 3:], axis=0).mean() < 0.8


def itk_matrix(path: Path) -> np.ndarray:
    """Common space to the study's, on RAS+ mm."""
    words = {line.split(":")[0]: line.split()[1:] for line in path.read_text().splitlines() if ":" in line}
    values, centre = (np.array(words[key], float) for key in ("Parameters", "FixedParameters"))
    matrix, flip = np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
    return flip @ matrix @ flip


def test_half_of_the_head_far_away(visits) -> None:
    (prior, _), (current, _) = visits
    far = np.eye(4)
    far[:3, 3] = 180, -90, 60
    half = Volume(prior.data[14:], far @ prior.affine @ _shifted(14), name="half")
    found = register_rigid(half, current)
    distance, angle = errors(replace(found, matrix=found.matrix @ far), MOTION)
    assert distance < 1.0
    assert angle < 1.0


def test_what_cannot_be_laid_over_each_other_is_refused(visits) -> None:
    (prior, _), _ = visits
    noise = np.random.default_rng(3).normal(100, 30, prior.data.shape).astype(np.float32)
    with pytest.raises(ImagingError, match="'visit 1 FLAIR' and 'noise' could not be laid over each other"):
        register_rigid(prior, replace(prior, data=noise, name="noise"))
    with pytest.raises(ImagingError, match="'nothing' is empty"):
        register_rigid(prior, replace(prior, data=np.zeros_like(prior.data), name="nothing"))
    with pytest.raises(ImagingError, match="too thin to be registered"):
        register_rigid(replace(prior, data=prior.data[:1]), prior)


def test_it_stops_when_asked(visits) -> None:
    (prior, _), (current, _) = visits
    asked: list[int] = []
    with pytest.raises(Cancelled):
        register_rigid(prior, current, should_stop=lambda: len(asked) > 2 or bool(asked.append(1)))


def test_entropy_correlation_of_known_arrays() -> None:
    a = np.random.default_rng(0).integers(0, 24, 20_000)
    assert entropy_correlation(a, 3 * a + 1) == pytest.approx(1.0)
    assert entropy_correlation(a, np.random.default_rng(1).permutation(a)) < 0.02


def _shifted(z: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = z
    return matrix
