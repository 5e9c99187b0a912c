"""``napari-medseg models``: list, show, activate, roll back, export and import versions of the library."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from napari_medseg.terminal import Results, add_json, aligned


def models_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|rollback|activate|export|import")
    add_json(actions.add_parser("list", help="all models and versions; a star marks the active one"))
    for name, what in (
        ("show", "the card of a version"),
        ("rollback", "go back to the version that was active before"),
        ("activate", "make a version the active one"),
        ("export", "copy a version into a folder"),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("name", nargs="?", default="click", help="name in the library (default: click)")
        if name != "rollback":
            action.add_argument("--version", type=int, required=name == "activate", help="default: the active one")
        if name == "export":
            action.add_argument("--out", type=Path, required=True, help="folder to write")
        add_json(action)
    imported = (
        "check a model folder and add it as a new version; the first one of a name is active, any other when you say so"
    )
    action = actions.add_parser("import", help=imported)
    action.add_argument("folder", type=Path, help="model folder: weights.safetensors and card.json")
    action.add_argument("--name", help="name in the library (default: the one in its card)")
    add_json(action)


def run_models_command(options: argparse.Namespace, results: Results) -> None:
    """Run the action that was named."""
    _MODEL_ACTIONS[options.action](options, results)


def _list_models(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.models.library import Library

    library = Library()
    lines = [["model", "version", "made", "labels"]]
    for name in library.names():
        for card in library.versions(name):
            is_active = card.version == library.active(name)
            labels = ", ".join(card.labels.values()) or "what is clicked"
            lines.append([name, f"{'*' if is_active else ' '} {card.version}", card.created[:10], labels])
            results.put({**card.model_dump(mode="json"), "name": name, "active": is_active})
    results.say(aligned(lines))


def _show_model(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.models.checkpoint import read_card
    from napari_medseg.models.library import Library

    card = read_card(Library().path(options.name, options.version))
    results.put(card)
    results.say(card.model_dump_json(indent=2))


def _roll_back(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.models.library import Library

    _say_active(results, options.name, Library().rollback(options.name))


def _activate(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.models.library import Library

    Library().activate(options.name, options.version)
    _say_active(results, options.name, options.version)


def _say_active(results: Results, name: str, version: int) -> None:
    results.put({"name": name, "active": version})
    results.say(f"{name} version {version} is active")


def _export_model(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.models.checkpoint import load_checkpoint, save_checkpoint
    from napari_medseg.models.library import Library

    checkpoint = load_checkpoint(Library().path(options.name, options.version))
    card = checkpoint.card.for_others()
    folder = save_checkpoint(options.out, checkpoint.network, card)
    results.put({"name": card.name, "version": card.version, "folder": str(folder)})
    results.say(f"{card.title} is in {folder}")


def _import_model(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.models.checkpoint import load_checkpoint
    from napari_medseg.models.library import Library

    library, checkpoint = Library(), load_checkpoint(options.folder)
    name = options.name or checkpoint.card.name
    version = library.adopt(name, options.folder)
    card, folder = checkpoint.card.model_copy(update={"name": name, "version": version}), library.path(name, version)
    is_active = library.active(name) == version
    how = "active" if is_active else f"not active: napari-medseg models activate '{name}' --version {version}"
    results.put({"name": name, "version": version, "folder": str(folder), "active": is_active})
    results.say(f"{card.title} is in {folder}, {how}")


_MODEL_ACTIONS: dict[str, Callable[[argparse.Namespace, Results], None]] = {
    "list": _list_models,
    "show": _show_model,
    "rollback": _roll_back,
    "activate": _activate,
    "export": _export_model,
    "import": _import_model,
}
