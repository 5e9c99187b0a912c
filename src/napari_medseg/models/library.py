"""Every version of every model, on disk: add, activate, roll back. No version is ever overwritten or deleted."""

from __future__ import annotations

import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import ModelError
from napari_medseg.home import home_folder
from napari_medseg.models.active_index import ActiveIndex
from napari_medseg.models.card import Card, Does
from napari_medseg.models.checkpoint import CARD, WEIGHTS, read_card, save_checkpoint, sha256_of, write_card

if TYPE_CHECKING:
    from napari_medseg.models.checkpoint import Checkpoint

CLICK = "click"
BUNDLED = Path(__file__).parent / "weights"
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
    each name the versions that were active, oldest first, and of which ``index.json.1`` is a copy. Version 1 of
    ``click`` and of ``siamese`` comes with the package. A name that was never changed has its oldest version active.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root) if root is not None else home_folder() / "models"
        self._active = ActiveIndex(self.root)

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
        return self._adopt(name, Path(folder), read_card(folder))

    def take_over(self, name: str, folder: str | Path, verdict: Mapping[str, Any]) -> int | None:
        """Store what a training left in a folder, in use where the gate agreed, and return its number.

        A first version that the gate refused is not stored: as the only one of its name it would be in use.

        Parameters
        ----------
        name : str
            Name in the library.
        folder : str or Path
            What was trained.
        verdict : mapping
            What the gate said of it, ``adopted`` at least; the card says the same, but for the sentence: a user's own
            names of scans stand in no card.

        Returns
        -------
        int or None
            The number; None where it is not stored.

        Raises
        ------
        ModelError
            If the folder does not hold the very version that the gate spoke of.
        """
        if not verdict["adopted"] and not self._numbers(name):
            return None
        card, figures = read_card(folder), {key: value for key, value in verdict.items() if key != "sentence"}
        if {key: (card.gate or {}).get(key) for key in figures} != figures:
            raise ModelError(f"{folder} holds another version than the one that was measured: train it again")
        number = self._adopt(name, Path(folder), card)
        if verdict["adopted"]:
            self.activate(name, number)
        return number

    def activate(self, name: str, version: int) -> None:
        """Make a version the one in use.

        Raises
        ------
        ModelError
            If the library does not hold it.
        """
        self.path(name, version)
        with self._active.changing():
            if version != self.active(name):
                self._remember(name, [*(self._history(name) or [self.active(name)]), version])

    def rollback(self, name: str = CLICK) -> int:
        """Go back to the version that was active before the present one, and return its number.

        Raises
        ------
        ModelError
            If no other version was active before.
        """
        with self._active.changing():
            there, history = self._numbers(name), self._history(name)
            usable = [number for number in history if number in there]
            if len(usable) < 2:
                raise ModelError(f"'{name}' has no earlier version in use to go back to: choose one from the list")
            self._remember(name, usable[:-1])
        return usable[-2]

    def _adopt(self, name: str, folder: Path, card: Card) -> int:
        def write(target: Path, number: int) -> None:
            shutil.copyfile(folder / WEIGHTS, target / WEIGHTS)
            if sha256_of(target / WEIGHTS) != card.sha256:
                raise ModelError(
                    f"{folder} was changed or damaged: its weights are not those of its card; train it again"
                )
            write_card(target, card.model_copy(update={"name": name, "version": number}))

        return self._add(name, write)

    def _add(self, name: str, write: Callable[[Path, int], None]) -> int:
        """Let `write` fill a folder for the next free number."""
        home = self.root / self._checked(name)
        home.mkdir(parents=True, exist_ok=True)
        temporary = home / f".adding-{secrets.token_hex(6)}"
        temporary.mkdir()  # as the umask says: colleagues may share a library
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
        index = self._active.read()
        return self._index_of_cards() if index is None else index

    def _index_of_cards(self) -> dict[str, Any]:
        """For each name its oldest version and all that a gate agreed to, as if each had become active in its turn."""
        warnings.warn(
            f"{self._active.path} is damaged: of each model the newest version that its gate agreed to is in use; look "
            "through the versions and choose another where that is not what you want",
            stacklevel=2,
        )
        index = {}
        for name in self.names():
            agreed = [card.version for card in self.versions(name) if (card.gate or {}).get("adopted")]
            index[name] = sorted({*self._numbers(name)[:1], *agreed})
        return index

    def _remember(self, name: str, history: list[int]) -> None:
        self._active.write({**self._index(), name: history})


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
