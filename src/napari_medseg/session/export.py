"""Export: the lesions on the scan's own grid, written durably, read back and compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.mask_formats import MASK_FORMATS
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.history import Step
from napari_medseg.session.lesions import Lesion
from napari_medseg.session.measures import as_json, measure_of
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job
from napari_medseg.session.work import Editor, ScanWork


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What an export left on disk.

    Parameters
    ----------
    path : Path
        The mask, read back and compared.
    summary : Path, optional
        The JSON beside it.
    """

    path: Path
    summary: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """An export that waits to be written, and how to ask for it again."""

    work: ScanWork
    last: Step | None
    job: Job
    path: Path
    again: Callable[..., None]
    answers: dict[str, bool]


class ExportController:
    """Saves the lesions.

    Parameters
    ----------
    editor : Editor
        Knows the open scan's work.
    runner : Runner
        Where files are written.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    exported : Signal
        Emits the ScanWork that was saved.
    """

    exported = Signal(object)

    def __init__(self, editor: Editor, runner: Runner, *, failures: Failures | None = None) -> None:
        self.editor, self.session = editor, editor.session
        self._runner, self._failures = runner, failures or Failures()
        self._written: set[Path] = set()
        self._asked: Callable[..., None] | None = None
        self._answers: dict[str, bool] = {}

    def formats(self) -> dict[str, str]:
        """Return the keys of all formats, and for each why it does not suit the open scan; empty where it does."""
        metadata = self.session.volume.metadata if self.session.volume is not None else {}
        return {each.key: each.refusal(metadata) for each in MASK_FORMATS}

    def suggested_path(self, key: str = "nifti", *, deidentified: bool = False) -> Path:
        """Return a path beside the scan that no file has yet: ``<scan>_lesions`` with the format's ending.

        De-identified it does not repeat the scan's name, which may be the patient's.
        """
        from napari_medseg.imaging.suffixes import stem_of

        suffix = next(each.suffixes[0] for each in MASK_FORMATS if each.key == key)
        volume = self.session.volume
        source = volume.path if volume is not None else None
        folder = source.parent if source is not None else Path.home()
        stem = stem_of(source) if source is not None else _file_name(volume)
        kind = "_rtstruct" if key == "rtstruct" else ""
        return _free(folder / (f"deidentified_lesions{kind}" if deidentified else f"{stem}_lesions{kind}"), suffix)

    def export(
        self,
        path: Path,
        *,
        key: str | None = None,
        summary: bool = False,
        deidentified: bool = False,
        replace: bool = False,
        despite_change: bool = False,
        work: ScanWork | None = None,
    ) -> None:
        """Save the lesions; the outcome stands in ``session.message`` and ``session.saved``.

        Parameters
        ----------
        path : Path
            Where to save.
        key : str, optional
            The format; without one the path's ending chooses it.
        summary : bool
            Also write a JSON beside it: labels, volumes, model.
        deidentified : bool
            Leave the patient, dates and UIDs out of a DICOM object; the other formats never carry them.
        replace : bool
            Take the place of a file that is there and was not exported by this session.
        despite_change : bool
            Go on although the scan's file changed since it was opened.
        work : ScanWork, optional
            Whose lesions; the open scan's where nothing is given.
        """
        session = self.session
        try:
            work = work or self.editor.work
            if work is session.work:
                self.editor.absorb(text="stroke")
            if not work.labels.n_voxels[1:].any():
                raise MedSegError("There is nothing to export yet: segment or paint a lesion first.")
        except MedSegError as error:
            session.message = str(error)
            return
        lesions = self.editor.table_of(work).lesions
        write = partial(_write, path, _to_export(work, lesions), key, deidentified)
        about = summary_of(work.volume, lesions, work, session.model) if summary else None
        session.saved, session.question = None, ""
        session.busy = job = Job(f"Saving {path.name}")
        again = partial(self.export, path, key=key, summary=summary, deidentified=deidentified, work=work)
        answers = {"replace": replace, "despite_change": despite_change}
        request = _Request(work, work.history.last, job, path, again, answers)
        self._runner.submit(
            partial(_save, path, write, work.volume, about, replace or path in self._written, despite_change),
            done=partial(self._on_saved, request),
            failed=partial(self._on_failed, job),
        )

    def export_anyway(self) -> None:
        """Answer the question that the last export asked with yes."""
        if self._asked is not None:
            self._asked(**self._answers)

    def _on_saved(self, request: _Request, saved: Saved | Doubt) -> None:
        session = self.session
        self._end(request.job)
        if isinstance(saved, Doubt):
            self._asked, self._answers = request.again, {**request.answers, saved.answer: True}
            session.question = saved.question
            session.message = f"Not exported yet: {saved.why}. Answer the question in the step Export."
            return
        self._written |= {saved.path, request.path}
        session.saved = saved
        request.work.saved = request.last
        self.exported.emit(request.work)
        session.message = f"Saved, verified: {saved.path}"

    def _on_failed(self, job: Job, error: Exception) -> None:
        self._end(job)
        self.session.message = explain(error)
        self._failures.report(error)

    def _end(self, job: Job) -> None:
        if self.session.busy is job:
            self.session.busy = None


