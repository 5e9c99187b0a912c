"""The demo in a real window: the sample scan with the dock, and a first lesion clicked.

``python -m napari_medseg.demo.window OUT_DIR`` does the same, saves pictures of the window and closes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_medseg.errors import JobFailed
from napari_medseg.segmentation.prompts import Point

_ANSWER_WITHIN_S = 90.0
_PICTURES_WITHIN_S = 150.0


def show_demo() -> None:
    """Open napari on the sample scan with the dock, click the first lesion, and stay until the window is closed."""
    import napari

    _open_and_click()
    napari.run()


def has_screen() -> bool:
    """Whether a window could open: every system but Linux has a screen, there a display must be named."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def picture_window(folder: Path) -> list[Path]:
    """Save pictures of the window in 2-D and 3-D, from a process of its own: a broken OpenGL cannot end the caller.

    Raises
    ------
    JobFailed
        If the window did not open or the model did not answer in time.
    """
    command = [sys.executable, "-m", "napari_medseg.demo.window", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PICTURES_WITHIN_S)
    except subprocess.TimeoutExpired as error:
        raise JobFailed("the window took too long to be drawn on this screen") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
        raise JobFailed(f"the window could not be drawn: {last}")
    return [Path(line) for line in done.stdout.split("\n") if line.endswith(".png")]


def main(folder: Path) -> None:
    """Open, click, wait for the answer, save the pictures and print their paths."""
    from napari.qt import get_qapp

    viewer, session = _open_and_click()
    viewer.window.resize(1600, 1000)

    def is_answered() -> bool:
        return bool(session.lesions) and session.busy is None and session.work.labels.data.any()

    _process_events_until(is_answered, get_qapp().processEvents)
    _turn_to_lesion(viewer, session)
    sys.stdout.write(f"{_screenshot(viewer, folder / 'window.png', get_qapp().processEvents)}\n")
    _turn_to_bones(viewer)
    sys.stdout.write(f"{_screenshot(viewer, folder / 'window_3d.png', get_qapp().processEvents)}\n")
    viewer.close()


def _open_and_click() -> tuple[Any, Any]:
    """Return the viewer and the dock's session; the sample is read and the click answered once events are handled."""
    import napari

    viewer = napari.Viewer()
    _, dock = viewer.window.add_plugin_dock_widget("napari-medseg", "MedSeg")
    services: Any = dock.services
    position = _middle_of_first_lesion()

    def click_once(volume: Any) -> None:
        if volume is not None:
            services.session.events.volume.disconnect(click_once)
            services.segmenting.click(position)

    services.session.events.volume.connect(click_once)
    services.opening.open_sample()
    return viewer, services.session


def _middle_of_first_lesion() -> Point:
    from napari_medseg.demo.reader import middle_mm
    from napari_medseg.imaging.phantom import chest_ct

    truth = chest_ct().lesions
    return middle_mm(truth.data == 1, truth)


def _turn_to_lesion(viewer: Any, session: Any) -> None:
    """Show the slice where the lesion is largest."""
    areas = (session.work.labels.data > 0).sum(axis=(1, 2))
    viewer.dims.set_current_step(0, int(areas.argmax()))


def _turn_to_bones(viewer: Any) -> None:
    """Show the lesion between the bones, seen from the patient's right, in front and a little above."""
    viewer.dims.ndisplay = 3
    viewer.camera.set_view_direction(view_direction=(-0.25, 1.0, 0.5), up_direction=(1.0, 0.0, 0.0))
    for layer in viewer.layers:
        if "napari_medseg" in layer.metadata and hasattr(layer, "contrast_limits"):
            layer.contrast_limits = (60.0, 1100.0)


def _screenshot(viewer: Any, path: Path, handle_events: Callable[[], None]) -> Path:
    from matplotlib.image import imsave

    for _ in range(10):  # layout, textures and overlays each take a turn of the event loop
        handle_events()
        time.sleep(0.05)
    imsave(path, viewer.screenshot(canvas_only=False, flash=False))
    return path


def _process_events_until(is_done: Callable[[], bool], handle_events: Callable[[], None]) -> None:
    end = time.monotonic() + _ANSWER_WITHIN_S
    while not is_done():
        if time.monotonic() > end:
            raise JobFailed("the model did not answer in time")
        handle_events()
        time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
