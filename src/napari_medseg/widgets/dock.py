"""The MedSeg dock: Open, Segment, Correct, Learn, Export; on further pages Classify and Evaluate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import napari.components
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QKeySequence, QShowEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QShortcut, QSizePolicy, QVBoxLayout, QWidget

from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import Services
from napari_medseg.session.session import Job
from napari_medseg.widgets.binding import bind
from napari_medseg.widgets.comparison_view import ComparisonView
from napari_medseg.widgets.correct_panel import CorrectPanel
from napari_medseg.widgets.effort_panel import EffortPanel
from napari_medseg.widgets.export_panel import ExportPanel
from napari_medseg.widgets.learn_panel import LearnPanel
from napari_medseg.widgets.lesion_table import LesionTable
from napari_medseg.widgets.look import INDENT, Look, stylesheet
from napari_medseg.widgets.open_panel import OpenPanel, describe, dropped_paths
from napari_medseg.widgets.pages import Pages
from napari_medseg.widgets.prompt_tools import Tool
from napari_medseg.widgets.segment_panel import SegmentPanel
from napari_medseg.widgets.sentences import sentence
from napari_medseg.widgets.step import Step, button
from napari_medseg.widgets.view_row import ViewRow

CANCEL_AFTER_MS = 1000
OUTLINE_KEY = "O"
_WIDTH = 330


class MedSegDock(QWidget):
    """The dock widget: five steps from top to bottom, and one line that says what happened.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer that the dock belongs to.
    services : Services, optional
        The session and its controllers; made here, with worker threads, where nothing is given.
    """

    def __init__(self, viewer: napari.components.ViewerModel, services: Services | None = None) -> None:
        super().__init__()
        self.viewer: napari.components.ViewerModel = getattr(
            viewer, "__wrapped__", viewer
        )  # napari hands plugins a proxy
        self._opened: tuple[Volume | None, bool] = (None, True)
        self._shortcuts: list[QShortcut] = []
        self._has_drawn_learn = False
        binding = bind(self.viewer, services)
        self.services, self.bridge, self.tools = binding.services, binding.bridge, binding.tools
        self.session = self.services.session
        self._build()
        self._bind()
        self._on_theme()
        self._draw()
        self._on_busy(None)
        self._draw_learn()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Bind the keys once the window around the dock is known."""
        super().showEvent(event)
        if not self._shortcuts:
            self._bind_keys()

    def event(self, event: QEvent | None) -> bool:
        """Give the keys back when napari takes the dock out of its window."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parentWidget() is None:
            for shortcut in self._shortcuts:
                shortcut.setParent(None)
            self._shortcuts.clear()
        return bool(super().event(event))

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Welcome files anywhere on the dock."""
        if event is not None and event.mimeData() is not None and event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open the files or folders."""
        paths = dropped_paths(event)
        if event is not None and paths:
            event.acceptProposedAction()
            for path in paths:
                self.services.opening.open(path)

    def _build(self) -> None:
        self.setObjectName("medseg")
        self.setAcceptDrops(True)
        self.setMinimumWidth(_WIDTH)
        # else napari puts a stretch under every dock but the first, which takes half of its height
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        table = LesionTable(self.services, self.bridge)
        self._table = table
        self.panels: dict[str, Any] = {
            "Open": OpenPanel(self.services),
            "Segment": SegmentPanel(self.services, self.tools, table),
            "Correct": CorrectPanel(self.services, self.bridge, self.tools),
            "Learn": LearnPanel(
                self.services.learning,
                ComparisonView(self.viewer, self.services),
                EffortPanel(self.services.comparing, self.services.learning),
            ),
            "Export": ExportPanel(self.services),
        }
        self.steps = {name: Step(number, name, panel) for number, (name, panel) in enumerate(self.panels.items(), 1)}
        inside = QWidget()
        inside.setObjectName("steps")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for step in self.steps.values():
            column.addWidget(step)
        column.addStretch(1)
        self.pages = Pages("Segment", inside)
        self.pages.add("Classify", self._classify_page, "Label lesions and studies, train a classifier, find similar")
        self.pages.add("Compare", self._compare_page, "Compare with the prior visit: lesions, change map")
        self.pages.add("Evaluate", self._evaluate_page, "Figures of masks and classifiers, with plots and a report")
        self.tools.is_welcome = lambda: self.pages.name == "Segment"
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._view_row = ViewRow(self.viewer)
        layout.addWidget(self._view_row)
        layout.addWidget(self.pages, 1)
        layout.addWidget(self._footer())

    def _classify_page(self) -> QWidget:
        from napari_medseg.widgets.classify_page import ClassifyPage  # made, and imported, when it is first looked at

        return ClassifyPage(self.services, self.bridge)

    def _compare_page(self) -> QWidget:
        from napari_medseg.widgets.compare_page import ComparePage

        return ComparePage(self.services.following, self.bridge)

    def _evaluate_page(self) -> QWidget:
        from napari_medseg.widgets.evaluate_page import EvaluatePage

        return EvaluatePage(self.services)

    def _footer(self) -> QFrame:
        footer = QFrame()
        footer.setObjectName("footer")
        self._progress, self._message = QProgressBar(), QLabel()
        self._progress.setTextVisible(False)
        self._message.setWordWrap(True)
        self._message.setMinimumHeight(34)
        self._message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._cancel = button("Cancel", "Stop waiting")
        self._cancel.clicked.connect(self._on_cancel)
        self._cancel_timer = QTimer(self)
        self._cancel_timer.setSingleShot(True)
        self._cancel_timer.setInterval(CANCEL_AFTER_MS)
        self._cancel_timer.timeout.connect(self._offer_cancel)
        line = QHBoxLayout()
        line.setContentsMargins(INDENT, 6, INDENT, 8)
        line.addWidget(self._message, 1)
        line.addWidget(self._cancel)
        column = QVBoxLayout(footer)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._progress)
        column.addLayout(line)
        return footer

    def _bind(self) -> None:
        events = self.session.events
        for event in (events.volume, events.offers, events.misfit, events.lesions):
            event.connect(self._draw)
        events.message.connect(self._on_message)
        events.busy.connect(self._on_busy)
        self.services.editor.stepped.connect(self._draw)
        self.services.learning.changed.connect(self._draw_learn)
        events.model_name.connect(self._draw)
        self.services.correcting.accepted.connect(self._on_accepted)
        self.services.failures.unexpected.connect(_show_traceback)
        self.viewer.events.theme.connect(self._on_theme)
        self.viewer.dims.events.ndisplay.connect(self._on_ndisplay)

    def _bind_keys(self) -> None:
        """Bind the keys to the napari window, so that they work wherever the focus is, and with a floating dock."""
        window: QWidget = self
        while window.parentWidget() is not None:
            window = window.parentWidget()
        for key, act in self._keys().items():
            shortcut = QShortcut(QKeySequence(key), window)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(act)
            self._shortcuts.append(shortcut)
        self._on_ndisplay()

    def _on_ndisplay(self, _event: Any = None) -> None:
        """Leave the outlines' key to napari in 3-D, where it turns a plane with it and draws no outlines."""
        for shortcut in self._shortcuts:
            if shortcut.key().toString() == OUTLINE_KEY:
                shortcut.setEnabled(self.viewer.dims.ndisplay == 2)

    def _keys(self) -> dict[str, Callable[[], None]]:
        services = self.services
        return {
            "Q": partial(self._toggle, Tool.CLICK),
            "W": partial(self._toggle, Tool.BOX),
            "D": partial(self._toggle, Tool.SCRIBBLE),
            "C": partial(self._toggle, Tool.LASSO),
            "S": services.segmenting.segment,
            "A": services.segmenting.new_lesion,
            "N": services.doubt.next_region,
            OUTLINE_KEY: self.bridge.outline.toggle,
            "R": self.panels["Correct"].mark_slice,
            "Ctrl+Z": services.correcting.undo,
            "Ctrl+Shift+Z": services.correcting.redo,
            "Ctrl+Return": services.correcting.accept,
            "Ctrl+E": self.panels["Export"].export,
            **{f"Alt+{n}": partial(services.labelling.assign_number, n) for n in range(1, 10)},
        }

    def _toggle(self, tool: Tool) -> None:
        self.tools.toggle(tool)

    def _draw(self, *_values: object) -> None:
        volume, work = self.session.volume, self.session.work
        has_lesions = bool(self.session.lesions)
        has_voxels = work is not None and bool(work.labels.n_voxels[1:].any())
        self._view_row.setVisible(volume is not None)
        self._draw_open(volume)
        segment, correct, export = (self.steps[name] for name in ("Segment", "Correct", "Export"))
        segment.show_state(
            available=volume is not None,
            hint="" if volume is not None else "Open a scan first.",
            warning=self.services.doubt.caution(),
        )
        correct.show_state(available=has_lesions, hint="" if has_lesions else "Segment or paint a lesion first.")
        export.show_state(available=has_voxels, hint="" if has_voxels else "There is nothing to export yet.")

    def _draw_open(self, volume: Volume | None) -> None:
        is_choosing = self.services.opening.is_choosing or self.session.misfit is not None
        is_open = None
        if (volume, is_choosing) != self._opened:
            before, self._opened = self._opened, (volume, is_choosing)
            is_needed, was_needed = volume is None or is_choosing, before[0] is None or before[1]
            is_open = is_needed if is_needed or was_needed else None  # who goes between scans keeps the list at hand
        hint = f"{self.services.opening.name_of(volume)}\n{describe(volume)}" if volume is not None else ""
        warning = "\n".join(volume.warnings) if volume is not None else ""
        self.steps["Open"].show_state(available=True, hint=hint, warning=warning, is_open=is_open)

    def _draw_learn(self, *, is_open: bool | None = None) -> None:
        learning = self.services.learning
        n_corrections = learning.n_corrections()
        is_available = n_corrections > 0 or learning.is_running or self.services.comparing.keeps_elsewhere
        if is_open is None and not self._has_drawn_learn:
            is_open = False  # corrections of earlier sessions: there when wanted, out of the way until then
        self._has_drawn_learn = is_available
        hint = "" if is_available else "Accept a correction first."
        self.steps["Learn"].show_state(available=is_available, hint=hint, is_open=is_open)

    def _on_accepted(self, _work: object) -> None:
        self._draw_learn(is_open=True)

    def _on_message(self, text: str) -> None:
        self._message.setText(sentence(text))

    def _on_busy(self, job: Job | None) -> None:
        self._progress.setVisible(job is not None)
        if job is None:
            self._cancel_timer.stop()
            self._cancel.hide()
            return
        self._progress.setRange(0, 0 if job.fraction is None else 100)
        self._progress.setValue(int(100 * (job.fraction or 0.0)))
        if not self._cancel_timer.isActive() and self._cancel.isHidden():
            self._message.setText(f"{job.name}…")
            self._cancel_timer.start()

    def _offer_cancel(self) -> None:
        job = self.session.busy
        self._cancel.setVisible(job is not None and job.cancel is not None)

    def _on_cancel(self) -> None:
        if self.session.busy is not None and self.session.busy.cancel is not None:
            self.session.busy.cancel()

    def _on_theme(self, _event: Any = None) -> None:
        look = Look.of(self.viewer.theme)
        self.setStyleSheet(stylesheet(look))
        for part in (*self.steps.values(), *self.panels.values(), self._table, self._view_row, self.pages):
            if hasattr(part, "set_look"):
                part.set_look(look)


def _show_traceback(error: Exception) -> None:
    notification_manager.receive_error(type(error), error, error.__traceback__)