@dataclass(frozen=True)
class Doubt:
    """Why an export waits for an answer.

    Parameters
    ----------
    answer : str
        The argument of `ExportController.export` that says yes.
    why : str
        In a few words.
    question : str
        What the user is asked.
    """

    answer: str
    why: str
    question: str


def summary_of(volume: Volume, lesions: tuple[Lesion, ...], work: ScanWork, model: Any) -> dict[str, Any]:
    """Return what the JSON beside an export says: labels, their measures, the model. No word of the patient."""
    voxel_ml = LabelMap(work.labels.data, volume.affine).voxel_ml
    card = getattr(model, "card", None)
    return {
        "labels": [
            {
                "label": lesion.label,
                "name": lesion.name,
                "voxels": int(work.labels.n_voxels[lesion.label]),
                "volume_ml": round(float(work.labels.n_voxels[lesion.label]) * voxel_ml, 4),
                **as_json(measure_of(volume, work.labels, lesion.label)),
            }
            for lesion in lesions
        ],
        "corrected_voxels": int(np.count_nonzero(work.labels.locked)),
        "model": {
            "name": getattr(model, "name", None),
            "version": getattr(model, "version", None),
            "sha256": getattr(card, "sha256", None),
        },
    }


def _to_export(work: ScanWork, lesions: tuple[Lesion, ...]) -> LabelMap:
    label_map = work.label_map(lesions)
    colours = {lesion.label: _rgb(lesion.colour) for lesion in lesions}
    return replace(label_map, metadata=MappingProxyType({**label_map.metadata, "colours": colours}))


def _save(
    path: Path,
    write: Callable[[], Path],
    volume: Volume,
    about: dict[str, Any] | None,
    replaces: bool,
    despite: bool,
    _ticket: Ticket,
) -> Saved | Doubt:
    """Runs in the worker."""
    from napari_medseg.imaging.durable import write_bytes_durably
    from napari_medseg.imaging.provenance import has_changed, refuse_scan_itself

    refuse_scan_itself(path, volume)
    beside = path.with_name(f"{_stem(path)}.json")
    there = [] if replaces else [each for each in (path, *([beside] if about else [])) if each.exists()]
    if there:
        names = " and ".join(each.name for each in there)
        verb = "are" if len(there) > 1 else "is"
        question = f"{names} {verb} there already. Replace {'them' if len(there) > 1 else 'it'}?"
        return Doubt("replace", f"{names} {verb} there already", question)
    if not despite and has_changed(volume):
        question = (
            "The scan's file was changed, moved or removed since it was opened, so the mask may not fit it any more. "
            "Export on the grid as it was opened?"
        )
        return Doubt("despite_change", "the scan's file is not as it was", question)
    written = write()
    if about is None:
        return Saved(written)
    write_bytes_durably(beside, (json.dumps({"mask": written.name, **about}, indent=2) + "\n").encode())
    return Saved(written, beside)


def _write(path: Path, label_map: LabelMap, key: str | None, deidentified: bool) -> Path:
    """Every writer reads its file back and compares before it replaces an older one."""
    from napari_medseg.imaging.files import write_label_map

    return write_label_map(path, label_map, format=key, deidentified=deidentified)


def _stem(path: Path) -> str:
    from napari_medseg.imaging.suffixes import stem_of

    return stem_of(path)


def _free(base: Path, suffix: str) -> Path:
    path, number = base.with_name(base.name + suffix), 2
    while path.exists():
        path, number = base.with_name(f"{base.name}_{number}{suffix}"), number + 1
    return path


def _file_name(volume: Volume | None) -> str:
    name = volume.name if volume is not None else ""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) or "scan"


def _rgb(colour: str) -> tuple[float, float, float]:
    r, g, b = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return r, g, b
