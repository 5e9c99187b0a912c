"""Phantoms: the same every time, anatomically the right way round, with true masks."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_medseg.imaging import phantom
from napari_medseg.imaging.orientation import is_axis_aligned
from napari_medseg.imaging.phantom import Phantom, brain_mr, chest_ct
from napari_medseg.imaging.phantom_shapes import Canvas, Waves, ellipsoid, tube

COARSE = 1.8


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_ct(coarser=COARSE)


@pytest.fixture(scope="module")
def head() -> Phantom:
    return brain_mr(coarser=COARSE)


def centre(made: Phantom, organ: str) -> np.ndarray:
    label = next(label for label, name in made.organs.names.items() if name == organ)
    return made.volume.position_of(np.argwhere(made.organs.data == label).mean(axis=0))


def median(made: Phantom, organ: str) -> float:
    label = next(label for label, name in made.organs.names.items() if name == organ)
    return float(np.median(made.volume.data[made.organs.data == label]))


def test_a_seed_makes_the_same_scan_every_time(chest: Phantom) -> None:
    again = chest_ct(coarser=COARSE)
    np.testing.assert_array_equal(again.volume.data, chest.volume.data)
    np.testing.assert_array_equal(again.lesions.data, chest.lesions.data)


def test_patients_differ(chest: Phantom) -> None:
    other = chest_ct(2, coarser=COARSE)
    assert other.volume.data.shape == chest.volume.data.shape
    assert np.mean(other.lesions.data != chest.lesions.data) > 0
    with pytest.raises(KeyError, match="3"):
        chest_ct(3)


def test_axes_are_unequal_and_spacing_is_anisotropic(chest: Phantom, head: Phantom) -> None:
    for made in (chest, head):
        assert len(set(made.volume.data.shape)) == 3
        assert made.volume.spacing_mm[0] > 1.5 * made.volume.spacing_mm[2]
        assert made.lesions.data.shape == made.organs.data.shape == made.volume.data.shape


def test_organs_lie_where_they_do_in_a_patient(chest: Phantom) -> None:
    assert centre(chest, "liver")[0] > 30  # right
    assert centre(chest, "spleen")[0] < -50  # left
    assert centre(chest, "stomach")[0] < -20
    assert centre(chest, "aorta")[0] < 0
    assert centre(chest, "kidneys")[1] < -20  # posterior
    assert centre(chest, "heart")[2] > centre(chest, "liver")[2] + 20  # superior


def test_hounsfield_units_are_those_of_the_organs(chest: Phantom) -> None:
    assert median(chest, "lungs") < -700
    assert median(chest, "liver") == pytest.approx(107, abs=8)
    assert median(chest, "aorta") == pytest.approx(162, abs=12)
    assert median(chest, "bones") > 250
    assert chest.volume.data.min() == -1000
    assert chest.volume.modality == "CT"


def test_a_scan_is_not_its_own_mirror_image(chest: Phantom, head: Phantom) -> None:
    for made in (chest, head):
        for axis in range(3):
            flipped = np.flip(made.volume.data, axis)
            assert np.corrcoef(flipped.ravel(), made.volume.data.ravel())[0, 1] < 0.97


@pytest.mark.parametrize("patient", [1, 2])
def test_lesions_have_names_contrast_and_an_organ(patient: int) -> None:
    made = chest_ct(patient, coarser=COARSE)
    assert set(np.unique(made.lesions.data)) == {0, *made.lesions.names}
    assert sorted(made.lesions.names.values()) == ["liver lesion", "liver lesion", "lung nodule"]
    liver = made.volume.data[(made.organs.data == 3) & (made.lesions.data == 0)]
    lung = made.volume.data[(made.organs.data == 1) & (made.lesions.data == 0)]
    for label, name in made.lesions.names.items():
        inside = made.volume.data[made.lesions.data == label]
        assert made.lesions.voxel_ml * inside.size > 1.0
        if name == "liver lesion":
            assert np.median(inside) < np.median(liver) - 20
        else:
            assert np.median(inside) > np.median(lung) + 400


def test_the_head_has_a_left_frontal_tumour_and_bright_white_matter_lesions(head: Phantom) -> None:
    r, a, _ = head.volume.position_of(np.argwhere(head.lesions.data == 1).mean(axis=0))
    assert head.lesions.names[1] == "tumour"
    assert r < -20
    assert a > 10
    white = head.volume.data[(head.organs.data == 1) & (head.lesions.data == 0)]
    for label in range(2, 7):
        assert np.median(head.volume.data[head.lesions.data == label]) > np.median(white) + 60
    assert centre(head, "cerebellum")[1] < centre(head, "brain stem")[1]


def test_an_oblique_grid_shows_the_same_patient(head: Phantom) -> None:
    oblique = brain_mr(oblique=True, coarser=COARSE)
    assert is_axis_aligned(head.volume.affine)
    assert not is_axis_aligned(oblique.volume.affine)
    for label, tolerance_mm in ((1, 2.0), (2, 5.0)):
        straight, turned = (
            made.volume.position_of(np.argwhere(made.lesions.data == label).mean(axis=0)) for made in (head, oblique)
        )
        np.testing.assert_allclose(turned, straight, atol=tolerance_mm)
    assert np.count_nonzero(oblique.lesions.data == 1) * oblique.lesions.voxel_ml == pytest.approx(
        np.count_nonzero(head.lesions.data == 1) * head.lesions.voxel_ml, rel=0.15
    )


def test_waves_are_functions_of_position_alone() -> None:
    waves = Waves.random(np.random.default_rng(0), 8.0)
    affine = np.diag([3.0, 2.0, 1.0, 1.0])
    shifted = affine.copy()
    shifted[:3, 3] = (3.0, 4.0, 5.0)
    whole, part = waves.on((6, 8, 10), affine), waves.on((3, 3, 3), shifted)
    np.testing.assert_allclose(part, whole[1:4, 2:5, 5:8], atol=1e-4)
    assert whole.std() < 3


def test_shapes_are_distances_with_soft_edges() -> None:
    affine = np.array([[0, 0, 1.0, -10], [0, 1.0, 0, -9], [1.0, 0, 0, -8], [0, 0, 0, 1]])
    canvas = Canvas((17, 19, 21), affine, background=0.0)
    where = (canvas.right, canvas.anterior, canvas.superior)
    ball = ellipsoid(where, (0, 0, 0), (6, 6, 6))
    assert ball[8, 9, 10] == -6.0
    assert ball[8, 9, 19] == pytest.approx(3.0)
    pipe = tube(where, (-5, 0, 0), (5, 0, 0), 2.0, 1.0)
    assert pipe[8, 12, 5] == pytest.approx(1.0)
    canvas.paint(pipe, 100.0)
    assert canvas.image[8, 9, 6] == 100
    assert 0 < canvas.image[8, 11, 6] < 100
    assert canvas.region([(500.0, 0.0, 0.0)], 3.0) is None


def test_samples_are_written_as_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = brain_mr(oblique=True, coarser=3.0)
    monkeypatch.setattr(phantom, "SAMPLES", {"head": lambda: made})
    assert phantom.main([str(tmp_path / "a")]) == 0
    assert phantom.main([str(tmp_path / "b")]) == 0
    names = ["head.nii.gz", "head_lesions.nii.gz", "head_organs.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    image, mask = (nib.load(tmp_path / "a" / name) for name in names[:2])
    place = made.volume.position_of(np.argwhere(made.lesions.data == 1)[0])
    index = tuple(np.round(np.linalg.solve(image.affine, [*place, 1])[:3]).astype(int))
    assert np.asarray(mask.dataobj)[index] == 1
    np.testing.assert_allclose(image.affine, mask.affine)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_the_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert phantom.main([]) == 2
    assert "usage" in capsys.readouterr().err
