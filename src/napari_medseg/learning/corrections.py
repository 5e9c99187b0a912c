"""The folder that keeps corrections: one folder each that a person understands, whole or not there.

``<root>/correction-0001/`` holds ``scan.json`` (where the scan is, and its SHA-256), ``corrected.nii.gz``,
``proposed.nii.gz``, ``painted.nii.gz`` and ``card.json``. A scan without a file of its own is kept as ``scan.nii.gz``.
The modules that read and write scans are imported when one is: the dock only counts the folders.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_medseg.errors import ImagingError, LearningError, MedSegError
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.correction import Correction, content_hash
from napari_medseg.learning.corrections_folder import in_words, why_gone
from napari_medseg.models.card import now_iso
from napari_medseg.segmentation.prompts import prompt_from, prompt_to

__all__ = ["Correction", "CorrectionStore", "StoredCorrection", "content_hash"]

_PREFIX, _REMOVED = "correction-", "removed"
Model = TypeVar("Model", bound=BaseModel)


class ScanReference(BaseModel):
    """``scan.json``: which scan, and where it lay."""

    model_config = ConfigDict(frozen=True)

    path: str | None = Field(None, description="File or folder; none where the scan is kept beside as scan.nii.gz.")
    sha256: str
    shape: tuple[int, int, int]
    affine: list[list[float]]
    modality: str = ""


class CorrectionCard(BaseModel):
    """``card.json``: what was accepted, and what it cost."""

    model_config = ConfigDict(frozen=True)

    created: str = Field(default_factory=now_iso)
    names: dict[int, str] = Field(default_factory=dict)
    reviewed: list[int] | None = Field(None, description="Slices that were checked; none: all of them.")
    axis: int = Field(0, description="Axis of the array along which slices were checked.")
    prompts: list[dict[str, Any]] = Field(default_factory=list)
    model: str = ""
    seconds: float = 0.0
    edited_voxels: int = 0
    pinned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StoredCorrection:
    """One correction on disk.

    Parameters
    ----------
    folder : Path
        Its folder.
    scan : ScanReference
        Which scan.
    card : CorrectionCard
        What was accepted.
    """

    folder: Path
    scan: ScanReference
    card: CorrectionCard

    @property
    def id(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def place(self) -> Path:
        """Where the scan is: where it lay, else beside the correction or in the folder that holds it."""
        if self.scan.path is None:
            return self.folder / "scan.nii.gz"
        path = Path(self.scan.path)
        places = (path, self.folder / path.name, self.folder.parent / path.name)
        return next((place for place in places if place.exists()), path)

    def load(self) -> Correction:
        """Read scan and masks.

        Raises
        ------
        LearningError
            If the scan is gone or was changed since.
        """
        volume = self._volume()
        card = self.card
        painted = self._mask("painted.nii.gz")
        axis, reviewed = _on_axes_of(volume, self.scan, card)
        corrected = self._mask("corrected.nii.gz")
        if corrected is None:
            raise LearningError(f"{self.folder} has no corrected.nii.gz: remove that folder")
        return Correction(
            volume=volume,
            proposed=self._mask("proposed.nii.gz"),
            corrected=LabelMap(corrected.data, volume.affine, card.names, grid=volume.grid),
            reviewed=reviewed,
            axis=axis,
            corrected_voxels=None if painted is None else painted.data > 0,
            prompts=tuple(prompt_from(p) for p in card.prompts),
            model=card.model,
            seconds=card.seconds,
            edited_voxels=card.edited_voxels,
            pinned=card.pinned,
            name=f"{volume.name} ({self.id})" if volume.name else self.id,
        )

    def _volume(self) -> Volume:
        """The scan, recognised by its content."""
        from napari_medseg.imaging.files import read_volume, read_volumes

        path = self.place
        if not path.exists():
            raise LearningError(
                f"the scan of {self.id} is no longer at {path}: put it back, or beside the correction, or remove "
                "the correction"
            )
        first = read_volume(path)
        if content_hash(first) == self.scan.sha256:
            return first
        for volume in read_volumes(path):
            if content_hash(volume) == self.scan.sha256:
                return volume
        raise LearningError(f"{path} is not the scan that {self.id} was made on: remove the correction or restore it")

    def _mask(self, name: str) -> LabelMap | None:
        from napari_medseg.imaging.files import read_label_map

        return read_label_map(self.folder / name) if (self.folder / name).is_file() else None


class CorrectionStore:
    """Keeps corrections.

    Parameters
    ----------
    root : path
        The folder; made when the first correction is added, unless `why_gone` tells why not.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def add(self, correction: Correction) -> Path:
        """Store a correction, all of it or nothing, and return its folder.

        A newer correction of the same scan takes the place of an older one in `list`, pinned as that was; nothing is
        deleted.

        Raises
        ------
        LearningError
            If the folder is gone: a drive that was unplugged.
        """
        root = self.root  # a folder that is chosen meanwhile is for the next correction
        why = why_gone(root)
        if why:
            raise LearningError(why)
        root.mkdir(parents=True, exist_ok=True)
        temporary = root / f".adding-{secrets.token_hex(6)}"
        temporary.mkdir()  # not by tempfile, which lets nobody else read it: the folder may be a shared one
        try:
            _write(temporary, correction)
            _stay_pinned(temporary)
            while True:
                used = _numbers(root) | _numbers(root / _REMOVED)
                folder = _folder(root, max(used, default=0) + 1)
                try:
                    return temporary.rename(folder)
                except OSError:
                    if not folder.exists():
                        raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def list(self, *, superseded: bool = False) -> tuple[StoredCorrection, ...]:
        """All corrections, oldest first: the newest of each scan, or every one. What `trouble` tells is left out."""
        found, _ = _read_all(self.root)
        newest = {stored.scan.sha256: stored for stored in found}
        return tuple(found if superseded else [s for s in found if newest[s.scan.sha256] is s])

    def unreadable(self) -> tuple[Path, ...]:
        """Folders of corrections that cannot be read, oldest first: any of them may be pinned."""
        return tuple(_read_all(self.root)[1])

    def trouble(self) -> str:
        """Why corrections cannot be seen, and what to do, in one sentence; empty where all of them can."""
        root = self.root
        why, lost = why_gone(root), _read_all(root)[1]
        if why or not lost:
            return why
        more, them = (f" and {len(lost) - 1} more", "them") if len(lost) > 1 else ("", "it")
        unread = f"{in_words(lost[0])}{more} cannot be read, and may be pinned"
        return f"{unread}: restore {them} or move {them} away, as no training starts before that"

    def remove(self, name: str) -> Path:
        """Let a correction teach no more: it moves into the folder ``removed``; its path there is returned.

        Its number is not given again.

        Raises
        ------
        LearningError
            If there is none of that name.
        """
        root = self.root
        folder = root / name
        if folder.parent != root or not name.startswith(_PREFIX) or not folder.is_dir():
            raise LearningError(f"there is no correction '{name}' in {in_words(root)}")
        kept = root / _REMOVED / name
        kept.parent.mkdir(exist_ok=True)
        number = 2
        while kept.exists():
            kept = kept.with_name(f"{name}-{number}")
            number += 1
        return folder.rename(kept)

    def pin(self, name: str, pinned: bool = True) -> None:
        """Keep a case out of training: new versions must never get worse on it."""
        stored = next((s for s in self.list(superseded=True) if s.id == name), None)
        if stored is None:
            raise LearningError(f"there is no correction '{name}' in {in_words(self.root)}")
        _write_model(stored.folder / "card.json", stored.card.model_copy(update={"pinned": pinned}))

    def snapshot(self, folder: str | Path, names: Sequence[str] | None = None) -> CorrectionStore:
        """Copy corrections as they are now, for work that later edits must not touch.

        Raises
        ------
        LearningError
            If one cannot be read: a pinned case would lose its protection.
        """
        now, copy = CorrectionStore(self.root), CorrectionStore(folder)
        trouble = now.trouble()
        if trouble:
            raise LearningError(trouble)
        copy.root.mkdir(parents=True, exist_ok=True)
        for stored in now.list():
            if names is None or stored.id in names:
                shutil.copytree(stored.folder, copy.root / stored.id)
                if stored.scan.path is not None:
                    scan = stored.scan.model_copy(update={"path": str(stored.place)})
                    _write_model(copy.root / stored.id / "scan.json", scan)
        return copy


