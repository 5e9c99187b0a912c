"""Keeps the scans of one viewer over each other: the open scan along its own axes, all others along those too.

napari slices layers along the axes of its world alone, so a scan that is turned against the open one cannot be shown
from its own voxels. It is resampled for display; its own voxels stay what models, masks and exports work on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_medseg.imaging.dicom.source import dicom_source
from napari_medseg.imaging.frames import frame_of, place_in, turned_into
from napari_medseg.session.runner import Runner, Ticket
from napari_medseg.widgets.scan_layers import SUFFIX, volume_of
from napari_medseg.widgets.stage import Shown
from napari_medseg.widgets.windows import modality_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_medseg.imaging.volume import Volume

PET_COLORMAP, PET_OPACITY = "inferno", 0.5


class Overlay:
    """Places the layers of open scans.

    Parameters
    ----------
    viewer : ViewerModel
        Whose layers they are.
    runner : Runner
        Where scans are resampled for display.
    say : callable
        Told, in one sentence, what is going on.
    """

    def __init__(self, viewer: ViewerModel, runner: Runner, say: Callable[[str], None]) -> None:
        self.viewer, self._runner, self._say = viewer, runner, say
        self._frame: NDArray[np.float64] = np.eye(3)
        self._hidden: dict[int, bool] = {}

    def turn_to(self, volume: Volume, scans: Sequence[Shown]) -> None:
        """Show a scan along its own axes and on top, and every other one where it lies against it."""
        self._frame = frame = frame_of(volume.affine)
        turned = []
        for shown in scans:
            placed = place_in(shown.volume, frame)
            if placed is not None:
                self._show_own(shown, placed)
            elif not _is_along(shown.image, frame):
                self._hide(shown.image)
                turned.append(shown)
            if shown.labels is not None and placed is None:
                self._hide(shown.labels)  # lesions are painted on their own voxels alone
        self._raise(volume, scans)
        strange = [shown.volume.name for shown in scans if _is_of_another_frame(shown.volume, volume)]
        if strange:
            self._say(
                f"'{strange[0]}' and '{volume.name}' have different frames of reference: they are shown by their own "
                "millimetres, which need not mean the same place in the patient."
            )
        self._runner.cancel()
        if turned:
            names = ", ".join(f"'{shown.volume.name}'" for shown in turned)
            self._say(f"Resampling {names} for display over '{volume.name}'…")
            self._runner.submit(
                partial(_resample, [shown.volume for shown in turned], frame),
                done=partial(self._show_resampled, frame, turned),
                failed=lambda error: self._say(f"{names} cannot be shown over '{volume.name}': {error}"),
            )

    def _show_own(self, shown: Shown, placed: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
        own = shown.image.metadata.get("napari_medseg", {})
        if own.pop("shown", None) is not None:
            _fill(shown.image, shown.volume.data, placed)
            shown.image.name = shown.image.name.removesuffix(SUFFIX)
        for layer in (shown.image, shown.labels):
            if layer is not None and layer.ndim == 3:
                _move(layer, placed)
                self._reveal(layer)

    def _show_resampled(self, frame: NDArray[np.float64], scans: list[Shown], resampled: list[Volume]) -> None:
        if frame is not self._frame:
            return
        for shown, volume in zip(scans, resampled, strict=True):
            placed = place_in(volume, frame)
            if placed is None or shown.image not in self.viewer.layers:
                continue
            shown.image.metadata.setdefault("napari_medseg", {})["shown"] = volume
            _fill(shown.image, volume.data, placed)
            shown.image.name = shown.image.name.removesuffix(SUFFIX) + SUFFIX
            self._reveal(shown.image)
            self._say(f"'{shown.volume.name}' lies turned against the open scan: it is resampled, for display only.")

    def _hide(self, layer: Image | Labels) -> None:
        self._hidden.setdefault(id(layer), layer.visible)
        layer.visible = False

    def _reveal(self, layer: Image | Labels) -> None:
        if id(layer) in self._hidden:
            layer.visible = self._hidden.pop(id(layer))

    def _raise(self, volume: Volume, scans: Sequence[Shown]) -> None:
        """Lay all scans under the lesions: the open one over the other opaque ones, PET over it as a glow."""
        images = [shown.image for shown in scans if shown.image in self.viewer.layers]
        anatomy = [layer for layer in images if not _is_pet(layer)]
        pets = [layer for layer in images if _is_pet(layer)]
        if len(images) < 2:
            return
        if anatomy:
            for layer in pets:
                _glow(layer)
        opaque, glowing = (anatomy, pets) if anatomy else (pets, [])
        ordered = sorted(opaque, key=lambda layer: volume_of(layer) is volume)
        for wanted, layer in enumerate([*ordered, *glowing]):
            at = self.viewer.layers.index(layer)
            if at != wanted:
                self.viewer.layers.move(at, wanted)


def _is_of_another_frame(a: Volume, b: Volume) -> bool:
    """Whether two DICOM scans say that their positions are not to be compared."""
    sources = dicom_source(a.metadata), dicom_source(b.metadata)
    frames = {source.frame_of_reference_uid for source in sources if source is not None} - {""}
    return len(frames) > 1


def _is_pet(layer: Image) -> bool:
    volume = volume_of(layer)
    return volume is not None and modality_of(volume) == "PT"


def _glow(layer: Image) -> None:
    """Let the anatomy be seen under a PET; once, so that the user's own choice stays."""
    own = layer.metadata["napari_medseg"]
    if not own.get("glows"):
        own["glows"] = True
        layer.colormap, layer.blending, layer.opacity = PET_COLORMAP, "additive", PET_OPACITY


def _is_along(image: Image, frame: NDArray[np.float64]) -> bool:
    """Whether a layer already shows what was resampled along a frame."""
    shown = image.metadata.get("napari_medseg", {}).get("shown")
    return shown is not None and place_in(shown, frame) is not None


def _fill(image: Image, data: NDArray[Any], placed: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    limits, reach = image.contrast_limits, image.contrast_limits_range
    image.data = data
    _move(image, placed)
    image.contrast_limits_range, image.contrast_limits = reach, limits


def _move(layer: Image | Labels, placed: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    scale, translate = placed
    if not (np.allclose(layer.scale, scale) and np.allclose(layer.translate, translate)):
        layer.scale, layer.translate = scale, translate


def _resample(volumes: list[Volume], frame: NDArray[np.float64], ticket: Ticket) -> list[Volume]:
    """Runs in the worker."""
    return [turned_into(volume, frame, should_stop=ticket.should_stop) for volume in volumes]
