"""napari reader: scans and label maps from files and DICOM folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import MedSegError

LayerTuple = tuple[Any, dict[str, Any], str]
Paths = str | Sequence[str]

# Files that are pictures more often than scans: what is no scan goes on to napari's own reader.
_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_FEW_LABELS = 32
_MASK_WORDS = {"mask", "masks", "label", "labels", "labelmap", "seg", "segmentation", "gt", "truth", "lesion", "roi"}


def get_reader(path: Paths) -> Callable[[Paths], list[LayerTuple]] | None:
    """Offer to read a path.

    Parameters
    ----------
    path : str or list of str
        A file, a folder, or files that were dropped together as a stack.

    Returns
    -------
    callable or None
        None where another reader is the better one (a Zarr folder).
    """
    first = Path(path if isinstance(path, str) else path[0])
    if first.suffix.lower() == ".zarr" or not first.exists():
        return None
    return read


def read(path: Paths) -> list[LayerTuple]:
    """Read scans as Image layers and label maps as Labels layers, in patient millimetres.

    Parameters
    ----------
    path : str or list of str
        A file, a folder, or several files. Files of one DICOM folder are read as the series that they form.

    Returns
    -------
    list of (data, keyword arguments, layer type)
        The furniture of the viewer (letters, scale bar) appears with the first of them.

    Raises
    ------
    MedSegError
        In one sentence: which file, what is wrong, what to do.
    """
    from napari import current_viewer

    from napari_medseg.widgets import scan_view

    layers = [layer for each in _distinct(path) for layer in _read_one(each)]
    viewer = current_viewer()
    if viewer is not None:
        scan_view.furnish(viewer)
    attributes = [each for _, each, _ in layers] + [
        {"metadata": each.metadata} for each in (viewer.layers if viewer else ())
    ]
    _join_scans(layers, [each.get("metadata", {}).get("napari_medseg", {}).get("volume") for each in attributes])
    return layers


def _join_scans(layers: list[LayerTuple], volumes: list[Any]) -> None:
    """Tell each mask which of the known scans it lies on, voxel for voxel."""
    from napari_medseg.imaging.orientation import same_grid

    for _, attributes, kind in layers:
        own = attributes.get("metadata", {}).get("napari_medseg", {})
        if kind == "labels" and "label_map" in own and "volume" not in own:
            on_it = (volume for volume in volumes if volume is not None and same_grid(volume, own["label_map"]))
            volume = next(on_it, None)
            if volume is not None:
                own["volume"] = volume


def _distinct(path: Paths) -> list[Path]:
    """Paths to read: many DICOM files of one folder are that folder."""
    paths = [Path(path)] if isinstance(path, str) else [Path(each) for each in path]
    folders = {each.parent for each in paths}
    if len(paths) > 1 and len(folders) == 1 and all(_looks_like_dicom(each) for each in paths):
        return [folders.pop()]
    return paths


def _looks_like_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read_one(path: Path) -> list[LayerTuple]:
    from napari.utils.notifications import show_warning

    from napari_medseg.imaging.files import read_volumes
    from napari_medseg.widgets.scan_view import layer_arguments

    if path.is_file() and _may_be_label_map(path):
        labels = _read_labels(path)
        if labels:
            return labels
    try:
        volumes = read_volumes(path)
    except MedSegError as error:
        if path.suffix.lower() not in _PICTURES:
            raise
        return _read_as_picture(path, error)
    for warning in dict.fromkeys(text for volume in volumes for text in volume.warnings):
        show_warning(warning)
    scans, masks = [], []
    for volume in volumes:
        file = path if path.is_file() else volume.path
        mask = _read_labels(file) if file is not None and file.is_file() and _is_mask(volume.data, file) else []
        masks += mask
        if not mask:
            scans.append((volume.data, layer_arguments(volume), "image"))
    return [*scans, *masks]


def _is_mask(data: NDArray[Any], file: Path) -> bool:
    """Whether what was read as a scan is a mask by its values, or by its values and its name."""
    step = tuple(slice(None, None, max(1, n // 64)) for n in data.shape)
    few = data.dtype.kind in "iu" and data.min() == 0 < data.max() <= 255 and len(np.unique(data[step])) <= _FEW_LABELS
    return bool(few) or _may_be_label_map(file)


def _may_be_label_map(path: Path) -> bool:
    """Whether a name says mask, or a DICOM header says segmentation."""
    name = path.name.lower()
    for separator in "-. ":
        name = name.replace(separator, "_")
    return bool(_MASK_WORDS & set(name.split("_"))) or _is_dicom_segmentation(path)


def _is_dicom_segmentation(path: Path) -> bool:
    if not _looks_like_dicom(path):
        return False
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"])
    return str(header.get("Modality", "")) == "SEG"


def _read_labels(path: Path) -> list[LayerTuple]:
    """Read a label map as a Labels layer; nothing where the file turns out to be a scan."""
    from napari.utils.notifications import show_warning

    from napari_medseg.imaging.files import read_label_map
    from napari_medseg.imaging.suffixes import stem_of
    from napari_medseg.widgets.labels_layer import label_map_arguments

    sure = path.name.lower().endswith(".seg.nrrd") or _is_dicom_segmentation(path)
    try:
        label_map = read_label_map(path)
    except MedSegError:
        if sure:
            raise
        return []
    if not sure and not _looks_like_labels(label_map.data):
        return []
    for warning in label_map.warnings:
        show_warning(warning)
    return [(label_map.data, label_map_arguments(label_map, name=stem_of(path)), "labels")]


def _looks_like_labels(data: NDArray[Any]) -> bool:
    """Whether whole numbers are labels, not intensities: few of them, or most neighbours alike."""
    if len(np.unique(data)) <= _FEW_LABELS:
        return True
    inside = data[..., 1:] > 0
    alike = (data[..., 1:] == data[..., :-1])[inside]
    return alike.size == 0 or float(alike.mean()) > 0.5


def _read_as_picture(path: Path, refusal: MedSegError) -> list[LayerTuple]:
    """Read a picture that is no scan (a microscope's image in several files, say) as napari itself does."""
    from napari_builtins.io import napari_get_reader

    reader = napari_get_reader(str(path))
    try:
        layers = list(reader(str(path))) if reader is not None else []
    except Exception as error:
        raise refusal from error
    if not layers:
        raise refusal
    # napari's readers may leave out the attributes and the type of a layer
    return [(*layer, *({}, "image")[len(layer) - 1 :]) for layer in layers]
