"""The accepted corrections: what each took, pinning them, old against new version; what learning bought, as CSV too."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QTableWidgetItem, QVBoxLayout, QWidget

from napari_medseg.learning.corrections_folder import in_words
from napari_medseg.learning.effort import Effort
from napari_medseg.session.compare import CompareController
from napari_medseg.session.learn import LearnController
from napari_medseg.widgets.effort_plot import EffortPlot
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.step import button, dim, row
from napari_medseg.widgets.tables import TO_THE_RIGHT, fit_rows, table_with

PIN, SCAN, SECONDS, VOXELS, CLICKS = range(5)
_MOST_ROWS = 6
_NO_CASE = "No correction yet: accept one first."
_HEADINGS = {
    PIN: ("", "Pinned cases do not teach: no new version may get worse on them. Click to pin or unpin."),
    SCAN: ("Scan", "The corrected scan, newest at the top"),
    SECONDS: ("s", "Seconds that the correction took, pauses left out"),
    VOXELS: ("voxels", "Voxels that you changed in the proposal"),
    CLICKS: ("clicks", "Clicks, boxes, scribbles and lassos that you gave"),
}


class EffortPanel(QWidget):
    """One row a correction, and the means of each version below.

    Parameters
    ----------
    controller : CompareController
        Knows the corrections.
    learning : LearnController
        Tells when there are new ones.
    """

    def __init__(self, controller: CompareController, learning: LearnController) -> None:
        super().__init__()
        self.controller, self.learning = controller, learning
        self._cases: tuple[Effort, ...] = ()
        self._look: Look | None = None
        self._build()
        learning.changed.connect(self._on_changed)
        controller.changed.connect(self.draw)

    @property
    def selected(self) -> str:
        """Name of the correction that is selected; the newest one if none is, empty where there is none."""
        at = self._table.currentRow()
        if not self._cases:
            return ""
        return self._cases[at if 0 <= at < len(self._cases) else 0].correction

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        self._plot.set_look(look)
        self._compare.setIcon(icon("eye", look.text, off=look.faint))
        self._remove.setIcon(icon("trash", look.text, off=look.faint))
        self._save.setIcon(icon("save", look.text, off=look.faint))
        self._show.setIcon(icon("folder", look.text))
        if self._body.isVisible():
            self.draw()

    def draw(self) -> None:
        """Read the cards and draw them."""
        self._cases = self.controller.cases()[::-1]
        self._table.setRowCount(len(self._cases))
        for index, case in enumerate(self._cases):
            self._draw_row(index, case)
        fit_rows(self._table, _MOST_ROWS)
        trouble = self.controller.trouble()
        self._note.setText(_breakable(f"{trouble[:1].upper()}{trouble[1:]}." if trouble else _NO_CASE))
        self._note.setVisible(bool(trouble) or not self._cases)
        self._where.setText(_breakable(f"Kept in {in_words(self.controller.folder)}"))
        self._plot.show_means(self.controller.means())
        for each in (self._save, self._remove):
            each.setEnabled(bool(self._cases))
        self._compare.setEnabled(bool(self._cases) and self.controller.versions() is not None)

    def _build(self) -> None:
        self._open = button("Corrections and what they bought", "What corrections took before and after each version")
        self._open.setCheckable(True)
        self._open.toggled.connect(self._on_open)
        self._body, self._plot = QWidget(), EffortPlot()
        self._note = dim()
        self._table = table_with([*_HEADINGS.values()], name="Accepted corrections", stretched=SCAN)
        self._table.cellClicked.connect(self._on_clicked)
        self._compare = button(
            "Compare versions", "Show what the old and the new version answer on the selected case, side by side"
        )
        self._compare.clicked.connect(lambda: self.controller.compare(self.selected))
        self._remove = button("Remove", "Let the selected case teach no more; its folder is kept, in 'removed'")
        self._remove.clicked.connect(lambda: self.controller.remove(self.selected))
        self._save = button("Save as CSV", "One line a correction: seconds, voxels, clicks, version")
        self._save.clicked.connect(self._on_save)
        self._where = dim()
        self._show = button("Open folder", "Show the corrections as they lie on the disk: one folder each")
        self._show.clicked.connect(self._on_show)
        self._move = button("Keep elsewhere…", "Choose another folder for corrections, as one on a shared drive")
        self._move.clicked.connect(self._on_move)
        body = QVBoxLayout(self._body)
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(GAP)
        for widget in (self._note, self._table):
            body.addWidget(widget)
        body.addLayout(row(self._compare, self._remove, stretch=0))
        body.addWidget(self._plot)
        body.addWidget(self._save)
        body.addWidget(self._where)
        body.addLayout(row(self._show, self._move, stretch=1))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GAP)
        layout.addWidget(self._open)
        layout.addWidget(self._body)
        self._body.hide()

    def _draw_row(self, index: int, case: Effort) -> None:
        about = f"{case.correction}: proposed by {case.model}, accepted {case.created[:16].replace('T', ' ')} UTC"
        texts = {SCAN: case.scan, SECONDS: f"{case.seconds:.0f}", VOXELS: str(case.voxels), CLICKS: str(case.clicks)}
        for column in _HEADINGS:
            item = QTableWidgetItem(texts.get(column, ""))
            item.setToolTip(about)
            if column > SCAN:
                item.setTextAlignment(TO_THE_RIGHT)
            self._table.setItem(index, column, item)
        pin = self._table.item(index, PIN)
        if self._look is not None:
            pin.setIcon(icon("lock", self._look.accent) if case.pinned else icon("unlock", self._look.faint))
        pin.setToolTip("Pinned: click to let it teach again" if case.pinned else "Pin: no version may get worse on it")
        pin.setData(Qt.ItemDataRole.AccessibleTextRole, "pinned" if case.pinned else "not pinned")

    def _on_open(self, is_open: bool) -> None:
        self._body.setVisible(is_open)
        if is_open:
            self.draw()

    def _on_changed(self) -> None:
        if self._body.isVisible() and not self.learning.is_running:
            self.draw()

    def _on_clicked(self, index: int, column: int) -> None:
        if column == PIN and index < len(self._cases):
            case = self._cases[index]
            self.controller.pin(case.correction, not case.pinned)

    def _on_show(self) -> None:
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.controller.folder))):
            self.learning.session.message = f"The corrections lie in {in_words(self.controller.folder)}."

    def _on_move(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Keep corrections in", str(self.controller.folder))
        if chosen:
            self.controller.keep_in(Path(chosen))

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save as CSV", "corrections.csv", "CSV (*.csv)")
        if path:
            self.controller.export(Path(path))


def _breakable(text: str) -> str:
    """A text whose paths a label can wrap after each of their parts."""
    return text.replace("/", "/\u200b").replace("\\", "\\\u200b")
