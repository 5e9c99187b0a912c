"""The table of lesions: shown, colour, name, volume, locked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHeaderView,
    QMenu,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_medseg.imaging.amounts import millilitres
from napari_medseg.session.lesions import Lesion
from napari_medseg.session.services import Services
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.step import dim
from napari_medseg.widgets.tables import TO_THE_RIGHT, fit_rows, table_with
from napari_medseg.widgets.windows import unit_of

VISIBLE, COLOUR, NAME, VOLUME, LOCKED, DELETE = range(6)
_ROW, _MOST_ROWS = 28, 6


class LesionTable(QWidget):
    """One row a lesion; selecting a row selects the lesion and shows its middle.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    bridge : LayerBridge
        Moves the viewer to a lesion.
    """

    def __init__(self, services: Services, bridge: LayerBridge) -> None:
        super().__init__()
        self.services, self.session, self.bridge = services, services.session, bridge
        self._look: Look | None = None
        self._is_drawing = False
        self._build()
        self.session.events.lesions.connect(self._draw)
        self.session.events.active_label.connect(self._draw)
        services.editor.stepped.connect(self._draw)
        self._draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self._draw()

    def _build(self) -> None:
        table = self._table = table_with([("", "")] * 6, name="Lesions", stretched=NAME, row_height=_ROW)
        table.setObjectName("lesions")
        table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        table.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        for column, width in ((VISIBLE, 28), (COLOUR, 26), (LOCKED, 28), (DELETE, 28)):
            table.horizontalHeader().setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            table.setColumnWidth(column, width)
        table.cellClicked.connect(self._on_clicked)
        table.itemChanged.connect(self._on_edited)
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.customContextMenuRequested.connect(self._on_menu)
        self._empty = dim("No lesion yet.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._empty)
        layout.addWidget(table)

    def _draw(self, *_values: object) -> None:
        lesions = self.session.lesions
        self._is_drawing = True
        self._table.setRowCount(len(lesions))
        for index, lesion in enumerate(lesions):
            self._draw_row(index, lesion)
            if lesion.label == self.session.active_label:
                self._table.selectRow(index)
        self._is_drawing = False
        self._empty.setVisible(not lesions)
        fit_rows(self._table, _MOST_ROWS)

    def _draw_row(self, index: int, lesion: Lesion) -> None:
        look = self._look
        ink, faint = (look.text, look.faint) if look is not None else ("#ffffff", "#888888")
        eye = icon("eye", ink) if lesion.visible else icon("eye-off", faint)
        key = icon("lock", ink) if lesion.locked else icon("unlock", faint)
        self._cell(index, VISIBLE, tip="Hide" if lesion.visible else "Show", picture=eye)
        self._cell(index, COLOUR, tip="Change the colour", picture=_swatch(lesion.colour))
        self._cell(index, NAME, text=lesion.name, tip=partial(self._name_tip, lesion.label), editable=True)
        ml = self.services.table.volume_ml(lesion.label)
        size_tip = partial(self._size_tip, lesion.label)
        volume = self._cell(index, VOLUME, text=millilitres(ml) if ml else "empty", tip=size_tip)
        volume.setTextAlignment(TO_THE_RIGHT)
        lock_tip = "Unlock" if lesion.locked else "Lock: no prediction or brush changes it"
        self._cell(index, LOCKED, tip=lock_tip, picture=key)
        self._cell(index, DELETE, tip="Delete this lesion (undo brings it back)", picture=icon("trash", faint))

    def _size_tip(self, label: int) -> str:
        measure, volume = self.services.table.measure(label), self.session.volume
        if measure is None or volume is None:
            return "Empty: click on it in the scan, or paint"
        return measure.sentence(unit_of(volume))

    def _name_tip(self, label: int) -> str:
        return f"{self._size_tip(label)}\nDouble click to rename"

    def _cell(
        self,
        index: int,
        column: int,
        *,
        text: str = "",
        tip: str | Callable[[], str] = "",
        picture: QIcon | None = None,
        editable: bool = False,
    ) -> QTableWidgetItem:
        item = self._table.item(index, column)
        if not isinstance(item, _Cell):
            item = _Cell()
            self._table.setItem(index, column, item)
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if editable else flags)
        item.setText(text)
        item.tip = tip
        if picture is not None:
            item.setIcon(picture)
        return item

    def _on_clicked(self, index: int, column: int) -> None:
        if index >= len(self.session.lesions):
            return
        lesion, table = self.session.lesions[index], self.services.table
        if column == VISIBLE:
            table.show(lesion.label, not lesion.visible)
        elif column == LOCKED:
            table.lock(lesion.label, not lesion.locked)
        elif column == DELETE:
            table.delete(lesion.label)
        elif column == COLOUR:
            self._recolour(lesion)
        else:
            self._go_to(lesion)

    def _go_to(self, lesion: Lesion) -> None:
        self.services.table.select(lesion.label)
        centre = self.services.table.centre_of(lesion.label)
        if centre is not None:
            self.bridge.jump_to(centre)

    def _on_edited(self, item: QTableWidgetItem) -> None:
        if self._is_drawing or item.column() != NAME or item.row() >= len(self.session.lesions):
            return
        self.services.table.rename(self.session.lesions[item.row()].label, item.text())
        self._draw()

    def _on_menu(self, at: QPoint) -> None:
        item = self._table.itemAt(at)
        if item is None:
            return
        lesion, menu = self.session.lesions[item.row()], QMenu(self)
        menu.addAction("Go to its middle", lambda: self._go_to(lesion))
        menu.addAction("Rename", lambda: self._table.editItem(self._table.item(item.row(), NAME)))
        menu.addAction("Colour…", lambda: self._recolour(lesion))
        menu.addAction("Delete", lambda: self.services.table.delete(lesion.label))
        menu.exec(self._table.viewport().mapToGlobal(at))

    def _recolour(self, lesion: Lesion) -> None:
        colour = QColorDialog.getColor(QColor(lesion.colour), self, f"Colour of {lesion.name}")
        if colour.isValid():
            self.services.table.recolour(lesion.label, colour.name())


class _Cell(QTableWidgetItem):
    """A cell whose tooltip may be worked out when it is asked for."""

    tip: str | Callable[[], str] = ""

    def data(self, role: int) -> Any:
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.tip if isinstance(self.tip, str) else self.tip()
        return super().data(role)


def _swatch(colour: str) -> QIcon:
    square = QPixmap(14, 14)
    square.fill(QColor(colour))
    made = QIcon(square)
    made.addPixmap(square, QIcon.Mode.Selected)  # Qt would tint the colour of the selected row
    return made
