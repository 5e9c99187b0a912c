"""In a real window: key O shows the lesion's rim, and a dock that is opened again has its height."""

from __future__ import annotations

from qtpy.QtCore import Qt

from napari_medseg.widgets.prompt_tools import Tool


def test_key_o_shows_the_margin(window, scan):
    window.open(scan)
    at = tuple(n // 2 for n in window.labels.shape)
    window.show(at)
    window.dock.tools.choose(Tool.CLICK)
    window.click(at)
    window.settled()
    filled = int((window.layer._slice.image.view > 0).sum())
    window.key(Qt.Key.Key_O)
    assert 0 < int((window.layer._slice.image.view > 0).sum()) < filled
    window.viewer.dims.ndisplay = 3
    window.key(Qt.Key.Key_O)
    window.viewer.dims.ndisplay = 2
    assert window.layer.contour == 1, "in 3-D the key is napari's"
    window.key(Qt.Key.Key_O)
    assert window.layer.contour == 0


def test_a_dock_that_is_opened_again_has_all_its_height(window):
    heights = [window.dock.pages.height()]
    for _ in range(2):
        [dock] = [each for name, each in window.viewer.window.dock_widgets.items() if "MedSeg" in name]
        window.viewer.window.remove_dock_widget(dock)
        _, window.dock = window.viewer.window.add_plugin_dock_widget("napari-medseg", "MedSeg")
        window.wait(window.dock.isVisible)
        window.qtbot.wait(50)
        heights.append(window.dock.pages.height())
    assert min(heights) > 0.9 * max(heights)
