"""The dock's pages: tabs above, one page below; pages but the first are made when they are first looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QStackedWidget, QTabBar, QVBoxLayout, QWidget

from napari_medseg.widgets.look import Look


class Pages(QWidget):
    """Several pages that scroll, one at a time.

    Parameters
    ----------
    first : str
        Name of the page that shows at once.
    page : QWidget
        That page.
    """

    def __init__(self, first: str, page: QWidget) -> None:
        super().__init__()
        self._makers: list[Callable[[], QWidget] | None] = []
        self._made: dict[int, Any] = {}
        self._look: Look | None = None
        self._tabs, self._stack = QTabBar(), QStackedWidget()
        self._tabs.setDrawBase(False)
        self._tabs.setExpanding(False)
        self._tabs.setUsesScrollButtons(False)
        self._tabs.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._tabs.setAccessibleName("Pages")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._tabs)
        layout.addWidget(self._stack, 1)
        self.add(first, lambda: page)
        self._show(0)
        self._tabs.currentChanged.connect(self._show)

    @property
    def names(self) -> tuple[str, ...]:
        """The pages, from left to right."""
        return tuple(self._tabs.tabText(k) for k in range(self._tabs.count()))

    def add(self, name: str, make: Callable[[], QWidget], tip: str = "") -> None:
        """Add a page; `make` is called when it is first looked at."""
        self._makers.append(make)
        self._stack.addWidget(scrolling())
        at = self._tabs.addTab(name)
        self._tabs.setTabToolTip(at, tip)

    @property
    def name(self) -> str:
        """The page that shows."""
        return str(self._tabs.tabText(self._tabs.currentIndex()))

    def choose(self, name: str) -> Any:
        """Show a page and return it."""
        at = self.names.index(name)
        self._tabs.setCurrentIndex(at)
        return self._made[at]

    def set_look(self, look: Look) -> None:
        """Redraw the pages that were made in the theme's colours."""
        self._look = look
        for page in self._made.values():
            if hasattr(page, "set_look"):
                page.set_look(look)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Give a page the height that its wrapped texts need: a scroll area asks for the least height alone."""
        kinds = (QEvent.Type.LayoutRequest, QEvent.Type.Resize)
        if isinstance(watched, QWidget) and event is not None and event.type() in kinds and watched.hasHeightForWidth():
            needed = watched.heightForWidth(watched.width())
            if needed != watched.minimumHeight():
                watched.setMinimumHeight(needed)
        return bool(super().eventFilter(watched, event))

    def _show(self, at: int) -> None:
        make = self._makers[at]
        if make is not None:
            self._makers[at] = None
            page = make()
            page.setObjectName("steps")
            self._made[at] = page
            if self._look is not None and hasattr(page, "set_look"):
                page.set_look(self._look)
            area = self._stack.widget(at)
            assert isinstance(area, QScrollArea)
            area.setWidget(page)
            page.installEventFilter(self)
        self._stack.setCurrentIndex(at)


def scrolling() -> QScrollArea:
    """Return an area that scrolls its page up and down only."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
