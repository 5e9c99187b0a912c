"""What the menu entries and key bindings of the manifest do to the current viewer."""

from __future__ import annotations

import napari
from napari.utils.notifications import show_info

from napari_medseg.widgets import preferences, scan_view, windows


def show_axial(viewer: napari.Viewer) -> None:
    """Show the axial plane."""
    scan_view.show_plane(viewer, "axial")


def show_coronal(viewer: napari.Viewer) -> None:
    """Show the coronal plane."""
    scan_view.show_plane(viewer, "coronal")


def show_sagittal(viewer: napari.Viewer) -> None:
    """Show the sagittal plane."""
    scan_view.show_plane(viewer, "sagittal")


def show_next_window(viewer: napari.Viewer) -> None:
    """Show the scan with its next window preset."""
    layer = scan_view.scan_layer(viewer)
    if layer is None:
        show_info("Open a scan first: window presets belong to scans.")
        return
    windows.next_window(layer)


def toggle_texts(viewer: napari.Viewer | None = None) -> None:
    """Show or hide the texts (name, slice, window, position) beside every scan, as before a screenshot."""
    settings = preferences.view_preferences()
    settings.texts = not settings.texts
