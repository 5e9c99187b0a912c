"""Binds the manifest's key bindings to a viewer: napari 0.9 reads them, but does not bind them itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari.utils.key_bindings import coerce_keybinding
from npe2 import PluginManager

from napari_medseg.widgets.preferences import PLUGIN

if TYPE_CHECKING:
    from napari.components import ViewerModel


def contributed() -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Keys of the manifest, as napari writes them (``"Shift-A"``), each with a function of the viewer."""
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.discover()
    bindings = manager.get_manifest(PLUGIN).contributions.keybindings or ()
    return tuple((each.key.replace("+", "-"), _runner(each.command)) for each in bindings)


def bind(viewer: ViewerModel) -> None:
    """Bind the manifest's keys to a viewer, except those that the user or another plugin bound before."""
    for key, function in contributed():
        if coerce_keybinding(key) not in viewer.keymap:
            viewer.bind_key(key, function)


def unbind(viewer: ViewerModel) -> None:
    """Take the manifest's keys back from a viewer."""
    for key, _ in contributed():
        function = viewer.keymap.get(coerce_keybinding(key))
        if getattr(function, "__module__", "") == __name__:
            viewer.bind_key(key, None)


def _runner(command: str) -> Callable[[Any], Any]:
    def run(viewer: ViewerModel) -> None:
        _run(command, viewer)

    run.__name__ = command  # napari asks every bound function for its name at each key press
    return run


def _run(command: str, viewer: ViewerModel) -> None:
    python_name = PluginManager.instance().get_command(command).python_name
    assert python_name is not None
    module, _, name = str(python_name).partition(":")
    getattr(import_module(module), name)(viewer)
