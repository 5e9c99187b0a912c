"""napari samples: phantoms made on the spot, each with its lesions in a hidden layer to compare with."""

from __future__ import annotations

from typing import Any

LayerTuple = tuple[Any, dict[str, Any], str]


def chest_ct_1() -> list[LayerTuple]:
    """CT-like chest and upper abdomen: two liver lesions, a lung nodule."""
    return _sample("chest_ct_1")


def chest_ct_2() -> list[LayerTuple]:
    """Another patient's CT-like scan: the next case."""
    return _sample("chest_ct_2")


def brain_mr() -> list[LayerTuple]:
    """FLAIR-like head: a tumour and white matter lesions."""
    return _sample("brain_mr")


def brain_mr_oblique() -> list[LayerTuple]:
    """Make the same head on an oblique grid."""
    return _sample("brain_mr_oblique")


def _sample(key: str) -> list[LayerTuple]:
    from napari import current_viewer

    from napari_medseg.imaging.phantom import SAMPLES
    from napari_medseg.widgets import scan_view
    from napari_medseg.widgets.labels_layer import label_map_arguments

    phantom = SAMPLES[key]()
    viewer = current_viewer()
    if viewer is not None:
        scan_view.furnish(viewer)
    truth = label_map_arguments(phantom.lesions, name=f"{phantom.volume.name} truth", volume=phantom.volume)
    return [
        (phantom.lesions.data, {**truth, "visible": False}, "labels"),
        (phantom.volume.data, scan_view.layer_arguments(phantom.volume), "image"),
    ]
