"""The dock's icons: a few strokes on a 24 x 24 grid, drawn in the theme's own colour."""

from __future__ import annotations

from functools import lru_cache

from qtpy.QtCore import QByteArray, QRectF, Qt
from qtpy.QtGui import QIcon, QPainter, QPixmap
from qtpy.QtSvg import QSvgRenderer

_PX = 64
_STROKES = {
    "file": "<path d='M6 3h8l5 5v13H6z M14 3v5h5'/>",
    "folder": "<path d='M3 6h6l2 2h10v11H3z'/>",
    "mask": "<path d='M4 4h16v16H4z'/><path fill='{c}' stroke='none' d='M8 14c0-4 3-6 5-5s4 3 3 5-3 3-5 3-3-1-3-3z'/>",
    "sample": (
        "<ellipse cx='12' cy='12' rx='9' ry='6.5'/><circle fill='{c}' stroke='none' cx='14.5' cy='11.5' r='2.2'/>"
    ),
    "click": "<circle cx='12' cy='12' r='3' fill='{c}' stroke='none'/><path d='M12 3v4 M12 17v4 M3 12h4 M17 12h4'/>",
    "box": "<path stroke-dasharray='3.2 2.6' d='M4 5.5h16v13H4z'/>",
    "scribble": "<path d='M4 17c2-8 5-10 6-7s-3 7 0 7 4-9 6-9 0 7 4 6'/>",
    "lasso": (
        "<ellipse stroke-dasharray='3.2 2.6' cx='12.5' cy='9' rx='8.5' ry='5.5'/><path d='M6.5 13.5c-2.5 2 .5 4-.5 7'/>"
    ),
    "wand": "<path d='M5 19 15 9 M17.5 3v4 M15.5 5h4 M20 11v3 M18.5 12.5h3 M9.5 4v3 M8 5.5h3'/>",
    "plus": "<path d='M12 5v14 M5 12h14'/>",
    "brush": (
        "<path d='M20 4 10.5 13.5'/><path d='M13 16c0 3-3 4.5-8 4 1.5-1 1.5-2 2-4 .6-2.2 2-3 3.5-2.5S13 14.5 13 16z'/>"
    ),
    "eraser": "<path d='M9 20h11 M4.5 14.5 13 6l6 6-8 8H8z M9 10.5l6 6'/>",
    "fill": (
        "<path d='M5 12 12 5l7 7-7 7z M9 8 6.5 5.5'/>"
        "<path fill='{c}' stroke='none' d='M20.5 16c1 1.5 1.5 2.3 1.5 3.2a1.5 1.5 0 0 1-3 0c0-.9.5-1.7 1.5-3.2z'/>"
    ),
    "polygon": "<path d='M5 9l7-5 7 6-3 9H8z'/>",
    "undo": "<path d='M8 5 4 9l4 4 M4 9h10a6 5 0 0 1 0 10H9'/>",
    "redo": "<path d='M16 5l4 4-4 4 M20 9H10a6 5 0 0 0 0 10h5'/>",
    "check": "<path d='M5 12.5 10 17.5 19.5 7'/>",
    "trash": "<path d='M5 7h14 M9.5 7V4.5h5V7 M7 7l1 13h8l1-13 M10.5 11v5.5 M13.5 11v5.5'/>",
    "eye": (
        "<path d='M2.5 12C5 7.5 8.5 6 12 6s7 1.5 9.5 6C19 16.5 15.5 18 12 18s-7-1.5-9.5-6z'/>"
        "<circle cx='12' cy='12' r='2.8'/>"
    ),
    "eye-off": (
        "<path d='M2.5 12C5 7.5 8.5 6 12 6s7 1.5 9.5 6C19 16.5 15.5 18 12 18s-7-1.5-9.5-6z'/>"
        "<path d='M4.5 19.5l15-15'/>"
    ),
    "lock": "<path d='M6 11h12v9H6z M8.5 11V8a3.5 3.5 0 0 1 7 0v3'/>",
    "unlock": "<path d='M6 11h12v9H6z M8.5 11V7.5a3.5 3.5 0 0 1 6.8-1.2'/>",
    "save": "<path d='M12 4v11 M7.5 10.5 12 15l4.5-4.5 M4 16v4h16v-4'/>",
    "open": "<path d='M9 6l6 6-6 6'/>",
    "down": "<path d='M6 9l6 6 6-6'/>",
    "cancel": "<path d='M6 6l12 12 M18 6 6 18'/>",
}


@lru_cache(maxsize=256)
def pixmap(name: str, colour: str, px: int = _PX) -> QPixmap:
    """Return a drawing in one colour.

    Parameters
    ----------
    name : str
        Which drawing.
    colour : str
        ``#rrggbb``.
    px : int
        Width and height.
    """
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{colour}' "
        f"stroke-width='1.8' stroke-linecap='round' stroke-linejoin='round'>{_STROKES[name].format(c=colour)}</svg>"
    )
    drawn = QPixmap(px, px)
    drawn.fill(Qt.GlobalColor.transparent)
    painter = QPainter(drawn)
    QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, px, px))
    painter.end()
    return drawn


def icon(name: str, colour: str, *, on: str | None = None, off: str | None = None) -> QIcon:
    """Return an icon in one colour, in another where its button is checked, and a fainter one where it is disabled."""
    made = QIcon()
    made.addPixmap(pixmap(name, colour), QIcon.Mode.Normal, QIcon.State.Off)
    made.addPixmap(pixmap(name, colour), QIcon.Mode.Selected, QIcon.State.Off)
    made.addPixmap(pixmap(name, on or colour), QIcon.Mode.Normal, QIcon.State.On)
    for state in (QIcon.State.Off, QIcon.State.On):
        made.addPixmap(pixmap(name, off or colour), QIcon.Mode.Disabled, state)
    return made
