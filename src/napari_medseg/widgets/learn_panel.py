"""Step 4: learn from the corrections, watch, and choose among versions."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_medseg.errors import MedSegError
from napari_medseg.learning.settings import SHOWN_SETTINGS, FineTuneSettings
from napari_medseg.session.learn import LearnController, VersionRow
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.learning_plot import LearningPlot
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.settings_form import SettingsForm
from napari_medseg.widgets.step import button, column, dim, repolish, row

_POLL_MS = 100
_RECOUNT_MS = 2000
_SHOWN_VERSIONS = 6
_ROW = 28


class LearnPanel(QWidget):
    """'Fine-tune on corrections', its curve, the verdict, and the versions.

    Parameters
    ----------
    controller : LearnController
        Does the work.
    more : QWidget
        What else stands at the end of the step.
    """

    def __init__(self, controller: LearnController, *more: QWidget) -> None:
        super().__init__()
        self._further = more
        self.controller, self.session = controller, controller.session
        self._look: Look | None = None
        self._build()
        controller.changed.connect(self.draw)
        self.session.events.model_name.connect(self.draw)
        self.session.events.message.connect(self._on_message)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self._plot.set_look(look)
        self._start.setIcon(icon("wand", look.on_accent, off=look.faint))
        self._back.setIcon(icon("undo", look.text, off=look.faint))
        for widget in self._further:
            widget.set_look(look)
        self.draw()

    def draw(self, *_values: object) -> None:
        """Draw what the controller knows now."""
        n, is_running = self.controller.n_corrections(), self.controller.is_running
        self._count.setText(_counted(n))
        self._start.setEnabled(n > 0 and not is_running)
        self._start.setVisible(not is_running)
        self._strategy.setEnabled(not is_running)
        self.form.native.setEnabled(not is_running)
        self._cancel.setVisible(is_running)
        self._bar.setVisible(is_running)
        self._draw_run()
        self._draw_versions()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look for new corrections while the panel can be seen."""
        self._recount.start()
        self.draw()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Look no more."""
        self._recount.stop()
        super().hideEvent(event)

    def _build(self) -> None:
        self._count, self._strategy = dim(), QComboBox()
        for strategy in self.controller.strategies:
            self._strategy.addItem(strategy.caption, strategy)
            self._strategy.setItemData(self._strategy.count() - 1, strategy.description, Qt.ItemDataRole.ToolTipRole)
        self._strategy.currentIndexChanged.connect(self._on_strategy)
        self.form = SettingsForm(FineTuneSettings, SHOWN_SETTINGS)
        self.form.native.hide()
        self._more = button("More settings", "What the strategy otherwise chooses; empty fields stay automatic")
        self._more.setCheckable(True)
        self._more.toggled.connect(self.form.native.setVisible)
        self._start = button(
            "Fine-tune on corrections",
            "Teach the model your corrections. It is only used if it is better on cases it has not seen",
            role="main",
        )
        self._start.clicked.connect(self._on_start)
        self._cancel = button("Cancel", "Stop; nothing is changed, and a new start goes on from there")
        self._cancel.clicked.connect(self._on_cancel)
        self._bar, self._status, self._plot = QProgressBar(), dim(), LearningPlot()
        self._bar.setTextVisible(False)
        self._bar.setRange(0, 1000)
        self._verdict = dim(role="good")
        self._verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._back = button("Roll back", "Use the version again that was in use before")
        self._back.clicked.connect(self.controller.roll_back)
        self._versions, self._heading = QVBoxLayout(), dim("Versions")
        self._versions.setSpacing(2)
        self._drawn: tuple[VersionRow, ...] = ()
        layout = column(self)
        layout.addWidget(self._count)
        layout.addLayout(row(QLabel("Strategy"), self._strategy, stretch=1))
        layout.addWidget(self._more)
        layout.addWidget(self.form.native)
        layout.addLayout(row(self._start, self._cancel, stretch=0))
        for widget in (self._bar, self._status, self._plot, self._verdict):
            layout.addWidget(widget)
        layout.addLayout(row(self._heading, self._back, stretch=0))
        layout.addLayout(self._versions)
        for widget in self._further:
            layout.addWidget(widget)
        self._timer, self._recount = QTimer(self), QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._on_tick)
        self._recount.setInterval(_RECOUNT_MS)
        self._recount.timeout.connect(self._on_recount)
        self._on_strategy()

    def _draw_run(self) -> None:
        controller = self.controller
        curve, last, verdict = controller.curve, controller.last, controller.verdict
        self._plot.setVisible(bool(curve.losses or curve.dices))
        self._plot.show_curve(curve)
        if controller.is_running and last is not None:
            self._bar.setValue(round(1000 * last.step / max(1, last.n_steps)))
            left = f" · {spoken(last.remaining_s)} left" if last.remaining_s is not None and last.n_steps else ""
            at = f"Step {last.step} of {last.n_steps}" if last.step else last.message
            self._status.setText(f"{at}{left}")
        elif last is not None and verdict is None:
            self._status.setText(last.message)
        self._status.setVisible(bool(self._status.text()) and verdict is None and last is not None)
        self._verdict.setVisible(verdict is not None)
        if verdict is not None:
            self._verdict.setText(verdict.sentence.replace("->", "→"))
            self._verdict.setToolTip(f"Measured on {verdict.held_out}")
            self._verdict.setProperty("role", "good" if verdict.adopted else "warning")
            repolish(self._verdict)

    def _draw_versions(self) -> None:
        rows = self.controller.versions()
        self._heading.setVisible(bool(rows))
        self._back.setVisible(len(rows) > 1)
        self._back.setEnabled(not self.controller.is_running and bool(rows) and rows[-1].is_active is False)
        if rows == self._drawn:
            return
        self._drawn = rows
        while (item := self._versions.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        for version in _shown(rows):
            self._versions.addWidget(self._version(version))

    def _version(self, version: VersionRow) -> QWidget:
        line = QWidget()
        line.setFixedHeight(_ROW)
        made = QHBoxLayout(line)
        made.setContentsMargins(0, 0, 0, 0)
        made.setSpacing(GAP)
        name = QLabel(f"Version {version.number}")
        name.setProperty("role", "title" if version.is_active else "")
        name.setToolTip(version.about)
        figure = "" if version.dice is None else f"Dice {version.dice:.2f}"
        about = QLabel(" · ".join(part for part in (figure, "" if version.was_adopted else "refused") if part))
        about.setProperty("role", "dim")
        about.setToolTip(version.about)
        made.addWidget(name)
        made.addWidget(about, 1)
        if version.is_active:
            mark = QLabel("in use")
            mark.setProperty("role", "good")
            made.addWidget(mark)
        else:
            use = button("Use", f"Use version {version.number} from the next answer on")
            use.setAccessibleName(f"Use version {version.number}")
            use.clicked.connect(partial(self.controller.activate, version.number))
            made.addWidget(use)
        return line

    def _on_start(self) -> None:
        try:
            options = self.form.arguments()
        except MedSegError as error:
            self.controller.session.message = f"{error}."
            return
        self.controller.start(self._strategy.currentData(), options)
        if self.controller.is_running:
            self._timer.start()

    def _on_cancel(self) -> None:
        self._cancel.setEnabled(False)
        self._status.setText("Stopping")
        self.controller.cancel()

    def _on_tick(self) -> None:
        if not self.controller.poll():
            self._timer.stop()
            self._cancel.setEnabled(True)
            self.draw()

    def _on_recount(self) -> None:
        if _counted(self.controller.n_corrections()) != self._count.text():
            self.draw()

    def _on_message(self, _text: str) -> None:
        self._on_recount()

    def _on_strategy(self, _index: int = 0) -> None:
        self._strategy.setToolTip(self._strategy.currentData().description)


def spoken(seconds: float) -> str:
    """Say a length of time as a person would."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} min"


def _counted(n: int) -> str:
    if n == 0:
        return "No correction yet: accept one first."
    return f"{n} corrected scan{'s' if n > 1 else ''} to learn from."


def _shown(rows: tuple[VersionRow, ...]) -> tuple[VersionRow, ...]:
    """The newest versions, and the active one whatever its age."""
    newest = rows[:_SHOWN_VERSIONS]
    return newest + tuple(version for version in rows[_SHOWN_VERSIONS:] if version.is_active)
