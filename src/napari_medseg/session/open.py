"""Opens scans: reads them beside the window, keeps the work done on each, and takes over what others opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from psygnal import Signal

from napari_medseg.errors import ImagingError, MedSegError
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.mask_fit import fitted, misfit, resampled, scan_of_mask
from napari_medseg.imaging.orientation import acquisition_axis, same_grid
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.history import Table
from napari_medseg.session.labels import values_in
from napari_medseg.session.lesions import Region, new_lesion
from napari_medseg.session.offers import Offer, offer_of_volume
from napari_medseg.session.reading import make_sample, read_mask, read_offer, read_path
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job
from napari_medseg.session.sources import fingerprint
from napari_medseg.session.stage import belong_together, distinct_names
from napari_medseg.session.work import Editor, ScanWork


@dataclass(frozen=True, slots=True, eq=False)
class Misfit:
    """A mask that lies on no open scan.

    Parameters
    ----------
    label_map : LabelMap
        The mask, on its own grid.
    work : ScanWork
        The scan that was open.
    reason : str
        Why it does not lie there, with both grids.
    """

    label_map: LabelMap
    work: ScanWork
    reason: str


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

    Attributes
    ----------
    closed : Signal
        Emits the ScanWork of a scan that was closed.
    """

    closed = Signal(object)

    def __init__(self, editor: Editor, runner: Runner, *, failures: Failures | None = None) -> None:
        self.editor, self.session = editor, editor.session
        self._runner, self._failures = runner, failures or Failures()
        self.works: tuple[ScanWork, ...] = ()
        self._of_offers: dict[int, Volume] = {}
        self._reading: Job | None = None
        self._waiting: tuple[Path, ...] = ()

    @property
    def is_reading(self) -> bool:
        """Whether a file is being read."""
        return self._reading is not None

    @property
    def scans(self) -> tuple[Volume, ...]:
        """All open scans, oldest first."""
        return tuple(work.volume for work in self.works)

    def name_of(self, volume: Volume) -> str:
        """What an open scan is called, with its folder where another one is called the same."""
        names = zip(self.scans, distinct_names(self.scans), strict=True)
        return next((name for scan, name in names if scan is volume), "The scan")

    @property
    def is_choosing(self) -> bool:
        """Whether scans are offered and none of them is the open one."""
        opened = self._of_offers.values()
        return bool(self.session.offers) and not any(volume is self.session.volume for volume in opened)

    def is_open(self, offer: Offer) -> bool:
        """Whether an offered scan is open."""
        volume = self._of_offers.get(id(offer))
        return any(scan is volume for scan in self.scans)

    def open(self, path: Path) -> None:
        """Read a file or folder: one scan opens at once, several are offered, a mask goes onto the open scan.

        While another one is being read it waits for its turn.
        """
        if self.is_reading:
            self._waiting = (*self._waiting, path)
            return
        self._submit(f"Reading {path.name}", partial(read_path, path, self.scans), self._on_read)

    def open_offer(self, offer: Offer) -> None:
        """Read one of the scans that the last path offered and open it."""
        if offer.refusal:
            self.session.message = offer.refusal
            return
        known = self._of_offers.get(id(offer))
        if known is not None and self.is_open(offer):
            self.choose(known)
            return
        self._submit(f"Reading {offer.name}", partial(read_offer, offer), partial(self._on_offer, offer))

    def open_sample(self) -> None:
        """Make the sample scan and open it."""
        self._submit("Making the sample", make_sample, self._on_read)

    def open_mask(self, path: Path) -> None:
        """Read a mask and take its labels over as lesions of the scan that it lies on."""
        if not self._has_scan():
            return
        self._submit(f"Reading {path.name}", partial(read_mask, path, self.scans), self._on_read)

    def take_mask(self, label_map: LabelMap) -> None:
        """Take the labels of a mask over as lesions of the open scan that it lies on, voxel for voxel.

        Where it lies on none of them nothing is moved: ``session.misfit`` asks what to do.
        """
        if not self._has_scan():
            return
        current = self.editor.work.volume
        others = [scan for scan in self.scans if scan is not current]
        scan = scan_of_mask(label_map, (current, *others))
        if scan is None:
            self.session.misfit = Misfit(label_map, self.editor.work, misfit(label_map, current))
            self.session.message = "Not taken over yet: the mask does not lie on the scan."
            return
        placed = fitted(label_map, scan)
        assert placed is not None
        self.choose(scan)
        self._take(placed, self.editor.work, "voxel for voxel")

    def answer_misfit(self, method: str) -> None:
        """Resample the mask that does not fit onto the open scan ("nearest", "smooth"), or leave it ("")."""
        asked, self.session.misfit = self.session.misfit, None
        if asked is None or not method:
            self.session.message = "The mask was left out."
            return
        if self.session.work is not asked.work:
            self.session.message = "Another scan is open now: open the mask again."
            return
        how = "resampled to the nearest label" if method == "nearest" else "resampled smoothly"
        self._submit(
            "Resampling the mask",
            lambda _ticket: resampled(asked.label_map, asked.work.volume, method),
            lambda label_map: self._take(label_map, asked.work, how),
        )

    def _has_scan(self) -> bool:
        if self.session.work is None:
            self.session.message = "That is a mask: open its scan first, then the mask."
        return self.session.work is not None

    def _submit(self, name: str, work: Callable[[Ticket], Any], done: Callable[[Any], None]) -> None:
        job = Job(name, cancel=self.cancel)
        self.session.busy = self._reading = job
        self._runner.submit(
            work,
            done=partial(self._deliver, job, done),
            failed=partial(self._on_failed, job),
            on_progress=partial(self._on_progress, job),
            dropped=partial(self._on_dropped, job),
        )

    def _deliver(self, job: Job, done: Callable[[Any], None], result: Any) -> None:
        self._end(job)
        done(result)
        self._open_next()

    def _on_dropped(self, job: Job) -> None:
        self._end(job)
        self._open_next()

    def _end(self, job: Job) -> None:
        """Nothing is being read any more, unless another file took the place of this one."""
        if self._reading is not job:
            return
        self._reading = None
        if self._shows(job):
            self.session.busy = None

    def _open_next(self) -> None:
        if self._waiting and not self.is_reading:
            path, *rest = self._waiting
            self._waiting = tuple(rest)
            self.open(path)

    def _on_progress(self, job: Job, fraction: float) -> None:
        if self.session.busy is None or self._shows(job):
            self.session.busy = job.at(fraction)

    def _shows(self, job: Job) -> bool:
        return self.session.busy is not None and self.session.busy.name == job.name

    def cancel(self) -> None:
        """Stop waiting for the file that is being read."""
        self._waiting = ()
        job = self._reading
        if job is not None and self._runner.cancel():
            self._end(job)
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
        before, waits = self.session.volume, ""
        if before is not None and not belong_together(before, volume):
            waits = f" '{self.name_of(before)}' waits in the list of scans."
        self.session.message = f"{self.name_of(volume)} is open: click on the lesion.{waits}"
        self._turn_to(work)

    def close(self, volume: Volume) -> None:
        """Forget a scan (its work stays in the journal); another open scan takes its place."""
        closed = [work for work in self.works if work.volume is volume]
        self.works = tuple(work for work in self.works if work.volume is not volume)
        if self.session.volume is volume:
            self.session.message = f"{volume.name or 'The scan'} is closed."
            self._turn_to(self.works[-1] if self.works else None)
        for work in closed:
            self.closed.emit(work)

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
        region = filled_box(label_map.data)
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
        session.busy = session.misfit = None
        session.work = work
        table = work.table if work is not None else Table((), 1)
        session.active_label = table.active_label
        session.reviewed = work.reviewed if work is not None else frozenset()
        session.lesions = table.lesions
        session.volume = work.volume if work is not None else None

    def _on_read(self, found: tuple[Volume, ...] | tuple[Offer, ...] | LabelMap) -> None:
        if isinstance(found, LabelMap):
            self.take_mask(found)
            return
        first = found[0]
        if isinstance(first, Volume):
            self.session.offers = ()
            self.choose(first)
            return
        self._of_offers.clear()
        self.session.offers = cast("tuple[Offer, ...]", found)
        self.session.message = f"{len(found)} scans found: choose one."

    def _on_offer(self, offer: Offer, volumes: tuple[Volume, ...]) -> None:
        if len(volumes) > 1:
            self.session.offers = tuple(offer_of_volume(volume) for volume in volumes)
            self.session.message = f"{len(volumes)} frames found: choose one."
            return
        self._of_offers[id(offer)] = volumes[0]
        self.choose(volumes[0])

    def _take(self, label_map: LabelMap, work: ScanWork, how: str) -> None:
        if self.session.work is not work:
            return
        before = {lesion.label for lesion in self.session.lesions}
        try:
            self.load(label_map, work)
        except MedSegError as error:
            self.session.message = str(error)
            return
        n_new = sum(lesion.label not in before for lesion in self.session.lesions)
        name = label_map.path.name if label_map.path is not None else "the mask"
        notes = "".join(f" {warning}" for warning in label_map.warnings)
        self.session.message = f"{_n_lesions(n_new)} taken over from {name}, {how}.{notes}"

    def _on_failed(self, job: Job, error: Exception) -> None:
        self._end(job)
        self.session.message = explain(error)
        self._failures.report(error)
        self._open_next()


def _n_lesions(n: int) -> str:
    return "1 lesion" if n == 1 else f"{n} lesions"
