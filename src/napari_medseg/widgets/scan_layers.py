"""The layers that show scans, and the plane in which a viewer shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_medseg.imaging.orientation import layer_transform
from napari_medseg.widgets.orientation_letters import AXIS_LABELS, PLANES, UPRIGHT, Plane
from napari_medseg.widgets.windows import presets_for, unit_of

SUFFIX = " (resampled for display)"

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_medseg.imaging.volume import Volume


def layer_arguments(volume: Volume) -> dict[str, Any]:
    """Keyword arguments of the Image layer that shows a scan."""
    scale, translate = layer_transform(volume.affine)
    windows = presets_for(volume)
    return {
        "name": volume.name or "scan",
        "scale": scale,
        "translate": translate,
        "units": ("mm",) * 3,
        "axis_labels": AXIS_LABELS,
        "contrast_limits": (windows[0].low, windows[0].high),
        "colormap": windows[0].colormap,
        "interpolation2d": "linear",
        "metadata": {"napari_medseg": {"volume": volume, "windows": windows, "unit": unit_of(volume)}},
    }


def volume_of(layer: Any) -> Volume | None:
    """Give the scan that a layer shows or belongs to; None for a foreign layer."""
    volume: Volume | None = layer.metadata.get("napari_medseg", {}).get("volume")
    return volume


def shown_volume(layer: Any) -> Volume | None:
    """Give the voxels that a scan's layer draws: the scan itself, or what was resampled of it for display."""
    own = layer.metadata.get("napari_medseg", {})
    volume: Volume | None = own.get("shown") or own.get("volume")
    return volume


def scan_layer(viewer: ViewerModel) -> Image | None:
    """Give the scan that letters and texts speak of.

    The one that the selected layer shows or belongs to, else the topmost visible one, else the topmost.
    """
    scans = [layer for layer in viewer.layers if isinstance(layer, Image) and volume_of(layer) is not None]
    active = viewer.layers.selection.active
    selected = volume_of(active) if active is not None else None
    if selected is not None:
        for layer in reversed(scans):
            if volume_of(layer) is selected:
                return layer
    return next((layer for layer in reversed(scans) if layer.visible), scans[-1] if scans else None)


def show_plane(viewer: ViewerModel, plane: Plane) -> None:
    """Show the axial, coronal or sagittal plane: superior up (axial: anterior up), patient right on screen left.

    A sagittal plane has anterior on the left. Oblique scans show their own nearest plane.
    """
    offset = viewer.dims.ndim - 3
    if offset >= 0:
        viewer.dims.order = (*range(offset), *(axis + offset for axis in UPRIGHT[plane]))


def centre_on(viewer: ViewerModel, layer: Layer) -> None:
    """Show the middle slices of a scan's layer, as large as the canvas allows."""
    middle = layer.data_to_world([(n - 1) // 2 for n in layer.data.shape])
    offset = viewer.dims.ndim - len(middle)
    viewer.dims.set_point([offset + axis for axis in range(len(middle))], middle)
    viewer.fit_to_view(layers=[layer])


def plane_of(viewer: ViewerModel) -> Plane | None:
    """Give the plane that is displayed; None in 3-D or without a 3-D layer."""
    axis = viewer.dims.order[-3] - (viewer.dims.ndim - 3) if viewer.dims.ndim >= 3 else -1
    return PLANES[axis] if viewer.dims.ndisplay == 2 and axis >= 0 else None
