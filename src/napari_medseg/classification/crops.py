"""What a classifier sees: crops in millimetres round a lesion, whole 2-D images, the slices of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medseg.classification.subject import Subject
from napari_medseg.errors import ModelError
from napari_medseg.imaging.orientation import acquisition_axis
from napari_medseg.imaging.view import (
    Floats,
    View,
    draw_ramp,
    intensity_window,
    narrow_window,
    normalise,
    paste,
    sample,
    sample_slices,
    valid,
)
from napari_medseg.imaging.volume import Volume
from napari_medseg.models.card import ClassifierInput
from napari_medseg.networks.channels import BOX, IMAGE, N_CHANNELS, POSITIVE, PREVIOUS, VALID, WINDOW

_WINDOW_RANGE = (-6.0, 10.0)
_LEAST_OWN_MM, _OWN_MARGIN = 24.0, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a view or a slice of it lies.

    Parameters
    ----------
    scan : int
        Which scan of the subject.
    view : View
        Where, in the scan's array with `axis` moved to the front.
    axis : int
        Axis of the scan's array that its slices are counted along.
    index : int, optional
        Which slice; None where the view is a cube.
    """

    scan: int
    view: View
    axis: int = 0
    index: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A network's input for one subject.

    Parameters
    ----------
    inputs : ndarray of float32
        (7, N, N, N) for a lesion, (7, N, N) for an image or a lesion in one, (S, 7, N, N) for a study's slices.
    places : tuple of Place
        Where it lies; of a study one a slice.
    kinds : tuple of int
        Of a study: which of the classifier's inputs each slice belongs to.
    """

    inputs: Floats
    places: tuple[Place, ...]
    kinds: tuple[int, ...] = ()


def crop(subject: Subject, looks_at: ClassifierInput, *, dims: int = 3) -> Crop:
    """Make a network's input.

    Parameters
    ----------
    subject : Subject
        What is classified.
    looks_at : ClassifierInput
        What the classifier learned on.
    dims : int
        Dimensions of its network.

    Raises
    ------
    ModelError
        If the subject is of another kind or dimensionality than the model learned, or holds values that are no numbers.
    """
    check_kind(subject, looks_at, dims)
    if looks_at.task == "study":
        made = _study(subject, looks_at)
    else:
        made = _flat(subject, looks_at) if dims == 2 else _cube(subject, looks_at)
    if not np.isfinite(made.inputs).all():
        raise ModelError(f"'{subject.scans[0].name}' holds values that are not numbers: export it again without them")
    return made


def check_kind(subject: Subject, looks_at: ClassifierInput, dims: int) -> None:
    """Refuse what a classifier cannot look at.

    Raises
    ------
    ModelError
        With what it is and what the classifier needs.
    """
    scan, n_slices = subject.scans[0], min(subject.scans[0].data.shape)
    name = f"'{scan.name}'" if scan.name else "the scan"
    if looks_at.task == "lesion" and not subject.is_lesion:
        raise ModelError("this model looks at lesions: mark one, or click on it")
    if looks_at.task != "study" and len(subject.scans) > 1:
        raise ModelError(f"this model looks at one scan and got {len(subject.scans)}: choose one of them")
    if looks_at.task == "study":
        if len(subject.scans) == 1 and n_slices == 1 and not looks_at.single_slices:
            raise ModelError(
                f"this model learned stacks of slices and {name} is a single 2-D image: open all of its scan's slices"
            )
        return
    if dims == 2 and n_slices > 1:
        raise ModelError(f"this model learned single 2-D images and {name} has {n_slices} slices: open one image")
    if dims == 3 and n_slices == 1:
        raise ModelError(f"this model learned volumes and {name} is a single 2-D image: open a volume")


def view_extent_mm(diameter_mm: float) -> float:
    """Side of the cube in which a lesion of some diameter is seen at its own size."""
    return max(_LEAST_OWN_MM, _OWN_MARGIN * diameter_mm)


def place_back(values: Floats, crop: Crop, scan: Volume, which: int = 0) -> NDArray[np.float32]:
    """Bring values of a crop's points onto the grid of its scan.

    Parameters
    ----------
    values : ndarray of float32
        (N, N, N), (N, N) or, of a study, (S, N, N).
    crop : Crop
        Where they lie.
    scan : Volume
        The scan.
    which : int
        Of a study: which scan that is.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        0 where the crop does not reach; slices of a study that were left out take the nearest one's values.
    """
    place = crop.places[0]
    if place.index is None:
        out = np.zeros(scan.data.shape, np.float32)
        found, region = paste(values, place.view, scan.data.shape, scan.spacing_mm)
        out[region] = found
        return out
    flat = values[None] if values.ndim == 2 else values
    chosen = [k for k, p in enumerate(crop.places) if p.scan == which]
    axis = crop.places[chosen[0]].axis
    shape, spacing = _moved(scan.data.shape, axis), _moved(scan.spacing_mm, axis)
    at = np.array([crop.places[k].index for k in chosen])
    moved = np.zeros(shape, np.float32)
    for index in range(shape[0]):
        k = chosen[int(np.abs(at - index).argmin())]
        view = crop.places[k].view
        cube = np.broadcast_to(flat[k], (view.size, *flat[k].shape))
        found, region = paste(cube, View(view.centre, view.extent_mm, view.size), (1, *shape[1:]), spacing)
        moved[(slice(index, index + 1), *region[1:])] = found
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis))


def _cube(subject: Subject, looks_at: ClassifierInput) -> Crop:
    scan, spacing = subject.scans[0], subject.scans[0].spacing_mm
    extent = looks_at.extent_mm or float(max(n * s for n, s in zip(scan.data.shape, spacing, strict=True)))
    diameter = subject.diameter_mm() if looks_at.own_size else None
    extent = extent if diameter is None else view_extent_mm(diameter)
    view = View(subject.centre(), extent, looks_at.size)
    out = np.zeros((N_CHANNELS, *[view.size] * 3), np.float32)
    out[VALID] = valid(scan.data.shape, view, spacing)
    image = sample(scan.data, view, spacing)
    _fill(out, image, subject, None if subject.mask is None else sample(subject.marked(), view, spacing))
    return Crop(out, (Place(0, view),))


def _flat(subject: Subject, looks_at: ClassifierInput) -> Crop:
    scan = subject.scans[0]
    axis = acquisition_axis(scan)
    data, spacing = np.moveaxis(scan.data, axis, 0), _moved(scan.spacing_mm, axis)
    centre = np.array(_moved(subject.centre(), axis))
    extent = looks_at.extent_mm if subject.is_lesion else None
    view = View(centre, extent or _widest(data.shape, spacing), looks_at.size)
    index = int(np.clip(round(centre[0]), 0, len(data) - 1))
    out = np.zeros((N_CHANNELS, 1, view.size, view.size), np.float32)
    out[VALID] = _valid_slice(data.shape, view, spacing)
    marked = None
    if subject.mask is not None:
        marked = sample_slices(np.moveaxis(subject.marked(), axis, 0), [index], view, spacing)
    _fill(out, sample_slices(data, [index], view, spacing), subject, marked)
    return Crop(out[:, 0], (Place(0, view, axis, index),))


def _study(subject: Subject, looks_at: ClassifierInput) -> Crop:
    stacks: list[Floats] = []
    places: list[Place] = []
    kinds: list[int] = []
    for number, scan in enumerate(subject.scans):
        axis = acquisition_axis(scan)
        data, spacing = np.moveaxis(scan.data, axis, 0), _moved(scan.spacing_mm, axis)
        view = View((np.array(data.shape) - 1) / 2, _widest(data.shape, spacing), looks_at.size)
        chosen = np.unique(np.linspace(0, len(data) - 1, min(len(data), looks_at.n_slices)).round().astype(int))
        out = np.zeros((len(chosen), N_CHANNELS, view.size, view.size), np.float32)
        out[:, VALID] = _valid_slice(data.shape, view, spacing)
        kind = _kind(subject.scans, number, looks_at)
        window = looks_at.windows[kind] if kind < len(looks_at.windows) else None
        _fill_whole(out.swapaxes(0, 1), sample_slices(data, chosen.tolist(), view, spacing), window)
        stacks.append(out)
        places += [Place(number, view, axis, int(index)) for index in chosen]
        kinds += [kind] * len(chosen)
    return Crop(np.concatenate(stacks), tuple(places), tuple(kinds))


def _kind(scans: Sequence[Volume], number: int, looks_at: ClassifierInput) -> int:
    """Which of the classifier's inputs a scan is: by modality, and among those by its place in the list."""
    scan = scans[number]
    alike = [k for k, modality in enumerate(looks_at.inputs) if modality == scan.modality]
    if alike:
        before = sum(other.modality == scan.modality for other in scans[:number])
        return alike[min(before, len(alike) - 1)]
    if scan.modality and looks_at.inputs and all(looks_at.inputs):
        known = ", ".join(looks_at.inputs)
        raise ModelError(f"this model learned studies of {known}, and '{scan.name}' is {scan.modality}: leave it out")
    return min(number, max(0, len(looks_at.inputs) - 1))


