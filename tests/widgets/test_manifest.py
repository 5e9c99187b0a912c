"""The manifest: every contribution is there under its name, can be imported, and works in a real window."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from napari._app_model.constants import MenuId
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.utils.key_bindings import coerce_keybinding
from npe2 import PluginManager, PluginManifest
from qtpy.QtWidgets import QWidget

import napari_medseg as ms
from napari_medseg.imaging.mask_formats import MASK_ENDINGS
from napari_medseg.imaging.phantom import SAMPLES
from napari_medseg.imaging.suffixes import VOLUME_SUFFIXES
from napari_medseg.widgets import scan_view

PLUGIN = "napari-medseg"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    manager = PluginManager.instance()
    manager.discover()
    return manager.get_manifest(PLUGIN)


def test_npe2_finds_nothing_to_complain_about() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", PLUGIN], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "valid" in result.stdout


def test_the_top_level_manifest_is_the_package_s_own() -> None:
    package = Path(ms.__file__).parent / "napari.yaml"
    assert (ROOT / "napari.yaml").read_bytes() == package.read_bytes()


def test_every_command_can_be_imported_and_called(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands:
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(import_module(module), name)), command.id
        assert command.title[0].isupper()


def test_every_contribution_points_to_a_command_that_exists(manifest: PluginManifest) -> None:
    contributions = manifest.contributions
    known = {command.id for command in contributions.commands}
    used = [each.command for each in (*contributions.readers, *contributions.writers, *contributions.widgets)]
    used += [each.command for each in (*contributions.sample_data, *contributions.keybindings)]
    used += [item.command for items in contributions.menus.values() for item in items if hasattr(item, "command")]
    assert set(used) <= known
    assert known <= set(used)


def test_menus_are_ones_that_plugins_may_add_to(manifest: PluginManifest) -> None:
    own = {submenu.id for submenu in manifest.contributions.submenus}
    naparis = set(manifest.contributions.menus) - own
    assert naparis <= {str(menu) for menu in MenuId.contributables()}
    assert "napari/layers/segment" in naparis


def test_every_format_that_is_read_or_written_is_offered(manifest: PluginManifest) -> None:
    (reader,) = manifest.contributions.readers
    assert reader.accepts_directories
    manager = PluginManager.instance()
    for suffix in VOLUME_SUFFIXES:
        for name in (f"scan{suffix}", f"SCAN{suffix.upper()}", f"a.b.c{suffix}"):
            assert PLUGIN in {each.plugin_name for each in manager.iter_compatible_readers([name])}, name
    writable = {suffix for each in manifest.contributions.writers for suffix in each.filename_extensions}
    assert writable == set(MASK_ENDINGS)


@pytest.mark.parametrize("name", ["IM000123", "I10", "1.2.840.113619.2.55.3", "1.3.12.2.1107.5.1.4", "2.16.840.1"])
def test_dicom_files_without_an_ending_are_offered(manifest: PluginManifest, name: str) -> None:
    assert [each.plugin_name for each in PluginManager.instance().iter_compatible_readers([name])] == [PLUGIN]


@pytest.mark.parametrize("name", ["notes.txt", "cells.czi", "table.csv", "archive.tar.gz", "script.py"])
def test_other_files_are_left_alone(manifest: PluginManifest, name: str) -> None:
    readers = {each.plugin_name for each in PluginManager.instance().iter_compatible_readers([name])}
    assert PLUGIN not in readers


def test_masks_are_written_by_us_and_tiffs_by_napari(manifest: PluginManifest) -> None:
    manager = PluginManager.instance()
    for suffix in MASK_ENDINGS:
        writer, path = manager.get_writer(f"mask{suffix}", ["labels"])
        assert writer is not None
        assert (writer.plugin_name, path) == (PLUGIN, f"mask{suffix}")
    assert manager.get_writer("mask.tif", ["labels"])[0].plugin_name == "napari"
    assert manager.get_writer("image.nii.gz", ["image"])[0] is None


@pytest.fixture
def window(make_napari_viewer: Callable[..., object]) -> object:
    return make_napari_viewer(show=True)


def test_samples_open_by_name(manifest: PluginManifest) -> None:
    viewer = ViewerModel()
    furniture = scan_view.furnish(viewer)
    for key in SAMPLES:
        truth, scan = viewer.open_sample(PLUGIN, key)
        assert isinstance(truth, Labels)
        assert isinstance(scan, Image)
        assert (truth.visible, scan.visible) == (False, True)
        assert truth.data.shape == scan.data.shape
        volume = scan_view.volume_of(scan)
        assert volume is not None
        assert truth.metadata["napari_medseg"]["volume"] is volume
        assert furniture.text("right") == ("LP" if key == "brain_mr_oblique" else "L")
    assert {sample.key for sample in manifest.contributions.sample_data} == set(SAMPLES)


def test_files_open_and_masks_save_in_a_window(window, tmp_path: Path) -> None:
    sample = ROOT / "sample_data" / "brain_mr_oblique.nii.gz"
    (scan,) = window.open(sample, plugin=PLUGIN)
    assert scan_view.furnish(window).text("left") == "RA"
    (mask,) = window.open(sample.with_name("brain_mr_oblique_lesions.nii.gz"), plugin=PLUGIN)
    assert mask.metadata["napari_medseg"]["volume"] is scan_view.volume_of(scan)

    (written,) = window.layers.save(str(tmp_path / "copy.nii.gz"), selected=True, plugin=PLUGIN)
    original = ms.read_label_map(sample.with_name("brain_mr_oblique_lesions.nii.gz"))
    back = ms.read_label_map(written)
    np.testing.assert_array_equal(back.data, original.data)
    np.testing.assert_allclose(back.affine, original.affine, atol=1e-4)


def test_the_dock_opens_by_name(window) -> None:
    dock, widget = window.window.add_plugin_dock_widget(PLUGIN, "MedSeg")
    assert isinstance(widget, QWidget)
    assert "MedSeg" in dock.windowTitle() or "MedSeg" in dock.name


def test_menu_entries_and_keys_turn_the_scan(window) -> None:
    window.open_sample(PLUGIN, "chest_ct_1")
    menu = window.window.layers_menu
    for title in ("Visualize", "Scan (MedSeg)"):
        menu = next(action.menu() for action in menu.actions() if action.text() == title)
    titles = {action.text(): action for action in menu.actions()}
    coronal = next(action for text, action in titles.items() if text.startswith("Show the coronal plane"))
    coronal.trigger()
    assert scan_view.plane_of(window) == "coronal"

    for key, plane in (("Shift-S", "sagittal"), ("Shift-A", "axial"), ("Shift-C", "coronal")):
        window.keymap[coerce_keybinding(key)](window)
        assert scan_view.plane_of(window) == plane
    layer = scan_view.scan_layer(window)
    window.keymap[coerce_keybinding("Shift-W")](window)
    assert tuple(layer.contrast_limits) == (-1350, 150)


def test_letters_stand_where_the_pixels_are(window) -> None:
    """A bright corner of the patient is drawn at the edges that its letters name."""
    data = np.zeros((20, 24, 28), np.int16)
    data[:6, :6, :6] = 1000  # inferior, anterior, right
    affine = np.array([[0, 0, -1.0, 14], [0, -1.0, 0, 12], [1.0, 0, 0, -10], [0, 0, 0, 1]])
    layer = scan_view.add_volume(window, ms.Volume(data, affine, modality="MR"))
    layer.interpolation2d = "nearest"
    for plane in ("axial", "coronal", "sagittal", "from the front", "from behind"):
        if plane.startswith("from"):
            window.dims.ndisplay = 3
            front = 1.0 if plane == "from the front" else -1.0
            scan_view.show_plane(window, "axial")
            window.scene.camera.set_view_direction((-0.3, front, 0.2), (1.0, 0.0, 0.1))
        else:
            scan_view.show_plane(window, plane)  # type: ignore[arg-type]
            window.dims.set_point([0, 1, 2], layer.data_to_world((2, 2, 2)))
        assert _bright_edges(window) == {
            edge for edge in ("left", "right", "top", "bottom") if scan_view.furnish(window).text(edge)[0] in "IAR"
        }, plane


def _bright_edges(window) -> set[str]:
    overlays = [overlay for overlay in window.canvas.overlays.values() if overlay.visible]
    for overlay in overlays:
        overlay.visible = False
    picture = window.screenshot(canvas_only=True, flash=False)[..., 0].astype(float)
    for overlay in overlays:
        overlay.visible = True
    rows, columns = np.nonzero(picture > 150)
    height, width = picture.shape
    return {"left" if columns.mean() < width / 2 else "right", "top" if rows.mean() < height / 2 else "bottom"}
