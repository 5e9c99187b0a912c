"""Keeps a journal of every open scan's work, and brings back what the last session did not save."""

from __future__ import annotations

import atexit
import json
import shutil
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.durable import write_bytes_durably
from napari_medseg.imaging.file_lock import FileLock
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.prompts import prompt_from, prompt_to
from napari_medseg.session.journal import Entry, Journal, Patch, Replay, is_empty, last_table, replay
from napari_medseg.session.labels import BoxEdit, values_in
from napari_medseg.session.lesions import Lesion, Proposal, Region, lesion_of, new_lesion
from napari_medseg.session.open import OpenController
from napari_medseg.session.work import Editor, ScanWork

KEPT = timedelta(days=30)
_BEGUN = "%Y%m%d-%H%M%S-%f"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Work of an earlier session that was neither exported nor accepted.

    Parameters
    ----------
    folder : Path
        Its journal.
    name, path : str, Path
        The scan's name, and where it was; no path for a scan that came from no file.
    fingerprint : str
        The scan's content in a few letters.
    when : datetime
        When it was begun.
    n_lesions : int
        Lesions in its table.
    """

    folder: Path
    name: str
    path: Path | None
    fingerprint: str
    when: datetime
    n_lesions: int


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """The journal of a scan's work, the model's answers in it, and the locks on it and on those it took over."""

    journal: Journal
    locks: list[FileLock]
    answers: dict[int, Proposal] = field(default_factory=dict)

    def take_over(self, folder: Path, lock: FileLock) -> None:
        """Remove the journal that this one holds everything of, once that is on the disk."""
        self.locks.append(lock)
        self.journal.when_safe(partial(_remove, folder, lock))

    def close(self) -> None:
        self.journal.close()
        for lock in self.locks:
            lock.release()


class RecoveryController:
    """Writes the journals and reads those that are left from before.

    Parameters
    ----------
    editor : Editor
        Tells of every step.
    opening : OpenController
        Opens the scan that unsaved work belongs to.
    root : Path
        Folder of all journals.
    post : callable
        Runs a function on the caller's thread.
    """

    def __init__(
        self, editor: Editor, opening: OpenController, root: Path, *, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self.editor, self.session, self.opening, self.root, self._post = editor, editor.session, opening, root, post
        self._journals: dict[ScanWork, _Kept] = {}
        self._wanted: Unsaved | None = None
        editor.stepped.connect(self._on_stepped)
        for event in (self.session.events.lesions, self.session.events.reviewed):
            event.connect(self._on_table)
        self.session.events.volume.connect(self._on_volume)
        opening.closed.connect(self._on_closed)
        atexit.register(_close, weakref.ref(self))
        self.look()

    def look(self) -> None:
        """Look for unsaved work of sessions that ended; what was saved or is empty is cleared away.

        What cannot be read stays where it is: it may hold work, and another time it may be read.
        """
        found = []
        for folder in sorted(self.root.glob("*/")) if self.root.is_dir() else ():
            try:
                if FileLock(folder / "alive").is_held_by_somebody():
                    continue
                unsaved = read_unsaved(folder)
            except _UNREADABLE:
                continue
            if unsaved is None or _is_forgotten(unsaved):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                found.append(unsaved)
        self.session.unsaved = tuple(sorted(found, key=lambda each: each.when, reverse=True))

    def recover(self, unsaved: Unsaved) -> None:
        """Open the scan of some unsaved work and bring the work back."""
        volume = self.session.volume
        if volume is not None and self.editor.work.fingerprint == unsaved.fingerprint:
            self._bring_back(unsaved)
        elif unsaved.path is not None and unsaved.path.exists():
            self._wanted = unsaved
            self.opening.open(unsaved.path)
        else:
            self.session.message = f"The scan '{unsaved.name}' is not where it was: open it, then press Recover again."

    def discard(self, unsaved: Unsaved) -> None:
        """Forget some unsaved work for good."""
        shutil.rmtree(unsaved.folder, ignore_errors=True)
        self._withdraw(unsaved)

    def note_saved(self, work: ScanWork) -> None:
        """Remember that the work is saved elsewhere, unless it went on meanwhile."""
        if work in self._journals and work.saved is work.history.last:
            self._append(work, (), is_saved=True)

    def close(self) -> None:
        """Write everything that waits."""
        journals, self._journals = self._journals, {}
        for kept in journals.values():
            kept.close()

    def _bring_back(self, unsaved: Unsaved) -> None:
        lock = FileLock(unsaved.folder / "alive")
        try:
            if _is_taken(unsaved.folder, lock):
                self._merge(unsaved)
                self._kept_of(self.editor.work).take_over(unsaved.folder, lock)
            else:
                lock.release()
                there = "is no longer there: another window has it."
                self.session.message = f"The unsaved work on '{unsaved.name}' {there}"
            self._withdraw(unsaved)
        except (OSError, MedSegError) as error:
            lock.release()
            self.session.message = f"The unsaved work on '{unsaved.name}' cannot be brought back: {error}"

    def _merge(self, unsaved: Unsaved) -> None:
        """Put what was recovered beside what was marked since, as one undoable step."""
        work = self.editor.work
        found = replay(unsaved.folder, work.volume.data.shape)
        if not found.n_entries:
            raise MedSegError("nothing in its journal can be read.")
        self.editor.absorb()
        before, n_before = self.editor.table, len(self.session.lesions)
        lesions, labels = _renumbered(found, before.lesions)
        edit = _loaded(work, found, labels)
        self.session.lesions = lesions
        self.session.active_label = int(labels[int(found.table.get("active", 1))]) or before.active_label
        self.session.reviewed |= {int(index) for index in found.table.get("reviewed", ())}
        self.editor.step("recovery", edit, before=before)
        beside = ", beside what was marked since" if n_before else ""
        lost = f" {found.n_damaged} entries were damaged and left out." if found.n_damaged else ""
        self.session.message = f"Recovered: {len(lesions) - n_before} lesions of '{unsaved.name}'{beside}.{lost}"

    def _withdraw(self, unsaved: Unsaved) -> None:
        self.session.unsaved = tuple(each for each in self.session.unsaved if each is not unsaved)

    def _on_volume(self, volume: Volume | None) -> None:
        wanted, self._wanted = self._wanted, None
        if volume is None or wanted is None:
            return
        if self.editor.work.fingerprint != wanted.fingerprint:
            self.session.message = f"'{wanted.name}' is no longer the scan that the unsaved work was done on."
            return
        self._bring_back(wanted)

    def _on_closed(self, work: ScanWork) -> None:
        """Another scan never writes into this journal, and another window may offer what is in it."""
        kept = self._journals.pop(work, None)
        if kept is not None:
            kept.close()

    def _on_stepped(self, work: ScanWork, regions: tuple[Region, ...]) -> None:
        self._append(work, regions)

    def _on_table(self) -> None:
        work = self.session.work
        # The volume is assigned last: until then the table is that of the scan before.
        if work is not None and work in self._journals and self.session.volume is work.volume:
            self._append(work, ())

    def _append(self, work: ScanWork, regions: tuple[Region, ...], *, is_saved: bool = False) -> None:
        now, kept = self.editor.table_of(work), self._kept_of(work)
        table = {
            "lesions": [lesion_to(lesion) for lesion in now.lesions],
            "active": now.active_label,
            "reviewed": sorted(self.editor.reviewed_of(work)),
            "saved": is_saved,
        }
        labels = work.labels
        patches = tuple(Patch(box, labels.data[box].copy(), labels.locked[box].copy()) for box in regions)
        answers = ((lesion.label, lesion.proposal) for lesion in now.lesions)
        new = tuple((k, answer) for k, answer in answers if answer is not None and kept.answers.get(k) is not answer)
        kept.answers.update(new)
        kept.journal.append(Entry(table, patches, proposals=new))

    def _kept_of(self, work: ScanWork) -> _Kept:
        if work not in self._journals:
            now = datetime.now()
            folder = self.root / f"{work.fingerprint}-{now:{_BEGUN}}"
            journal = Journal(folder, work.volume.data.shape, on_failed=self._on_failed)
            self._journals[work] = kept = _Kept(journal, [FileLock(folder / "alive")])
            try:
                folder.mkdir(parents=True, exist_ok=True)
                kept.locks[0].hold()
                _describe(folder, work, now)
            except (OSError, MedSegError) as error:
                self._on_failed(error)
        return self._journals[work]

    def _on_failed(self, error: Exception) -> None:
        sentence = (
            f"Your work is not journalled any more ({getattr(error, 'strerror', None) or error}): export it soon."
        )
        self._post(lambda: setattr(self.session, "message", sentence))


def read_unsaved(folder: Path) -> Unsaved | None:
    """Return what a journal says of itself; None where nothing is unsaved in it.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If it cannot be read.
    """
    table = last_table(folder)
    if not table and not is_empty(folder):
        raise ValueError("no entry of the journal can be read")
    if not table or table.get("saved") or not (table["lesions"] or table["reviewed"]):
        return None
    about = _about(folder)
    return Unsaved(
        folder,
        str(about["name"]),
        Path(about["path"]) if about["path"] else None,
        str(about["fingerprint"]),
        datetime.fromisoformat(about["begun"]),
        len(table["lesions"]),
    )


def _about(folder: Path) -> dict[str, Any]:
    """Return which scan a journal belongs to; where that was lost, what the folder's name still says of it."""
    try:
        return dict(json.loads((folder / "about.json").read_text()))
    except (OSError, ValueError):
        scan, *begun = folder.name.rsplit("-", 3)
        when = datetime.strptime("-".join(begun), _BEGUN)
        return {"name": "", "path": None, "fingerprint": scan, "begun": when.isoformat(timespec="seconds")}


