"""Learning from corrections: start, watch, cancel; versions, and the way back to each of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from napari_medseg.learning.corrections_folder import why_gone
from napari_medseg.learning.process import run_job
from napari_medseg.learning.reports import Verdict
from napari_medseg.learning.settings import Strategy
from napari_medseg.models.library import CLICK, Library
from napari_medseg.session.session import Failures, Session
from napari_medseg.session.training import Launch, TrainingController


class KeepsCorrections(Protocol):
    """What is asked of a store: `napari_medseg.learning.corrections.CorrectionStore`."""

    @property
    def root(self) -> Path:
        """The folder that holds the corrections."""

    def list(self) -> Sequence[Any]:
        """Return the corrections, oldest first."""

    def snapshot(self, folder: Path) -> Any:
        """Copy them as they are now."""


class LearnController(TrainingController):
    """What the Learn step does: `TrainingController` over the accepted corrections.

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
    """

    verdict: Verdict | None

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
        super().__init__(session, library, launch=launch, arguments=arguments, failures=failures)
        self.store = store
        self._seen: tuple[Path, int] | None = None
        self._n_corrections = 0

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """What can be chosen; the first one is the default."""
        return tuple(Strategy)

    @property
    def name(self) -> str:
        """The model that learns."""
        chosen = self.session.model_name
        return chosen if chosen in self.library.names() else CLICK

    def n_corrections(self) -> int:
        """Count the corrected scans; looks into the folder only when it has changed."""
        try:
            stamp = self.store.root, self.store.root.stat().st_mtime_ns
        except OSError:
            return 0
        if stamp != self._seen:
            self._seen, self._n_corrections = stamp, len(self.store.list())
        return self._n_corrections

    def start(self, strategy: Strategy | str = Strategy.AUTO, options: Sequence[str] = ()) -> None:
        """Begin to learn from all corrections, as they are now. Call :meth:`poll` until it is False.

        A training that was cancelled goes on from where it was if the corrections are the same.

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
            gone = why_gone(self.store.root)
            self.session.message = gone or "Accept a correction first: there is nothing to learn from yet."
            return
        chosen, name = Strategy(strategy), self.name

        def prepare(folder: Path) -> list[str]:
            corrections = folder / "corrections"
            shutil.rmtree(corrections, ignore_errors=True)
            self.store.snapshot(corrections)
            base = ["fine-tune", "--corrections", str(corrections), "--model", str(self.library.path(name))]
            return [*base, "--strategy", chosen.value, *options]

        self._begin("Fine-tuning", prepare)

    def run_to_the_end(self, strategy: Strategy | str = Strategy.AUTO) -> Verdict | None:
        """Start and wait: for scripts and tests."""
        self.start(strategy)
        while self.poll():
            time.sleep(0.02)
        return self.verdict

    def _forget_model(self) -> None:
        self.session.model = None
