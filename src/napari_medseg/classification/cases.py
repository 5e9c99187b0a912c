"""The user's own library of labelled cases: what classifiers learn from, and what 'Find similar' searches.

``<root>/case-0001/`` holds ``case.json`` (class, where the scan is, position, size), ``arrays.safetensors`` (the scan
round the lesion, or the reduced scans of a study, with their mask) and ``thumbnail.png``. A case stays usable when its
scan has moved. ``<root>/removed`` remembers the numbers of deleted cases: none is given again. Everything stays on this
computer; nothing of it enters a model but the SHA-256 of its arrays and of whom it belongs to.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_medseg.classification.excerpt import excerpt, thumbnail
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import ModelError
from napari_medseg.home import home_folder
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.card import now_iso

_PREFIX, _REMOVED, _CARD, _ARRAYS, _PICTURE, _CLASSES = (
    "case-",
    "removed",
    "case.json",
    "arrays.safetensors",
    "thumbnail.png",
    "classes.json",
)


class CaseCard(BaseModel):
    """``case.json``: what a case is and where it came from."""

    model_config = ConfigDict(frozen=True)

    task: str = Field(title="Kind", description="lesion, image or study.")
    class_name: str = Field("", title="Class", description="Empty where nobody has named one.")
    added: str = Field(default_factory=now_iso, title="Added")
    paths: list[str] = Field(default_factory=list, title="Scans", description="Files or folders it was taken from.")
    names: list[str] = Field(default_factory=list, title="Names of the scans")
    modalities: list[str] = Field(default_factory=list, title="Modalities")
    position_mm: tuple[float, float, float] | None = Field(None, title="Position (mm)", description="RAS+.")
    is_flat: bool = Field(False, title="2-D", description="Whether it lies in a single 2-D image.")
    label: int | None = Field(None, title="Label", description="Value in the mask that it was taken from.")
    diameter_mm: float | None = Field(None, title="Longest side (mm)")
    volume_ml: float | None = Field(None, title="Volume (ml)")
    patient: str = Field("", title="Patient", description="Cases of one patient never stand on both sides of a split.")

    @property
    def person(self) -> str:
        """Whom it belongs to: the patient or, where nobody says who that is, the owner of the first scan."""
        return self.patient or (str(Path(self.paths[0]).resolve()) if self.paths else "")


@dataclass(frozen=True, slots=True, eq=False)
class StoredCase:
    """One case on disk.

    Parameters
    ----------
    folder : Path
        Its folder.
    card : CaseCard
        What it is.
    """

    folder: Path
    card: CaseCard

    @property
    def id(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def stamp(self) -> int:
        """When its arrays were written, in ns; 0 where they are gone."""
        path = self.folder / _ARRAYS
        return path.stat().st_mtime_ns if path.is_file() else 0

    def subject(self) -> Subject:
        """Read what is to be classified.

        Raises
        ------
        ModelError
            If its files are gone or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(self.folder / _ARRAYS)
            return _subject(arrays, self.card)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ModelError(f"{self.id} in {self.folder.parent} is damaged: remove it") from error

    def thumbnail(self) -> NDArray[np.uint8]:
        """A small grey picture of it, shape (H, W)."""
        from PIL import Image

        with Image.open(self.folder / _PICTURE) as picture:
            return np.asarray(picture.convert("L"))


