"""A training as it goes: bar, step and time left, curve, and at the end the verdict."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_medseg.session.training import TrainingController
from napari_medseg.widgets.learning_plot import LearningPlot
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.step import dim, repolish


class RunView(QWidget):
    """Shows what a training says; hidden parts have nothing to say.

    Parameters
    ----------
    controller : TrainingController
        The training.
    """

    def __init__(self, controller: TrainingController) -> None:
        super().__init__()
        self.controller = controller
        self._bar, self._status, self._plot = QProgressBar(), dim(), LearningPlot(controller.figure)
        self._bar.setTextVisible(False)
        self._bar.setRange(0, 1000)
        self._verdict = dim(role="good")
        self._verdict.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GAP)
        for widget in (self._bar, self._status, self._plot, self._verdict):
            layout.addWidget(widget)

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._plot.set_look(look)

    def say(self, text: str) -> None:
        """Show another text beside the bar until the next report."""
        self._status.setText(text)

    def draw(self) -> None:
        """Draw what the controller knows now."""
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
            self._status.setText(last.message)
        has_status = bool(self._status.text()) and verdict is None and last is not None
        self._status.setVisible(has_status)
        self._verdict.setVisible(verdict is not None)
        self.setVisible(controller.is_running or has_curve or has_status or verdict is not None)
        if verdict is not None:
            self._verdict.setText(verdict.sentence.replace("->", "→"))
            self._verdict.setToolTip(f"Measured on {verdict.held_out}")
            self._verdict.setProperty("role", "good" if verdict.adopted else "warning")
            repolish(self._verdict)


def spoken(seconds: float) -> str:
    """Say a length of time as a person would."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} min"
