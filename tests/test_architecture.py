"""The direction in which rooms may know each other, and what importing must not cost."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "napari_medseg"

BELOW = {
    "imaging": set(),
    "evaluation": {"imaging"},
    "networks": {"imaging"},
    "models": {"imaging", "networks"},
    "segmentation": {"imaging", "networks", "models"},
    "classification": {"imaging", "networks", "models"},
    "followup": {"imaging", "networks", "models", "segmentation", "classification", "evaluation"},
    "learning": {"imaging", "networks", "models", "segmentation", "classification", "evaluation"},
    "session": {
        "imaging",
        "networks",
        "models",
        "segmentation",
        "classification",
        "evaluation",
        "learning",
        "followup",
    },
}
BELOW["widgets"] = {*BELOW["session"], "session"}
BELOW["demo"] = {*BELOW["session"], "session"}
BELOW["terminal"] = set()
BELOW["cli_models"] = {"models", "terminal"}
BELOW["cli_masks"] = {"imaging", "terminal"}
BELOW["cli_corrections"] = {"learning", "terminal"}
BELOW["cli_classify"] = {"classification", "models", "evaluation", "terminal"}
BELOW["cli_train"] = {"imaging", "segmentation", "classification", "learning", "models", "terminal"}
BELOW["cli_compare"] = {"imaging", "followup", "segmentation", "classification", "terminal"}
BELOW["cli"] = {*BELOW["demo"], "demo", "terminal"} | {room for room in BELOW if room.startswith("cli_")}
BELOW["__main__"] = {"cli"}
BELOW["errors"] = set()
BELOW["home"] = set()
FOR_ALL = {"errors", "home"}

GUI = {"napari", "qtpy", "magicgui", "superqt", "vispy", "PyQt6", "PySide6"}
WHERE = {
    "torch": {"networks", "models", "segmentation", "classification", "learning"},
    "psygnal": {"session", "widgets"},
    "captum": {"classification"},
    "openvino": {"networks"},
    "monai": set(),
    "pickle": set(),
    **{name: {"widgets"} for name in GUI},
}
# A window is opened by name: the command line and the demo ask napari for the plugin's dock.
ONLY_IN_FUNCTIONS = {("cli", "napari"), ("demo", "napari")}


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Full names imported anywhere in a module, their lines, and whether inside a function."""
    in_functions = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in in_functions
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import on line {node.lineno}"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno, id(node) in in_functions


def _wrong(room: str, name: str, in_function: bool) -> str | None:
    top, _, rest = name.partition(".")
    if top == "napari_medseg":
        other = rest.partition(".")[0]
        known = BELOW[room] | FOR_ALL | {room, "__version__"}
        return None if other in known else f"{room} must not know {other or 'the public names'}"
    if top not in WHERE or room in WHERE[top] or ((room, top) in ONLY_IN_FUNCTIONS and in_function):
        return None
    return f"{room} must not import {top}"


def test_rooms_know_only_the_rooms_below() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        room = inside.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in BELOW, f"a room that the design does not have: {inside}"
        for name, line, in_function in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            why = _wrong(room, name, in_function)
            if why:
                wrong.append(f"{inside}:{line}: {why}")
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "name", "in_function", "allowed"),
    [
        ("imaging", "napari_medseg.errors.ImagingError", False, True),
        ("imaging", "napari_medseg.models.card.Card", True, False),
        ("evaluation", "napari_medseg.imaging.volume.LabelMap", False, True),
        ("evaluation", "torch", True, False),
        ("session", "napari_medseg.widgets.dock", True, False),
        ("session", "qtpy.QtCore.Qt", True, False),
        ("cli", "napari.Viewer", True, True),
        ("cli", "napari.Viewer", False, False),
        ("learning", "monai.losses.DiceLoss", True, False),
        ("widgets", "napari_medseg.read_volume", False, False),
    ],
)
def test_the_rule_itself(room: str, name: str, in_function: bool, allowed: bool) -> None:
    assert (_wrong(room, name, in_function) is None) is allowed


def test_every_library_that_is_imported_is_declared() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = _names(project["dependencies"])
    extras = declared | {name for extra in project["optional-dependencies"].values() for name in _names(extra)}
    homes = packages_distributions()
    missing = set()
    for path in PACKAGE.rglob("*.py"):
        for name, _, in_function in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in ("__future__", "napari_medseg"):
                continue
            if not (extras if in_function else declared) & {_plain(home) for home in homes.get(top, [])}:
                missing.add(top)
    assert missing == set()


def _names(requirements: list[str]) -> set[str]:
    return {_plain(re.split(r"[^\w.-]", line)[0]) for line in requirements}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=170)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["napari_medseg", "napari_medseg.cli"])
def test_importing_costs_neither_torch_nor_qt(module: str) -> None:
    heavy = {"torch", "monai", "sklearn", "scipy", "napari", "qtpy", "PyQt6", "PySide6"}
    assert not heavy & _loaded_by(f"import {module}")


def test_opening_the_dock_costs_no_torch() -> None:
    loaded = _loaded_by("import napari_medseg.widgets.dock")
    assert "qtpy" in loaded
    assert not {"torch", "monai", "sklearn"} & loaded
