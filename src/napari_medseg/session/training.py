"""A training that runs in a process of its own: its curve, its verdict, its versions, and the way back to each."""

from __future__ import annotations

import queue
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_medseg.errors import Cancelled, JobFailed, MedSegError
from napari_medseg.imaging.file_lock import holding
from napari_medseg.learning.class_reports import ClassReport, ClassVerdict
from napari_medseg.learning.reports import Report, Verdict
from napari_medseg.models.library import Library
from napari_medseg.session.runner import explain
from napari_medseg.session.session import Failures, Job, Session

AnyReport = Report | ClassReport
Launch = Callable[..., Generator[Any, None, Any]]
Points = tuple[tuple[int, float], ...]
_BUSY = "Another window or process is training with this library: wait until it is done, or cancel it there."


@dataclass(frozen=True, slots=True)
class Curve:
    """What a training has said so far.

    Parameters
    ----------
    n_steps : int
        Length of the run.
    losses, dices : tuple of (step, value)
        Mean loss since the report before; Dice (of classifiers: balanced accuracy) on the held-out cases.
    dice_before : float, optional
        The same figure of the version that learns, on the same cases.
    """

    n_steps: int = 0
    losses: Points = ()
    dices: Points = ()
    dice_before: float | None = None

    def and_then(self, report: AnyReport) -> Curve:
        """Return the curve with one report more."""
        figure, before = report.figure, report.figure_before
        losses = self.losses if report.loss is None else (*self.losses, (report.step, report.loss))
        measured = report.kind == "validation" and figure is not None
        dices = (*self.dices, (report.step, figure or 0.0)) if measured else self.dices
        return Curve(report.n_steps or self.n_steps, losses, dices, self.dice_before if before is None else before)


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version in the list.

    Parameters
    ----------
    number : int
        Version of the model.
    is_active : bool
        Whether it is the one in use.
    created : str
        When it was made, ISO 8601.
    dice : float, optional
        Dice (of classifiers: balanced accuracy) on the held-out cases when it was made.
    was_adopted : bool
        False where the gate refused it.
    about : str
        The gate's sentence, or what the version is.
    """

    number: int
    is_active: bool
    created: str
    dice: float | None
    was_adopted: bool
    about: str


@dataclass(eq=False)
class _Run:
    """One training that is under way, in a thread that watches the process."""

    messages: queue.Queue[Callable[[], None]] = field(default_factory=queue.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class TrainingController(ABC):
    """Starts a training, watches it, and keeps what it made in the library.

    Parameters
    ----------
    session : Session
        The state.
    library : Library
        The versions.
    launch : callable
        Runs the command line in another process and gives its reports.
    arguments : sequence of str
        More of the command line: ``("--steps", "200")``.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    changed : Signal
        Something that the panel shows has changed.
    curve : Curve
        What the newest training has said.
    verdict : Verdict, ClassVerdict or None
        What the gate decided last.
    """

    changed = Signal()
    figure = "Dice"
    """What is measured on held-out cases."""
    figure_short = "Dice"
    """The same where there is little room."""
    _report: type[AnyReport] = Report
    _folder = ".training"

    def __init__(
        self,
        session: Session,
        library: Library,
        *,
        launch: Launch,
        arguments: Sequence[str] = (),
        failures: Failures | None = None,
    ) -> None:
        self.session, self.library = session, library
        self.curve = Curve()
        self.verdict: Verdict | ClassVerdict | None = None
        self.last: AnyReport | None = None
        self._failures, self._launch, self._arguments = failures or Failures(), launch, tuple(arguments)
        self._run: _Run | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The model that learns."""

    @property
    def is_running(self) -> bool:
        """Whether a training is under way."""
        return self._run is not None

    def versions(self) -> tuple[VersionRow, ...]:
        """Return all versions of the model, newest first."""
        try:
            active = self.library.active(self.name)
        except MedSegError:
            return ()
        rows = []
        for card in reversed(self.library.versions(self.name)):
            gate = card.gate or {}
            rows.append(
                VersionRow(
                    number=card.version,
                    is_active=card.version == active,
                    created=card.created,
                    dice=_figure_of(gate),
                    was_adopted=bool(gate.get("adopted", True)),
                    about=str(gate.get("sentence") or "Comes with napari-medseg."),
                )
            )
        return tuple(rows)

    def activate(self, number: int) -> None:
        """Use another version from the next answer on."""

        def use() -> int:
            self.library.activate(self.name, number)
            return number

        self._change(use)

    def roll_back(self) -> None:
        """Use the version again that was in use before."""
        self._change(lambda: self.library.rollback(self.name))

    def cancel(self) -> None:
        """Stop the training; the process is gone within 5 s."""
        if self._run is not None:
            self._run.cancelled.set()

    def poll(self) -> bool:
        """Take over what the training said since the last call, on the caller's thread; whether it still runs."""
        run = self._run
        while run is not None and run is self._run:
            try:
                message = run.messages.get_nowait()
            except queue.Empty:
                break
            message()
        return self._run is not None

    def close(self) -> None:
        """End a training that is under way, and wait for its process to be gone."""
        run = self._run
        if run is not None and run.thread is not None:
            run.cancelled.set()
            run.thread.join(6.0)

    def _begin(self, title: str, prepare: Callable[[Path], list[str]]) -> None:
        """Start the thread; `prepare` gets a folder and gives the command line, in that thread."""
        self.curve, self.verdict, self.last = Curve(), None, self._report(message="Starting")
        run = _Run()
        work = (run, self.name, prepare)
        run.thread = threading.Thread(target=self._work, args=work, name="medseg-learn", daemon=True)
        self._run = run
        self.session.job = Job(title, 0.0, self.cancel)
        self.changed.emit()
        run.thread.start()

    def _work(self, run: _Run, name: str, prepare: Callable[[Path], list[str]]) -> None:
        """Runs in the watching thread: nothing here touches the session."""
        try:
            out = self.library.root / self._folder
            with holding(self.library.root / f"{self._folder}.lock", otherwise=JobFailed(_BUSY)):
                arguments = [*prepare(out), "--out", str(out / "new"), *self._arguments, "--json"]
                for report in self._launch(arguments, should_stop=run.cancelled.is_set):
                    if report.verdict is not None:
                        report = self._kept(report, name, out / "new")
                        shutil.rmtree(out, ignore_errors=True)
                    run.messages.put(lambda report=report: self._on_report(report))  # type: ignore[misc]
            run.messages.put(self._on_ended)
        except OSError as error:
            told = JobFailed(
                f"the training stopped, a file could not be read or written ({error}): nothing was changed"
            )
            told.__cause__ = error
            run.messages.put(lambda error=told: self._on_failed(error))  # type: ignore[misc]
        except Exception as error:
            run.messages.put(lambda error=error: self._on_failed(error))  # type: ignore[misc]

    def _kept(self, report: AnyReport, name: str, folder: Path) -> AnyReport:
        """Put the new version into the library, in use where the gate agreed; the report with its number."""
        assert report.verdict is not None
        verdict = report.verdict
        number = self.library.take_over(name, folder, verdict.model_dump(mode="json", exclude={"folder"}))
        if number is None:
            return report
        sentence = _with_number(verdict.sentence, number)
        kept = verdict.model_copy(update={"sentence": sentence, "folder": str(self.library.path(name, number))})
        return report.model_copy(update={"verdict": kept, "message": sentence})

    @abstractmethod
    def _forget_model(self) -> None:
        """Let the next answer come from the version that is active then."""

    def _on_report(self, report: AnyReport) -> None:
        self.last, self.curve = report, self.curve.and_then(report)
        if report.verdict is not None:
            self.verdict = report.verdict
            self.session.message = report.verdict.sentence
            if report.verdict.adopted:
                self._forget_model()
        elif self.session.job is not None and report.n_steps:
            self.session.job = self.session.job.at(report.step / report.n_steps)
        self.changed.emit()

    def _on_ended(self) -> None:
        self._run, self.session.job = None, None
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self._run, self.session.job = None, None
        self.session.message = str(error) if isinstance(error, Cancelled) else explain(error)
        self.last = self._report(message=self.session.message)
        self._failures.report(error)
        self.changed.emit()

    def _change(self, change: Callable[[], int]) -> None:
        try:
            number = change()
        except MedSegError as error:
            self.session.message = str(error)
            return
        self._forget_model()
        self.session.message = f"Version {number} is active."
        self.changed.emit()


def _figure_of(gate: dict[str, Any]) -> float | None:
    return (gate.get("after") or {}).get("balanced_accuracy", gate.get("dice_after"))


def _with_number(sentence: str, number: int) -> str:
    """Say the number that the library gave, in the place of the expected one."""
    words = sentence.split(" ")
    for at, word in enumerate(words[:-1]):
        if word == "version" and words[at + 1].isdigit():
            words[at + 1] = str(number)
    return " ".join(words)
