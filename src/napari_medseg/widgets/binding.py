"""One session a viewer: a dock that is closed and opened again finds its work as it was."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from napari.components import ViewerModel
from qtpy.QtCore import QTimer

from napari_medseg.session.runner import ThreadRunner
from napari_medseg.session.services import Services, build
from napari_medseg.widgets.gui_thread import GuiThread
from napari_medseg.widgets.layer_bridge import LayerBridge
from napari_medseg.widgets.prompt_layers import PromptLayers
from napari_medseg.widgets.prompt_tools import PromptTools

WARM_UP_AFTER_MS = 400

# The tools live as long as their viewer, whose mouse callbacks they are; this finds them again.
_tools: weakref.WeakKeyDictionary[ViewerModel, weakref.ref[PromptTools]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Binding:
    """What stands between a viewer and a dock."""

    services: Services
    bridge: LayerBridge
    tools: PromptTools


def bind(viewer: ViewerModel, services: Services | None = None) -> Binding:
    """Return the binding of a viewer, made with worker threads (or around the given services) at the first call."""
    binding = bound(viewer)
    if binding is not None:
        return binding
    bridge = LayerBridge(viewer, services or _threaded())
    tools = PromptTools(viewer, bridge, PromptLayers(viewer, bridge), bridge.services.segmenting)
    _tools[viewer] = weakref.ref(tools)
    return Binding(bridge.services, bridge, tools)


def bound(viewer: ViewerModel) -> Binding | None:
    """Return the binding of a viewer that has one."""
    known = _tools.get(viewer)
    tools = known() if known is not None else None
    return Binding(tools.bridge.services, tools.bridge, tools) if tools is not None else None


def _threaded() -> Services:
    post = GuiThread()
    names = ("model", "files", "display", "figures")
    answers, files, display, figures = (ThreadRunner(post, name=f"medseg-{name}") for name in names)
    writer = ThreadRunner(post, name="medseg-writer", keeps_all=True)
    services = build(answers=answers, files=files, display=display, figures=figures, writer=writer, post=post)
    for runner in (answers, files, display, figures, writer):
        weakref.finalize(services, runner.close)
    for training in (services.learning, services.classes):
        weakref.finalize(services, training.close)  # a training must not outlive its window
    # The model costs seconds to load: better while the user looks at the new scan than at the first click.
    # Not at once, as napari is still busy with the layers then.
    timer = QTimer(post)
    timer.setSingleShot(True)
    timer.setInterval(WARM_UP_AFTER_MS)
    segmenting = weakref.ref(services.segmenting)  # the timer must not keep the session alive
    timer.timeout.connect(lambda: controller.warm_up() if (controller := segmenting()) is not None else None)
    services.session.events.volume.connect(lambda volume: timer.start() if volume is not None else None)
    return services
