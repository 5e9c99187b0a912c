"""Opens scans: reads them beside the window, keeps the work done on each, and takes over what others opened."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import Cancelled, ImagingError, MedSegError
from napari_medseg.imaging.orientation import acquisition_axis, same_grid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.history import Table
from napari_medseg.session.labels import bounding_region, values_in
from napari_medseg.session.lesions import Lesion, Region, new_lesion
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job
from napari_medseg.session.sources import fingerprint
from napari_medseg.session.work import Editor, ScanWork


class OpenController:
    """Opens, chooses, adopts and closes scans; each keeps its own lesions and history while it stays open.

    Parameters
    ----------
    editor : Editor
        Makes the undoable steps.
    runner : Runner
        Where files are read.
    failures : Failures, optional
        Where unexpected errors go.
    """

    def __init__(self, editor: Editor, runner: Runner, *, failures: Failures | None = None) -> None:
        self.editor, self.session = editor, editor.session
        self._runner, self._failures = runner, failures or Failures()
        self.works: tuple[ScanWork, ...] = ()

    @property
    def scans(self) -> tuple[Volume, ...]:
        """All open scans, oldest first."""
        return tuple(work.volume for work in self.works)

    def open(self, path: Path) -> None:
        """Read a file or folder; one scan opens at once, several are offered in ``session.volumes``."""
        self.session.busy = Job(f"Reading {path.name}", cancel=self.cancel)
        self._runner.submit(partial(_read, path), done=self._on_read, failed=self._on_failed)

    def open_sample(self) -> None:
        """Make the sample scan and open it."""
        self.session.busy = Job("Making the sample", cancel=self.cancel)
        self._runner.submit(_make_sample, done=self._on_read, failed=self._on_failed)

    def open_mask(self, path: Path) -> None:
        """Read a label map of the open scan's grid and take its labels over as lesions."""
        try:
            work = self.editor.work
        except MedSegError as error:
            self.session.message = str(error)
            return
        self.session.busy = Job(f"Reading {path.name}", cancel=self.cancel)
        self._runner.submit(partial(_read_mask, path), done=partial(self._on_mask, work), failed=self._on_failed)

    def cancel(self) -> None:
        """Stop waiting for the file that is being read."""
        if self._runner.cancel():
            self.session.busy = None
            self.session.message = "Stopped."

    def choose(self, volume: Volume) -> None:
        """Make a scan the one that is worked on; its lesions come back if it was open before."""
        if self.session.volume is volume:
            return
        work = next((each for each in self.works if each.volume is volume), None)
        if work is None:
            work = ScanWork(volume, acquisition_axis(volume))
            work.fingerprint = fingerprint(volume)
            self.works = (*self.works, work)
        self.session.message = f"{volume.name or 'The scan'} is open: click on the lesion."
        self._turn_to(work)

    def close(self, volume: Volume) -> None:
        """Forget a scan (its work stays in the journal); another open scan takes its place."""
        self.works = tuple(work for work in self.works if work.volume is not volume)
        if self.session.volume is not volume:
            return
        self.session.message = f"{volume.name or 'The scan'} is closed."
        self._turn_to(self.works[-1] if self.works else None)

    def load(self, label_map: LabelMap, work: ScanWork) -> None:
        """Take a label map over as lesions, as one undoable step.

        Raises
        ------
        ImagingError
            If it does not lie on the scan's grid.
        """
        if not same_grid(label_map, work.volume):
            raise ImagingError(
                f"The mask has shape {label_map.data.shape} or lies elsewhere, the scan has {work.volume.data.shape}: "
                "open the scan that it was drawn on."
            )
        if label_map.data.max(initial=0) > 255:
            raise ImagingError(f"The mask holds label {label_map.data.max()}, at most 255 can be edited.")
        region = bounding_region(label_map.data)
        if region is not None:
            self._load(label_map, region, values_in(label_map.data[region]), work)

    def _load(self, label_map: LabelMap, region: Region, values: list[int], work: ScanWork) -> None:
        before, lesions = self.editor.table, list(self.session.lesions)
        labels = np.zeros(int(np.iinfo(label_map.data.dtype).max) + 1, np.uint8)
        for value in values:
            free = value if all(lesion.label != value for lesion in lesions) else None
            lesion = new_lesion(lesions, label=free, name=label_map.names.get(value, ""))
            lesions.append(lesion)
            labels[value] = lesion.label
        self.session.lesions = tuple(lesions)
        data, locked = work.labels.data[region], work.labels.locked[region]
        loaded = np.where((data == 0) & ~locked, labels[label_map.data[region]], data)
        self.editor.step("open mask", work.labels.load(loaded, region), before=before)

    def _turn_to(self, work: ScanWork | None) -> None:
        session = self.session
        if session.work is not None:
            session.work.table, session.work.reviewed = self.editor.table, session.reviewed
        session.busy = None
        session.work = work
        table = work.table if work is not None else Table((), 1)
        session.active_label = table.active_label
        session.reviewed = work.reviewed if work is not None else frozenset()
        session.lesions = table.lesions
        session.volume = work.volume if work is not None else None

    def _on_read(self, volumes: tuple[Volume, ...]) -> None:
        self.session.busy = None
        if len(volumes) == 1:
            self.session.volumes = ()
            self.choose(volumes[0])
            return
        self.session.volumes = volumes
        self.session.message = f"{len(volumes)} scans found: choose one."

    def _on_mask(self, work: ScanWork, label_map: LabelMap) -> None:
        self.session.busy = None
        if self.session.work is not work:
            return
        try:
            self.load(label_map, work)
        except MedSegError as error:
            self.session.message = str(error)
            return
        self.session.message = f"{_n_lesions(self.session.lesions)} in the table."

    def _on_failed(self, error: Exception) -> None:
        self.session.busy = None
        self.session.message = explain(error)
        if not isinstance(error, MedSegError):
            self._failures.report(error)


