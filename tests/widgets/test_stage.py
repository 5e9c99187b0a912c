"""A scan of another patient takes the stage; choosing the first one again brings it back as it was left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import build
from napari_medseg.widgets.layer_bridge import LayerBridge

SIZES = {"CT": (20, 16, 12), "PT": (10, 8, 6), "MR": (40, 30, 20)}


def scan(patient: str, modality: str, at_mm: float = 0.0) -> Volume:
    """A scan in its patient's folder, of a size of its own, far away or not."""
    shape = SIZES[modality]
    step = 60.0 / shape[0]
    affine = np.array([[0, 0, -step, 10], [0, -step, 0, 20], [step, 0, 0, at_mm], [0, 0, 0, 1]])
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Volume(
        data, affine, name=f"{patient} {modality}", modality=modality, path=Path(f"/d/{patient}/{modality}.nii")
    )


@pytest.fixture
def bridge(model):
    services = build()
    services.session.model = model
    return LayerBridge(ViewerModel(), services)


def visible(bridge: LayerBridge) -> set[str]:
    return {layer.name for layer in bridge.viewer.layers if layer.visible}


def slices(bridge: LayerBridge) -> tuple[float, float]:
    """First and last position of the slice slider, mm."""
    start, stop, _ = bridge.viewer.dims.range[0]
    return float(start), float(stop)


def test_another_patient_takes_the_stage_and_gives_it_back(bridge):
    choose, viewer = bridge.services.opening.choose, bridge.viewer
    ct, pet, mr = scan("p1", "CT"), scan("p1", "PT"), scan("p2", "MR", at_mm=500.0)
    choose(ct)
    choose(pet)
    assert {"p1 CT", "p1 PT"} <= visible(bridge), "scans of one patient lie over each other"
    bridge.show_slice(3)
    viewer.scene.camera.zoom = 7.0
    seen, slider = viewer.dims.point, slices(bridge)
    choose(mr)
    assert visible(bridge) == {"p2 MR", "Lesions of p2 MR"}
    assert slices(bridge) == pytest.approx((500.0, 558.5))
    assert viewer.dims.nsteps[0] == 40
    assert 515 < viewer.dims.point[0] < 545, "its middle"
    assert "'p1 PT' waits in the list of scans" in bridge.session.message
    choose(pet)
    assert visible(bridge) == {"p1 CT", "p1 PT", "Lesions", "Lesions of p1 PT"}
    assert (viewer.dims.point, slices(bridge), viewer.scene.camera.zoom) == (seen, slider, 7.0)


def test_a_layer_that_waits_can_be_shown_beside(bridge):
    ct, mr = scan("p1", "CT"), scan("p2", "MR", at_mm=500.0)
    for volume in (ct, mr):
        bridge.services.opening.choose(volume)
    bridge.viewer.layers["p1 CT"].visible = True
    assert {"p1 CT", "p2 MR"} <= visible(bridge)
    assert slices(bridge) == pytest.approx((0.0, 558.5)), "the slider reaches both"
    bridge.viewer.layers["p1 CT"].visible = False
    assert slices(bridge) == pytest.approx((500.0, 558.5))
    bridge.services.opening.choose(ct)
    assert visible(bridge) == {"p1 CT", "Lesions"}


def test_home_fits_what_is_on_stage(bridge):
    ct, mr = scan("p1", "CT"), scan("p2", "MR", at_mm=500.0)
    for volume in (ct, mr):
        bridge.services.opening.choose(volume)
    zoom = bridge.viewer.scene.camera.zoom
    bridge.viewer.scene.camera.zoom = 0.1
    bridge.viewer.reset_view()
    assert bridge.viewer.scene.camera.zoom == pytest.approx(zoom)


def test_a_pet_alone_on_stage_looks_like_a_scan(bridge):
    ct, pet = scan("p1", "CT"), scan("p2", "PT")
    for volume in (ct, pet):
        bridge.services.opening.choose(volume)
    assert bridge.viewer.layers["p2 PT"].opacity == 1.0


def test_closing_the_scan_on_stage_brings_another_one_back(bridge):
    ct, mr = scan("p1", "CT"), scan("p2", "MR", at_mm=500.0)
    for volume in (ct, mr):
        bridge.services.opening.choose(volume)
        bridge.show_slice(15)
    bridge.services.segmenting.click((0.0, 0.0, 520.0))
    bridge.viewer.layers.remove("p2 MR")
    assert bridge.session.volume is ct
    assert bridge.viewer.dims.point[0] == pytest.approx(45.0), "where it was left"
    assert visible(bridge) == {"p1 CT", "Lesions"}


def test_going_back_to_2d_shows_the_slice_where_each_scan_was_left(bridge):
    ct, mr = scan("p1", "CT"), scan("p2", "MR", at_mm=500.0)
    choose, dims = bridge.services.opening.choose, bridge.viewer.dims
    choose(ct)
    bridge.show_slice(3)
    dims.ndisplay = 3
    choose(mr)
    dims.ndisplay = 2
    assert 515 < dims.point[0] < 545, "never looked at: its middle"
    dims.ndisplay = 3
    choose(ct)
    dims.ndisplay = 2
    assert dims.point[0] == pytest.approx(9.0)


def test_a_scan_that_was_left_in_2d_is_in_the_picture_in_3d_too(bridge):
    ct, mr = scan("p1", "CT"), scan("p2", "MR", at_mm=500.0)
    for volume in (ct, mr):
        bridge.services.opening.choose(volume)
    bridge.viewer.dims.ndisplay = 3
    bridge.services.opening.choose(ct)
    assert bridge.viewer.scene.camera.center[0] == pytest.approx(28.5, abs=3.0)
    assert bridge.viewer.scene.camera.center[1:] == pytest.approx((2.5, 6.5), abs=20.0)
