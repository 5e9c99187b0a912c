"""Classifying the lesion or study in view: probabilities, where the classifier looked, which slice decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_medseg.errors import MedSegError, ModelError
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.models.checkpoint import read_card
from napari_medseg.models.library import Library
from napari_medseg.session.labelling import LESION, STUDY, LabelController
from napari_medseg.session.lesions import Region
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job
from napari_medseg.session.work import ScanWork

if TYPE_CHECKING:
    from napari_medseg.classification.classifier import Answer, Classifier
    from napari_medseg.classification.subject import Subject
    from napari_medseg.imaging.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """Where a classifier looked.

    Parameters
    ----------
    values : ndarray of uint8, shape (Z, Y, X)
        0 to 255 inside a box of the scan; 0 everywhere outside of it.
    region : tuple of slice
        That box.
    """

    values: NDArray[np.uint8]
    region: Region


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """An answer, and what it is about.

    Parameters
    ----------
    answer : Answer
        Probabilities by class, and the attention of a study's slices.
    what : str
        What was classified, as a person says it.
    works : tuple of ScanWork
        The scans it is about: one, or all of a study.
    heats : tuple of Heat or None
        Where the classifier looked in each of them.
    no_heat : str
        Why there is no heat.
    """

    answer: Answer
    what: str
    works: tuple[ScanWork, ...]
    heats: tuple[Heat | None, ...] = ()
    no_heat: str = ""

    def number_of(self, work: ScanWork | None) -> int | None:
        """Which of its scans a scan is; None where it is none of them."""
        return next((number for number, each in enumerate(self.works) if each is work), None)

    def heat_in(self, work: ScanWork | None) -> Heat | None:
        """Where the classifier looked in a scan."""
        number = self.number_of(work)
        return self.heats[number] if number is not None and self.heats else None

    def attention_in(self, work: ScanWork | None) -> NDArray[np.float64] | None:
        """How much each slice of a scan decided; None where slices were not weighed."""
        number = self.number_of(work)
        found = [each.weights for each in self.answer.attention if each.scan == number]
        return found[0] if found else None


class ClassifyController:
    """Asks a classifier about the lesion or study in view.

    Parameters
    ----------
    labelling : LabelController
        Knows what is in view.
    library : Library
        Where classifiers are.
    runner : Runner
        Where they answer.
    choose : callable, optional
        Makes another open scan the one in view.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    changed : Signal
        There is another answer, or none any more.
    jumped : Signal
        Emits the slice (along the scan's plane of acquisition) to look at.
    shown : Classified or None
        The last answer, while one of its scans is in view.
    """

    changed = Signal()
    jumped = Signal(int)

    def __init__(
        self,
        labelling: LabelController,
        library: Library,
        runner: Runner,
        *,
        choose: Callable[[Volume], None] = lambda _volume: None,
        failures: Failures | None = None,
    ) -> None:
        self.labelling, self.session, self.library = labelling, labelling.session, library
        self._runner, self._choose, self._failures = runner, choose, failures or Failures()
        self._loaded: tuple[Path | None, Classifier | None] = (None, None)
        self.shown: Classified | None = None
        self.session.events.work.connect(self._on_work)

    def models(self, target: str) -> tuple[str, ...]:
        """Names of the classifiers in the library that look at lesions, or at studies and images."""
        tasks = (LESION,) if target == LESION else (STUDY, "image")
        found = []
        for name in self.library.names():
            try:
                card = read_card(self.library.path(name))
            except MedSegError:
                continue
            if card.does == "classify" and card.looks_at is not None and card.looks_at.task in tasks:
                found.append(name)
        return tuple(found)

    def classify(self, target: str, model: str = "") -> None:
        """Classify the selected lesion or the open study; `changed` tells when there is an answer.

        Parameters
        ----------
        target : str
            ``"lesion"`` or ``"study"``.
        model : str
            A classifier of the library; the one that suits where none is named.
        """
        try:
            folder = self._folder(target, model)
            works = self._works(target, folder)
            subject = self.labelling.study(works) if target != LESION else self.labelling.subject(target)
        except MedSegError as error:
            self.session.message = str(error)
            return
        active = self.session.active
        what = active.name if target == LESION and active is not None else self.labelling.describe_study()
        self.session.busy = Job(f"Classifying {what}", None, self._cancel)
        self._runner.submit(
            partial(self._ask, folder, subject, what, works), done=self._on_answer, failed=self._on_failed
        )

    def go_to_deciding_slice(self) -> None:
        """Show the slice that decided about a study."""
        decided = None if self.shown is None else self.shown.answer.deciding_slice
        if decided is None or self.shown is None:
            return
        work = self.shown.works[decided[0]]
        if work is not self.session.work:
            if not any(each is work for each in self.labelling.studies.available(self.labelling.editor.work)):
                self.session.message = f"'{work.volume.name}', which holds the deciding slice, is no longer open."
                return
            self._choose(work.volume)
        self.jumped.emit(decided[2])

    def _works(self, target: str, folder: Path) -> tuple[ScanWork, ...]:
        """The scans that a classifier is asked about: of a study those of modalities that it has learned."""
        work = self.labelling.editor.work
        if target == LESION:
            return (work,)
        works, looks_at = self.labelling.studies.of(work), read_card(folder).looks_at
        known = looks_at.inputs if looks_at is not None and all(looks_at.inputs) else ()
        return tuple(each for each in works if not known or each.volume.modality in ("", *known)) or (work,)

    def _folder(self, target: str, model: str) -> Path:
        known = self.models(target)
        if model and model not in known:
            raise ModelError(f"there is no classifier '{model}': train it first")
        if not known:
            what = "lesions" if target == LESION else "studies"
            raise ModelError(f"There is no classifier of {what} yet: label some and train one first.")
        if not model and target != LESION:
            own = f"{self.labelling.task}-classifier"
            model = own if own in known else ""
        return self.library.path(model or known[0])

    def _ask(
        self, folder: Path, subject: Subject, what: str, works: tuple[ScanWork, ...], ticket: Ticket
    ) -> Classified:
        """Runs where models answer."""
        from napari_medseg.classification import load_classifier, saliency

        known, classifier = self._loaded
        if classifier is None or known != folder:
            classifier = load_classifier(folder)
            self._loaded = (folder, classifier)
        answer = classifier.classify(subject)
        heats: list[Heat | None] = []
        why = "No place spoke for this class more than others."
        try:
            for number in range(len(works)):
                heats.append(None if ticket.should_stop() else _heat_of(saliency(classifier, subject, scan=number)))
        except ModelError as error:
            why = str(error)
        return Classified(answer, what, works, tuple(heats), "" if any(heats) else why)

    def _on_answer(self, shown: Classified) -> None:
        self.session.busy = None
        if shown.number_of(self.session.work) is None:
            return
        self.shown = shown
        answer = shown.answer
        self.session.message = f"{shown.what}: {answer.best}, {answer.probabilities[answer.best]:.0%}."
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self.session.busy = None
        self.session.message = explain(error)
        self._failures.report(error)

    def _on_work(self, work: ScanWork | None) -> None:
        if self.shown is not None:
            if self.shown.number_of(work) is None:
                self.shown = None
            self.changed.emit()

    def _cancel(self) -> None:
        self._runner.cancel()
        self.session.busy = None
        self.session.message = "Stopped."


def _heat_of(found: Volume) -> Heat | None:
    """Cut a map down to the box in which there is anything, in 256 steps; None where there is nothing."""
    values = np.asarray(np.clip(found.data, 0.0, 1.0) * 255.0, np.uint8)
    region = filled_box(values)
    return None if region is None else Heat(np.ascontiguousarray(values[region]), region)
