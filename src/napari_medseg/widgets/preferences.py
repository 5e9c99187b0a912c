"""The plugin's settings, as napari's preferences dialog shows and stores them."""

from __future__ import annotations

from typing import Any

from npe2 import PluginManager

PLUGIN = "napari-medseg"


def view_preferences() -> Any:
    """Return the evented settings ``texts``, ``letter_size`` and ``text_size`` of the manifest's ``view`` section."""
    from napari.settings import get_plugin_settings

    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.discover()
    return get_plugin_settings(PLUGIN).view
