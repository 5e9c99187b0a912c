"""The whole story on the sample scans: in a window, or told line by line with pictures."""

from napari_medseg.demo.story import tell_demo
from napari_medseg.demo.window import has_screen, show_demo

__all__ = ["has_screen", "show_demo", "tell_demo"]