class CaseLibrary:
    """Keeps cases.

    Parameters
    ----------
    root : path, optional
        The folder; ``cases`` in the user's own folder by default. Made when the first case is added.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else home_folder() / "cases"

    def add(self, subject: Subject, class_name: str = "", *, paths: Sequence[str | Path] = ()) -> StoredCase:
        """Store a case, all of it or nothing.

        Parameters
        ----------
        subject : Subject
            Lesion, image or study.
        class_name : str
            Its class; empty where nobody has named one yet.
        paths : sequence of path, optional
            Where its scans are; by default what the scans say themselves.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f".adding-{secrets.token_hex(6)}"
        temporary.mkdir()  # not by tempfile, which lets nobody else read it: the folder may be a shared one
        try:
            card = _card(subject, class_name.strip(), [str(p) for p in paths])
            _write_case(temporary, subject, card)
            while True:
                used = _numbers(self.root) | _numbers(self.root / _REMOVED)
                folder = self.root / f"{_PREFIX}{max(used, default=0) + 1:04d}"
                try:
                    return StoredCase(temporary.rename(folder), card)
                except OSError:
                    if not folder.exists():
                        raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def list(self, *, class_name: str | None = None, task: str | None = None) -> tuple[StoredCase, ...]:
        """Cases, oldest first, of a class or kind if one is given. Damaged folders are left out."""
        found = []
        for number in sorted(_numbers(self.root)):
            folder = self.root / f"{_PREFIX}{number:04d}"
            try:
                card = CaseCard.model_validate_json((folder / _CARD).read_bytes())
            except (OSError, ValidationError, ValueError):
                continue
            if class_name in (None, card.class_name) and task in (None, card.task):
                found.append(StoredCase(folder, card))
        return tuple(found)

    def relabel(self, name: str, class_name: str) -> None:
        """Give a case another class; an empty one takes its class away.

        Raises
        ------
        ModelError
            If there is no such case.
        """
        case = self._named(name)
        _write_card(case.folder, case.card.model_copy(update={"class_name": class_name.strip()}))

    def remove(self, name: str) -> None:
        """Delete a case for good; its number is not given again.

        Raises
        ------
        ModelError
            If there is no such case.
        """
        folder, removed = self._named(name).folder, self.root / _REMOVED
        removed.mkdir(exist_ok=True)
        (removed / name).touch()
        shutil.rmtree(folder)

    def classes(self) -> tuple[str, ...]:
        """Names of all classes: those that were declared, in their order, then others that cases have."""
        used = sorted({case.card.class_name for case in self.list()} - {""})
        return tuple(dict.fromkeys([*self._declared(), *used]))

    def declare(self, classes: Sequence[str]) -> None:
        """Keep a list of class names, whether or not a case has them yet."""
        self.root.mkdir(parents=True, exist_ok=True)
        _write_text(self.root / _CLASSES, json.dumps([name.strip() for name in classes if name.strip()]))

    def counts(self, *, task: str | None = None) -> dict[str, int]:
        """How many cases each class has, 0 included."""
        names = [case.card.class_name for case in self.list(task=task)]
        return {name: names.count(name) for name in self.classes()}

    def _declared(self) -> tuple[str, ...]:
        try:
            names = json.loads((self.root / _CLASSES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ()
        return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()

    def _named(self, name: str) -> StoredCase:
        case = next((case for case in self.list() if case.id == name), None)
        if case is None:
            raise ModelError(f"there is no case '{name}' in {self.root}")
        return case


def _numbers(folder: Path) -> set[int]:
    digits = (p.name.removeprefix(_PREFIX) for p in folder.glob(f"{_PREFIX}*"))
    return {int(d) for d in digits if d.isdigit()}


def task_of(subject: Subject) -> str:
    """Return what a subject is: lesion, image or study."""
    if subject.is_lesion:
        return "lesion"
    return "image" if len(subject.scans) == 1 and 1 in subject.scans[0].data.shape else "study"


def _card(subject: Subject, class_name: str, paths: list[str]) -> CaseCard:
    x, y, z = subject.scans[0].position_of(subject.centre())
    voxels = None if subject.mask is None else int(subject.marked().sum())
    known = [str(scan.path.resolve()) for scan in subject.scans if scan.path is not None]
    return CaseCard(
        task=task_of(subject),
        class_name=class_name,
        paths=paths or known,
        names=[scan.name for scan in subject.scans],
        modalities=[scan.modality for scan in subject.scans],
        position_mm=(float(x), float(y), float(z)),
        is_flat=len(subject.scans) == 1 and 1 in subject.scans[0].data.shape,
        label=subject.label,
        diameter_mm=subject.diameter_mm(),
        volume_ml=None if subject.mask is None or voxels is None else voxels * subject.mask.voxel_ml,
        patient=subject.patient,
    )


def _write_case(folder: Path, subject: Subject, card: CaseCard) -> None:
    from PIL import Image
    from safetensors.numpy import load_file, save_file

    kept = excerpt(subject)
    arrays: dict[str, NDArray[Any]] = {}
    for number, scan in enumerate(kept.scans):
        arrays[f"scan{number}"] = np.ascontiguousarray(scan.data.astype(np.float32))
        arrays[f"affine{number}"] = np.ascontiguousarray(scan.affine)
    if kept.mask is not None:
        arrays["mask"] = np.ascontiguousarray(kept.marked().astype(np.uint8))

    def verify(path: Path) -> None:
        if any(not np.array_equal(value, arrays[name]) for name, value in load_file(path).items()):
            raise ModelError(f"{path} was not written completely: is the disk full?")

    write_durably(folder / _ARRAYS, lambda path: save_file(arrays, path), verify)
    Image.fromarray(thumbnail(subject)).save(folder / _PICTURE)
    _write_card(folder, card)


def _subject(arrays: dict[str, NDArray[Any]], card: CaseCard) -> Subject:
    scans = []
    for number in range(sum(name.startswith("scan") for name in arrays)):
        name = card.names[number] if number < len(card.names) else ""
        modality = card.modalities[number] if number < len(card.modalities) else ""
        scans.append(Volume(arrays[f"scan{number}"], arrays[f"affine{number}"], name, modality))
    mask = LabelMap(arrays["mask"], scans[0].affine) if "mask" in arrays else None
    position = card.position_mm if mask is None and card.task == "lesion" else None
    return Subject(tuple(scans), mask, position_mm=position, patient=card.person)


def _write_card(folder: Path, card: CaseCard) -> None:
    _write_text(folder / _CARD, card.model_dump_json(indent=1))


def _write_text(path: Path, text: str) -> None:
    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    def verify(part: Path) -> None:
        if part.read_text(encoding="utf-8") != text:
            raise ModelError(f"{path} was not written completely: is the disk full?")

    write_durably(path, write, verify)
