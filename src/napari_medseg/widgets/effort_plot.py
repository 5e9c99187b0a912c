"""Seconds, voxels and clicks a case, before and after each version: one bar a version."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseg.learning.effort import MeanEffort
from napari_medseg.widgets.look import Look

_MOST_VERSIONS = 6
_LABELS = 0.30
_MEASURES: tuple[tuple[str, Callable[[MeanEffort], float]], ...] = (
    ("seconds a case", lambda mean: mean.seconds),
    ("voxels changed a case", lambda mean: mean.voxels),
    ("clicks a case", lambda mean: mean.clicks),
)


class EffortPlot(QWidget):
    """Three groups of bars; the newest version's are drawn in the accent colour."""

    def __init__(self) -> None:
        super().__init__()
        self._means: tuple[MeanEffort, ...] = ()
        self._look: Look | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("What corrections took, by version")

    @property
    def means(self) -> tuple[MeanEffort, ...]:
        """What is drawn, oldest version first."""
        return self._means

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self.update()

    def show_means(self, means: Sequence[MeanEffort]) -> None:
        """Draw other figures: those of the newest versions."""
        self._means = tuple(means)[-_MOST_VERSIONS:]
        self.setFixedHeight(self.sizeHint().height())
        told = (f"{m.model}: {m.seconds:.0f} s, {m.voxels:.0f} voxels, {m.clicks:.1f} clicks" for m in self._means)
        self.setToolTip("\n".join(told))
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as the dock; one line a version and one for each group's name."""
        return QSize(300, round(self._line * len(_MEASURES) * (len(self._means) + 1.5)) if self._means else 0)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the bars."""
        if self._look is None or not self._means:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top = 0.0
        for title, measure in _MEASURES:
            painter.setPen(QColor(self._look.dim))
            painter.drawText(QPointF(0, top + 0.75 * self._line), title)
            top = self._bars(painter, top + self._line, [measure(mean) for mean in self._means])
        painter.end()

    @property
    def _line(self) -> float:
        return float(self.fontMetrics().height()) * 1.2

    def _bars(self, painter: QPainter, top: float, values: Sequence[float]) -> float:
        """Draw one group below `top` and return where it ends."""
        assert self._look is not None
        left, room = self.width() * _LABELS, self.width() * (1 - _LABELS) - 52
        largest = max(*values, 1e-6) if len(values) > 1 else max(values[0], 1e-6)
        for k, (mean, value) in enumerate(zip(self._means, values, strict=True)):
            y = top + k * self._line
            is_newest = k == len(values) - 1
            painter.setPen(QColor(self._look.text))
            name = f"{mean.model} ({mean.n_cases})"
            painter.drawText(QRectF(0, y, left - 6, self._line), int(Qt.AlignmentFlag.AlignVCenter), name)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(self._look.accent if is_newest else self._look.faint))
            bar = QRectF(left, y + 0.2 * self._line, max(2.0, room * value / largest), 0.6 * self._line)
            painter.drawRoundedRect(bar, 2, 2)
            painter.setPen(QColor(self._look.text))
            figure = f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"
            painter.drawText(QPointF(bar.right() + 5, y + 0.72 * self._line), figure)
        return top + (len(values) + 0.5) * self._line
