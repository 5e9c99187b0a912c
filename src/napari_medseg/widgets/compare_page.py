"""The dock's page 'Compare': the prior visit, what became of each lesion, and where something changed."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QTableWidgetItem, QVBoxLayout, QWidget

from napari_medseg.followup.matching import Row, State
from napari_medseg.followup.settings import CompareSettings
from napari_medseg.imaging.amounts import millilitres, three_digits
from napari_medseg.session.prior import PriorController
from napari_medseg.session.stage import distinct_names
from napari_medseg.widgets.followup_layers import FollowUpLayers
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.step import Step, button, column, dim, row
from napari_medseg.widgets.tables import TO_THE_RIGHT, fit_rows, table_with

NAME, STATE, PRIOR, NOW, LONG, SCORE = range(6)
_HEADINGS = {
    NAME: ("Lesion", "Click a line to go there"),
    STATE: ("", "What became of it, and the change of volume in per cent of the prior; outside: not in the other scan"),
    PRIOR: ("prior", "Volume at the prior visit, ml"),
    NOW: ("now", "Volume now, ml"),
    LONG: ("axis", "Long axis in the plane of acquisition, now, mm (RECIST)"),
    SCORE: (
        "Δ",
        "How differently a lesion of both scans looks to the Siamese network: 0 the same, 1 quite another",
    ),
}
_COLOURS = {State.NEW: "warning", State.GROWN: "warning", State.SHRUNK: "good", State.RESOLVED: "good"}
_MOST_ROWS = 10
_EMPTY = "Press 'Open prior…', then 'Compare'. (If you drag the prior in, turn back to the current scan first.)"


class ComparePage(QWidget):
    """Choose the prior, compare, read the table.

    Parameters
    ----------
    controller : PriorController
        Compares.
    bridge : LayerBridge
        Shows the scans.
    """

    def __init__(self, controller: PriorController, bridge: LayerBridge) -> None:
        super().__init__()
        self.controller, self.session, self.bridge = controller, controller.session, bridge
        self.layers = FollowUpLayers(controller, bridge)
        self._look: Look | None = None
        self.steps = {
            "Prior": Step(1, "Prior", self._prior_panel()),
            "Result": Step(2, "What changed", self._result_panel()),
        }
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for step in self.steps.values():
            layout.addWidget(step)
        layout.addStretch(1)
        self.session.events.volume.connect(self.draw)
        controller.compared.connect(self._on_compared)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._look = look
        for step in self.steps.values():
            step.set_look(look)
        self._open.setIcon(icon("file", look.text, off=look.faint))
        self._save.setIcon(icon("save", look.text, off=look.faint))
        self._draw_table()

    def draw(self, *_values: object) -> None:
        """Draw what can be compared now."""
        volume, choices = self.session.volume, self.controller.choices()
        names = distinct_names(choices)
        if names != [self._choice.itemText(k) for k in range(self._choice.count())]:
            self._choice.clear()
            self._choice.addItems(names)
        self._choice.setEnabled(bool(choices))
        self._compare.setEnabled(bool(choices))
        self._empty.setVisible(not choices)
        hint = "Open the current scan first." if volume is None else f"Current: {volume.name or 'scan'}"
        self.steps["Prior"].show_state(available=volume is not None, hint=hint)
        found = self.controller.found
        notes = "\n".join(found.notes) if found is not None else ""
        hint = found.sentence if found is not None else "Compare first."
        scan, is_in_view = self.controller.scan, self.controller.scan is volume
        if found is not None and scan is not None and not is_in_view:
            hint = f"Of '{scan.name}', which is not in view: {found.sentence}"
        for box in self._boxes.values():
            box.setEnabled(is_in_view)
        self.steps["Result"].show_state(available=found is not None, hint=hint, warning=notes)
        self._draw_table()

    def _prior_panel(self) -> QWidget:
        panel = QWidget()
        self._choice, self._criterion = QComboBox(), QComboBox()
        self._choice.setToolTip("The earlier scan of the same patient, among the open ones")
        self._choice.setAccessibleName("Prior")
        self._open = button("Open prior…", "Open the earlier scan; the current one stays the one to work on")
        self._open.clicked.connect(self._on_open)
        field = CompareSettings.model_fields["criterion"]
        self._criterion.addItems(["volume", "diameter"])
        self._criterion.setToolTip(f"{field.description}\n{_thresholds()}")
        self._criterion.setAccessibleName("Judge by")
        self._score = QCheckBox("Siamese change score")
        self._score.setToolTip(
            "How differently each lesion of both scans looks to the Siamese network, 0 to 1; takes some seconds more"
        )
        self._compare = button("Compare", "Register the prior and match its lesions (seconds)", role="main")
        self._compare.clicked.connect(self._on_compare)
        self._empty = dim(_EMPTY)
        body = column(panel)
        body.addWidget(self._empty)
        body.addLayout(row(dim("Prior"), self._choice, self._open, stretch=1))
        body.addLayout(row(dim("Judge by"), self._criterion, stretch=1))
        body.addWidget(self._score)
        body.addWidget(self._compare)
        return panel

    def _result_panel(self) -> QWidget:
        panel = QWidget()
        self._table = table_with([*_HEADINGS.values()], name="Lesions of both visits", stretched=NAME)
        self._table.currentCellChanged.connect(lambda index, *_others: self._go_to(index))
        self._table.cellClicked.connect(lambda index, _column: self._go_to(index))
        self._take = button(
            "Take proposal over", "Make the proposed lesions lesions of this scan, as one undoable step"
        )
        self._take.clicked.connect(self.controller.take_proposal)
        self._save = button("Save as CSV", "One line a lesion: state, volumes (ml), axes (mm), changes (%)")
        self._save.clicked.connect(self._on_save)
        self._over, self._beside, self._map = (QCheckBox(text) for text in ("Prior", "Side by side", "Change map"))
        self._over.setToolTip("Show the prior, registered, over the current scan")
        self._beside.setToolTip("Show the prior, registered, beside the current scan: the same slice in both")
        self._map.setToolTip("Brighter (red) and darker (blue) than the prior, in standard deviations of the noise")
        self._boxes = {"over": self._over, "beside": self._beside, "change": self._map}
        self.layers.closed.connect(self._on_closed)
        self._over.toggled.connect(self.layers.show_prior)
        self._beside.toggled.connect(self.layers.show_beside)
        self._map.toggled.connect(self.layers.show_change)
        body = column(panel)
        body.addWidget(self._table)
        body.addLayout(row(self._over, self._beside, self._map))
        body.addWidget(self._take)
        body.addWidget(self._save)
        return panel

    def _draw_table(self) -> None:
        found = self.controller.found
        rows = found.rows if found is not None else ()
        self._table.blockSignals(True)
        self._table.setRowCount(len(rows))
        for index, each in enumerate(rows):
            for at, text in _texts(each).items():
                item = QTableWidgetItem(text)
                item.setToolTip(_about(each))
                if at == STATE and self._look is not None:
                    item.setForeground(QColor(getattr(self._look, _COLOURS.get(each.state, "text"))))
                if at > STATE:
                    item.setTextAlignment(TO_THE_RIGHT)
                self._table.setItem(index, at, item)
        self._table.blockSignals(False)
        self._table.setColumnHidden(SCORE, all(each.change_score is None for each in rows))
        fit_rows(self._table, _MOST_ROWS)
        self._save.setEnabled(bool(rows))
        self._take.setVisible(found is not None and found.proposed_on == "current")

    def _on_compare(self) -> None:
        choices, at = self.controller.choices(), self._choice.currentIndex()
        if 0 <= at < len(choices):
            criterion = CompareSettings.model_validate({"criterion": self._criterion.currentText()})
            self.controller.compare(choices[at], criterion, scored=self._score.isChecked())

    def _on_compared(self) -> None:
        self.draw()
        for box in (self._over, self._beside):
            box.setChecked(False)
        self._map.setChecked(self.controller.found is not None)
        self.layers.refresh()

    def _on_closed(self, key: str) -> None:
        box = self._boxes[key]
        box.blockSignals(True)
        box.setChecked(False)
        box.blockSignals(False)

    def _on_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open prior")
        if name:
            self.open_prior(Path(name))

    def open_prior(self, path: Path) -> None:
        """Open the earlier scan and turn back to the current one."""
        current, opening = self.session.volume, self.controller.opening

        def turn_back(volume: object) -> None:
            if volume is not None and volume is not current:
                self.session.events.volume.disconnect(turn_back)
                if current is not None:
                    opening.choose(current)

        self.session.events.volume.connect(turn_back)
        opening.open(path)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save as CSV", "comparison.csv", "CSV (*.csv)")
        if path:
            self.controller.export(Path(path))

    def _go_to(self, index: int) -> None:
        found = self.controller.found
        if found is None or not 0 <= index < len(found.rows):
            return
        at = self.controller.index_of(found.rows[index])
        if at is None:
            self.session.message = f"'{found.rows[index].name}' lies outside the current scan."
            return
        if self.controller.scan is not None:
            self.controller.opening.choose(self.controller.scan)
        self.bridge.jump_to(at)


def _texts(each: Row) -> dict[int, str]:
    told = each.as_json()
    long_mm = told["current_long_mm"] if told["current_long_mm"] is not None else told["prior_long_mm"]
    return {
        NAME: each.name,
        STATE: each.state.value + ("" if each.volume_percent is None else f" {each.volume_percent:+.0f} %"),
        PRIOR: "–" if each.prior_ml is None else three_digits(each.prior_ml),
        NOW: "–" if each.current_ml is None else three_digits(each.current_ml),
        SCORE: "" if each.change_score is None else f"{each.change_score:.2f}",
        LONG: "" if long_mm is None else f"{long_mm:.1f}",
    }


def _about(each: Row) -> str:
    told = each.as_json()
    lines = [f"{each.name}: {each.state.value}" + (f" ({each.note})" if each.note else "")]
    for when in ("prior", "current"):
        if told[f"{when}_long_mm"] is not None:
            size = f"{told[f'{when}_long_mm']:.1f} x {told[f'{when}_short_mm']:.1f} mm"
            lines.append(f"{when}: {size}, {millilitres(told[f'{when}_ml'])}")
    axes = {"long axis": each.long_percent, "short axis": each.short_percent}
    changes = [f"{axis} {change:+.0f} %" for axis, change in axes.items() if change is not None]
    if each.state is not State.OUTSIDE and changes:
        lines.append(", ".join(changes))
    return "\n".join(lines)


def _thresholds() -> str:
    s = CompareSettings()
    return (
        f"Volume: changed from {s.volume_percent:g} % and {s.least_ml:g} ml. Diameter: grown from "
        f"{s.growth_percent:g} % and {s.growth_mm:g} mm, shrunk from {s.shrinkage_percent:g} %."
    )
