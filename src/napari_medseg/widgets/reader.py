"""napari reader: scans and label maps from files and DICOM folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import MedSegError

if TYPE_CHECKING:
    from napari_medseg.imaging.volume import Volume
    from napari_medseg.session.open import OpenController

LayerTuple = tuple[Any, dict[str, Any], str]
Paths = str | Sequence[str]

# Files that are pictures more often than scans: what is no scan goes on to napari's own reader.
_PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
# What napari takes for "read, and there is no layer to add".
_NOTHING_TO_ADD: list[Any] = [(None,)]


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
    from napari_medseg.widgets.scan_layers import volume_of

    paths = distinct_paths(path)
    viewer = current_viewer()
    viewer = getattr(viewer, "__wrapped__", viewer)
    opening = _opening_of(viewer)
    if opening is not None and len(paths) == 1 and _is_for_the_dock(paths[0], opening):
        opening.open(paths[0])
        return _NOTHING_TO_ADD
    known = [volume_of(layer) for layer in viewer.layers] if viewer is not None else []
    scans = tuple(volume for volume in known if volume is not None)
    layers = [layer for each in paths for layer in _read_one(each, scans)]
    if viewer is not None:
        scan_view.furnish(viewer)
    volumes = [each.get("metadata", {}).get("napari_medseg", {}).get("volume") for _, each, _ in layers]
    _join_scans(layers, [*(volume for volume in volumes if volume is not None), *scans])
    return layers if opening is not None else _laid_over(layers, scans)


def _laid_over(layers: list[LayerTuple], scans: tuple[Volume, ...]) -> list[LayerTuple]:
    """Place layers along the axes of the viewer's first scan; the dock does this by itself."""
    from napari.utils.notifications import show_warning

    from napari_medseg.imaging.frames import frame_of, place_in, turned_into
    from napari_medseg.widgets.scan_layers import SUFFIX

    owns = [attributes.get("metadata", {}).get("napari_medseg", {}) for _, attributes, _ in layers]
    first = next(iter((*scans, *(own["volume"] for own in owns if "volume" in own))), None)
    if first is None:
        return layers
    frame, found = frame_of(first.affine), []
    for (data, attributes, kind), own in zip(layers, owns, strict=True):
        drawn = own.get("label_map") if kind == "labels" else own.get("volume")
        placed = place_in(drawn, frame) if drawn is not None else None
        if drawn is not None and placed is None and kind == "labels":
            show_warning(f"'{attributes['name']}' is turned against '{first.name}': it is not drawn where it lies.")
        elif drawn is not None and placed is None:
            drawn = own["shown"] = turned_into(drawn, frame)
            data, placed, attributes["name"] = drawn.data, place_in(drawn, frame), attributes["name"] + SUFFIX
        if placed is not None:
            attributes["scale"], attributes["translate"] = placed
        found.append((data, attributes, kind))
    return found


def _opening_of(viewer: Any) -> OpenController | None:
    """Return what opens scans for the viewer's dock, where it has one."""
    from napari_medseg.widgets.binding import bound

    binding = bound(viewer) if viewer is not None else None
    return binding.services.opening if binding is not None else None


def _is_for_the_dock(path: Path, opening: OpenController) -> bool:
    """Whether the dock must ask or place something: a mask beside an open scan, or a folder of several series."""
    from napari_medseg.imaging.mask_or_scan import may_be_mask

    has_scan = bool(opening.scans) or opening.is_reading
    return path.is_dir() or (path.is_file() and has_scan and may_be_mask(path))


def _join_scans(layers: list[LayerTuple], volumes: list[Any]) -> None:
    """Tell each mask which of the known scans it lies on, voxel for voxel; warn where it lies on none."""
    from napari.utils.notifications import show_warning

    from napari_medseg.imaging.mask_fit import misfit, scan_of_mask
    from napari_medseg.imaging.orientation import same_grid

    for _, attributes, kind in layers:
        own = attributes.get("metadata", {}).get("napari_medseg", {})
        if kind == "labels" and "label_map" in own and "volume" not in own:
            label_map = own["label_map"]
            volume = scan_of_mask(label_map, volumes)
            if volume is not None and same_grid(volume, label_map):
                own["volume"] = volume
            elif volume is None and volumes:
                show_warning(
                    f"{misfit(label_map, volumes[0])} It is shown on its own grid; the MedSeg dock can resample."
                )


def distinct_paths(path: Paths) -> list[Path]:
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


def _read_one(path: Path, known: tuple[Volume, ...]) -> list[LayerTuple]:
    from napari.utils.notifications import show_warning

    from napari_medseg.imaging.files import read_volumes
    from napari_medseg.imaging.mask_or_scan import has_few_values, may_be_mask
    from napari_medseg.widgets.scan_view import layer_arguments

    if path.is_file() and may_be_mask(path):
        labels = _read_labels(path, known)
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
        is_mask = file is not None and file.is_file() and (has_few_values(volume.data) or may_be_mask(file))
        mask = _read_labels(file, known) if file is not None and is_mask else []
        masks += mask
        if not mask:
            scans.append((volume.data, layer_arguments(volume), "image"))
    return [*scans, *masks]


def _read_labels(path: Path, scans: tuple[Volume, ...]) -> list[LayerTuple]:
    """Read a label map as a Labels layer; nothing where the file turns out to be a scan."""
    from napari.utils.notifications import show_warning

    from napari_medseg.imaging.mask_fit import fitted, read_mask_of, scan_of_mask
    from napari_medseg.imaging.mask_or_scan import is_surely_mask, looks_like_labels
    from napari_medseg.imaging.suffixes import stem_of
    from napari_medseg.widgets.labels_layer import label_map_arguments

    sure = is_surely_mask(path)
    try:
        label_map = read_mask_of(path, scans)
    except MedSegError:
        if sure:
            raise
        return []
    if not sure and not looks_like_labels(label_map.data):
        return []
    # A DICOM SEG leaves empty slices out: on its scan it covers the whole grid.
    scan = scan_of_mask(label_map, scans)
    label_map = (fitted(label_map, scan) if scan is not None else None) or label_map
    for warning in label_map.warnings:
        show_warning(warning)
    return [(label_map.data, label_map_arguments(label_map, name=stem_of(path)), "labels")]


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
