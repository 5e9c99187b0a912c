"""Step 5: save the lesions on the scan's own grid."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLineEdit, QWidget

from napari_medseg.session.export import Saved
from napari_medseg.session.services import Services
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.step import button, column, dim, row


class ExportPanel(QWidget):
    """Format, path, an optional JSON beside it, and the outcome.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.exporting, self.session = services.exporting, services.session
        self._build()
        self.session.events.volume.connect(self._on_volume)
        self.session.events.saved.connect(self._on_saved)
        self.session.events.question.connect(self._on_question)
        self._on_volume()
        self._on_question(self.session.question)

    def set_look(self, look: Look) -> None:
        """Redraw the icons in the theme's colours."""
        self._export.setIcon(icon("save", look.accent, off=look.faint))
        self._browse.setIcon(icon("folder", look.text, off=look.faint))

    def export(self) -> None:
        """Save to the path that is written there."""
        self.exporting.export(self._path_now(), summary=self._summary.isChecked())

    def _build(self) -> None:
        self._format, self._path = QComboBox(), QLineEdit()
        self._format.setToolTip("File format")
        self._format.activated.connect(self._on_format)
        self._path.setToolTip("Where the mask is saved")
        self._browse = button("", "Choose another place")
        self._browse.clicked.connect(self._on_browse)
        self._summary = QCheckBox("Summary beside it (.json)")
        self._summary.setToolTip("Labels, volumes in ml, and the model's name, version and SHA-256")
        self._export = button(
            "Export", "Save the lesions, read the file back and compare\nShortcut: Ctrl+E", role="act"
        )
        self._export.clicked.connect(self.export)
        self._asks, self._done = dim(role="warning"), dim(role="good")
        self._anyway = button("Export anyway", "Save on the grid of the scan as it was opened")
        self._anyway.clicked.connect(self._on_anyway)
        layout = column(self)
        layout.addWidget(self._format)
        layout.addLayout(row(self._path, self._browse, stretch=0))
        for widget in (self._summary, self._export, self._asks, self._anyway, self._done):
            layout.addWidget(widget)

    def _on_volume(self, _volume: object = None) -> None:
        formats = self.exporting.formats()
        self._format.clear()
        for suffix, name in formats.items():
            self._format.addItem(f"{name} ({suffix})", suffix)
        self._done.hide()
        self._on_format()

    def _on_format(self, _index: int = 0) -> None:
        self._path.setText(str(self.exporting.suggested_path(self._format.currentData())))
        self._path.setCursorPosition(len(self._path.text()))

    def _on_browse(self) -> None:
        suffix = self._format.currentData()
        path, _ = QFileDialog.getSaveFileName(self, "Export the lesions", self._path.text(), f"*{suffix}")
        if path:
            self._path.setText(path if path.endswith(suffix) else path + suffix)

    def _on_anyway(self) -> None:
        self.exporting.export(self._path_now(), summary=self._summary.isChecked(), despite_change=True)

    def _on_saved(self, saved: Saved | None) -> None:
        self._done.setText(f"Saved, verified: {saved.path.name}" if saved is not None else "")
        self._done.setVisible(saved is not None)

    def _on_question(self, question: str) -> None:
        self._asks.setText(question)
        self._asks.setVisible(bool(question))
        self._anyway.setVisible(bool(question))

    def _path_now(self) -> Path:
        return Path(self._path.text()).expanduser()
