"""Scans as a radiologist expects them: where they lie, which way up, with what written beside them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from napari.utils.events import EventedModel

from napari_medseg.imaging.dicom.source import DicomSource
from napari_medseg.imaging.files import read_volume
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.widgets import commands, preferences, scan_view, windows
from napari_medseg.widgets.labels_layer import label_map_arguments
from napari_medseg.widgets.orientation_letters import letters_of

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
MARKER_RAS = (8.0, -15.0, 30.0)
SPACINGS = {"axial": (4.0, 1.5, 1.0), "coronal": (1.5, 4.0, 1.0), "sagittal": (1.5, 1.0, 4.0)}
LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
MARK = 1000
IN_RAS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
SPL_IN_RAS = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]])


def stored(path: Path, order: tuple[tuple[int, ...], tuple[bool, ...]], spacing: tuple[float, float, float]) -> Path:
    """A file with a one-voxel marker at MARKER_RAS, its axes in one of 48 orders."""
    shape = (6, 8, 10)
    affine = np.array([[0, 0, -spacing[2], 0], [0, -spacing[1], 0, 0], [spacing[0], 0, 0, 0], [0, 0, 0, 1.0]])
    index = np.array([2, 5, 3])
    affine[:3, 3] = np.asarray(MARKER_RAS) - affine[:3, :3] @ index
    data = np.zeros(shape, np.int16)
    data[tuple(index)] = MARK
    axes, flips = order
    disk, disk_affine = data.transpose(axes), affine[:, [*axes, 3]]
    for axis in np.flatnonzero(flips):
        disk = np.flip(disk, axis)
        disk_affine[:, 3] += disk_affine[:, axis] * (disk.shape[axis] - 1)
        disk_affine[:, axis] *= -1
    nib.save(nib.Nifti1Image(disk, disk_affine), path)
    return path


def volume_with(affine: np.ndarray, shape: tuple[int, int, int] = (6, 8, 10), **kwargs: object) -> Volume:
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return Volume(data, affine, **{"modality": "MR", **kwargs})  # type: ignore[arg-type]


def axial(spacing: tuple[float, float, float] = (3.0, 1.0, 1.0), origin: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    affine = np.array([[0, 0, -spacing[2], 0], [0, -spacing[1], 0, 0], [spacing[0], 0, 0, 0], [0, 0, 0, 1.0]])
    affine[:3, 3] = origin
    return affine


def stated(unit: str) -> dict[str, DicomSource]:
    return {"dicom": DicomSource("1.1", "1.2", "1.3", True, (), unit)}


def turned(affine: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[cos, -sin], [sin, cos]]
    return turn @ affine


def letters(viewer: ViewerModel) -> str:
    furniture = scan_view.furnish(viewer)
    return "".join(furniture.text(edge) for edge in ("left", "right", "top", "bottom"))


@pytest.fixture
def viewer() -> Iterator[ViewerModel]:
    model = ViewerModel()
    yield model
    model.layers.clear()


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_every_axis_order_is_shown_at_its_place_and_upright(viewer: ViewerModel, order: tuple, tmp_path: Path) -> None:
    r, a, s = MARKER_RAS
    planes = SPACINGS if ORDERS.index(order) % 7 == 0 else ("axial",)
    for plane in planes:
        layer = scan_view.add_volume(viewer, read_volume(stored(tmp_path / "marker.nii", order, SPACINGS[plane])))
        marker = np.argwhere(np.asarray(layer.data) == MARK)[0]
        np.testing.assert_allclose(layer.data_to_world(marker), (s, -a, -r), atol=1e-5)
        assert scan_view.plane_of(viewer) == plane
        assert letters(viewer) == LETTERS[plane]
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
        viewer.layers.clear()


def test_axial_has_patient_right_on_screen_left_and_anterior_up(viewer: ViewerModel) -> None:
    scan_view.add_volume(viewer, volume_with(axial()))

    assert viewer.dims.order == (0, 1, 2)
    camera = viewer.scene.camera
    # world axes are S, P, L: L to the right, P down
    assert (str(camera.orientation[1]), str(camera.orientation[2])) == ("down", "right")


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_planes_are_upright_and_three_d_is_never_mirrored(viewer: ViewerModel, plane: str) -> None:
    volume = volume_with(axial())
    scan_view.add_volume(viewer, volume)
    scan_view.show_plane(viewer, plane)  # type: ignore[arg-type]
    assert letters(viewer) == LETTERS[plane]

    # the patient's directions of screen right, screen up and towards the viewer make a right-handed frame
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (0.0, 0.0, 0.0)
    towards = -viewer.scene.camera.view_direction[0] * SPL_IN_RAS[viewer.dims.order[0]]
    frame = [IN_RAS[letters(viewer)[1]], IN_RAS[letters(viewer)[2]], towards]
    assert np.linalg.det(frame) == pytest.approx(1.0)


def test_rolling_the_axes_goes_through_upright_planes_and_back(viewer: ViewerModel) -> None:
    scan_view.add_volume(viewer, volume_with(axial()))
    seen = []
    for _ in range(4):
        viewer.dims.roll()
        seen.append((scan_view.plane_of(viewer), letters(viewer)))
    assert seen == [("sagittal", "APSI"), ("coronal", "RLSI"), ("axial", "RLAP"), ("sagittal", "APSI")]


def test_letters_follow_flips_and_transposes(viewer: ViewerModel) -> None:
    scan_view.add_volume(viewer, volume_with(axial()))
    viewer.scene.camera.orientation2d = ("up", "left")
    assert letters(viewer) == "LRPA"
    viewer.dims.transpose()  # rows run along L, columns along P; the camera stands upright again
    assert viewer.dims.order == (0, 2, 1)
    assert letters(viewer) == "APRL"


def test_letters_follow_the_camera_in_three_d(viewer: ViewerModel) -> None:
    scan_view.add_volume(viewer, volume_with(axial()))
    viewer.dims.ndisplay = 3
    assert letters(viewer) == "RLSI"  # facing the patient
    viewer.scene.camera.set_view_direction((0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
    assert letters(viewer) == "LRSI"  # from behind
    viewer.scene.camera.set_view_direction((1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
    assert letters(viewer) == "RLAP"  # from the feet, as axial slices are read


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ((1, 0, 0), "R"),
        ((-3, 0, 0), "L"),
        ((0, -1, 0.1), "P"),
        ((0, 0, -2), "I"),
        ((np.cos(np.radians(19)), np.sin(np.radians(19)), 0), "R"),
        ((np.cos(np.radians(21)), np.sin(np.radians(21)), 0), "RA"),
        ((-1, 2, 0), "AL"),
        ((1, 1.1, -1.2), "IAR"),
        ((0, 0, 0), ""),
    ],
)
def test_letters_of_a_direction(direction: tuple[float, ...], expected: str) -> None:
    assert letters_of(np.array(direction, float)) == expected


def test_an_oblique_scan_says_so_and_has_two_letters(viewer: ViewerModel) -> None:
    volume = volume_with(turned(axial(), 24.0))
    scan_view.add_volume(viewer, volume)
    furniture = scan_view.furnish(viewer)

    # anterior has turned towards the patient's right side of the screen
    assert {furniture.text(edge) for edge in ("left", "right", "top", "bottom")} == {"RA", "LP", "AL", "PR"}
    assert "Oblique by 24°" in furniture.text("scan")


def test_scans_that_are_turned_against_each_other_say_so(viewer: ViewerModel) -> None:
    scan_view.add_volume(viewer, volume_with(axial()))
    furniture = scan_view.furnish(viewer)
    assert "Turned" not in furniture.text("scan")
    second = scan_view.add_volume(viewer, volume_with(turned(axial(), 10.0)))
    assert "Turned by 10°" in furniture.text("scan")
    viewer.layers[0].visible = False
    assert "Turned" not in furniture.text("scan")
    viewer.layers[0].visible, second.visible = True, False
    viewer.layers.selection.active = None
    assert "Oblique" not in furniture.text("scan")


def test_two_scans_of_one_patient_lie_over_each_other(viewer: ViewerModel) -> None:
    first = scan_view.add_volume(viewer, volume_with(axial((3.0, 1.0, 1.0), (20, 30, -40))))
    second = scan_view.add_volume(viewer, volume_with(axial((1.5, 2.0, 0.5), (10, 22, -31))))

    for volume, layer in ((scan_view.volume_of(each), each) for each in (first, second)):
        assert volume is not None
        place = volume.position_of((1, 2, 3))
        np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), (place[2], -place[1], -place[0]))
    assert viewer.dims.order == (0, 1, 2)


@pytest.mark.parametrize("degrees", [0.0, 24.0])
def test_two_scans_on_one_orientation_overlay_exactly(viewer: ViewerModel, degrees: float) -> None:
    """Another field of view and spacing of the same session, oblique or not: voxels of one place meet on the screen."""
    whole = volume_with(turned(axial((3.0, 1.0, 1.0), (20, 30, -40)), degrees))
    part = volume_with(turned(axial((1.5, 0.5, 0.5), (14, 25, -31)), degrees))
    layers = [scan_view.add_volume(viewer, volume) for volume in (whole, part)]

    place = part.position_of((1, 2, 3))
    worlds = [layer.data_to_world(volume.index_of(place)) for volume, layer in zip((whole, part), layers, strict=True)]
    np.testing.assert_allclose(worlds[0], worlds[1], atol=1e-9)


def test_position_under_the_cursor_is_the_patients(viewer: ViewerModel) -> None:
    volume = volume_with(axial((3.0, 1.0, 1.0), (5, 4, 100)), modality="CT")
    layer = scan_view.add_volume(viewer, volume)
    furniture = scan_view.furnish(viewer)
    assert furniture.text("cursor") == ""

    viewer.mouse_over_canvas = True
    viewer.cursor.position = layer.data_to_world((1, 6, 7))
    assert furniture.text("cursor").split() == ["L", "2.0", "P", "2.0", "S", "103.0", "mm", "147", "HU"]
    layer.metadata["napari_medseg"]["unit"] = "SUV"
    viewer.cursor.position = layer.data_to_world((1, 6, 6))
    assert furniture.text("cursor").endswith("146 SUV")
    viewer.cursor.position = (0.0, 500.0, 0.0)
    assert furniture.text("cursor").split() == ["R", "0.0", "P", "500.0", "S", "0.0", "mm"]
    viewer.mouse_over_canvas = False
    assert furniture.text("cursor") == ""


def test_position_of_an_oblique_scan_is_the_true_one(viewer: ViewerModel) -> None:
    volume = volume_with(turned(axial((3.0, 1.0, 1.0), (5, 4, 100)), 30.0))
    layer = scan_view.add_volume(viewer, volume)
    viewer.mouse_over_canvas = True
    viewer.cursor.position = layer.data_to_world((1, 6, 7))
    x, y, z = volume.position_of((1, 6, 7))
    words = scan_view.furnish(viewer).text("cursor").split()
    assert words[:6] == [
        "R" if x > 0 else "L",
        f"{abs(x):.1f}",
        "A" if y > 0 else "P",
        f"{abs(y):.1f}",
        "S",
        f"{z:.1f}",
    ]


def test_texts_tell_plane_slice_and_window(viewer: ViewerModel) -> None:
    volume = volume_with(axial((4.4, 1.0, 1.0)), name="knee", modality="CT")
    layer = scan_view.add_volume(viewer, volume)
    furniture = scan_view.furnish(viewer)
    assert furniture.text("scan").splitlines() == [
        "knee",
        "Axial, slice 3 of 6",
        "4.4 mm apart",
        "Soft tissue: W 400 L 40",
    ]

    viewer.dims.set_point(0, layer.data_to_world((5, 0, 0))[0])
    windows.apply_window(layer, "bone")
    assert furniture.text("scan").splitlines()[1:] == ["Axial, slice 6 of 6", "4.4 mm apart", "Bone: W 1800 L 400"]
    layer.contrast_limits = (0, 100)
    assert furniture.text("scan").splitlines()[-1] == "Window: W 100 L 50"


def test_texts_speak_of_the_scan_whose_mask_is_selected(viewer: ViewerModel) -> None:
    volume = volume_with(axial(), name="first")
    scan_view.add_volume(viewer, volume)
    scan_view.add_volume(viewer, volume_with(axial(), name="second"))
    furniture = scan_view.furnish(viewer)
    assert furniture.text("scan").startswith("second")

    label_map = LabelMap(np.zeros(volume.data.shape, np.uint8), volume.affine)
    viewer.add_labels(label_map.data, **label_map_arguments(label_map, name="mask", volume=volume))
    assert furniture.text("scan").startswith("first")


def test_furniture_comes_with_the_first_scan_and_leaves_with_the_last(viewer: ViewerModel) -> None:
    before = (set(viewer.canvas.overlays), viewer.scene.camera.orientation, dict(viewer.keymap))
    photograph = viewer.add_image(np.zeros((5, 6, 7)), name="foreign", metadata={"mine": 1})
    furniture = scan_view.furnish(viewer)
    assert set(viewer.canvas.overlays) == before[0]
    assert not viewer.canvas.overlays["scale_bar"].visible

    first = scan_view.add_volume(viewer, volume_with(axial((1.0, 1.0, 3.0))))
    second = scan_view.add_volume(viewer, volume_with(axial()))
    assert scan_view.furnish(viewer) is furniture
    assert viewer.canvas.overlays["scale_bar"].visible
    viewer.layers.remove(first)
    assert letters(viewer) != ""

    viewer.layers.remove(second)
    assert set(viewer.canvas.overlays) == before[0]
    assert viewer.scene.camera.orientation == before[1]
    assert dict(viewer.keymap) == before[2]
    assert not viewer.canvas.overlays["scale_bar"].visible
    assert list(viewer.layers) == [photograph]
    assert (photograph.name, photograph.metadata, tuple(photograph.scale)) == ("foreign", {"mine": 1}, (1, 1, 1))

    scan_view.add_volume(viewer, volume_with(axial()))
    assert letters(viewer) == "RLAP"


class Preferences(EventedModel):
    texts: bool = True
    letter_size: int = 18
    text_size: int = 10


def test_texts_can_be_hidden_and_letters_sized(viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Preferences()
    monkeypatch.setattr(preferences, "view_preferences", lambda: settings)
    scan_view.add_volume(viewer, volume_with(axial(), name="Mrs Smith"))
    furniture = scan_view.furnish(viewer)
    assert "Mrs Smith" in furniture.text("scan")

    commands.toggle_texts(viewer)
    assert settings.texts is False
    assert furniture.text("scan") == ""
    assert letters(viewer) == "RLAP"
    settings.letter_size = 30
    assert viewer.canvas.overlays["medseg_left"].font_size == 30
    commands.toggle_texts(viewer)
    assert "Mrs Smith" in furniture.text("scan")


def test_settings_are_those_of_the_manifest() -> None:
    settings = preferences.view_preferences()
    assert set(type(settings).model_fields) == set(Preferences.model_fields)


def test_a_single_slice_is_a_scan_too(viewer: ViewerModel) -> None:
    volume = volume_with(axial((1.0, 0.2, 0.2)), shape=(1, 8, 10), modality="DX", name="hand")
    layer = scan_view.add_volume(viewer, volume)
    assert layer.ndim == 3
    assert letters(viewer) == "RLAP"
    assert "slice 1 of 1" in scan_view.furnish(viewer).text("scan")


def test_a_picture_without_sides_has_no_letters(viewer: ViewerModel, tmp_path: Path) -> None:
    from PIL import Image as Picture

    Picture.fromarray(np.arange(80, dtype=np.uint8).reshape(8, 10)).save(tmp_path / "xray.png")
    layer = scan_view.add_volume(viewer, read_volume(tmp_path / "xray.png"))
    furniture = scan_view.furnish(viewer)
    assert letters(viewer) == ""
    assert "Sides unknown" in furniture.text("scan")
    viewer.mouse_over_canvas = True
    viewer.cursor.position = layer.data_to_world((0, 3, 7))
    assert furniture.text("cursor").split() == ["x", "7.0", "y", "3.0", "z", "0.0", "mm", "37"]


@pytest.mark.parametrize("code", [0, 1])
def test_letters_stand_only_where_the_file_knows_its_sides(viewer: ViewerModel, tmp_path: Path, code: int) -> None:
    image = nib.Nifti1Image(np.zeros((6, 8, 10), np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_qform(image.affine, code=code)
    image.set_sform(None, code=code)
    nib.save(image, tmp_path / "scan.nii")
    scan_view.add_volume(viewer, read_volume(tmp_path / "scan.nii"))
    assert (letters(viewer) != "") == bool(code)


def test_a_four_dimensional_neighbour_leaves_the_letters_right(viewer: ViewerModel) -> None:
    scan_view.add_volume(viewer, volume_with(axial()))
    viewer.add_image(np.zeros((2, 6, 8, 10)), name="film")
    assert viewer.dims.ndim == 4
    scan_view.show_plane(viewer, "coronal")
    assert viewer.dims.order == (0, 2, 1, 3)
    assert letters(viewer) == "RLSI"
    assert scan_view.plane_of(viewer) == "coronal"


class TestWindows:
    def test_ct_presets(self) -> None:
        presets = windows.presets_for(volume_with(axial(), modality="CT"))
        assert [preset.name for preset in presets] == ["Soft tissue", "Lung", "Bone", "Brain", "Liver", "Full range"]
        assert (presets[0].low, presets[0].high) == (-160, 240)
        assert (presets[-1].low, presets[-1].high) == (0, 479)

    def test_hounsfield_values_are_recognised_without_a_header(self) -> None:
        data = np.full((4, 5, 6), -1000, np.int16)
        data[2:] = 200
        assert windows.modality_of(Volume(data, axial())) == "CT"
        assert windows.unit_of(Volume(data, axial())) == "HU"
        scaled = (data.astype(np.float32) + 1000) / 1000
        assert windows.modality_of(Volume(scaled, axial())) == ""
        assert windows.unit_of(Volume(scaled, axial())) == ""
        assert windows.modality_of(Volume(scaled, axial(), name="patient-7_PET")) == "PT"

    def test_mr_leaves_out_the_air_and_a_few_bright_voxels(self) -> None:
        data = np.zeros((10, 20, 20), np.float32)
        data[:, 5:15, 5:15] = np.linspace(80, 120, 1000).reshape(10, 10, 10)
        data[0, 5, 5] = 5000
        standard = windows.presets_for(Volume(data, axial(), modality="MR"))[0]
        assert standard.low == 0
        assert 110 < standard.high < 130

    def test_pet_can_be_inverted(self, viewer: ViewerModel) -> None:
        layer = scan_view.add_volume(viewer, volume_with(axial(), modality="PT"))
        windows.apply_window(layer, "PET inverted")
        assert layer.colormap.name == "gray_r"
        assert windows.window_of(layer).name == "PET inverted"

    def test_two_patients_in_suv_are_shown_alike(self, viewer: ViewerModel) -> None:
        for peak, other in ((4, "SUV"), (25, "SUV LBM")):
            volume = replace(volume_with(axial(), modality="PT"), metadata=stated(other))
            layer = scan_view.add_volume(viewer, replace(volume, data=volume.data * (peak / 479.0)))
            assert tuple(layer.contrast_limits) == (0, 10)
            assert windows.unit_of(volume) == other
        names = [windows.next_window(layer).name for _ in range(5)]
        assert names == ["SUV 0-5", "SUV 0-20", "SUV inverted", "Full range", "SUV 0-10"]

    def test_pet_that_states_no_suv_is_shown_by_its_own_voxels(self) -> None:
        for unit in ("Bq/ml", ""):
            volume = replace(volume_with(axial(), modality="PT"), metadata=stated(unit))
            assert [preset.name for preset in windows.presets_for(volume)] == ["PET", "PET inverted", "Full range"]
            assert windows.unit_of(volume) == unit

    def test_the_next_window_comes_round_again(self, viewer: ViewerModel) -> None:
        layer = scan_view.add_volume(viewer, volume_with(axial(), modality="CT"))
        names = [windows.next_window(layer).name for _ in range(6)]
        assert names == ["Lung", "Bone", "Brain", "Liver", "Full range", "Soft tissue"]

    def test_an_unknown_preset_names_the_known_ones(self, viewer: ViewerModel) -> None:
        layer = scan_view.add_volume(viewer, volume_with(axial(), modality="CT"))
        with pytest.raises(ValueError, match="no window preset 'Kidney'; it has: Soft tissue, Lung"):
            windows.apply_window(layer, "Kidney")

    @pytest.mark.parametrize("value", [0, 7, np.nan])
    def test_a_constant_or_empty_image_still_has_a_window(self, viewer: ViewerModel, value: float) -> None:
        volume = Volume(np.full((2, 3, 4), value, np.float32), axial(), modality="MR")
        layer = scan_view.add_volume(viewer, volume)
        low, high = layer.contrast_limits
        assert high > low

    def test_a_foreign_image_takes_a_window(self, viewer: ViewerModel) -> None:
        layer = viewer.add_image(np.zeros((3, 4)))
        assert isinstance(layer, Image)
        assert windows.window_of(layer) is None
        windows.apply_window(layer, windows.Window("mine", 5, 9))
        assert tuple(layer.contrast_limits) == (5, 9)
