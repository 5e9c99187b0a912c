"""The learning curve: loss and held-out Dice against steps, drawn in the dock's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_medseg.session.training import Curve
from napari_medseg.widgets.look import Look

_HEIGHT = 168
_TICKS = 4
_SMOOTHING = 0.7
Points = Sequence[tuple[float, float]]


class LearningPlot(QWidget):
    """Dice on the left axis, loss on the right one, steps below.

    Dice is measured now and then: dots on a line. The loss is drawn faintly as it was reported and clearly as its
    running mean. A dashed line marks the Dice of the version that learns.

    Parameters
    ----------
    figure : str
        What is measured on held-out cases, where it is not Dice.
    """

    def __init__(self, figure: str = "Dice") -> None:
        super().__init__()
        self.figure = figure
        self._curve = Curve()
        self._look: Look | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(_HEIGHT)
        self.setAccessibleName("Learning curve")

    @property
    def curve(self) -> Curve:
        """What is drawn."""
        return self._curve

    def sizeHint(self) -> QSize:
        """As wide as the dock."""
        return QSize(300, _HEIGHT)

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self.update()

    def show_curve(self, curve: Curve) -> None:
        """Draw another curve."""
        self._curve = curve
        last = curve.dices[-1][1] if curve.dices else None
        self.setToolTip("" if last is None else f"Held-out {self.figure} {last:.3f} after {curve.dices[-1][0]} steps")
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw axes, curves and legend."""
        if self._look is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPointSizeF(max(7.0, font.pointSizeF() - 1.5))
        painter.setFont(font)
        drawing = _Drawing(painter, self._look, self._curve, QRectF(self.rect()), self.figure)
        drawing.axes()
        drawing.curves()
        drawing.legend()
        painter.end()


