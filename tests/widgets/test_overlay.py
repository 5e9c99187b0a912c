"""Two scans of one patient in one viewer: the same place lies under the cursor in both, however they are turned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from scipy.ndimage import map_coordinates

from napari_medseg.imaging.dicom.source import DicomSource
from napari_medseg.imaging.files import read_volume
from napari_medseg.imaging.frames import frame_of
from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import build
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.scan_layers import shown_volume, volume_of
from napari_medseg.widgets.scan_texts import describe_position, describe_scan

SLOPE = np.array([3.0, -2.0, 1.5])


def ramp(degrees: float, name: str, spacing: tuple[float, float, float], modality: str = "MR") -> Volume:
    """A scan whose value is a linear function of the place in the patient."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine[:3, :3] = turn @ np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]]) @ np.diag(spacing)
    shape = tuple(round(60 / step) for step in spacing)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2 + [5, -8, 12]
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    values = (index @ affine[:3, :3].T + affine[:3, 3]) @ SLOPE
    return Volume(values.astype(np.float32), affine, name=name, modality=modality)


@pytest.fixture
def bridge(model):
    services = build()
    services.session.model = model
    return LayerBridge(ViewerModel(), services)


def layer_of(bridge: LayerBridge, volume: Volume):
    return next(layer for layer in bridge.viewer.layers if layer._type_string == "image" and volume_of(layer) is volume)


def drawn_at(bridge: LayerBridge, volume: Volume, place: np.ndarray) -> float:
    """What a scan's layer draws at a place in the patient, by napari's own transforms."""
    world = np.linalg.solve(frame_of(bridge.session.volume.affine), place)
    layer = layer_of(bridge, volume)
    assert layer.visible
    return float(
        map_coordinates(layer.data.astype(np.float32), np.array(layer.world_to_data(world))[:, None], order=1)[0]
    )


@pytest.mark.parametrize(("a", "b"), [(0, 0), (12, 12), (0, 15), (15, 0), (12, -9)])
def test_the_same_place_lies_under_the_cursor_in_both(bridge, a, b):
    first, second = ramp(a, "first", (3.0, 1.0, 1.0)), ramp(b, "second", (2.0, 1.2, 1.5))
    bridge.services.opening.choose(first)
    bridge.services.opening.choose(second)
    places = np.random.default_rng(1).uniform(-15, 15, (30, 3)) + np.array([5, -8, 12])
    for active, other in ((second, first), (first, second)):
        bridge.services.opening.choose(active)
        assert layer_of(bridge, active).data is active.data
        assert layer_of(bridge, other).name == other.name + (" (resampled for display)" if a != b else "")
        for place in places:
            for volume in (active, other):
                assert drawn_at(bridge, volume, place) == pytest.approx(place @ SLOPE, abs=0.3)
        world = tuple(np.linalg.solve(frame_of(active.affine), places[0]))
        words = [describe_position(layer_of(bridge, volume), world).split(" mm")[0] for volume in (active, other)]
        assert words[0] == words[1]
        assert "do not lie over each other" not in describe_scan(bridge.viewer, layer_of(bridge, other))


def test_lesions_of_a_turned_scan_hide_until_it_is_worked_on_again(bridge):
    first, second = ramp(0, "first", (3.0, 1.0, 1.0)), ramp(15, "second", (3.0, 1.0, 1.0))
    bridge.services.opening.choose(first)
    lesions = bridge.labels
    bridge.services.opening.choose(second)
    assert not lesions.visible
    assert bridge.labels.visible
    bridge.services.opening.choose(first)
    assert lesions.visible
    assert bridge.labels is lesions
    assert shown_volume(layer_of(bridge, second)) is not second
    assert volume_of(layer_of(bridge, second)) is second
    bridge.services.opening.close(first)
    assert bridge.session.volume is second
    assert layer_of(bridge, second).data is second.data


