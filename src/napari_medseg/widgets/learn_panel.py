"""Step 4: learn from the corrections, watch, and choose among versions."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_medseg.errors import MedSegError
from napari_medseg.learning.corrections_folder import why_gone
from napari_medseg.learning.settings import SHOWN_SETTINGS, FineTuneSettings
from napari_medseg.session.learn import LearnController
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.run_view import RunView
from napari_medseg.widgets.settings_form import SettingsForm
from napari_medseg.widgets.step import button, column, dim, row
from napari_medseg.widgets.version_list import VersionList

_RECOUNT_MS = 2000


class LearnPanel(QWidget):
    """'Fine-tune on corrections', its curve, the verdict, and the versions.

    Parameters
    ----------
    controller : LearnController
        Does the work.
    more : QWidget
        What else stands at the end of the step.
    """

    def __init__(self, controller: LearnController, *more: QWidget) -> None:
        super().__init__()
        self._further = more
        self.controller, self.session = controller, controller.session
        self._look: Look | None = None
        self._build()
        controller.changed.connect(self.draw)
        self.session.events.model_name.connect(self.draw)
        self.session.events.message.connect(self._on_message)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        for widget in (self._run, self._versions, *self._further):
            widget.set_look(look)
        self.draw()

    def draw(self, *_values: object) -> None:
        """Draw what the controller knows now."""
        n, is_running = self.controller.n_corrections(), self.controller.is_running
        self._count.setText(self._counted())
        self._strategy.setEnabled(not is_running)
        self.form.native.setEnabled(not is_running)
        self._run.draw(can_start=n > 0)
        self._versions.draw()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look for new corrections while the panel can be seen."""
        self._recount.start()
        self.draw()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Look no more."""
        self._recount.stop()
        super().hideEvent(event)

    def _build(self) -> None:
        self._count, self._strategy = dim(), QComboBox()
        for strategy in self.controller.strategies:
            self._strategy.addItem(strategy.caption, strategy)
            self._strategy.setItemData(self._strategy.count() - 1, strategy.description, Qt.ItemDataRole.ToolTipRole)
        self._strategy.currentIndexChanged.connect(self._on_strategy)
        self.form = SettingsForm(FineTuneSettings, SHOWN_SETTINGS)
        self.form.native.hide()
        self._more = button("More settings", "What the strategy otherwise chooses; empty fields stay automatic")
        self._more.setCheckable(True)
        self._more.toggled.connect(self.form.native.setVisible)
        start = button(
            "Fine-tune on corrections",
            "Teach the model your corrections. It is only used if it is better on cases it has not seen",
            role="main",
        )
        self._run = RunView(
            self.controller,
            start,
            self._begin,
            cancel_tip="Stop; nothing is changed, and a new start goes on from there",
        )
        self._versions = VersionList(self.controller)
        layout = column(self)
        layout.addWidget(self._count)
        layout.addLayout(row(QLabel("Strategy"), self._strategy, stretch=1))
        layout.addWidget(self._more)
        layout.addWidget(self.form.native)
        for widget in (self._run, self._versions, *self._further):
            layout.addWidget(widget)
        self._recount = QTimer(self)
        self._recount.setInterval(_RECOUNT_MS)
        self._recount.timeout.connect(self._on_recount)
        self._on_strategy()

    def _begin(self) -> None:
        try:
            options = self.form.arguments()
        except MedSegError as error:
            self.controller.session.message = str(error)
            return
        self.controller.start(self._strategy.currentData(), options)

    def _on_recount(self) -> None:
        if self._counted() != self._count.text():
            self.draw()

    def _on_message(self, _text: str) -> None:
        self._on_recount()

    def _on_strategy(self, _index: int = 0) -> None:
        self._strategy.setToolTip(self._strategy.currentData().description)

    def _counted(self) -> str:
        n, why = self.controller.n_corrections(), why_gone(self.controller.store.root)
        if n == 0:
            return f"{why[0].upper()}{why[1:]}." if why else "No correction yet: accept one first."
        return f"{n} corrected scan{'s' if n > 1 else ''} to learn from."
