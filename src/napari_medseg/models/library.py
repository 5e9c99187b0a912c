"""Every version of every model, on disk: add, activate, roll back. No version is ever overwritten or deleted."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import ModelError
from napari_medseg.home import home_folder
from napari_medseg.imaging.durable import write_durably
from napari_medseg.models.card import Card, Does
from napari_medseg.models.checkpoint import CARD, WEIGHTS, read_card, save_checkpoint, sha256_of, write_card

if TYPE_CHECKING:
    from napari_medseg.models.checkpoint import Checkpoint

CLICK = "click"
BUNDLED = Path(__file__).parent / "weights"
_INDEX = "index.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


class Library:
    """Models by name and version; one version of each name is active.

    Parameters
    ----------
    root : Path, optional
        Folder of the library; ``models`` in the user's own folder where nothing is given.

    Notes
    -----
    On disk: ``<root>/<name>/<version>/{weights.safetensors, card.json}`` and ``<root>/index.json``, which holds for
    each name the versions that were active, oldest first. Version 1 of ``click`` and of ``siamese`` comes with the
    package.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root) if root is not None else home_folder() / "models"

    def names(self, *, does: Does | None = None) -> tuple[str, ...]:
        """Names of all models, or of those that ``segment``, ``classify`` or ``compare``; the click model first."""
        own = {p.name for p in self.root.iterdir() if p.is_dir()} if self.root.is_dir() else set()
        known = own | {p.parent.name for p in BUNDLED.glob(f"*/{CARD}")}
        found = (CLICK, *sorted(name for name in known - {CLICK} if _NAME.fullmatch(name) and self._numbers(name)))
        return found if does is None else tuple(name for name in found if self._does(name) == does)

    def versions(self, name: str = CLICK) -> list[Card]:
        """Cards of all versions of a model, oldest first. A version with a damaged card is left out."""
        cards = []
        for number in self._numbers(name):
            try:
                cards.append(read_card(self._folder(name, number)).model_copy(update={"version": number}))
            except ModelError:
                continue
        return cards

    def path(self, name: str = CLICK, version: int | None = None) -> Path:
        """Folder of a version, of the active one where none is named.

        Raises
        ------
        ModelError
            If the library does not hold it.
        """
        number = self.active(name) if version is None else version
        if number not in self._numbers(name):
            raise ModelError(self._absent(name, number))
        return self._folder(name, number)

    def active(self, name: str = CLICK) -> int:
        """Number of the version in use.

        Raises
        ------
        ModelError
            If the library has no model of that name.
        """
        there = self._numbers(name)
        if not there:
            raise ModelError(self._absent(name))
        used = [number for number in self._history(name) if number in there]
        return used[-1] if used else there[0]

    def add(self, name: str, checkpoint: Checkpoint) -> int:
        """Store a new version, without activating it, and return its number.

        Raises
        ------
        ModelError
            If the name cannot be a folder's name.
        """

        def write(target: Path, number: int) -> None:
            card = checkpoint.card.model_copy(update={"name": name, "version": number})
            save_checkpoint(target, checkpoint.network, card)

        return self._add(name, write)

    def adopt(self, name: str, folder: str | Path) -> int:
        """Store a model folder as a new version, without activating it, and return its number. Needs no torch.

        Raises
        ------
        ModelError
            If the folder is no model, or its weights are not those of its card.
        """
        card = read_card(folder)
        if sha256_of(Path(folder) / WEIGHTS) != card.sha256:
            raise ModelError(f"{folder} was changed or damaged: its weights are not those of its card; train it again")

        def write(target: Path, number: int) -> None:
            shutil.copyfile(Path(folder) / WEIGHTS, target / WEIGHTS)
            write_card(target, card.model_copy(update={"name": name, "version": number}))

        return self._add(name, write)

    def activate(self, name: str, version: int) -> None:
        """Make a version the one in use.

        Raises
        ------
        ModelError
            If the library does not hold it.
        """
        self.path(name, version)
        if version != self.active(name):
            self._remember(name, [*(self._history(name) or [self.active(name)]), version])

    def rollback(self, name: str = CLICK) -> int:
        """Go back to the version that was active before the present one, and return its number.

        Raises
        ------
        ModelError
            If no other version was active before.
        """
        there, history = self._numbers(name), self._history(name)
        usable = [number for number in history if number in there]
        if len(usable) < 2:
            raise ModelError(f"'{name}' has no earlier version in use to go back to: choose one from the list")
        self._remember(name, usable[:-1])
        return usable[-2]

    def _add(self, name: str, write: Callable[[Path, int], None]) -> int:
        """Let `write` fill a folder for the next free number."""
        home = self.root / self._checked(name)
        home.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".adding-", dir=home))
        try:
            while True:
                number = max(self._numbers(name), default=int(_is_bundled(name) or name == CLICK)) + 1
                write(temporary, number)
                if _moved(temporary, home / str(number)):
                    return number
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _does(self, name: str) -> Does | None:
        cards = [card for card in self.versions(name) if card.version == self.active(name)]
        return cards[0].does if cards else "segment" if name == CLICK else None

    def _folder(self, name: str, number: int) -> Path:
        own = self.root / name / str(number)
        return BUNDLED / name if number == 1 and _is_bundled(name) and not own.is_dir() else own

    def _numbers(self, name: str) -> list[int]:
        home = self.root / self._checked(name)
        found = {int(p.name) for p in home.glob("[0-9]*") if p.name.isdigit() and (p / CARD).is_file()}
        if _is_bundled(name):
            found.add(1)
        return sorted(found)

    def _checked(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ModelError(f"'{name}' cannot name a model: use letters, digits, spaces, dots, dashes and underscores")
        return name

    def _absent(self, name: str, number: int | None = None) -> str:
        if name == CLICK and not self._numbers(name):
            return "the bundled click model is missing from this installation: install napari-medseg again"
        if number is not None and self._numbers(name):
            there = ", ".join(str(n) for n in self._numbers(name))
            return f"'{name}' has no version {number}: it has {there}"
        return f"the library has no model '{name}': it has {', '.join(self.names())}"

    def _history(self, name: str) -> list[int]:
        history = self._index().get(name, [])
        return [n for n in history if isinstance(n, int)] if isinstance(history, list) else []

    def _index(self) -> dict[str, Any]:
        """Read the index; a missing or damaged one counts as empty, so that the oldest versions are active."""
        try:
            index = json.loads((self.root / _INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return index if isinstance(index, dict) else {}

    def _remember(self, name: str, history: list[int]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self._index(), name: history}, indent=1)
        write_durably(
            self.root / _INDEX,
            lambda path: _write_text(path, text),
            lambda path: _same_text(path, text),
        )


def _is_bundled(name: str) -> bool:
    return (BUNDLED / name / CARD).is_file()


def _moved(source: Path, target: Path) -> bool:
    """Rename a folder unless somebody else has taken the new name meanwhile."""
    try:
        source.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    return True


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _same_text(path: Path, text: str) -> None:
    if path.read_text(encoding="utf-8") != text:
        raise ModelError(f"{path} was not written completely: is the disk full?")
