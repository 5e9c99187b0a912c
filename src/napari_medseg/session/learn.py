"""Learning from corrections: start, watch, cancel; versions, and the way back to each of them."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from psygnal import Signal

from napari_medseg.errors import Cancelled, MedSegError
from napari_medseg.learning.process import run_job
from napari_medseg.learning.reports import Report, Verdict
from napari_medseg.learning.settings import Strategy
from napari_medseg.models.library import CLICK, Library
from napari_medseg.session.runner import explain
from napari_medseg.session.session import Failures, Job, Session

Launch = Callable[..., Generator[Report, None, Report]]


class KeepsCorrections(Protocol):
    """What is asked of a store: `napari_medseg.learning.corrections.CorrectionStore`."""

    @property
    def root(self) -> Path:
        """The folder that holds the corrections."""

    def list(self) -> Sequence[Any]:
        """Return the corrections, oldest first."""

    def snapshot(self, folder: Path) -> Any:
        """Copy them as they are now."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a training has said so far.

    Parameters
    ----------
    n_steps : int
        Length of the run.
    losses, dices : tuple of (step, value)
        Mean loss since the report before; Dice on the held-out cases.
    dice_before : float, optional
        Dice of the version that learns, on the same cases.
    """

    n_steps: int = 0
    losses: tuple[tuple[int, float], ...] = ()
    dices: tuple[tuple[int, float], ...] = ()
    dice_before: float | None = None

    def and_then(self, report: Report) -> Curve:
        """Return the curve with one report more."""
        losses = self.losses if report.loss is None else (*self.losses, (report.step, report.loss))
        measured = report.kind == "validation" and report.dice is not None
        dices = (*self.dices, (report.step, report.dice or 0.0)) if measured else self.dices
        before = self.dice_before if report.dice_before is None else report.dice_before
        return Curve(report.n_steps or self.n_steps, losses, dices, before)


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
        Dice on the held-out corrections when it was made.
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


class LearnController:
    """What the Learn step does.

    Parameters
    ----------
    session : Session
        The state.
    store : CorrectionStore
        The accepted corrections.
    library : Library
        The versions.
    failures : Failures, optional
        Where unexpected errors go.
    launch : callable
        Runs the command line in another process and gives its reports.
    arguments : sequence of str
        More of the command line: ``("--steps", "200")``.

    Attributes
    ----------
    changed : Signal
        Something that the panel shows has changed.
    curve : Curve
        What the newest training has said.
    verdict : Verdict or None
        What the gate decided last.
    """

    changed = Signal()

    def __init__(
        self,
        session: Session,
        store: KeepsCorrections,
        library: Library,
        *,
        failures: Failures | None = None,
        launch: Launch = run_job,
        arguments: Sequence[str] = (),
    ) -> None:
        self.session, self.store, self.library = session, store, library
        self.curve, self.verdict = Curve(), None  # type: tuple[Curve, Verdict | None]
        self.last: Report | None = None
        self._failures, self._launch, self._arguments = failures or Failures(), launch, tuple(arguments)
        self._run: _Run | None = None
        self._seen, self._n_corrections = -1, 0

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """What can be chosen; the first one is the default."""
        return tuple(Strategy)

    @property
    def is_running(self) -> bool:
        """Whether a training is under way."""
        return self._run is not None

    @property
    def name(self) -> str:
        """The model that learns."""
        chosen = self.session.model_name
        return chosen if chosen in self.library.names() else CLICK

    def n_corrections(self) -> int:
        """Count the corrected scans; looks into the folder only when it has changed."""
        try:
            stamp = self.store.root.stat().st_mtime_ns
        except OSError:
            return 0
        if stamp != self._seen:
            self._seen, self._n_corrections = stamp, len(self.store.list())
        return self._n_corrections

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
                    dice=gate.get("dice_after"),
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

    def start(self, strategy: Strategy | str = Strategy.AUTO, options: Sequence[str] = ()) -> None:
        """Begin to learn from all corrections, as they are now. Call :meth:`poll` until it is False.

        Parameters
        ----------
        strategy : Strategy or str
            Which layers learn.
        options : sequence of str
            More options of the command line, for what shall not be chosen automatically.
        """
        if self.is_running:
            return
        if not self.n_corrections():
            self.session.message = "Accept a correction first: there is nothing to learn from yet."
            return
        self.curve, self.verdict, self.last = Curve(), None, Report(message="Starting")
        run = _Run()
        run.thread = threading.Thread(
            target=self._work,
            args=(run, Strategy(strategy), tuple(options)),
            name="medseg-learn",
            daemon=True,
        )
        self._run = run
        self.session.job = Job("Fine-tuning", 0.0, self.cancel)
        self.changed.emit()
        run.thread.start()

    def cancel(self) -> None:
        """Stop the training; the process is gone within 5 s, and the same corrections go on from there."""
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

    def run_to_the_end(self, strategy: Strategy | str = Strategy.AUTO) -> Verdict | None:
        """Start and wait: for scripts and tests."""
        self.start(strategy)
        while self.poll():
            time.sleep(0.02)
        return self.verdict

    def close(self) -> None:
        """End a training that is under way, and wait for its process to be gone."""
        run = self._run
        if run is not None and run.thread is not None:
            run.cancelled.set()
            run.thread.join(6.0)

    def _work(self, run: _Run, strategy: Strategy, options: tuple[str, ...]) -> None:
        """Runs in the watching thread: nothing here touches the session."""
        try:
            out = self.library.root / ".training"
            corrections = out / "corrections"
            shutil.rmtree(corrections, ignore_errors=True)
            self.store.snapshot(corrections)
            base = self.library.path(self.name)
            arguments = [
                "fine-tune",
                "--corrections",
                str(corrections),
                "--model",
                str(base),
                "--out",
                str(out / "new"),
            ]
            arguments += ["--strategy", strategy.value, *self._arguments, *options, "--json"]
            for report in self._launch(arguments, should_stop=run.cancelled.is_set):
                if report.verdict is not None:
                    report = self._kept(report, out / "new")
                    shutil.rmtree(out, ignore_errors=True)
                run.messages.put(lambda report=report: self._on_report(report))  # type: ignore[misc]
            run.messages.put(self._on_ended)
        except Exception as error:
            run.messages.put(lambda error=error: self._on_failed(error))  # type: ignore[misc]

    def _kept(self, report: Report, folder: Path) -> Report:
        """Put the new version into the library, in use where the gate agreed; the report with its number."""
        assert report.verdict is not None
        verdict = report.verdict
        number = self.library.adopt(self.name, folder)
        if verdict.adopted:
            self.library.activate(self.name, number)
        sentence = _with_number(verdict.sentence, number)
        kept = verdict.model_copy(update={"sentence": sentence, "folder": str(self.library.path(self.name, number))})
        return report.model_copy(update={"verdict": kept, "message": sentence})

    def _on_report(self, report: Report) -> None:
        self.last, self.curve = report, self.curve.and_then(report)
        if report.verdict is not None:
            self.verdict = report.verdict
            self.session.message = report.verdict.sentence
            if report.verdict.adopted:
                self.session.model = None
        elif self.session.job is not None and report.n_steps:
            self.session.job = self.session.job.at(report.step / report.n_steps)
        self.changed.emit()

    def _on_ended(self) -> None:
        self._run, self.session.job = None, None
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self._run, self.session.job = None, None
        self.session.message = str(error) if isinstance(error, Cancelled) else explain(error)
        self.last = Report(message=self.session.message)
        if not isinstance(error, MedSegError):
            self._failures.report(error)
        self.changed.emit()

    def _change(self, change: Callable[[], int]) -> None:
        try:
            number = change()
        except MedSegError as error:
            self.session.message = str(error)
            return
        self.session.model = None
        self.session.message = f"Version {number} is active."
        self.changed.emit()


def _with_number(sentence: str, number: int) -> str:
    """Say the number that the library gave, in the place of the expected one."""
    words = sentence.split(" ")
    for at, word in enumerate(words[:-1]):
        if word == "version" and words[at + 1].isdigit():
            words[at + 1] = str(number)
    return " ".join(words)
