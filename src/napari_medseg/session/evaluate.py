"""Evaluation: masks against references, and a classifier on cases that it has not learned from."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_medseg.classification.cases import CaseLibrary
from napari_medseg.errors import Cancelled, EvaluationError, MedSegError
from napari_medseg.home import home_folder
from napari_medseg.models.library import Library
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job, Session
from napari_medseg.session.unseen import unseen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_medseg.classification.classifier import Classifier
    from napari_medseg.evaluation.study import Case

Row = Mapping[str, Any]
_DPI = 110
_MIDDLE = 0.5
_SHOWN = ("dice", "iou", "hd95_mm", "nsd", "reference_ml", "volume_ml")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """The outcome of an evaluation.

    Parameters
    ----------
    title : str
        What was evaluated.
    sentence : str
        How many cases of how many patients.
    means : sequence of mapping
        Rows of figures with 95 % intervals.
    cases : sequence of mapping
        A row a case.
    picture : bytes
        The plots, PNG.
    table, page : Path
        The CSV file, and the HTML page that needs no other file.
    """

    title: str
    sentence: str
    means: Sequence[Row]
    cases: Sequence[Row]
    picture: bytes
    table: Path
    page: Path


class EvaluateController:
    """Compares masks with references, or classifiers with labels; every run leaves a table and a page.

    Parameters
    ----------
    session : Session
        The state.
    cases : CaseLibrary
        Labelled cases.
    library : Library
        Classifiers.
    runner : Runner
        Where it works.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    evaluated : Signal
        Emits the Evaluated.
    """

    evaluated = Signal(object)

    def __init__(
        self,
        session: Session,
        cases: CaseLibrary,
        library: Library,
        runner: Runner,
        *,
        failures: Failures | None = None,
    ) -> None:
        self.session, self.cases, self.library = session, cases, library
        self._runner, self._failures = runner, failures or Failures()

    def masks(self, masks: Path, references: Path, *, tolerance_mm: float = 2.0, patients: str = "") -> None:
        """Compare a mask with its reference, or two folders of masks by file name.

        Parameters
        ----------
        masks, references : Path
            Two files, or two folders.
        tolerance_mm : float
            For the surface Dice.
        patients : str
            Regular expression that finds the patient in a file's name.
        """
        problem = _unusable(masks, references)
        if problem:
            self.session.message = problem
            return
        work = partial(_compare, masks, references, tolerance_mm, patients or None)
        self._submit(f"Comparing masks in {masks.name}", work)

    def classifier(self, name: str, table: Path | None = None, *, threshold: float = _MIDDLE) -> None:
        """Ask a classifier about labelled cases that it has not learned from, nor from others of their patients.

        Parameters
        ----------
        name : str
            A classifier of the library.
        table : Path, optional
            Cases to ask about: CSV with the columns scan, mask, label, position_mm, class, patient. By default those
            of the library that were labelled since it learned.
        threshold : float
            Of two classes a case is called the second from this probability on; with more classes it does not apply.
        """
        try:
            folder = self.library.path(name)
        except MedSegError as error:
            self.session.message = str(error)
            return
        self._submit(f"Asking {name}", partial(_ask, folder, self.cases, table, threshold))

    def _submit(self, title: str, work: Callable[[Ticket], Evaluated]) -> None:
        job = Job(title, None, self._cancel)
        self.session.busy = job
        self._runner.submit(
            work,
            done=self._on_done,
            failed=self._on_failed,
            on_progress=lambda fraction: setattr(self.session, "busy", job.at(fraction)),
        )

    def _on_done(self, evaluated: Evaluated) -> None:
        self.session.busy = None
        self.session.message = f"{evaluated.title}: {evaluated.sentence}"
        self.evaluated.emit(evaluated)

    def _on_failed(self, error: Exception) -> None:
        self.session.busy = None
        self.session.message = explain(error)
        self._failures.report(error)

    def _cancel(self) -> None:
        self._runner.cancel()
        self.session.busy = None
        self.session.message = "Stopped."


def _unusable(masks: Path, references: Path) -> str:
    for path, what in ((masks, "masks"), (references, "references")):
        if not path.exists():
            return f"There is nothing at {path}: choose the {what}."
    if masks.is_dir() != references.is_dir():
        return "One of the two is a folder and the other a file: choose two files, or two folders."
    return ""


def _compare(masks: Path, references: Path, tolerance_mm: float, patients: str | None, ticket: Ticket) -> Evaluated:
    from napari_medseg.evaluation.plots import plot_cases
    from napari_medseg.evaluation.report import mean_rows, write_segmentation_report
    from napari_medseg.evaluation.study import compare_files, compare_folders

    found: list[Case] = []
    if masks.is_dir():
        n = max(1, sum(path.is_file() and not path.name.startswith(".") for path in references.iterdir()))
        for case in compare_folders(masks, references, tolerance_mm=tolerance_mm, patient_pattern=patients):
            found.append(case)
            _go_on(ticket, len(found) / n)
    else:
        found.append(compare_files(masks, references, tolerance_mm=tolerance_mm))
    title = f"{masks.name} against {references.name}"
    table, page = write_segmentation_report(_new_folder(), found, title=title)
    n_patients = len({case.patient for case in found})
    names = ("case", "name", *_SHOWN)
    rows = [{key: row[key] for key in names if key in row} for case in found for row in case.rows()]
    sentence = (
        f"{len(found)} case{'s' if len(found) > 1 else ''} of {n_patients} patient{'s' if n_patients > 1 else ''}."
    )
    return Evaluated(title, sentence, mean_rows(found), rows, _drawn(plot_cases(found, agrees=True)), table, page)


def _ask(folder: Path, library: CaseLibrary, table: Path | None, threshold: float, ticket: Ticket) -> Evaluated:
    import numpy as np

    from napari_medseg.classification import load_classifier
    from napari_medseg.evaluation.plots import plot_classification
    from napari_medseg.evaluation.report import interval_rows, write_classification_report

    classifier = load_classifier(folder)
    classes = classifier.classes
    threshold = threshold if len(classes) == 2 else _MIDDLE
    asked = unseen(classifier, library, table, partial(_go_on, ticket))
    questions = asked.questions
    unknown = sorted({each.label for each in questions} - set(classes))
    if unknown:
        raise EvaluationError(f"{classifier.card.title} has no class '{unknown[0]}': it knows {_listed(classifier)}")
    found = []
    for number, each in enumerate(questions, 1):
        answer = classifier.classify(each.subject)
        found.append([answer.probabilities[name] for name in classes])
        _go_on(ticket, 0.5 + 0.5 * number / len(questions))
    truth, people, scores = [q.label for q in questions], [q.patient for q in questions], np.array(found)
    title = f"{classifier.card.title} on {len(truth)} cases" + (f" of {table.name}" if table is not None else "")
    written = write_classification_report(
        _new_folder(), truth, scores, classes, patients=people, threshold=threshold, title=title
    )
    rows = [
        {"case": each.name, "true class": each.label, **{c: f"{p:.3f}" for c, p in zip(classes, row, strict=True)}}
        for each, row in zip(questions, found, strict=True)
    ]
    means = interval_rows(truth, scores, classes, people, threshold=threshold)
    return Evaluated(title, asked.sentence, means, rows, _drawn(plot_classification(truth, scores, classes)), *written)


def _listed(classifier: Classifier) -> str:
    return ", ".join(classifier.classes)


def _go_on(ticket: Ticket, fraction: float) -> None:
    if ticket.should_stop():
        raise Cancelled("the evaluation was stopped")
    ticket.report(fraction)


def _new_folder() -> Path:
    return home_folder() / "evaluations" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"


def _drawn(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DPI)
    return picture.getvalue()