def volume_of_array(
    data: NDArray[Any],
    *,
    scale: tuple[float, ...],
    translate: tuple[float, ...],
    name: str,
    has_units: bool,
) -> Volume:
    """Return a scan for an array that somebody put into the viewer.

    Parameters
    ----------
    data : ndarray, 2-D or 3-D
        The picture or stack.
    scale, translate : tuple of float
        The layer's own, one number an axis.
    name : str
        The layer's name.
    has_units : bool
        Whether the layer says that its scale is in millimetres.

    Raises
    ------
    ImagingError
        If it has another number of axes.
    """
    if data.ndim not in (2, 3):
        raise ImagingError(f"'{name}' has {data.ndim} axes: a scan has two or three.")
    pad = 3 - data.ndim
    z, y, x = (*(1.0,) * pad, *(abs(float(step)) or 1.0 for step in scale[-data.ndim :]))
    at_z, at_y, at_x = (*(0.0,) * pad, *(float(shift) for shift in translate[-data.ndim :]))
    affine = np.array([[0, 0, -x, -at_x], [0, -y, 0, -at_y], [z, 0, 0, at_z], [0, 0, 0, 1]], float)
    doubts = [] if has_units else ["Units unknown: the layer's scale is taken as millimetres."]
    doubts.append("Orientation unknown: the picture is taken as axial, patient right on the left.")
    stack = data.reshape((1,) * pad + data.shape)
    return Volume(stack, affine, name=name, warnings=tuple(doubts), sides_are_known=False)


def _read(path: Path, ticket: Ticket) -> tuple[Volume, ...]:
    """Runs in the worker."""
    from napari_medseg.imaging.files import read_volumes

    volumes = tuple(read_volumes(path))
    if ticket.should_stop():
        raise Cancelled("Stopped.")
    return volumes


def _make_sample(_ticket: Ticket) -> tuple[Volume, ...]:
    """Runs in the worker."""
    from napari_medseg.imaging.phantom import chest_ct

    return (chest_ct().volume,)


def _read_mask(path: Path, _ticket: Ticket) -> LabelMap:
    """Runs in the worker."""
    from napari_medseg.imaging.files import read_label_map

    return read_label_map(path)


def _n_lesions(lesions: tuple[Lesion, ...]) -> str:
    return "1 lesion" if len(lesions) == 1 else f"{len(lesions)} lesions"
