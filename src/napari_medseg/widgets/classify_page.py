"""The dock's page 'Classify': label, train, classify, find similar."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_medseg.session.services import Services
from napari_medseg.widgets.answer_panel import AnswerPanel
from napari_medseg.widgets.class_learn_panel import ClassLearnPanel
from napari_medseg.widgets.label_panel import LabelPanel
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.similar_panel import SimilarPanel
from napari_medseg.widgets.step import Step


class ClassifyPage(QWidget):
    """Four steps from top to bottom.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    bridge : LayerBridge
        Shows slices and lesions.
    """

    def __init__(self, services: Services, bridge: LayerBridge) -> None:
        super().__init__()
        self.services = services
        self.panels: dict[str, Any] = {
            "Label": LabelPanel(services.labelling),
            "Train": ClassLearnPanel(services.classes),
            "Classify": AnswerPanel(services.classifying, bridge),
            "Find similar": SimilarPanel(services.similar, bridge),
        }
        self.steps = {name: Step(number, name, panel) for number, (name, panel) in enumerate(self.panels.items(), 1)}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for step in self.steps.values():
            column.addWidget(step)
        column.addStretch(1)
        services.labelling.changed.connect(self.draw)
        services.classes.changed.connect(self._on_trained)
        services.session.events.volume.connect(self.draw)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        for part in (*self.steps.values(), *self.panels.values()):
            part.set_look(look)

    def draw(self, *_values: object) -> None:
        """Say which steps make sense now."""
        has_scan, has_cases = self.services.session.volume is not None, bool(self.services.labelling.stored())
        self.steps["Label"].show_state(available=True)
        has_classes = has_cases or self.services.classes.is_running
        self.steps["Train"].show_state(available=has_classes, hint="" if has_classes else "Label some cases first.")
        hint = "" if has_scan else "Open a scan first."
        self.steps["Classify"].show_state(available=has_scan, hint=hint)
        hint = hint or ("" if has_cases else "Label some lesions first.")
        self.steps["Find similar"].show_state(available=not hint, hint=hint)

    def _on_trained(self) -> None:
        self.panels["Classify"].draw()
