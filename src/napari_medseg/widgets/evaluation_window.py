"""The outcome of an evaluation: figures with intervals, plots, every case, and the way to the page and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices, QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QLabel,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.durable import write_bytes_durably
from napari_medseg.session.evaluate import Evaluated, Row
from napari_medseg.widgets.look import INDENT, Look, stylesheet
from napari_medseg.widgets.sentences import sentence
from napari_medseg.widgets.step import button, dim, row
from napari_medseg.widgets.tables import ROW_HEIGHT, TO_THE_RIGHT, table_with

_SIZE = (1200, 780)
_WORDS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "mean surface distance (mm)",
    "nsd": "surface Dice",
    "volume_ml": "volume (ml)",
    "reference_ml": "reference (ml)",
    "volume_difference_percent": "volume difference (%)",
    "n_lesions": "lesions",
    "n_reference_lesions": "lesions of the reference",
    "lesion_recall": "lesions found",
    "lesion_precision": "lesions that are real",
    "auc": "AUC",
    "brier": "Brier score",
}


class EvaluationWindow(QWidget):
    """Means, plots and cases of one evaluation.

    Parameters
    ----------
    evaluated : Evaluated
        The outcome.
    parent : QWidget
        Closes it when it closes.
    """

    def __init__(self, evaluated: Evaluated, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.evaluated = evaluated
        self.setObjectName("medseg")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setWindowTitle(f"Evaluation: {evaluated.title}")
        self._build()
        self.resize(*_SIZE)

    def set_look(self, look: Look) -> None:
        """Take the theme's colours."""
        self.setStyleSheet(f"{stylesheet(look)}\nQWidget#medseg {{ background: {look.panel}; }}")

    def _build(self) -> None:
        title = QLabel(self.evaluated.title)
        title.setProperty("role", "title")
        self._page = button("Open report", "The whole report as one HTML page, in the browser", role="main")
        self._page.clicked.connect(self._on_page)
        self._save = button("Save CSV", "One line a case")
        self._save.clicked.connect(self._on_save)
        self._said = dim()
        self._said.hide()
        self._picture = _Picture(self.evaluated.picture)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(INDENT, INDENT, INDENT, INDENT)
        layout.setSpacing(8)
        layout.addLayout(row(title, self._save, self._page, stretch=0))
        layout.addWidget(dim(f"{self.evaluated.sentence} In brackets: 95 % intervals from resampled patients."))
        layout.addWidget(self._picture)
        means, cases = table_of(self.evaluated.means, "Figures"), table_of(self.evaluated.cases, "Cases")
        means.setMaximumHeight((len(self.evaluated.means) + 1) * ROW_HEIGHT + 8)
        layout.addWidget(means)
        layout.addWidget(cases, 1)
        layout.addWidget(self._said)

    def _on_page(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.evaluated.page)))

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save as CSV", self.evaluated.table.name, "CSV (*.csv)")
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write the table somewhere else."""
        try:
            write_bytes_durably(path, self.evaluated.table.read_bytes())
        except (MedSegError, OSError) as error:
            said = f"{path} was not written: {error}"
        else:
            said = f"{path.name}: saved, verified."
        self._said.setText(sentence(said))
        self._said.show()


class _Picture(QLabel):
    """The plots, as large as fits."""

    def __init__(self, png: bytes) -> None:
        super().__init__()
        self._whole = QPixmap()
        self._whole.loadFromData(png)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setMinimumHeight(240)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setAccessibleName("Plots")

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Draw it at the new size."""
        super().resizeEvent(event)
        ratio = self.devicePixelRatioF()
        scaled = self._whole.scaled(
            int(self.width() * ratio),
            int(max(self.height(), 240) * ratio),
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        scaled.setDevicePixelRatio(ratio)
        self.setPixmap(scaled)


def table_of(rows: Sequence[Row], name: str) -> QTableWidget:
    """Return a table of rows that have the same columns; numbers stand to the right."""
    columns = list(rows[0]) if rows else []
    table = table_with([(_said(str(each)), "") for each in columns], name=name)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
    table.setRowCount(len(rows))
    for line, each in enumerate(rows):
        for at, column in enumerate(columns):
            text = _shown(each[column])
            item = QTableWidgetItem(_said(text) if column == "figure" else text)
            if at:
                item.setTextAlignment(TO_THE_RIGHT)
            table.setItem(line, at, item)
    return table


def _said(name: str) -> str:
    """Say a figure as a person does."""
    return _WORDS.get(name, name.replace("_", " "))


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