def _is_forgotten(unsaved: Unsaved) -> bool:
    """Whether it is old work on a scan that is known to come from no file: nobody can open it again by its path."""
    return bool(unsaved.name) and unsaved.path is None and datetime.now() - unsaved.when > KEPT


def _renumbered(found: Replay, there: tuple[Lesion, ...]) -> tuple[tuple[Lesion, ...], NDArray[np.uint8]]:
    """Return the lesions that are there and the recovered ones beside them, and which label each of these has now."""
    plain = {
        lesion.label: lesion
        for each in found.table.get("lesions", ())
        for lesion in [lesion_from(each, found.proposals)]
    }
    lesions, labels = list(there), np.zeros(256, np.uint8)
    for label in dict.fromkeys([*plain, *values_in(found.labels)]):
        fresh = new_lesion(lesions, label=None if lesion_of(lesions, label) else label)
        lesion = plain.get(label, fresh)
        if fresh.label != label:
            lesion = replace(lesion, label=fresh.label, colour=fresh.colour)
        if lesion.name in {each.name for each in there}:
            lesion = replace(lesion, name=f"{lesion.name} (recovered)")
        lesions.append(lesion)
        labels[label] = lesion.label
    return tuple(lesions), labels


def _loaded(work: ScanWork, found: Replay, labels: NDArray[np.uint8]) -> BoxEdit | None:
    """Write what was recovered over what is there; what was erased then takes nothing away that was marked since."""
    region = filled_box((found.labels > 0) | found.locked)
    if region is None:
        return None
    data, locked = work.labels.data[region], work.labels.locked[region]
    marked = found.labels[region] > 0
    free = marked | (data == 0)
    locks = np.where(free, found.locked[region] | (locked & ~marked), locked)
    return work.labels.load(np.where(marked, labels[found.labels[region]], data), region, locks)


