"""Keeps a journal of every open scan's work, and brings back what the last session did not save."""

from __future__ import annotations

import atexit
import json
import shutil
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.prompts import Box, Click, Prompt, Scribble
from napari_medseg.session.file_lock import FileLock
from napari_medseg.session.journal import Entry, Journal, Patch, last_table, replay
from napari_medseg.session.labels import bounding_region
from napari_medseg.session.lesions import Lesion, Proposal, Region
from napari_medseg.session.open import OpenController
from napari_medseg.session.work import Editor, ScanWork

KEPT = timedelta(days=30)
_KINDS: dict[str, type[Prompt]] = {"click": Click, "box": Box, "scribble": Scribble}


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
        self._journals: dict[int, tuple[Journal, FileLock]] = {}
        self._kept: dict[int, dict[int, Proposal]] = {}
        self._wanted: Unsaved | None = None
        editor.stepped.connect(self._on_stepped)
        for event in (self.session.events.lesions, self.session.events.reviewed):
            event.connect(self._on_table)
        self.session.events.volume.connect(self._on_volume)
        atexit.register(_close, weakref.ref(self))
        self.look()

    def look(self) -> None:
        """Look for unsaved work of sessions that ended; what was saved or is empty is cleared away."""
        found = []
        for folder in sorted(self.root.glob("*/")) if self.root.is_dir() else ():
            if FileLock(folder / "alive").is_held_by_somebody():
                continue
            unsaved = read_unsaved(folder)
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
        self.session.unsaved = tuple(each for each in self.session.unsaved if each is not unsaved)

    def note_saved(self, work: ScanWork) -> None:
        """Remember that what was done so far is saved elsewhere."""
        if id(work) in self._journals:
            self._append(work, (), is_saved=True)

    def close(self) -> None:
        """Write everything that waits."""
        journals, self._journals = self._journals, {}
        self._kept.clear()
        for journal, lock in journals.values():
            journal.close()
            lock.release()

    def _bring_back(self, unsaved: Unsaved) -> None:
        work = self.editor.work
        shape: tuple[int, int, int] = work.volume.data.shape
        found = replay(unsaved.folder, shape)
        before = self.editor.table
        lesions = tuple(lesion_from(each, found.proposals) for each in found.table.get("lesions", ()))
        region = bounding_region((found.labels > 0) | found.locked)
        self.session.lesions = lesions
        self.session.active_label = int(found.table.get("active", 1))
        self.session.reviewed = frozenset(int(index) for index in found.table.get("reviewed", ()))
        edit = None
        if region is not None:
            edit = work.labels.load(found.labels[region], region, found.locked[region])
        self.editor.step("recovery", edit, before=before)
        lost = f" {found.n_damaged} entries were damaged and left out." if found.n_damaged else ""
        self.session.message = f"Recovered: {len(lesions)} lesions of '{unsaved.name}'.{lost}"
        self.discard(unsaved)

    def _on_volume(self, volume: Volume | None) -> None:
        wanted, self._wanted = self._wanted, None
        if volume is None or wanted is None:
            return
        if self.editor.work.fingerprint != wanted.fingerprint:
            self.session.message = f"'{wanted.name}' is no longer the scan that the unsaved work was done on."
            return
        try:
            self._bring_back(wanted)
        except (OSError, MedSegError) as error:
            self.session.message = f"The unsaved work on '{wanted.name}' cannot be read: {error}"

    def _on_stepped(self, work: ScanWork, regions: tuple[Region, ...]) -> None:
        self._append(work, regions)

    def _on_table(self) -> None:
        work = self.session.work
        if work is not None and id(work) in self._journals:
            self._append(work, ())

    def _append(self, work: ScanWork, regions: tuple[Region, ...], *, is_saved: bool = False) -> None:
        if self.session.work is not work:
            return
        table = {
            "lesions": [lesion_to(lesion) for lesion in self.session.lesions],
            "active": self.session.active_label,
            "reviewed": sorted(self.session.reviewed),
            "saved": is_saved,
        }
        labels = work.labels
        patches = tuple(Patch(box, labels.data[box].copy(), labels.locked[box].copy()) for box in regions)
        self._journal_of(work).append(Entry(table, patches, proposals=self._new_proposals(work)))

    def _new_proposals(self, work: ScanWork) -> tuple[tuple[int, Proposal], ...]:
        """Answers of the model that the journal does not hold yet."""
        kept = self._kept.setdefault(id(work), {})
        answers = ((lesion.label, lesion.proposal) for lesion in self.session.lesions)
        new = tuple((k, answer) for k, answer in answers if answer is not None and kept.get(k) is not answer)
        kept.update(new)
        return new

    def _journal_of(self, work: ScanWork) -> Journal:
        if id(work) not in self._journals:
            now = datetime.now()
            folder = self.root / f"{work.fingerprint}-{now:%Y%m%d-%H%M%S-%f}"
            lock = FileLock(folder / "alive")
            journal = Journal(folder, work.volume.data.shape, on_failed=self._on_failed)
            self._journals[id(work)] = journal, lock
            try:
                _begin(folder, work, now)
                lock.hold()
            except OSError as error:
                self._on_failed(error)
        return self._journals[id(work)][0]

    def _on_failed(self, error: OSError) -> None:
        sentence = f"Your work is not journalled any more ({error.strerror or error}): export it soon."
        self._post(lambda: setattr(self.session, "message", sentence))


