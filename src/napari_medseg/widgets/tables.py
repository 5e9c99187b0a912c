"""The one make of table in the dock and its windows: rows to select, no grid, one column that takes the room left."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

ROW_HEIGHT = 26
TO_THE_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
"""How numbers stand in a cell."""


def table_with(
    headings: Sequence[tuple[str, str]], *, name: str, stretched: int = 0, row_height: int = ROW_HEIGHT
) -> QTableWidget:
    """Return an empty table that nobody edits.

    Parameters
    ----------
    headings : sequence of (str, str)
        Title and tooltip of each column; without any title the headings are hidden.
    name : str
        What a screen reader calls the table.
    stretched : int
        The column that takes the room that is left; the others are as wide as what they hold.
    row_height : int
        In pixels.
    """
    table = QTableWidget(0, len(headings))
    table.setAccessibleName(name)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(row_height)
    table.setShowGrid(False)
    table.setIconSize(QSize(16, 16))
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    header = table.horizontalHeader()
    header.setMinimumSectionSize(20)
    header.setVisible(any(title for title, _ in headings))
    for at, (title, tip) in enumerate(headings):
        heading = QTableWidgetItem(title)
        heading.setToolTip(tip)
        table.setHorizontalHeaderItem(at, heading)
        mode = QHeaderView.ResizeMode.Stretch if at == stretched else QHeaderView.ResizeMode.ResizeToContents
        header.setSectionResizeMode(at, mode)
    return table


def fit_rows(table: QTableWidget, most: int) -> None:
    """Make a table as high as its rows, and at most as high as so many of them; hide it while it has none."""
    n_rows = min(most, table.rowCount())
    n_headings = 0 if table.horizontalHeader().isHidden() else 1
    table.setFixedHeight((n_rows + n_headings) * table.verticalHeader().defaultSectionSize() + 4)
    table.setVisible(table.rowCount() > 0)
