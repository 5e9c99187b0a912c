"""Classify, step 3: what a classifier says, where it looked, and which slice decided."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QWidget

from napari_medseg.session.classify import Classified, ClassifyController
from napari_medseg.session.labelling import LESION, STUDY
from napari_medseg.widgets.attention_strip import AttentionStrip
from napari_medseg.widgets.class_bars import ClassBars
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.saliency_layer import SaliencyLayer
from napari_medseg.widgets.sentences import sentence
from napari_medseg.widgets.step import button, column, dim, row


class AnswerPanel(QWidget):
    """'Classify lesion' and 'Classify study', bars, and what explains them.

    Parameters
    ----------
    controller : ClassifyController
        Does the work.
    bridge : LayerBridge
        Shows slices.
    """

    def __init__(self, controller: ClassifyController, bridge: LayerBridge) -> None:
        super().__init__()
        self.controller, self.bridge = controller, bridge
        self.saliency = SaliencyLayer(bridge, controller)
        self._names: dict[str, tuple[str, ...]] = {}
        self._build()
        controller.changed.connect(self.draw)
        bridge.viewer.dims.events.point.connect(self._draw_strip)
        self.draw()

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._heat.setIcon(icon("eye", look.text, on=look.on_accent, off=look.faint))
        self._bars.set_look(look)
        self._strip.set_look(look)

    def draw(self, *_values: object) -> None:
        """Draw what is known now."""
        self._draw_models()
        shown = self.controller.shown
        for widget in (self._what, self._bars):
            widget.setVisible(shown is not None)
        self._heat.setVisible(shown is not None and any(shown.heats))
        self._no_heat.setVisible(shown is not None and bool(shown.no_heat))
        self._draw_strip()
        if shown is not None:
            self._draw_answer(shown)

    def _build(self) -> None:
        self._empty = dim("No classifier yet: label some cases and train one.")
        self._models: dict[str, QComboBox] = {}
        self._ask: dict[str, QPushButton] = {}
        for target, name in ((LESION, "Classify lesion"), (STUDY, "Classify study")):
            self._models[target] = QComboBox()
            self._models[target].setToolTip("Which classifier answers")
            self._ask[target] = button(name, f"Say which class the {target} has, and show why", role="main")
            self._ask[target].clicked.connect(partial(self._on_ask, target))
        self._what, self._bars = QLabel(), ClassBars()
        self._what.setProperty("role", "title")
        self._what.setWordWrap(True)
        self._heat = button("Where it looked", "Show or hide what spoke for the most probable class")
        self._heat.setCheckable(True)
        self._heat.setChecked(True)
        self._heat.toggled.connect(self.saliency.show)
        self._no_heat, self._strip = dim(), AttentionStrip()
        self._strip.picked.connect(self.bridge.show_slice)
        self._decided = button("Deciding slice", "Show the slice with the most attention")
        self._decided.clicked.connect(self.controller.go_to_deciding_slice)
        self._caption = dim("Attention along the slices")
        layout = column(self)
        layout.addWidget(self._empty)
        for target in (LESION, STUDY):
            layout.addWidget(self._models[target])
            layout.addWidget(self._ask[target])
        for widget in (self._what, self._bars, self._heat, self._no_heat):
            layout.addWidget(widget)
        layout.addLayout(row(self._caption, self._decided, stretch=0))
        layout.addWidget(self._strip)

    def _draw_models(self) -> None:
        names = {target: self.controller.models(target) for target in (LESION, STUDY)}
        self._empty.setVisible(not any(names.values()))
        for target, known in names.items():
            self._ask[target].setVisible(bool(known))
            self._models[target].setVisible(len(known) > 1)
            if known != self._names.get(target):
                self._models[target].clear()
                self._models[target].addItems(known)
        self._names = names

    def _draw_answer(self, shown: Classified) -> None:
        self._what.setText(shown.what)
        self._what.setToolTip(f"Answer of {shown.answer.model}")
        colours = {name: self.controller.labelling.colour_of(name) for name in shown.answer.probabilities}
        self._bars.show_bars(shown.answer.probabilities, colours)
        self._no_heat.setText(sentence(shown.no_heat))

    def _draw_strip(self, _event: object = None) -> None:
        shown = self.controller.shown
        weights = shown.attention_in(self.controller.session.work) if shown is not None else None
        for widget in (self._caption, self._strip):
            widget.setVisible(weights is not None)
        decided = shown.answer.deciding_slice if shown is not None else None
        self._decided.setVisible(decided is not None)
        if weights is not None:
            self._strip.show_weights(weights, self.bridge.slice_shown())
        if shown is not None and decided is not None and len(shown.works) > 1:
            self._decided.setText(f"Deciding slice: {shown.works[decided[0]].volume.name}")
        else:
            self._decided.setText("Deciding slice")

    def _on_ask(self, target: str, _checked: bool = False) -> None:
        several = len(self._names[target]) > 1
        self.controller.classify(target, self._models[target].currentText() if several else "")