def _is_taken(folder: Path, lock: FileLock) -> bool:
    """Take a journal for this window alone; whether it is still there."""
    try:
        return lock.hold() and folder.is_dir()
    except FileNotFoundError:
        return False


def _remove(folder: Path, lock: FileLock) -> None:
    """Remove a journal before the lock on it is given back: who takes it then finds it gone."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)  # Windows keeps a file that is open


def lesion_to(lesion: Lesion) -> dict[str, Any]:
    """Return a lesion as JSON holds it: of the model's own answer, whether there is one."""
    plain = {key: getattr(lesion, key) for key in ("label", "name", "colour", "visible", "locked")}
    plain["proposed"] = lesion.proposal is not None
    return {**plain, "prompts": [prompt_to(each) for each in lesion.prompts]}


def lesion_from(plain: dict[str, Any], proposals: Mapping[int, Proposal] | None = None) -> Lesion:
    """Return the lesion that JSON holds, with the model's own answer where that is among the proposals."""
    prompts = tuple(prompt_from(each) for each in plain.get("prompts", ()))
    looks = {key: plain[key] for key in ("label", "name", "colour", "visible", "locked")}
    proposal = (proposals or {}).get(int(looks["label"])) if plain.get("proposed") else None
    return Lesion(**looks, prompts=prompts, proposal=proposal)


def _describe(folder: Path, work: ScanWork, now: datetime) -> None:
    path = work.volume.path
    about = {
        "name": work.volume.name,
        "path": str(path.absolute()) if path is not None else None,
        "fingerprint": work.fingerprint,
        "begun": now.isoformat(timespec="seconds"),
    }
    write_bytes_durably(folder / "about.json", (json.dumps(about, indent=2) + "\n").encode())


def _close(reference: weakref.ref[RecoveryController]) -> None:
    controller = reference()
    if controller is not None:
        controller.close()
