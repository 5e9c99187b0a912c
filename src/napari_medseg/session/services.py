"""The session with its controllers, put together once: for a window, a script or a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_medseg.models.library import Library, home_folder
from napari_medseg.session.correct import CorrectController, Stores
from napari_medseg.session.export import ExportController
from napari_medseg.session.open import OpenController
from napari_medseg.session.prompts import SegmentController, load
from napari_medseg.session.runner import InlineRunner, Runner
from napari_medseg.session.session import Failures, Segments, Session
from napari_medseg.session.table import TableController
from napari_medseg.session.work import Editor


class LateStore:
    """The user's own corrections, imported when the first one is accepted (the import costs seconds)."""

    def __init__(self) -> None:
        self._store: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._store is None:
            from napari_medseg.learning.corrections import CorrectionStore

            self._store = CorrectionStore(home_folder() / "corrections")
        return getattr(self._store, name)


@dataclass(eq=False)
class Services:
    """Everything a window needs, without a window.

    Parameters
    ----------
    session : Session
        The state.
    editor : Editor
        Makes the undoable steps.
    opening, segmenting, correcting, exporting, table
        One controller each.
    store, library
        Where corrections and models are kept.
    failures : Failures
        Where unexpected errors go.
    """

    session: Session
    editor: Editor
    opening: OpenController
    segmenting: SegmentController
    correcting: CorrectController
    exporting: ExportController
    table: TableController
    store: Stores
    library: Library
    failures: Failures


def build(
    *,
    answers: Runner | None = None,
    files: Runner | None = None,
    loader: Callable[[str], Segments] = load,
    store: Stores | None = None,
    library: Library | None = None,
) -> Services:
    """Put a session and its controllers together.

    Parameters
    ----------
    answers, files : Runner, optional
        Where the model works and where files are read and written; inline where nothing is given.
    loader : callable
        Loads a model by its name.
    store, library : optional
        Where corrections and models are kept; the user's own where nothing is given.
    """
    session, failures = Session(), Failures()
    editor = Editor(session)
    files, answers, store = files or InlineRunner(), answers or InlineRunner(), store or LateStore()
    segmenting = SegmentController(editor, answers, loader=loader, failures=failures)
    return Services(
        session=session,
        editor=editor,
        opening=OpenController(editor, files, failures=failures),
        segmenting=segmenting,
        correcting=CorrectController(editor, files, store, stop=segmenting.cancel, failures=failures),
        exporting=ExportController(editor, files, failures=failures),
        table=TableController(editor),
        store=store,
        library=library or Library(),
        failures=failures,
    )
