"""One step of the dock: a numbered title with a hint, and a body that opens when it makes sense."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QMouseEvent
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import GAP, INDENT, Look
from napari_medseg.widgets.sentences import sentence


class Step(QFrame):
    """A numbered step with a body that the user can fold.

    Parameters
    ----------
    number : int
        1 to 5.
    title : str
        The step's name.
    body : QWidget
        What it shows when it is open.
    """

    def __init__(self, number: int, title: str, body: QWidget) -> None:
        super().__init__()
        self.title, self.body = title, body
        self._is_available, self._wants_open = False, True
        self._marks: dict[bool, QIcon] = {}
        self._build(number)

    @property
    def is_open(self) -> bool:
        """Whether the body shows."""
        return not self.body.isHidden()

    @property
    def hint(self) -> str:
        """The line under (or beside) the title."""
        return str(self._hint.text())

    def show_state(self, *, available: bool, hint: str = "", warning: str = "", is_open: bool | None = None) -> None:
        """Show whether the step makes sense now, in one line why not or what is there, and what to be careful about."""
        if available != self._is_available:
            self._is_available, self._wants_open = available, True
        if is_open is not None:
            self._wants_open = is_open
        self._number.setProperty("live", available)
        self._hint.setText(hint)
        self._hint.setVisible(bool(hint))
        self._warning.setText(sentence(warning))
        self._warning.setVisible(bool(warning))
        self._title.setProperty("role", "title" if available else "dim")
        for label in (self._number, self._title):
            repolish(label)
        self._header.setCursor(Qt.CursorShape.PointingHandCursor if available else Qt.CursorShape.ArrowCursor)
        self._refresh()

    def set_look(self, look: Look) -> None:
        """Redraw the fold mark in the theme's colours."""
        self._marks = {True: icon("down", look.dim), False: icon("open", look.dim)}
        self._refresh()

    def _build(self, number: int) -> None:
        self.setProperty("role", "step")
        self._number, self._title, self._hint = QLabel(str(number)), QLabel(self.title), QLabel()
        self._number.setProperty("role", "number")
        self._number.setFixedSize(20, 20)
        self._number.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint.setProperty("role", "dim")
        self._warning = QLabel()
        self._warning.setProperty("role", "warning")
        for label in (self._hint, self._warning):
            label.setWordWrap(True)
            label.hide()
        self._fold = QToolButton()
        self._fold.setProperty("role", "plain")
        self._fold.setIconSize(QSize(14, 14))
        self._fold.setToolTip("Show or hide this step")
        self._fold.clicked.connect(self._on_fold)
        self._header = Header()
        self._header.clicked.connect(self._on_fold)
        row = QHBoxLayout(self._header)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for widget in (self._number, self._title):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self._fold)
        column = QVBoxLayout(self)
        column.setContentsMargins(INDENT, 8, INDENT, 8)
        column.setSpacing(GAP)
        column.addWidget(self._header)
        column.addWidget(self._hint)
        column.addWidget(self._warning)
        column.addWidget(self.body)
        # Not Maximum: that would be the height of texts before they wrap, and long ones squeezed what stands below.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    def _on_fold(self) -> None:
        if self._is_available:
            self._wants_open = not self._wants_open
            self._refresh()

    def _refresh(self) -> None:
        is_open = self._is_available and self._wants_open
        self.body.setVisible(is_open)
        self._fold.setVisible(self._is_available)
        if self._marks:
            self._fold.setIcon(self._marks[is_open])


class Header(QWidget):
    """A row that can be clicked."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "header")

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """Fold or unfold."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()


def button(text: str, tip: str = "", *, role: str = "") -> QPushButton:
    """Return a push button; role ``"main"`` marks what to do next, ``"act"`` what ends a step."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.setProperty("role", role)
    return made


def tool_button(text: str, tip: str) -> QToolButton:
    """Return a checkable tool with its icon above its name."""
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setCheckable(True)
    made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
    made.setIconSize(QSize(20, 20))
    made.setCursor(Qt.CursorShape.PointingHandCursor)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return made


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Return widgets side by side; ``stretch`` says which one takes the room that is left."""
    made = QHBoxLayout()
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(GAP)
    for index, widget in enumerate(widgets):
        made.addWidget(widget, 1 if index == stretch else 0)
    return made


def dim(text: str = "", role: str = "dim") -> QLabel:
    """Return a quiet line of text that wraps."""
    made = QLabel(text)
    made.setProperty("role", role)
    made.setWordWrap(True)
    return made


def column(widget: QWidget) -> QVBoxLayout:
    """Return the layout of a step's body."""
    made = QVBoxLayout(widget)
    made.setContentsMargins(0, 2, 0, 2)
    made.setSpacing(GAP)
    return made


def repolish(widget: QWidget) -> None:
    """Let the style sheet see a property that changed."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)
