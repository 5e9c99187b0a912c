"""Shows scans as a radiologist expects them: plane, millimetres, letters, window, position under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari.layers import Image

from napari_medseg.widgets.furniture import Furniture
from napari_medseg.widgets.scan_layers import layer_arguments, plane_of, scan_layer, show_plane, volume_of
from napari_medseg.widgets.scan_texts import placement_warnings

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.imaging.volume import Volume

__all__ = [
    "Furniture",
    "add_volume",
    "furnish",
    "layer_arguments",
    "placement_warnings",
    "plane_of",
    "scan_layer",
    "show_plane",
    "volume_of",
]

_furnished: WeakKeyDictionary[ViewerModel, Furniture] = WeakKeyDictionary()


def add_volume(viewer: ViewerModel, volume: Volume) -> Image:
    """Show a scan: in its plane of acquisition, in millimetres, with its window and the viewer's furniture.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        A napari viewer, with or without a window.
    volume : Volume
        The scan. A second scan of the patient lands over the first by their positions.

    Returns
    -------
    napari.layers.Image
        The new layer; ``layer.metadata["napari_medseg"]["volume"]`` is the volume.
    """
    furnish(viewer)
    return viewer.add_image(volume.data, **layer_arguments(volume))


def furnish(viewer: ViewerModel) -> Furniture:
    """Give a viewer its letters, scale bar and texts; they appear with the first scan and leave with the last.

    Returns
    -------
    Furniture
        The same object for every call with the same viewer.
    """
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's widget is given a proxy
    if viewer not in _furnished:
        _furnished[viewer] = Furniture(viewer)
    return _furnished[viewer]
