"""Probabilities as bars: one a class, in the class's colour."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseg.widgets.look import Look

_ROW, _BAR = 26, 12
_MOST_NAME = 0.42


class ClassBars(QWidget):
    """One line a class: its name, a bar, and the probability in per cent; the most probable one first."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: tuple[tuple[str, float, str], ...] = ()
        self._look: Look | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Calibrated on held-out cases: of 100 answers of 80 %, about 80 should be right")

    @property
    def bars(self) -> tuple[tuple[str, float, str], ...]:
        """Name, probability and colour of each line, from top to bottom."""
        return self._bars

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self.update()

    def show_bars(self, probabilities: Mapping[str, float], colours: Mapping[str, str]) -> None:
        """Draw other probabilities."""
        ordered = sorted(probabilities.items(), key=lambda item: -item[1])
        self._bars = tuple((name, value, colours[name]) for name, value in ordered)
        self.setFixedHeight(_ROW * len(self._bars))
        self.setAccessibleName(", ".join(f"{name} {value:.0%}" for name, value, _ in self._bars))
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(280, _ROW * max(1, len(self._bars)))

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw names, bars and numbers in three columns."""
        if self._look is None or not self._bars:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        metrics = QFontMetricsF(painter.font())
        widest = max(metrics.horizontalAdvance(name) for name, _, _ in self._bars)
        left = min(widest, _MOST_NAME * self.width()) + 10
        right = metrics.horizontalAdvance("100 %") + 8
        room = max(10.0, self.width() - left - right)
        for row, (name, value, colour) in enumerate(self._bars):
            line = QRectF(0, row * _ROW, self.width(), _ROW)
            painter.setPen(QColor(self._look.text))
            shown = metrics.elidedText(name, Qt.TextElideMode.ElideRight, left - 8)
            painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, shown)
            painter.drawText(line, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:.0%}")
            bar = QRectF(left, line.center().y() - _BAR / 2, room, _BAR)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(self._look.control))
            painter.drawRoundedRect(bar, 3, 3)
            bar.setWidth(max(3.0, room * value))
            painter.setBrush(QColor(colour))
            painter.drawRoundedRect(bar, 3, 3)
        painter.end()