def read_unsaved(folder: Path) -> Unsaved | None:
    """Return what a journal says of itself; None where nothing is unsaved in it."""
    try:
        about, table = json.loads((folder / "about.json").read_text()), last_table(folder)
        if not table or table.get("saved") or not (table["lesions"] or table["reviewed"]):
            return None
        return Unsaved(
            folder,
            str(about["name"]),
            Path(about["path"]) if about["path"] else None,
            str(about["fingerprint"]),
            datetime.fromisoformat(about["begun"]),
            len(table["lesions"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_forgotten(unsaved: Unsaved) -> bool:
    """Whether it is old work on a scan that came from no file, which nobody can open again by its path."""
    return unsaved.path is None and datetime.now() - unsaved.when > KEPT


def lesion_to(lesion: Lesion) -> dict[str, Any]:
    """Return a lesion as JSON holds it: of the model's own answer, whether there is one."""
    plain = {key: getattr(lesion, key) for key in ("label", "name", "colour", "visible", "locked")}
    plain["proposed"] = lesion.proposal is not None
    return {**plain, "prompts": [{"kind": type(each).__name__.lower(), **asdict(each)} for each in lesion.prompts]}


def lesion_from(plain: dict[str, Any], proposals: Mapping[int, Proposal] | None = None) -> Lesion:
    """Return the lesion that JSON holds, with the model's own answer where that is among the proposals."""
    prompts = tuple(_prompt_from(dict(each)) for each in plain.get("prompts", ()))
    looks = {key: plain[key] for key in ("label", "name", "colour", "visible", "locked")}
    proposal = (proposals or {}).get(int(looks["label"])) if plain.get("proposed") else None
    return Lesion(**looks, prompts=prompts, proposal=proposal)


def _prompt_from(plain: dict[str, Any]) -> Prompt:
    kind = _KINDS[plain.pop("kind")]
    return kind(**{key: _tuples(value) for key, value in plain.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def _begin(folder: Path, work: ScanWork, now: datetime) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = work.volume.path
    about = {
        "name": work.volume.name,
        "path": str(path.absolute()) if path is not None else None,
        "fingerprint": work.fingerprint,
        "begun": now.isoformat(timespec="seconds"),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def _close(reference: weakref.ref[RecoveryController]) -> None:
    controller = reference()
    if controller is not None:
        controller.close()
