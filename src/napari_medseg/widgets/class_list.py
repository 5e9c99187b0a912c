"""The list of classes: colour, name, count and key of each; one click gives the class."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QKeySequence, QPainter, QPaintEvent
from qtpy.QtWidgets import QLabel, QLineEdit, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_medseg.session.labelling import ClassRow, LabelController
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.step import button, repolish, row

MOST_KEYS = 9
_ROW, _COUNT, _KEY = 30, 30, 44


class ClassList(QWidget):
    """One row a class, and a line in which classes are added and renamed.

    Parameters
    ----------
    controller : LabelController
        Keeps the list.
    """

    def __init__(self, controller: LabelController) -> None:
        super().__init__()
        self.controller = controller
        self._drawn: tuple[ClassRow, ...] = ()
        self._renamed = ""
        self._buttons: dict[str, QPushButton] = {}
        self._rows = QVBoxLayout()
        self._rows.setSpacing(3)
        self._name, self._add = QLineEdit(), button("Add", "Add this class to the list")
        self._name.setPlaceholderText("New class")
        self._name.setToolTip("What you want to tell apart: benign, malignant, ...")
        self._name.returnPressed.connect(self._on_add)
        self._add.clicked.connect(self._on_add)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GAP)
        layout.addLayout(self._rows)
        layout.addLayout(row(self._name, self._add, stretch=0))

    def set_look(self, _look: Look) -> None:
        """Redraw in the theme's colours."""
        self._drawn = ()
        self.draw()

    def draw(self) -> None:
        """Draw the controller's list."""
        rows, can_assign = self.controller.rows(), bool(self.controller.describe())
        if rows != self._drawn:
            self._drawn = rows
            self._buttons.clear()
            while (item := self._rows.takeAt(0)) is not None:
                widget = item.widget()
                if widget is not None:
                    widget.setParent(None)
                    widget.deleteLater()
            for each in rows:
                self._rows.addWidget(self._line(each))
        for made in self._buttons.values():
            made.setEnabled(can_assign)

    def rename(self, name: str) -> None:
        """Take a class's name into the line below, to be changed there."""
        self._renamed = name
        self._name.setText(name)
        self._name.selectAll()
        self._name.setFocus()
        self._add.setText("Rename")

    def _line(self, each: ClassRow) -> QWidget:
        line = QWidget()
        line.setFixedHeight(_ROW)
        name = button(each.name, self._tip(each))
        name.setProperty("role", "class")
        name.setCheckable(True)
        name.setChecked(each.is_given)
        name.clicked.connect(partial(self._on_clicked, each))
        name.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        name.customContextMenuRequested.connect(partial(self._on_menu, each, name))
        repolish(name)
        self._buttons[each.name] = name
        count = QLabel(str(each.count))
        count.setFixedWidth(_COUNT)
        count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        count.setToolTip(f"{each.count} labelled cases")
        key = QLabel(_key_text(each.number))
        key.setProperty("role", "dim")
        key.setFixedWidth(_KEY)
        key.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        line.setLayout(row(_Swatch(each.colour), name, count, key, stretch=1))
        return line

    def _tip(self, each: ClassRow) -> str:
        key = _key_text(each.number)
        return f"Label it '{each.name}'; right click to rename or remove" + (f"\nShortcut: {key}" if key else "")

    def _on_clicked(self, each: ClassRow, _checked: bool = False) -> None:
        self._drawn = ()  # a click checks the button; what it says is the controller's business
        if each.is_given:
            self.controller.take_back()
        else:
            self.controller.assign(each.name)
        self.draw()

    def _on_menu(self, each: ClassRow, over: QPushButton, at: QPoint) -> None:
        menu = QMenu(self)
        menu.addAction("Rename", partial(self.rename, each.name))
        menu.addAction("Remove", partial(self.controller.remove_class, each.name))
        menu.exec(over.mapToGlobal(at))

    def _on_add(self) -> None:
        text, old = self._name.text(), self._renamed
        done = self.controller.rename_class(old, text) if old else self.controller.add_class(text)
        if done:
            self._renamed = ""
            self._name.clear()
            self._add.setText("Add")


class _Swatch(QWidget):
    """A dot in a class's colour."""

    def __init__(self, colour: str) -> None:
        super().__init__()
        self._colour = colour
        self.setFixedSize(14, 14)

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._colour))
        painter.drawEllipse(1, 1, 12, 12)
        painter.end()


def key_of(number: int) -> str:
    """Return the key that gives the class at this place of the list; empty after the ninth."""
    return f"Alt+{number}" if number <= MOST_KEYS else ""


def _key_text(number: int) -> str:
    key = key_of(number)
    return QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText) if key else ""
