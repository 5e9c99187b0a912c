"""A training from its start: the button, cancel, bar, step and time left, curve, and at the end the verdict."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_medseg.session.training import TrainingController
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.learning_plot import LearningPlot
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.sentences import sentence
from napari_medseg.widgets.step import button, dim, repolish, row

_POLL_MS = 100


class RunView(QWidget):
    """Starts, watches and cancels a training and shows what it says; hidden parts have nothing to say.

    Parameters
    ----------
    controller : TrainingController
        The training.
    start : QPushButton
        What is pressed to begin.
    begin : callable
        Begins, or says why not.
    cancel_tip : str
        What cancelling means.
    """

    def __init__(
        self, controller: TrainingController, start: QPushButton, begin: Callable[[], None], *, cancel_tip: str
    ) -> None:
        super().__init__()
        self.controller, self._start, self._begin = controller, start, begin
        self._cancel = button("Cancel", cancel_tip)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        for signal, act in (
            (start.clicked, self._on_start),
            (self._cancel.clicked, self._on_cancel),
            (self._timer.timeout, self._on_tick),
        ):
            signal.connect(act)
        self._build()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._start.setIcon(icon("wand", look.on_accent, off=look.faint))
        self._plot.set_look(look)

    def _build(self) -> None:
        self._bar, self._status, self._plot = QProgressBar(), dim(), LearningPlot(self.controller.figure)
        self._bar.setTextVisible(False)
        self._bar.setRange(0, 1000)
        self._verdict = dim(role="good")
        self._verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GAP)
        layout.addLayout(row(self._start, self._cancel, stretch=0))
        for widget in (self._bar, self._status, self._plot, self._verdict):
            layout.addWidget(widget)

    def draw(self, *, can_start: bool) -> None:
        """Draw what the controller knows now."""
        is_running = self.controller.is_running
        self._start.setEnabled(can_start and not is_running)
        self._start.setVisible(not is_running)
        self._cancel.setVisible(is_running)
        self._draw_run()

    def _draw_run(self) -> None:
        controller = self.controller
        curve, last, verdict = controller.curve, controller.last, controller.verdict
        has_curve = bool(curve.losses or curve.dices)
        self._bar.setVisible(controller.is_running)
        self._plot.setVisible(has_curve)
        self._plot.show_curve(curve)
        if controller.is_running and last is not None:
            self._bar.setRange(0, 1000 if last.n_steps else 0)
            self._bar.setValue(round(1000 * last.step / max(1, last.n_steps)))
            left = f" · {spoken(last.remaining_s)} left" if last.remaining_s is not None and last.n_steps else ""
            at = f"Step {last.step} of {last.n_steps}" if last.step else last.message
            self._status.setText(f"{at}{left}")
        elif last is not None and verdict is None:
            self._status.setText(sentence(last.message))
        has_status = bool(self._status.text()) and verdict is None and last is not None
        self._status.setVisible(has_status)
        self._verdict.setVisible(verdict is not None)
        if verdict is not None:
            self._verdict.setText(sentence(verdict.sentence))
            self._verdict.setToolTip(f"Measured on {verdict.held_out}")
            self._verdict.setProperty("role", "good" if verdict.adopted else "warning")
            repolish(self._verdict)

    def _on_start(self) -> None:
        self._begin()
        if self.controller.is_running:
            self._timer.start()

    def _on_cancel(self) -> None:
        self._cancel.setEnabled(False)
        self._status.setText("Stopping…")
        self.controller.cancel()

    def _on_tick(self) -> None:
        if not self.controller.poll():
            self._timer.stop()
            self._cancel.setEnabled(True)


def spoken(seconds: float) -> str:
    """Say a length of time as a person would."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} min"
