"""Step 5: save the lesions on the scan's own grid."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSize, Qt, QUrl
from qtpy.QtGui import QColor, QDesktopServices, QStandardItemModel
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QLineEdit,
    QListView,
    QStyledItemDelegate,
    QWidget,
)

from napari_medseg.imaging.mask_formats import MASK_FORMATS, MaskFormat
from napari_medseg.session.export import Saved
from napari_medseg.session.services import Services
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.sentences import sentence
from napari_medseg.widgets.step import button, column, dim, row

_DEIDENTIFIED = (
    "Goes: patient's name, ID, birth date, sex; accession and study IDs; all dates and times; physicians and "
    "institution; private elements. Every UID becomes a fresh one, the same again for the same scan on this computer.\n"
    "Stays: the lesions with their names, their place in millimetres, colours, modality.\n"
    "The scan itself is not changed, and the file no longer refers to it but to a copy de-identified in the same way."
)
_ROW = 22
_IDENTIFIED = "Without the tick a DICOM object carries patient and study, so that an archive files it with its scan."


class ExportPanel(QWidget):
    """Format, path, what goes along, and the outcome.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.exporting, self.session = services.exporting, services.session
        self._colours: dict[bool, QColor] = {}
        self._build()
        self.session.events.volume.connect(self._on_volume)
        self.session.events.saved.connect(self._on_saved)
        self.session.events.question.connect(self._on_question)
        self._on_volume()
        self._on_saved(self.session.saved)
        self._on_question(self.session.question)

    def set_look(self, look: Look) -> None:
        """Redraw the icons in the theme's colours."""
        self._export.setIcon(icon("save", look.accent, off=look.faint))
        for each in (self._browse, self._show):
            each.setIcon(icon("folder", look.text, off=look.faint))
        self._tick.setPixmap(icon("check", look.good).pixmap(16, 16))
        self._colours = {True: QColor(look.text), False: QColor(look.dim)}
        self._draw_formats()

    def export(self) -> None:
        """Save to the path that is written there."""
        self.exporting.export(
            Path(self._path.text()).expanduser(),
            key=self._chosen.key,
            summary=self._summary.isChecked(),
            deidentified=self._leaves_patient_out(),
        )

    def _build(self) -> None:
        self._format, self._path = QComboBox(), QLineEdit()
        # A menu, the default, draws all entries alike; a list shows which ones are disabled.
        self._format.setView(QListView())
        self._format.setItemDelegate(QStyledItemDelegate(self._format))
        for each in MASK_FORMATS:
            self._format.addItem(f"{each.name} ({each.suffixes[0]})", each.key)
            self._format.setItemData(self._format.count() - 1, QSize(0, _ROW), Qt.ItemDataRole.SizeHintRole)
        # As wide as the dock, not as its longest name.
        self._format.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._format.setMinimumContentsLength(8)
        self._format.activated.connect(self._on_format)
        self._path.setToolTip("Where the mask is saved")
        self._browse = button("", "Choose another place")
        self._browse.clicked.connect(self._on_browse)
        self._summary = QCheckBox("Summary beside it (.json)")
        self._summary.setToolTip("Labels, volumes in ml, the model's name, version and SHA-256; nothing of the patient")
        self._deidentified = QCheckBox("De-identified: no patient, dates or UIDs")
        self._deidentified.setToolTip(f"{_DEIDENTIFIED}\n{_IDENTIFIED}")
        self._deidentified.toggled.connect(self._on_format)
        self._export = button(
            "Export", "Save the lesions, read the file back and compare\nShortcut: Ctrl+E", role="act"
        )
        self._export.clicked.connect(self.export)
        fields = QGridLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        fields.setColumnStretch(1, 1)
        for line, (name, widget) in enumerate((("Format", self._format), ("File", self._path))):
            label = QLabel(name)
            label.setProperty("role", "dim")
            fields.addWidget(label, line, 0)
            fields.addWidget(widget, line, 1, 1, 2 if widget is self._format else 1)
        fields.addWidget(self._browse, 1, 2)
        layout = column(self)
        layout.addLayout(fields)
        for widget in (self._deidentified, self._summary, self._export, self._question_card(), self._done_card()):
            layout.addWidget(widget)

    def _question_card(self) -> QFrame:
        self._asks, self._anyway = dim(role="warning"), button("Export anyway", "Yes to the question above")
        self._anyway.clicked.connect(self.exporting.export_anyway)
        self._question = QFrame()
        self._question.setProperty("role", "card")
        inside = column(self._question)
        inside.setContentsMargins(10, 8, 10, 10)
        inside.addWidget(self._asks)
        inside.addWidget(self._anyway)
        return self._question

    def _done_card(self) -> QFrame:
        self._tick, self._title, self._where = QLabel(), dim(role="good"), dim()
        self._where.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._show = button("Open folder", "Show the file's folder in the file manager")
        self._show.clicked.connect(self._on_show)
        self._done = QFrame()
        inside = column(self._done)
        inside.addLayout(row(self._tick, self._title, self._show, stretch=1))
        inside.addWidget(self._where)
        return self._done

    @property
    def _chosen(self) -> MaskFormat:
        return MASK_FORMATS[max(0, self._format.currentIndex())]

    def _on_volume(self, _volume: object = None) -> None:
        self._draw_formats()
        self._done.hide()
        self._on_format()

    def _draw_formats(self) -> None:
        """Disable what does not suit the scan, and say why."""
        model = self._format.model()
        assert isinstance(model, QStandardItemModel)
        for index, (each, refusal) in enumerate(zip(MASK_FORMATS, self.exporting.formats().values(), strict=True)):
            model.item(index).setEnabled(not refusal)
            self._format.setItemData(index, refusal or each.about, Qt.ItemDataRole.ToolTipRole)
            self._format.setItemData(index, self._colours.get(not refusal), Qt.ItemDataRole.ForegroundRole)
        if not model.item(self._format.currentIndex()).isEnabled():
            self._format.setCurrentIndex(0)

    def _on_format(self, _value: object = None) -> None:
        chosen = self._chosen
        self._format.setToolTip(f"{chosen.name}: {chosen.about}")
        # The other formats carry no patient, so there is nothing to tick.
        self._deidentified.setVisible(chosen.needs_dicom)
        self._path.setText(str(self.exporting.suggested_path(chosen.key, deidentified=self._leaves_patient_out())))
        self._path.setCursorPosition(len(self._path.text()))

    def _leaves_patient_out(self) -> bool:
        return self._chosen.needs_dicom and self._deidentified.isChecked()

    def _on_browse(self) -> None:
        endings = self._chosen.suffixes
        kind = f"{self._chosen.name} ({' '.join(f'*{suffix}' for suffix in endings)})"
        asks_here = QFileDialog.Option.DontConfirmOverwrite
        path, _ = QFileDialog.getSaveFileName(self, "Export the lesions", self._path.text(), kind, options=asks_here)
        if path:
            self._path.setText(path if path.lower().endswith(endings) else path + endings[0])

    def _on_saved(self, saved: Saved | None) -> None:
        if saved is not None:
            self._title.setText(f"Saved, verified: {saved.path.name}")
            beside = f"\nwith {saved.summary.name}" if saved.summary is not None else ""
            # A path has no spaces to break at: let it break behind each folder.
            self._where.setText(str(saved.path.parent).replace("/", "/\u200b") + beside)
            self._where.setToolTip(str(saved.path))
        self._done.setVisible(saved is not None)

    def _on_show(self) -> None:
        saved = self.session.saved
        if saved is not None and not QDesktopServices.openUrl(QUrl.fromLocalFile(str(saved.path.parent))):
            self.session.message = f"No file manager answered; the file is {saved.path}"

    def _on_question(self, question: str) -> None:
        self._asks.setText(sentence(question))
        self._question.setVisible(bool(question))
