"""Offers the scans of a folder with picture, description, modality, slices and spacing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_medseg.session.offers import Offer
from napari_medseg.session.services import Services
from napari_medseg.widgets.step import button

_PICTURE = 56
_MOST_ROWS = 5


class SeriesChooser(QWidget):
    """A list of scans; a double click, Enter or the button opens one. Hidden where there is nothing to choose.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.opening, self.session = services.opening, services.session
        self._drawn: tuple[Offer, ...] = ()
        self._build()
        self.session.events.offers.connect(self._draw)
        self.session.events.volume.connect(self._mark_open)
        self._draw()

    def _build(self) -> None:
        self._list = QListWidget()
        self._list.setIconSize(QSize(_PICTURE, _PICTURE))
        self._list.setSpacing(2)
        self._list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.setVerticalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self._list.itemActivated.connect(self._on_open)
        self._list.itemDoubleClicked.connect(self._on_open)
        self._list.currentRowChanged.connect(self._on_row)
        self._open = button("Open this series", "Also: a double click, or Enter", role="main")
        self._open.clicked.connect(self._on_open)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list)
        layout.addWidget(self._open)

    def _draw(self, _offers: object = None) -> None:
        offers = self.session.offers
        self.setVisible(bool(offers))
        if offers is self._drawn:
            return
        self._drawn = offers
        self._list.clear()
        for offer in offers:
            self._list.addItem(_item(offer))
        if offers:
            self._list.setCurrentRow(0)
            row_height = self._list.item(0).sizeHint().height() + 2 * self._list.spacing()
            self._list.setFixedHeight(min(_MOST_ROWS, len(offers)) * row_height + 2 * self._list.spacing() + 4)
            self._list.setFocus()

    def _mark_open(self, _volume: object = None) -> None:
        for row, offer in enumerate(self._drawn):
            font = self._list.item(row).font()
            font.setBold(self.opening.is_open(offer))
            self._list.item(row).setFont(font)

    def _on_row(self, row: int) -> None:
        self._open.setEnabled(0 <= row < len(self._drawn) and not self._drawn[row].refusal)

    def _on_open(self, _item: object = None) -> None:
        row = self._list.currentRow()
        # A double click is an activation too, and one of them is enough.
        if 0 <= row < len(self._drawn) and self.session.busy is None:
            self.opening.open_offer(self._drawn[row])


def offer_text(offer: Offer) -> str:
    """Return the lines that tell one scan from another."""
    title = " · ".join(part for part in (offer.modality, offer.name) if part)
    columns, rows, slices = offer.shape
    n_slices = "1 slice" if slices == 1 else f"{slices} slices"
    spacing = "×".join(f"{step:.2f}".rstrip("0").rstrip(".") for step in offer.spacing_mm)
    about = f"{n_slices} of {columns}×{rows}"
    if offer.refusal:
        return f"{title}\n{about}\n⚠ Cannot be opened"
    notes = "1 note" if len(offer.warnings) == 1 else f"{len(offer.warnings)} notes"
    return f"{title}\n{about}\n{spacing} mm" + (f"  ⚠ {notes}" if offer.warnings else "")


def _item(offer: Offer) -> QListWidgetItem:
    icon, picture = QIcon(), _pixmap(offer.picture)
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):  # a chosen picture keeps its greys
        icon.addPixmap(picture, mode)
    item = QListWidgetItem(icon, offer_text(offer))
    tips = [offer.name, offer.refusal, *offer.warnings]
    item.setToolTip("\n".join(tip for tip in tips if tip))
    item.setSizeHint(QSize(10, _PICTURE + 8))
    if offer.refusal:
        item.setForeground(Qt.GlobalColor.gray)
    return item


def _pixmap(grey: NDArray[np.uint8]) -> QPixmap:
    """Return a square picture, black where the slice does not fill it."""
    grey = np.ascontiguousarray(grey)
    height, width = grey.shape
    image = QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
    mode = Qt.AspectRatioMode.KeepAspectRatio
    small = image.scaled(_PICTURE, _PICTURE, mode, Qt.TransformationMode.SmoothTransformation)
    square = QPixmap(_PICTURE, _PICTURE)
    square.fill(Qt.GlobalColor.black)
    painter = QPainter(square)
    painter.drawImage((_PICTURE - small.width()) // 2, (_PICTURE - small.height()) // 2, small)
    painter.end()
    return square
