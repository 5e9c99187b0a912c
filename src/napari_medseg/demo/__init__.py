"""The whole story on the sample scans: in a window, or told line by line with pictures."""

from napari_medseg.demo.story import tell_demo
from napari_medseg.demo.window import show_demo

__all__ = ["show_demo", "tell_demo"]