def _fill(out: Floats, image: Floats, subject: Subject, marked: Floats | None) -> None:
    """Image, window, mask and click channels of a view (7, D, N, N) whose middle is the subject's."""
    if not subject.is_lesion:
        _fill_whole(out, image)
        return
    out[IMAGE], scale = normalise(image, out[VALID])
    out[IMAGE] *= out[VALID]
    middle, deviation = _intensities(subject)
    out[WINDOW] = narrow_window(image, middle, deviation, scale) * out[VALID]
    if marked is not None:
        out[PREVIOUS] = marked
    draw_ramp(out[POSITIVE], (np.array(image.shape) - 1) / 2)


def _fill_whole(out: Floats, image: Floats, window: tuple[float, float] | None = None) -> None:
    """Image and window channels of what is looked at as a whole: one box round everything that is there.

    With a window (middle and deviation) intensities keep what they mean: a scan without anything bright stays dark.
    """
    inside = out[VALID]
    if window is None:
        out[IMAGE], scale = normalise(image, inside)
        middle = float(np.median(image[inside > 0])) if inside.any() else 0.0
    else:
        middle, scale = window
        out[IMAGE] = np.clip((image - middle) / scale, *_WINDOW_RANGE)
    out[IMAGE] *= inside
    out[WINDOW] = narrow_window(image, middle, scale / 3 if window is None else scale, scale) * inside
    out[BOX] = inside


def _intensities(subject: Subject) -> tuple[float, float]:
    """Median and robust deviation inside the lesion, or round the click."""
    scan = subject.scans[0]
    if subject.mask is None:
        return intensity_window(scan.data, subject.centre()[None], scan.spacing_mm)
    values = np.asarray(scan.data[subject.marked()], np.float32)
    middle = float(np.median(values))
    return middle, float(1.4826 * np.median(np.abs(values - middle)))


def _valid_slice(shape: tuple[int, ...], view: View, spacing: tuple[float, ...]) -> Floats:
    cube = valid(shape, View(view.centre, view.extent_mm, view.size), spacing)
    return np.asarray(cube.max(0))


def _widest(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    return float(max(n * s for n, s in zip(shape[1:], spacing[1:], strict=True)))


def _moved(values: tuple[float, ...] | NDArray[np.float64] | tuple[int, ...], axis: int) -> tuple:  # type: ignore[type-arg]
    """Values of the array's axes once `axis` was moved to the front."""
    return (values[axis], *(v for k, v in enumerate(values) if k != axis))
