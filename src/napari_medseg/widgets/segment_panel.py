"""Step 2: tools that tell the model where the lesion is, and the lesions found so far."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QCheckBox, QComboBox, QWidget

from napari_medseg.errors import MedSegError
from napari_medseg.models.library import Library
from napari_medseg.session.services import Services
from napari_medseg.widgets.doubt_layer import DoubtLayer
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.lesion_table import LesionTable
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.prompt_tools import PromptTools, Tool
from napari_medseg.widgets.step import button, column, dim, row, tool_button

TOOLS = {
    Tool.CLICK: (
        "Click",
        "click",
        "Q",
        "Left click: lesion. Right click or Ctrl+click: not lesion. Drag: move the picture.",
    ),
    Tool.BOX: ("Box", "box", "W", "Drag a box round the lesion; with the right button: a box without lesion."),
    Tool.SCRIBBLE: ("Scribble", "scribble", "D", "Draw inside the lesion; with the right button: outside of it."),
    Tool.LASSO: (
        "Lasso",
        "lasso",
        "C",
        "Draw round the lesion on a slice; with the right button: round what is none of it.",
    ),
}
CLASSICAL = "geodesic"
NO_TOOL = "Choose a tool, then point at the lesion."


class SegmentPanel(QWidget):
    """The prompt tools, 'Segment lesion', and the lesion table.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    tools : PromptTools
        The tools on the canvas.
    table : LesionTable
        The lesions.
    """

    def __init__(self, services: Services, tools: PromptTools, table: LesionTable) -> None:
        super().__init__()
        self.services, self.session, self.tools = services, services.session, tools
        self.doubt_layer = DoubtLayer(tools.bridge, services.doubt, services.editor)
        self._build(table)
        tools.changed.connect(self._on_tool)
        services.learning.changed.connect(self.draw_models)
        self.session.events.model_name.connect(self.draw_models)
        tools.bridge.outline.changed.connect(self._draw_outline)
        tools.bridge.viewer.dims.events.ndisplay.connect(self._draw_outline)
        self.draw_models()
        self._draw_outline()

    def set_look(self, look: Look) -> None:
        """Redraw the icons in the theme's colours."""
        for tool, made in self._tools.items():
            made.setIcon(icon(TOOLS[tool][1], look.text, on=look.on_accent, off=look.faint))
        self._segment.setIcon(icon("wand", look.on_accent, off=look.faint))
        self._new.setIcon(icon("plus", look.text, off=look.faint))

    def _build(self, table: LesionTable) -> None:
        self._tools = {
            tool: tool_button(text, f"{tip}\nShortcut: {key}") for tool, (text, _, key, tip) in TOOLS.items()
        }
        for tool, made in self._tools.items():
            made.clicked.connect(partial(self._on_pressed, tool))
        self._segment = button(
            "Segment lesion",
            "Ask the model again, or about the whole scan where nothing is clicked\nShortcut: S",
            role="main",
        )
        self._segment.clicked.connect(self.services.segmenting.segment)
        self._new = button("New lesion", "The next click starts another lesion\nShortcut: A")
        self._new.clicked.connect(self.services.segmenting.new_lesion)
        self._tip = dim(NO_TOOL)
        self._unsure = QCheckBox("Show doubt")
        self._unsure.setToolTip("Show where the model is not sure: the stronger the colour, the less sure")
        self._unsure.toggled.connect(self.doubt_layer.show)
        self._outline = QCheckBox("Outline")
        self._outline.setToolTip("Draw the lesions' outlines alone, to see the margin under them; in 2-D\nShortcut: O")
        self._outline.toggled.connect(self.tools.bridge.outline.show)
        self._next = button("Next doubtful region", "Go to the largest place where the model is not sure\nShortcut: N")
        self._next.clicked.connect(self.services.doubt.next_region)
        self._model = QComboBox()
        self._model.setToolTip("The model that answers; 'geodesic' needs no training and follows the intensities alone")
        self._model.activated.connect(self._on_model)
        layout = column(self)
        layout.addLayout(row(*self._tools.values()))
        layout.addWidget(self._tip)
        layout.addLayout(row(self._segment, self._new, stretch=0))
        layout.addWidget(table)
        ticks = row(self._outline, self._unsure)
        ticks.addStretch(1)
        layout.addLayout(ticks)
        layout.addWidget(self._next)
        layout.addLayout(row(dim("Model"), self._model, stretch=1))

    def draw_models(self, *_values: object) -> None:
        """List the models of the library."""
        library = self.services.library
        names = [*library.names(does="segment"), CLASSICAL]
        self._model.clear()
        for name in names:
            self._model.addItem(f"{name}{_version(library, name)}", name)
        chosen = self.session.model_name
        self._model.setCurrentIndex(names.index(chosen) if chosen in names else -1)

    def _draw_outline(self, _event: object = None) -> None:
        self._outline.setChecked(self.tools.bridge.outline.is_on)
        self._outline.setEnabled(self.tools.bridge.viewer.dims.ndisplay == 2)

    def _on_model(self, index: int) -> None:
        self.services.segmenting.choose_model(self._model.itemData(index))

    def _on_pressed(self, tool: Tool, checked: bool) -> None:
        self.tools.toggle(tool)
        self._on_tool(self.tools.tool)

    def _on_tool(self, tool: Tool) -> None:
        for each, made in self._tools.items():
            made.setChecked(each is tool)
        self._tip.setText(TOOLS[tool][3] if tool in TOOLS else NO_TOOL)


def _version(library: Library, name: str) -> str:
    try:
        return f", version {library.active(name)}"
    except MedSegError:
        return ""
