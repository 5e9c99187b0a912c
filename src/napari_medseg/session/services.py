"""The session with its controllers, put together once: for a window, a script or a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_medseg.classification.cases import CaseLibrary
from napari_medseg.home import home_folder
from napari_medseg.learning.corrections import CorrectionStore
from napari_medseg.learning.corrections_folder import corrections_folder
from napari_medseg.models.library import Library
from napari_medseg.session.answers import load
from napari_medseg.session.classify import ClassifyController
from napari_medseg.session.compare import CompareController
from napari_medseg.session.correct import CorrectController
from napari_medseg.session.doubt import DoubtController
from napari_medseg.session.evaluate import EvaluateController
from napari_medseg.session.export import ExportController
from napari_medseg.session.labelling import LabelController
from napari_medseg.session.learn import LearnController
from napari_medseg.session.learn_classes import ClassLearnController
from napari_medseg.session.open import OpenController
from napari_medseg.session.prior import PriorController
from napari_medseg.session.prompts import SegmentController
from napari_medseg.session.recovery import RecoveryController
from napari_medseg.session.runner import InlineRunner, Post, Runner
from napari_medseg.session.session import Failures, Segments, Session
from napari_medseg.session.similar import SimilarController
from napari_medseg.session.studies import StudyScans
from napari_medseg.session.table import TableController
from napari_medseg.session.work import Editor


@dataclass(eq=False)
class Services:
    """Everything a window needs, without a window.

    Parameters
    ----------
    session : Session
        The state.
    editor : Editor
        Makes the undoable steps.
    opening, segmenting, correcting, learning, comparing, following, doubt, exporting, recovery, table
        One controller each.
    labelling, classes, classifying, similar, evaluating
        One controller each: of labels, of training classifiers, of their answers, of similar lesions, of figures.
    store, library, cases
        Where corrections, models and labelled cases are kept.
    failures : Failures
        Where unexpected errors go.
    display : Runner
        Where scans are resampled to be looked at.
    """

    session: Session
    editor: Editor
    opening: OpenController
    segmenting: SegmentController
    correcting: CorrectController
    learning: LearnController
    comparing: CompareController
    following: PriorController
    doubt: DoubtController
    exporting: ExportController
    recovery: RecoveryController
    table: TableController
    labelling: LabelController
    classes: ClassLearnController
    classifying: ClassifyController
    similar: SimilarController
    evaluating: EvaluateController
    cases: CaseLibrary
    store: Any
    library: Library
    failures: Failures
    display: Runner


def build(
    *,
    answers: Runner | None = None,
    files: Runner | None = None,
    display: Runner | None = None,
    figures: Runner | None = None,
    writer: Runner | None = None,
    loader: Callable[[str], Segments] = load,
    store: Any = None,
    library: Library | None = None,
    post: Post = lambda call: call(),
) -> Services:
    """Put a session and its controllers together.

    Parameters
    ----------
    answers, files, display, figures : Runner, optional
        Where the model works, where scans and masks are read, where scans are resampled to be looked at, and where
        evaluations run; inline where nothing is given. In these lanes the newest request wins.
    writer : Runner, optional
        Where corrections, exports and labelled cases are written; it must keep all requests.
    loader : callable
        Loads a model by its name.
    store, library : optional
        Where corrections and models are kept; the user's own where nothing is given.
    post : callable
        Runs a function on the caller's thread.
    """
    session, failures = Session(), Failures()
    editor, library = Editor(session), library or Library()
    files, answers, writer, store = (
        files or InlineRunner(),
        answers or InlineRunner(),
        writer or InlineRunner(),
        store or CorrectionStore(corrections_folder()),
    )
    segmenting = SegmentController(editor, answers, loader=loader, failures=failures)
    opening = OpenController(editor, files, failures=failures)
    correcting = CorrectController(editor, writer, store, stop=segmenting.cancel, failures=failures)
    learning = LearnController(session, store, library, failures=failures)
    comparing = CompareController(session, store, library, answers, failures=failures)
    exporting = ExportController(editor, writer, failures=failures)
    cases = CaseLibrary()
    labelling = LabelController(editor, cases, writer, studies=StudyScans(lambda: opening.works), failures=failures)
    recovery = RecoveryController(editor, opening, home_folder() / "journal", post=post)
    correcting.accepted.connect(recovery.note_saved)
    correcting.accepted.connect(learning.changed.emit)
    comparing.changed.connect(learning.changed.emit)
    exporting.exported.connect(recovery.note_saved)
    return Services(
        session=session,
        editor=editor,
        opening=opening,
        segmenting=segmenting,
        correcting=correcting,
        learning=learning,
        comparing=comparing,
        following=PriorController(opening, answers, loader=loader, failures=failures),
        doubt=DoubtController(editor, library),
        exporting=exporting,
        recovery=recovery,
        table=TableController(editor),
        labelling=labelling,
        classes=ClassLearnController(session, labelling, library, failures=failures),
        classifying=ClassifyController(labelling, library, answers, choose=opening.choose, failures=failures),
        similar=SimilarController(labelling, opening, answers, failures=failures),
        evaluating=EvaluateController(session, cases, library, figures or InlineRunner(), failures=failures),
        cases=cases,
        store=store,
        library=library,
        failures=failures,
        display=display or InlineRunner(),
    )
