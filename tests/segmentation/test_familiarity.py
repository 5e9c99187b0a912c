"""Warnings about scans unlike those a model learned from, and none about ordinary ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_medseg.imaging.files import read_volume
from napari_medseg.imaging.phantom import chest_ct
from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import Card, Domain
from napari_medseg.segmentation.familiarity import domain_of, unlike_training, unusual_size

CARD = Card(name="click")


def scan(data: np.ndarray, *, spacing: tuple[float, float, float] = (3.0, 1.0, 1.0), modality: str = "") -> Volume:
    z, y, x = spacing
    affine = np.array([[0, 0, -x, 0], [0, -y, 0, 0], [z, 0, 0, 0], [0, 0, 0, 1]], float)
    return Volume(data, affine, modality=modality)


def tissue() -> np.ndarray:
    return (gaussian_filter(np.random.default_rng(0).normal(0, 1, (20, 60, 60)), 2) * 4000).astype(np.int16)


def test_ordinary_scans_are_welcome() -> None:
    assert unlike_training(chest_ct().volume, CARD) == ()
    for modality in ("CT", "MR", "PT", ""):
        assert unlike_training(scan(tissue(), modality=modality), CARD) == ()
    assert unlike_training(scan(tissue()[:1], spacing=(1.0, 0.4, 0.4)), CARD) == ()


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (scan(tissue(), modality="US"), "not from US"),
        (scan(tissue(), spacing=(0.01, 0.01, 0.01)), "voxels of 0.01 mm"),
        (scan(tissue(), spacing=(20.0, 12.0, 12.0)), "voxels of 12 mm"),
        (scan(tissue(), spacing=(30.0, 1.0, 1.0)), "30 times as far apart"),
        (scan((tissue() > 0).astype(np.uint8)), "only 2 different intensities"),
        (scan(np.random.default_rng(0).normal(0, 100, (9, 40, 40)).astype(np.int16)), "hardly anything in common"),
    ],
    ids=["ultrasound", "microscopy", "coarse", "anisotropic", "mask", "noise"],
)
def test_unusual_scans_are_named(volume: Volume, said: str) -> None:
    told = unlike_training(volume, CARD)
    assert len(told) == 1
    assert said in told[0]


def test_lesions_too_small_or_too_large() -> None:
    assert unusual_size(30.0, (3.0, 1.0, 1.0), CARD) == ()
    assert "less than three voxels" in unusual_size(2.0, (3.0, 1.0, 1.0), CARD)[0]
    assert "larger than any" in unusual_size(600.0, (3.0, 1.0, 1.0), CARD)[0]


def test_a_card_describes_what_its_model_learned_from() -> None:
    microscopy = scan(tissue(), spacing=(0.05, 0.02, 0.02))
    domain = domain_of([(microscopy.data, microscopy.spacing_mm, np.ones((20, 60, 60), bool))])
    card = Card.model_validate_json(Card(name="own", domain=domain).model_dump_json())
    assert isinstance(card.domain, Domain)
    assert unlike_training(microscopy, card) == ()
    assert "not from US" in unlike_training(scan(tissue(), modality="US"), card)[0]


@pytest.mark.parametrize(
    ("known", "written"),
    [
        (["CT", "CT"], ["CT"]),
        (["US", "MR"], ["MR", "US"]),
        (["CT", ""], ["CT", "MR", "PT"]),
        (["US", ""], ["CT", "MR", "PT", "US"]),
        ([], ["CT", "MR", "PT"]),
    ],
)
def test_a_card_names_the_modalities_of_its_scans(known: list[str], written: list[str]) -> None:
    one = (tissue(), (3.0, 1.0, 1.0), np.ones((20, 60, 60), bool))
    assert domain_of([one], known).modalities == written


def test_real_scans_are_welcome(shared_data: Path) -> None:
    names = [
        "sarcoma/STS_003/CT_image.nii.gz",
        "sarcoma/STS_003/MR_T1_image.nii.gz",
        "sarcoma/STS_003/PET_image.nii.gz",
        "lung_nodules/103_nod1_ann0_image.nii.gz",
    ]
    found = [shared_data / name for name in names]
    found += sorted((shared_data / "hippocampus").glob("*_image.nii.gz"))[:2]
    found += sorted((shared_data / "totalsegmentator_example").rglob("*ct*.nii.gz"))[:1]
    assert {path.name: unlike_training(read_volume(path), CARD) for path in found} == {p.name: () for p in found}