def test_pet_glows_over_ct_in_whatever_order_they_open(bridge):
    pet, ct = ramp(0, "pet", (3.0, 2.0, 2.0), "PT"), ramp(0, "ct", (3.0, 1.0, 1.0), "CT")
    bridge.services.opening.choose(pet)
    assert layer_of(bridge, pet).opacity == 1.0
    bridge.services.opening.choose(ct)
    glow = layer_of(bridge, pet)
    assert (glow.colormap.name, glow.opacity, glow.blending) == ("inferno", 0.5, "additive")
    kinds = [layer._type_string for layer in bridge.viewer.layers]
    assert kinds == ["image"] * 2 + ["labels"] * 2, "lesions lie over the scans"
    assert bridge.viewer.layers[1] is glow
    glow.opacity = 0.2
    bridge.services.opening.choose(pet)
    assert glow.opacity == 0.2, "the user's own choice stays"


def test_scans_of_two_frames_of_reference_are_not_passed_off_as_one(bridge):
    first, second = ramp(0, "first", (3.0, 1.0, 1.0)), ramp(0, "second", (3.0, 1.0, 1.0))
    first, second = (
        replace(volume, metadata={"dicom": DicomSource(frame, "1.1", frame, True, ())})
        for volume, frame in ((first, "1.2"), (second, "1.3"))
    )
    bridge.services.opening.choose(first)
    bridge.services.opening.choose(second)
    assert "'first' and 'second' have different frames of reference" in bridge.session.message


def test_the_open_scan_lies_on_top(bridge):
    first, second = ramp(0, "first", (3.0, 1.0, 1.0)), ramp(0, "second", (3.0, 1.0, 1.0))
    for volume in (first, second, first):
        bridge.services.opening.choose(volume)
        images = [layer for layer in bridge.viewer.layers if layer._type_string == "image"]
        assert volume_of(images[-1]) is volume


@pytest.mark.parametrize("pair", [("CT", "PET"), ("CT", "MR_T1"), ("MR_T1", "PET")])
def test_real_scans_of_one_patient_lie_over_each_other(bridge, shared_data: Path, pair):
    folder = shared_data / "sarcoma" / "STS_042"
    volumes = [read_volume(folder / f"{name}_image.nii.gz") for name in pair]
    same_place_everywhere(bridge, *volumes)


def test_real_visits_on_oblique_grids_lie_over_each_other(bridge, shared_data: Path):
    patient = next(path for path in sorted((shared_data / "ms_longitudinal").iterdir()) if path.is_dir())
    visits = sorted(path for path in patient.rglob("*FLAIR*.nii.gz") if "mask" not in path.name.lower())[:2]
    same_place_everywhere(bridge, *(read_volume(path) for path in visits))


def same_place_everywhere(bridge: LayerBridge, first: Volume, second: Volume) -> None:
    """Compare what is drawn with each scan's own voxels at the same places."""
    second = replace(second, name=f"{second.name} 2")
    for volume in (first, second):
        bridge.services.opening.choose(volume)
    middle = (
        first.position_of((np.array(first.data.shape) - 1) / 2)
        + second.position_of((np.array(second.data.shape) - 1) / 2)
    ) / 2
    for place in middle + np.random.default_rng(2).uniform(-12, 12, (20, 3)):
        for volume in (first, second):
            index = volume.index_of(place)
            if (index < 1).any() or (index > np.array(volume.data.shape) - 2).any():
                continue
            near = [volume.data[tuple(slice(int(n) - 1, int(n) + 3) for n in index)].astype(float)]
            own = float(map_coordinates(volume.data.astype(np.float32), index[:, None], order=1)[0])
            turned = shown_volume(layer_of(bridge, volume)) is not volume
            tolerance = 0.5 * np.ptp(near[0]) + 1e-3 if turned else 1e-2 * max(1.0, abs(own))
            assert drawn_at(bridge, volume, place) == pytest.approx(own, abs=tolerance)