def _read_all(root: Path) -> tuple[list[StoredCorrection], list[Path]]:
    """Corrections of a folder, oldest first, and the folders of those that cannot be read."""
    found, lost = [], []
    for number in sorted(_numbers(root)):
        folder = _folder(root, number)
        try:
            found.append(_stored(folder))
        except MedSegError:
            if os.access(folder, os.F_OK):
                lost.append(folder)
    return found, lost


def _stored(folder: Path) -> StoredCorrection:
    scan, card = _read(folder / "scan.json", ScanReference), _read(folder / "card.json", CorrectionCard)
    return StoredCorrection(folder, scan, card)


def _stay_pinned(folder: Path) -> None:
    """Pin a correction that is being added where the present one of its scan is."""
    new, others = _stored(folder), CorrectionStore(folder.parent).list()
    if any(stored.card.pinned and stored.scan.sha256 == new.scan.sha256 for stored in others):
        _write_model(folder / "card.json", new.card.model_copy(update={"pinned": True}))


def _numbers(folder: Path) -> set[int]:
    """Numbers of the corrections in a folder; one that was removed twice is called ``correction-0001-2`` there."""
    digits = (p.name.removeprefix(_PREFIX).partition("-")[0] for p in folder.glob(f"{_PREFIX}*"))
    return {int(d) for d in digits if d.isdigit()}