class _Drawing:
    """One picture of a curve."""

    def __init__(self, painter: QPainter, look: Look, curve: Curve, whole: QRectF, figure: str) -> None:
        self.painter, self.look, self.curve, self.figure = painter, look, curve, figure
        self.metrics = QFontMetricsF(painter.font())
        line = self.metrics.height()
        self.n_steps = max(1, curve.n_steps)
        self.worst = nice_ceiling(max((loss for _, loss in curve.losses), default=1.0))
        right = self.metrics.horizontalAdvance(f"{self.worst:g}0") + 8
        left = self.metrics.horizontalAdvance("0.75") + 8
        self.frame = whole.adjusted(left, 2.1 * line, -right, -2.3 * line)
        self.dice, self.loss = QColor(look.good), QColor(look.accent)

    def axes(self) -> None:
        """Draw grid lines, ticks and the names of the axes."""
        painter, frame, line = self.painter, self.frame, self.metrics.height()
        for k in range(_TICKS + 1):
            y = frame.bottom() - frame.height() * k / _TICKS
            painter.setPen(QPen(QColor(self.look.line), 1.0))
            painter.drawLine(QPointF(frame.left(), round(y) + 0.5), QPointF(frame.right(), round(y) + 0.5))
            self._text(f"{k / _TICKS:.2g}", frame.left() - 5, y, Qt.AlignmentFlag.AlignRight, self.dice)
            if self.curve.losses:
                self._text(
                    f"{self.worst * k / _TICKS:.2g}", frame.right() + 5, y, Qt.AlignmentFlag.AlignLeft, self.loss
                )
        step = nice_step(self.n_steps)
        dim = QColor(self.look.dim)
        for at in range(0, self.n_steps + 1, step):
            x = self._x(at)
            painter.setPen(QPen(QColor(self.look.faint), 1.0))
            painter.drawLine(QPointF(round(x) + 0.5, frame.bottom()), QPointF(round(x) + 0.5, frame.bottom() + 3))
            self._text(str(at), x, frame.bottom() + 3 + line / 2, Qt.AlignmentFlag.AlignHCenter, dim)
        self._text("steps", frame.center().x(), frame.bottom() + 1.75 * line, Qt.AlignmentFlag.AlignHCenter, dim)

    def curves(self) -> None:
        """Draw what was reported."""
        losses = [(step, loss / self.worst) for step, loss in self.curve.losses]
        faint = QColor(self.loss)
        faint.setAlphaF(0.25)
        self._line(losses, QPen(faint, 1.0))
        self._line(smoothed(losses), QPen(self.loss, 1.8))
        if self.curve.dice_before is not None:
            pen = QPen(self.dice, 1.0, Qt.PenStyle.DashLine)
            y = self.curve.dice_before
            self._line([(0, y), (self.n_steps, y)], pen)
        self._line(self.curve.dices, QPen(self.dice, 1.8))
        self.painter.setPen(QPen(QColor(self.look.panel), 1.2))
        self.painter.setBrush(self.dice)
        for step, dice in self.curve.dices:
            self.painter.drawEllipse(self._at(step, dice), 3.4, 3.4)
        self.painter.setBrush(Qt.BrushStyle.NoBrush)

    def legend(self) -> None:
        """Name the curves above them."""
        y, x = self.metrics.height() * 0.8, self.frame.left()
        now = f" {self.curve.dices[-1][1]:.2f}" if self.curve.dices else ""
        x = self._key(x, y, f"held-out {self.figure}{now}", QPen(self.dice, 1.8)) + 14
        if self.curve.dice_before is not None:
            x = self._key(x, y, "before", QPen(self.dice, 1.0, Qt.PenStyle.DashLine)) + 14
        self._key(x, y, "loss", QPen(self.loss, 1.8))

    def _key(self, x: float, y: float, name: str, pen: QPen) -> float:
        self.painter.setPen(pen)
        self.painter.drawLine(QPointF(x, y), QPointF(x + 14, y))
        self._text(name, x + 19, y, Qt.AlignmentFlag.AlignLeft, QColor(self.look.dim))
        return x + 19 + float(self.metrics.horizontalAdvance(name))

    def _line(self, points: Points, pen: QPen) -> None:
        if len(points) < 2:
            return
        path = QPainterPath(self._at(*points[0]))
        for point in points[1:]:
            path.lineTo(self._at(*point))
        pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        self.painter.setPen(pen)
        self.painter.drawPath(path)

    def _x(self, step: float) -> float:
        return float(self.frame.left() + self.frame.width() * step / self.n_steps)

    def _at(self, step: float, part: float) -> QPointF:
        return QPointF(self._x(step), self.frame.bottom() - self.frame.height() * min(max(part, 0.0), 1.0))

    def _text(self, text: str, x: float, y: float, align: Qt.AlignmentFlag, colour: QColor) -> None:
        """Write text whose anchor is (x, y): its left, right or middle, and its middle in height."""
        width = self.metrics.horizontalAdvance(text)
        left = {Qt.AlignmentFlag.AlignRight: x - width, Qt.AlignmentFlag.AlignHCenter: x - width / 2}.get(align, x)
        self.painter.setPen(colour)
        self.painter.drawText(QPointF(left, y + (self.metrics.ascent() - self.metrics.descent()) / 2), text)


def nice_ceiling(value: float) -> float:
    """Return the next of 0.4, 0.8, 1.2, 2, 4, 8, ... that is not below a value: four round ticks fit under each."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-3)))
    steps = (power * factor for factor in (1.2, 2.0, 4.0, 8.0, 12.0))
    return next(step for step in steps if step >= value)


def nice_step(n: int) -> int:
    """Return a round distance that puts at most five ticks on 0..n."""
    power = int(10 ** int(math.log10(max(n / 5, 1))))
    return next((power * factor for factor in (1, 2, 5) if n / (power * factor) <= 5), 10 * power)


def smoothed(points: Points) -> list[tuple[float, float]]:
    """Return the running mean of a curve."""
    means: list[tuple[float, float]] = []
    for x, y in points:
        before = means[-1][1] if means else y
        means.append((x, _SMOOTHING * before + (1 - _SMOOTHING) * y))
    return means
