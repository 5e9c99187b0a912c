"""Labelling while reading: which class a lesion or a study has, kept as a case in the user's own library."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from psygnal import Signal

from napari_medseg.classification.cases import CaseLibrary, StoredCase
from napari_medseg.classification.subject import Subject, bounding_box
from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.session.lesions import COLOURS
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures
from napari_medseg.session.studies import StudyScans, patient_of
from napari_medseg.session.work import Editor, ScanWork

LESION, STUDY = "lesion", "study"
TARGETS = (LESION, STUDY)
_LONGEST_NAME = 40
_SAME_PLACE_MM = 2.0
Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class in the list.

    Parameters
    ----------
    name : str
        The class.
    colour : str
        ``#rrggbb``.
    count : int
        How many cases of the kind that is labelled now have it.
    number : int
        Its place in the list, from 1; 1 to 9 are also keys.
    is_given : bool
        Whether the lesion or study in view has it.
    """

    name: str
    colour: str
    count: int
    number: int
    is_given: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Wish:
    """A case that waits to be written."""

    subject: Subject
    class_name: str
    what: str
    place: Place
    before: StoredCase | None


class LabelController:
    """Gives the lesion or study in view a class, and keeps the list of classes.

    Parameters
    ----------
    editor : Editor
        Knows the open scan and its lesions.
    cases : CaseLibrary
        Where labelled cases are kept.
    runner : Runner
        Where cases are written.
    studies : StudyScans, optional
        Which open scans make up a study; the open one alone where nothing is given.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    changed : Signal
        The list, its counts or what is labelled has changed.
    """

    changed = Signal()

    def __init__(
        self,
        editor: Editor,
        cases: CaseLibrary,
        runner: Runner,
        *,
        studies: StudyScans | None = None,
        failures: Failures | None = None,
    ) -> None:
        self.editor, self.session, self.cases = editor, editor.session, cases
        self.studies = studies or StudyScans(tuple)
        self._runner, self._failures = runner, failures or Failures()
        self._target = LESION
        self._waiting: deque[_Wish] = deque()
        self._is_writing = False
        self._known: dict[Place, StoredCase] = {}
        self._stamp, self._listed = -1, ()  # type: tuple[int, tuple[StoredCase, ...]]

    @property
    def target(self) -> str:
        """What is labelled: ``"lesion"`` (the selected one) or ``"study"`` (the open scans of the patient)."""
        return self._target

    @target.setter
    def target(self, target: str) -> None:
        self._target = target
        self.changed.emit()

    @property
    def takes_all(self) -> bool:
        """Whether a study is all open scans of the patient, or the open scan alone."""
        return self.studies.is_whole

    @takes_all.setter
    def takes_all(self, takes_all: bool) -> None:
        self.studies.is_whole = takes_all
        self.changed.emit()

    @property
    def task(self) -> str:
        """The kind of case that is labelled now: ``"lesion"``, ``"study"``, or ``"image"`` for a scan of one slice."""
        if self._target == LESION:
            return LESION
        volume = self.session.volume
        if volume is not None:
            return "image" if 1 in volume.data.shape and len(self.studies.of(self.editor.work)) == 1 else STUDY
        return "image" if self._n_of("image") > self._n_of(STUDY) else STUDY

    @property
    def is_writing(self) -> bool:
        """Whether a case is being written."""
        return self._is_writing

    def stored(self) -> tuple[StoredCase, ...]:
        """All cases, oldest first; the folder is read only when it has changed."""
        try:
            stamp = self.cases.root.stat().st_mtime_ns
        except OSError:
            return ()
        if stamp != self._stamp:
            self._stamp, self._listed = stamp, self.cases.list()
        return self._listed

    def classes(self) -> tuple[str, ...]:
        """Names of the classes that this kind of case has, or that no case has yet."""
        own = {case.card.class_name for case in self.stored() if case.card.task == self.task}
        others = {case.card.class_name for case in self.stored()} - own
        return tuple(name for name in self.cases.classes() if name not in others)

    def counts(self) -> dict[str, int]:
        """How many cases of this kind each class has, 0 included."""
        names = [case.card.class_name for case in self.stored() if case.card.task == self.task]
        return {name: names.count(name) for name in self.classes()}

    def rows(self) -> tuple[ClassRow, ...]:
        """The list of classes."""
        given, everyone = self.given(), self.cases.classes()
        return tuple(
            ClassRow(name, COLOURS[everyone.index(name) % len(COLOURS)], count, number, name == given)
            for number, (name, count) in enumerate(self.counts().items(), 1)
        )

    def colour_of(self, name: str) -> str:
        """Colour of a class, ``#rrggbb``."""
        known = self.cases.classes()
        return COLOURS[(known.index(name) if name in known else len(known)) % len(COLOURS)]

    def describe(self) -> str:
        """What would be labelled now, as a person says it; empty where there is nothing."""
        volume = self.session.volume
        if volume is None:
            return ""
        if self._target == STUDY:
            return self.describe_study()
        active = self.session.active
        return "" if active is None or self._is_empty() else active.name

    def describe_study(self) -> str:
        """Name the study in view: the open scan, and how many more there are."""
        work = self.session.work
        if work is None:
            return ""
        n = len(self.studies.of(work)) - 1
        return work.volume.name + (f" and {n} more scan{'s' if n > 1 else ''}" if n else "")

    def given(self) -> str:
        """The class that the lesion or study in view has; empty where it has none."""
        case = self.case()
        return "" if case is None else case.card.class_name

    def case(self) -> StoredCase | None:
        """The stored case of the lesion or study in view."""
        work = self.session.work
        if work is None or (self._target == LESION and self._is_empty()):
            return None
        return _found(self._known.get(self._place(work)), self.stored()) or self._kept_before(work)

    def subject(self, target: str | None = None) -> Subject:
        """Return the selected lesion or the study in view, as it is now.

        Raises
        ------
        MedSegError
            If no scan is open, or the lesion has no voxels.
        """
        work = self.editor.work
        if (target or self._target) == STUDY:
            return self.study(self.studies.of(work))
        patient = patient_of(work)
        active = self.session.active
        if active is None or self._is_empty():
            raise MedSegError("Segment or paint the lesion first: there is none selected.")
        marked = np.equal(work.labels.data, active.label).view(np.uint8) * np.uint8(active.label)
        mask = LabelMap(marked, work.volume.affine, {active.label: active.name}, grid=work.volume.grid)
        return Subject.lesion(work.volume, mask, active.label, patient=patient)

    @staticmethod
    def study(works: Sequence[ScanWork]) -> Subject:
        """Return some open scans as one study."""
        return Subject.study(*(work.volume for work in works), patient=patient_of(works[0]))

    def assign(self, class_name: str) -> None:
        """Keep the lesion or study in view as a case of a class; another class replaces the one that it has."""
        try:
            subject = self.subject()
        except MedSegError as error:
            self.session.message = str(error)
            return
        place = self._place(self.editor.work)
        self._waiting.append(_Wish(subject, class_name, self.describe(), place, self.case()))
        self._write_next()

    def assign_number(self, number: int) -> None:
        """Assign the class at a place of the list, from 1."""
        names = self.classes()
        if 1 <= number <= len(names):
            self.assign(names[number - 1])
        else:
            self.session.message = f"There is no class {number} yet: add it to the list."

    def take_back(self) -> None:
        """Remove the lesion or study in view from the cases."""
        case = self.case()
        if case is None:
            self.session.message = "It has no class, so there is nothing to take back."
            return

        def remove() -> None:
            self.cases.remove(case.id)
            self._known = {place: known for place, known in self._known.items() if known.id != case.id}

        self._change(remove, f"'{case.card.class_name}' is taken back.")

    def add_class(self, name: str) -> bool:
        """Add a class to the list; whether that was possible."""
        problem = self._problem(name)
        if problem:
            self.session.message = problem
            return False
        return self._change(lambda: self.cases.declare([*self.cases.classes(), name.strip()]), "")

    def rename_class(self, old: str, new: str) -> bool:
        """Call a class something else, in all its cases too; whether that was possible."""
        if new.strip() == old:
            return True
        problem = self._problem(new)
        if problem:
            self.session.message = problem
            return False

        def rename() -> None:
            self.cases.declare([new.strip() if name == old else name for name in self.cases.classes()])
            for case in self.cases.list(class_name=old):
                self.cases.relabel(case.id, new.strip())

        return self._change(rename, f"'{old}' is now called '{new.strip()}'.")

    def remove_class(self, name: str) -> None:
        """Take a class without cases from the list."""
        n = sum(case.card.class_name == name for case in self.stored())
        if n:
            self.session.message = f"'{name}' has {n} case{'s' if n > 1 else ''}: give them another class first."
            return
        self._change(lambda: self.cases.declare([each for each in self.cases.classes() if each != name]), "")

    def _problem(self, name: str) -> str:
        name = name.strip()
        if not name:
            return "A class needs a name."
        if "," in name or len(name) > _LONGEST_NAME or not name.isprintable():
            return f"'{name[:_LONGEST_NAME]}' cannot be a class: at most {_LONGEST_NAME} letters, without a comma."
        return f"There is a class '{name}' already." if name in self.cases.classes() else ""

    def _change(self, change: Callable[[], None], message: str) -> bool:
        try:
            change()
        except (MedSegError, OSError) as error:
            self.session.message = str(error)
            return False
        if message:
            self.session.message = message
        self._note()
        return True

    def _note(self) -> None:
        self._stamp = -1
        self.changed.emit()

    def _is_empty(self) -> bool:
        work = self.session.work
        return work is None or not work.labels.n_voxels[self.session.active_label]

    def _place(self, work: ScanWork) -> Place:
        if self._target == LESION:
            return work.fingerprint, LESION, self.session.active_label
        return "+".join(sorted(each.fingerprint for each in self.studies.of(work))), STUDY, 0

    def _n_of(self, task: str) -> int:
        return sum(case.card.task == task for case in self.stored())

    def _kept_before(self, work: ScanWork) -> StoredCase | None:
        """Find a case of an earlier session: of the same file, and of the same place in it."""
        scans = self.studies.of(work) if self._target == STUDY else (work,)
        paths = {str(each.volume.path.resolve()) for each in scans if each.volume.path is not None}
        if len(paths) < len(scans):
            return None
        cases = [c for c in self.stored() if c.card.task == self.task and set(c.card.paths) == paths]
        if self._target == STUDY or not cases:
            return cases[-1] if cases else None
        found = [(_distance(work, self.session.active_label, case), case) for case in cases]
        near = [(away, case) for away, case in found if self._is_near(work, case, away)]
        return min(near, key=lambda pair: pair[0])[1] if near else None

    def _is_near(self, work: ScanWork, case: StoredCase, away: float) -> bool:
        """Whether a case so far from the selected lesion is of it, and not of one within or round it."""
        label = case.card.label or 0
        if label != self.session.active_label and _distance(work, label, case) <= away:
            return False
        return away <= max(_SAME_PLACE_MM, (case.card.diameter_mm or 0.0) / 3)

    def _write_next(self) -> None:
        if self._is_writing or not self._waiting:
            return
        wish = self._waiting.popleft()
        self._is_writing = True
        before = self._known.get(wish.place) or wish.before

        def write(_ticket: Ticket) -> StoredCase:
            kept = self.cases.add(wish.subject, wish.class_name)
            old = _found(before, self.cases.list())
            if old is not None:
                self.cases.remove(old.id)
            return kept

        self._runner.submit(write, done=partial(self._on_written, wish), failed=self._on_failed)

    def _on_written(self, wish: _Wish, case: StoredCase) -> None:
        self._is_writing = False
        self._known[wish.place] = case
        self._stamp = -1
        n = sum(each.card.class_name == wish.class_name for each in self.stored())
        self.session.message = f"{wish.what} is kept as '{wish.class_name}' ({n} case{'s' if n > 1 else ''})."
        self.changed.emit()
        self._write_next()

    def _on_failed(self, error: Exception) -> None:
        self._is_writing = False
        self.session.message = explain(error)
        self._failures.report(error)
        self._write_next()


def _found(case: StoredCase | None, among: Iterable[StoredCase]) -> StoredCase | None:
    """The case as it is now: its class may be another one, what else its card says may not."""
    if case is None:
        return None
    same = (each for each in among if each.id == case.id)
    return next((e for e in same if e.card == case.card.model_copy(update={"class_name": e.card.class_name})), None)


def _distance(work: ScanWork, label: int, case: StoredCase) -> float:
    """How far the middle of a label lies from where a case was, in mm; infinite where either has no place."""
    box = work.labels.box_of(label) if 0 < label < len(work.labels.n_voxels) else None
    if box is None or case.card.position_mm is None:
        return float("inf")
    exact = bounding_box(work.labels.data[box] == label)
    middle = [outer.start + (part.start + part.stop - 1) / 2 for outer, part in zip(box, exact, strict=True)]
    return float(np.linalg.norm(work.volume.position_of(np.array(middle)) - np.asarray(case.card.position_mm)))