def _folder(root: Path, number: int) -> Path:
    return root / f"{_PREFIX}{number:04d}"


def _write(folder: Path, correction: Correction) -> None:
    from napari_medseg.imaging.files import read_volume, write_label_map
    from napari_medseg.imaging.provenance import has_changed

    volume, reviewed = correction.volume, correction.reviewed
    path = volume.path
    # A file that has changed is no longer the scan that was corrected: keep that one.
    if path is None or not path.exists() or has_changed(volume):
        path = None
        _write_scan(folder / "scan.nii.gz", volume)
        digest = content_hash(read_volume(folder / "scan.nii.gz"))
    else:
        digest = content_hash(volume)
    for name, mask in _masks(correction).items():
        write_label_map(folder / name, mask)
    z, y, x = volume.data.shape
    scan = ScanReference(
        path=None if path is None else str(path.resolve()),
        sha256=digest,
        shape=(z, y, x),
        affine=volume.affine.tolist(),
        modality=volume.modality,
    )
    _write_model(folder / "scan.json", scan)
    card = CorrectionCard(
        names=dict(correction.corrected.names),
        reviewed=None if reviewed is None else list(reviewed),
        axis=correction.axis,
        prompts=[prompt_to(p) for p in correction.prompts],
        model=correction.model,
        seconds=correction.seconds,
        edited_voxels=correction.edited_voxels,
        pinned=correction.pinned,
    )
    _write_model(folder / "card.json", card)


def _masks(correction: Correction) -> dict[str, LabelMap]:
    volume, painted = correction.volume, correction.corrected_voxels
    masks = {"corrected.nii.gz": correction.corrected}
    if correction.proposed is not None:
        masks["proposed.nii.gz"] = correction.proposed
    if painted is not None:
        masks["painted.nii.gz"] = LabelMap(painted.astype(np.uint8), volume.affine, grid=volume.grid)
    return masks


def _write_scan(path: Path, volume: Volume) -> None:
    """Save a scan that has no file of its own."""
    import nibabel

    from napari_medseg.imaging.orientation import grid_of, to_disk

    grid = grid_of(LabelMap(np.zeros(volume.data.shape, np.uint8), volume.affine))
    data = to_disk(volume.data, grid)

    def write(written: Path) -> None:
        nibabel.nifti1.Nifti1Image(data, grid.affine).to_filename(written)  # type: ignore[no-untyped-call]

    def verify(written: Path) -> None:
        if not np.array_equal(np.asarray(nibabel.nifti1.load(written).dataobj), data):  # type: ignore[no-untyped-call]
            raise ImagingError(f"{path} was not written completely: is the disk full?")

    write_durably(path, write, verify)


def _on_axes_of(volume: Volume, scan: ScanReference, card: CorrectionCard) -> tuple[int, tuple[int, ...] | None]:
    """Reviewed slices on the axes of the array that was read; another order than in memory where it had no file."""
    if card.reviewed is None:
        return card.axis, None
    step: NDArray[np.float64] = np.linalg.solve(volume.affine, np.array(scan.affine))
    axis = int(np.argmax(np.abs(step[:3, card.axis])))
    start = step[axis, 3]
    return axis, tuple(sorted(round(float(step[axis, card.axis] * k + start)) for k in card.reviewed))


def _read(path: Path, kind: type[Model]) -> Model:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise LearningError(f"{path} is damaged: remove that folder") from error


def _write_model(path: Path, model: BaseModel) -> None:
    text = model.model_dump_json(indent=1)

    def verify(written: Path) -> None:
        if written.read_text(encoding="utf-8") != text:
            raise LearningError(f"{path} was not written completely: is the disk full?")

    write_durably(path, lambda written: _write_text(written, text), verify)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
