"""Carries answers from worker threads to the GUI thread."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, Signal


class GuiThread(QObject):
    """Call it with a function from any thread: the function runs on the GUI thread a moment later."""

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def __call__(self, call: Callable[[], None]) -> None:
        """Run a function on the GUI thread; it is dropped once the window is gone."""
        try:
            self._posted.emit(call)
        except RuntimeError:  # the window was closed while the worker still worked
            return

    def _run(self, call: Callable[[], None]) -> None:
        call()
