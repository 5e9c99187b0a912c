"""Classify, step 1: which class the lesion or study in view has."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QToolButton, QWidget

from napari_medseg.session.labelling import LESION, STUDY, LabelController
from napari_medseg.widgets.class_list import ClassList
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.step import button, column, dim, row, tool_button

_KINDS = {
    LESION: ("Lesion", "Label the selected lesion"),
    STUDY: ("Study", "Label the patient's open scans as a whole"),
}


class LabelPanel(QWidget):
    """What is labelled, the list of classes, and where the cases are.

    Parameters
    ----------
    controller : LabelController
        Does the work.
    """

    def __init__(self, controller: LabelController) -> None:
        super().__init__()
        self.controller, self.session = controller, controller.session
        self._kinds: dict[str, QToolButton] = {}
        self._build()
        controller.changed.connect(self.draw)
        events = self.session.events
        for event in (events.work, events.lesions, events.active_label):
            event.connect(self.draw)
        controller.editor.stepped.connect(self.draw)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._folder.setIcon(icon("folder", look.text, off=look.faint))
        self.list.set_look(look)

    def draw(self, *_values: object) -> None:
        """Draw what the controller knows now."""
        for target, made in self._kinds.items():
            made.setChecked(target == self.controller.target)
        work = self.session.work
        n_scans = 0 if work is None else len(self.controller.studies.available(work))
        self._all.setVisible(self.controller.target == STUDY and n_scans > 1)
        self._all.setText(f"All {n_scans} open scans of this patient")
        self._all.setChecked(self.controller.takes_all)
        self._what.setText(self._sentence())
        n = sum(case.card.task == self.controller.task for case in self.controller.stored())
        self._n.setText("No case yet" if n == 0 else f"{n} case{'s' if n > 1 else ''} in your library")
        self._folder.setEnabled(n > 0)
        self.list.draw()

    def _build(self) -> None:
        self._what, self._n, self.list = dim(), dim(), ClassList(self.controller)
        for target, (text, tip) in _KINDS.items():
            made = tool_button(text, tip)
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
            made.clicked.connect(partial(self._on_kind, target))
            self._kinds[target] = made
        self._all = QCheckBox()
        self._all.setToolTip(
            "A study is all open scans of a patient: views, sequences, modalities.\nOff: this scan alone"
        )
        self._all.clicked.connect(self._on_all)
        self._folder = button("Show", "Show the folder with your labelled cases: pictures, cards and excerpts of scans")
        self._folder.clicked.connect(self._on_folder)
        layout = column(self)
        layout.addLayout(row(*self._kinds.values()))
        layout.addWidget(self._all)
        layout.addWidget(self._what)
        layout.addWidget(self.list)
        layout.addLayout(row(self._n, self._folder, stretch=0))

    def _sentence(self) -> str:
        what, given = self.controller.describe(), self.controller.given()
        if self.session.volume is None:
            return "Open a scan first."
        if not what:
            return "Segment or paint a lesion first, then click its class."
        if given:
            return f"{what} is '{given}'. Click it again to take that back."
        return f"{what}: click its class." if self.controller.classes() else f"{what}: add the classes to tell apart."

    def _on_kind(self, target: str, _checked: bool = False) -> None:
        self.controller.target = target

    def _on_all(self, takes_all: bool) -> None:
        self.controller.takes_all = takes_all

    def _on_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.controller.cases.root)))
