"""The dock's page 'Evaluate': masks against references, and classifiers on cases they have not learned from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_medseg.session.evaluate import Evaluated
from napari_medseg.session.labelling import LESION, STUDY
from napari_medseg.session.services import Services
from napari_medseg.widgets.evaluation_window import EvaluationWindow
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.step import Step, button, column, dim, row

_NAME = 78


class EvaluatePage(QWidget):
    """Choose what to compare; the outcome opens in a window of its own.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services, self.controller = services, services.evaluating
        self.window_shown: EvaluationWindow | None = None
        self._look: Look | None = None
        self._choosers: list[QPushButton] = []
        self.steps = {
            "Masks": Step(1, "Masks", self._masks_panel()),
            "Classifier": Step(2, "Classifier", self._classifier_panel()),
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for step in self.steps.values():
            layout.addWidget(step)
        layout.addStretch(1)
        self.controller.evaluated.connect(self._on_evaluated)
        services.classes.changed.connect(self.draw)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        for step in self.steps.values():
            step.set_look(look)
        for made in self._choosers:
            made.setIcon(icon("folder" if made.text() == "" else "file", look.text, off=look.faint))
        if self.window_shown is not None:
            self.window_shown.set_look(look)

    def draw(self) -> None:
        """Draw what can be evaluated now."""
        self.steps["Masks"].show_state(available=True)
        classifying = self.services.classifying
        names = [*classifying.models(LESION), *classifying.models(STUDY)]
        if names != [self._model.itemText(k) for k in range(self._model.count())]:
            self._model.clear()
            self._model.addItems(names)
        self.steps["Classifier"].show_state(available=bool(names), hint="" if names else "Train a classifier first.")

    def _masks_panel(self) -> QWidget:
        panel = QWidget()
        self._masks, masks = self._path("Masks", "The masks to be judged: a folder, or one file")
        self._references, references = self._path("References", "The right masks, with the same file names")
        self._tolerance, self._patients = QDoubleSpinBox(), QLineEdit()
        self._tolerance.setRange(0.1, 50.0)
        self._tolerance.setValue(2.0)
        self._tolerance.setSuffix(" mm")
        self._tolerance.setToolTip("Surface Dice counts surfaces that lie at most this far apart as equal")
        self._patients.setPlaceholderText("(P[0-9]+)")
        self._patients.setToolTip("Regular expression that finds the patient in a file's name")
        run = button(
            "Compare masks", "Dice, HD95, surface Dice, volumes and lesions found; a page and a table", role="main"
        )
        run.clicked.connect(self._on_masks)
        layout = column(panel)
        layout.addWidget(dim("Two folders of masks are compared by file name; two files with each other."))
        layout.addLayout(masks)
        layout.addLayout(references)
        layout.addLayout(row(_named("Tolerance"), self._tolerance, stretch=1))
        layout.addLayout(row(_named("Patients"), self._patients, stretch=1))
        layout.addWidget(run)
        return panel

    def _classifier_panel(self) -> QWidget:
        panel = QWidget()
        self._model, self._table = QComboBox(), QLineEdit()
        self._table.setPlaceholderText("labelled since then")
        self._table.setToolTip("A CSV table instead, with columns scan, mask, label, position_mm, class, patient")
        self._table.setAccessibleName("Cases")
        self._threshold = QDoubleSpinBox()
        self._threshold.setRange(0.01, 0.99)
        self._threshold.setSingleStep(0.05)
        self._threshold.setValue(0.5)
        self._threshold.setAccessibleName("Threshold")
        self._threshold.setToolTip(
            "Of two classes a case is called the second from this probability on. "
            "With more than two it does not apply: the most probable class is called"
        )
        choose = self._chooser("Choose a table of cases")
        choose.clicked.connect(self._on_table)
        run = button(
            "Ask the classifier",
            "AUC, accuracy, sensitivity, specificity, ROC and calibration with intervals",
            role="main",
        )
        run.clicked.connect(self._on_classifier)
        layout = column(panel)
        layout.addWidget(dim("Only cases of patients that the classifier has not learned from are asked."))
        layout.addLayout(row(_named("Classifier"), self._model, stretch=1))
        layout.addLayout(row(_named("Cases"), self._table, choose, stretch=1))
        layout.addLayout(row(_named("Threshold"), self._threshold, stretch=1))
        layout.addWidget(run)
        return panel

    def _path(self, name: str, tip: str) -> tuple[QLineEdit, QVBoxLayout]:
        editor, choose = QLineEdit(), self._chooser(f"Choose the folder of {name.lower()}")
        editor.setToolTip(tip)
        editor.setPlaceholderText("folder or file")
        editor.setAccessibleName(name)
        choose.clicked.connect(partial(self._on_folder, editor, name))
        return editor, row(_named(name), editor, choose, stretch=1)

    def _chooser(self, tip: str) -> QPushButton:
        made = button("", tip)
        made.setAccessibleName(tip)
        self._choosers.append(made)
        return made

    def _on_folder(self, editor: QLineEdit, name: str, _checked: bool = False) -> None:
        folder = QFileDialog.getExistingDirectory(self, f"Folder of {name.lower()}", editor.text())
        if folder:
            editor.setText(folder)

    def _on_table(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Table of cases", "", "CSV (*.csv)")
        if path:
            self._table.setText(path)

    def _on_masks(self) -> None:
        if not self._masks.text().strip() or not self._references.text().strip():
            self.services.session.message = "Choose masks and references first."
            return
        masks, references = Path(self._masks.text().strip()), Path(self._references.text().strip())
        patients = self._patients.text().strip()
        self.controller.masks(masks, references, tolerance_mm=self._tolerance.value(), patients=patients)

    def _on_classifier(self) -> None:
        table = self._table.text().strip()
        self.controller.classifier(
            self._model.currentText(), Path(table) if table else None, threshold=self._threshold.value()
        )

    def _on_evaluated(self, evaluated: Evaluated) -> None:
        if self.window_shown is not None:
            self.window_shown.close()
        self.window_shown = EvaluationWindow(evaluated, self)
        if self._look is not None:
            self.window_shown.set_look(self._look)
        self.window_shown.show()


def _named(text: str) -> QLabel:
    label = QLabel(text)
    label.setFixedWidth(_NAME)
    return label
