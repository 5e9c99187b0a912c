"""Clicks, boxes, scribbles and lassos become answers of the model; each answer becomes one undoable step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from napari_medseg.errors import Cancelled, MedSegError, ModelError
from napari_medseg.imaging.amounts import millilitres
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.segmentation.prompts import Box, Click, Prompt, kind_of
from napari_medseg.session.answers import Answer, Request, answer_of, load, needs_click
from napari_medseg.session.history import Step
from napari_medseg.session.labels import BoxEdit, union
from napari_medseg.session.lesions import Lesion, Proposal, lesion_of, new_lesion, replaced
from napari_medseg.session.measures import measure_of
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job, Segments
from napari_medseg.session.work import Editor, ScanWork


class SegmentController:
    """Turns prompts into masks. Requests are numbered by the runner and the newest answer wins.

    Parameters
    ----------
    editor : Editor
        Makes the undoable steps.
    runner : Runner
        Where the model works.
    loader : callable
        Loads a model by its name.
    failures : Failures, optional
        Where unexpected errors go.
    """

    def __init__(
        self,
        editor: Editor,
        runner: Runner,
        *,
        loader: Callable[[str], Segments] = load,
        failures: Failures | None = None,
    ) -> None:
        self.editor, self.session = editor, editor.session
        self._runner, self._loader = runner, loader
        self._failures = failures or Failures()
        self._spare: tuple[str, Segments] | None = None
        self.session.events.volume.connect(self._on_volume)

    def click(self, position_mm: tuple[float, float, float], *, positive: bool = True) -> None:
        """Add a click and ask the model."""
        self.add(Click(position_mm, positive))

    def add(self, prompt: Prompt) -> None:
        """Add a prompt to the active lesion (which begins to exist here if need be) and ask the model.

        A prompt that cannot be used is answered by a sentence in ``session.message``.
        """
        try:
            self._check(prompt)
            before = self.editor.table
            lesion = self._ensure_active()
            self.session.lesions = replaced(self.session.lesions, lesion.label, prompts=(*lesion.prompts, prompt))
            step = self.editor.step(kind_of(prompt), before=before)
        except MedSegError as error:
            self.session.message = str(error)
            return
        self._ask(step)

    def segment(self) -> None:
        """Ask the model about the active lesion's prompts, or about the whole scan where there are none."""
        try:
            self.editor.work  # noqa: B018
            lesion = self._ensure_active() if self.session.prompts else None
            if lesion is None and self.session.model is not None and self.session.model.needs_click:
                raise ModelError(needs_click(self.session.model))
            self._ask(None)
        except MedSegError as error:
            self.session.message = str(error)

    def new_lesion(self) -> None:
        """Turn to a new lesion: the next prompt or stroke starts it."""
        try:
            self.editor.work  # noqa: B018
            active = self.session.active
            if active is not None and not active.prompts and not self._n_voxels(active.label):
                self.session.message = f"'{active.name}' is still empty: click on it in the scan."
                return
            before = self.editor.table
            lesion = new_lesion(self.session.lesions)
        except MedSegError as error:
            self.session.message = str(error)
            return
        self._runner.cancel()
        self.session.busy = None
        self.session.lesions = (*self.session.lesions, lesion)
        self.session.active_label = lesion.label
        self.editor.step("new lesion", before=before)
        self.session.message = f"'{lesion.name}': click on it in the scan."

    def cancel(self) -> None:
        """Stop waiting for the model; what is there stays as it is."""
        if self._runner.cancel():
            self.session.busy = None
            self.session.message = "Stopped."

    def _on_volume(self, _volume: Volume | None) -> None:
        """An answer (or a model that is being loaded) for another scan: nobody waits for it any more."""
        if self._runner.cancel():
            self.session.busy = None

    def warm_up(self) -> None:
        """Load the model ahead of the first click."""
        if self.session.volume is not None and self.session.model is None and self.session.busy is None:
            name = self.session.model_name
            self._runner.submit(
                partial(self._load_ahead, name), done=partial(self._on_loaded, name), failed=self._ignore
            )

    def choose_model(self, name: str) -> None:
        """Use another model of the library (or ``"geodesic"``) from the next request on."""
        if name != self.session.model_name:
            self.session.model_name = name
            self.session.model = None
            self.session.message = f"The next answer comes from '{name}'."

    def _check(self, prompt: Prompt) -> None:
        volume = self.editor.work.volume
        limits = np.asarray(volume.data.shape) - 0.5
        for point in _points(prompt):
            index = volume.index_of(point)
            if (index < -0.5).any() or (index > limits).any():
                raise MedSegError("That is outside the scan: click on the scan itself.")
        active = self.session.active
        if active is not None and active.locked:
            raise MedSegError(f"'{active.name}' is locked: unlock it in the table, or start a new lesion.")
        if active is None or not active.prompts:
            self._check_first(prompt)

    def _check_first(self, prompt: Prompt) -> None:
        if not prompt.positive and not self._n_voxels(self.session.active_label):
            raise MedSegError("There is nothing to take away yet: click inside the lesion first.")

    def _ensure_active(self) -> Lesion:
        lesion = self.session.active
        if lesion is None:
            lesion = new_lesion(self.session.lesions)
            self.session.lesions = (*self.session.lesions, lesion)
            self.session.active_label = lesion.label
        return lesion

    def _n_voxels(self, label: int) -> int:
        return int(self.editor.work.labels.n_voxels[label])

    def _ask(self, step: Step | None) -> None:
        work, session = self.editor.work, self.session
        label = session.active_label
        previous = self._previous(work, label) if step is not None else None
        request = Request(work, label, session.prompts, previous, session.model, session.model_name)
        loading = "Loading the model (the first time takes a few seconds)"
        session.busy = Job("Segmenting" if session.model else loading, cancel=self.cancel)
        self._runner.submit(
            partial(self._answer, request),
            done=partial(self._on_answer, request, step),
            failed=partial(self._on_failed, request),
            on_progress=self._on_progress,
        )

    def _previous(self, work: ScanWork, label: int) -> LabelMap | None:
        if not work.labels.n_voxels[label]:
            return None
        return LabelMap(work.labels.mask_of(label), work.volume.affine, grid=work.volume.grid)

    def _answer(self, request: Request, ticket: Ticket) -> Answer:
        """Runs in the worker: touches nothing of the session."""
        model = request.model or self._load(request.model_name)
        if not request.prompts and model.needs_click:
            raise ModelError(needs_click(model))
        if ticket.should_stop():
            raise Cancelled("Stopped.")
        label_map = model.segment(
            request.work.volume,
            request.prompts,
            previous=request.previous,
            progress=ticket.report,
            should_stop=ticket.should_stop,
        )
        return answer_of(model, request, label_map)

    def _load(self, name: str) -> Segments:
        """Runs in the worker."""
        spare, self._spare = self._spare, None
        return spare[1] if spare is not None and spare[0] == name else self._loader(name)

    def _load_ahead(self, name: str, _ticket: Ticket) -> Segments:
        """Runs in the worker; a click that comes meanwhile finds the model even if nobody waits for it any more."""
        model = self._load(name)
        self._spare = (name, model)
        return model

    def _on_progress(self, fraction: float) -> None:
        if self.session.busy is not None:
            self.session.busy = self.session.busy.at(fraction)

    def _on_loaded(self, name: str, model: Segments) -> None:
        self._spare = None
        if self.session.model is None and self.session.model_name == name:
            self.session.model = model

    def _on_answer(self, request: Request, step: Step | None, answer: Answer) -> None:
        self.session.busy = None
        if request.model is None:
            self._on_loaded(request.model_name, answer.model)
        if self.session.work is not request.work:
            return
        if request.prompts:
            self._take_prompted(request, step, answer)
        else:
            self._take_automatic(answer)

    def _take_prompted(self, request: Request, step: Step | None, answer: Answer) -> None:
        lesion = lesion_of(self.session.lesions, request.label)
        if lesion is None or lesion.locked or lesion.prompts != request.prompts:
            return
        proposal = answer.proposals.get(request.label)
        before = self.editor.table
        edit = self._merge(lesion, proposal)
        if step is not None:
            self.editor.amend(step, *edit, text="answer")
        else:
            self.editor.step("segment", *edit, before=before)
        self.session.message = self._sentence((request.label,), answer)

    def _take_automatic(self, answer: Answer) -> None:
        before = self.editor.table
        edits: list[BoxEdit] = []
        labels: list[int] = []
        for value, proposal in answer.proposals.items():
            lesion = self._lesion_for(answer.names.get(value, ""), first=not labels)
            if lesion.locked:
                continue
            edits.extend(self._merge(lesion, proposal))
            labels.append(lesion.label)
        if edits:
            self.editor.step("segment", *edits, before=before)
        self.session.message = self._sentence(tuple(labels), answer)

    def _lesion_for(self, name: str, *, first: bool) -> Lesion:
        named = next((lesion for lesion in self.session.lesions if name and lesion.name == name), None)
        active = self.session.active
        if named is None and first and active is not None and not self._n_voxels(active.label) and not active.prompts:
            named = replace(active, name=name or active.name)
            self.session.lesions = replaced(self.session.lesions, active.label, name=named.name)
        if named is None:
            named = new_lesion(self.session.lesions, name=name)
            self.session.lesions = (*self.session.lesions, named)
            self.session.active_label = named.label
        return named

    def _merge(self, lesion: Lesion, proposal: Proposal | None) -> list[BoxEdit]:
        """Write an answer over the lesion, first taking over what was painted there meanwhile."""
        labels = self.editor.work.labels
        old = labels.box_of(lesion.label)
        if proposal is None and old is None:
            return []
        region = proposal.region if proposal is not None else old
        assert region is not None
        mask = proposal.mask if proposal is not None else np.zeros(labels.data[region].shape, bool)
        self.editor.absorb(union(region, old))
        edit = labels.merge(lesion.label, region, mask, protected=self.editor.protected)
        self.session.lesions = replaced(self.session.lesions, lesion.label, proposal=proposal)
        return [edit] if edit is not None else []

    def _sentence(self, labels: tuple[int, ...], answer: Answer) -> str:
        work = self.editor.work
        voxels = sum(self._n_voxels(label) for label in labels)
        if not voxels:
            return "The model found nothing here: click nearer the lesion's middle, or draw a box round it."
        lesion = lesion_of(self.session.lesions, labels[0])
        measure = measure_of(work.volume, work.labels, labels[0], values=False) if len(labels) == 1 else None
        if lesion is not None and measure is not None:
            told = f"{lesion.name}: {measure.size}"
        else:
            ml = voxels * LabelMap(work.labels.data, work.volume.affine).voxel_ml
            told = f"{len(labels)} labels: {millilitres(ml)}"
        caution = "".join(f" Careful: {warning}." for warning in answer.warnings[:1])
        return f"{told}.{caution}"

    def _on_failed(self, request: Request, error: Exception) -> None:
        self.session.busy = None
        if self.session.work is request.work and not isinstance(error, Cancelled):
            self.session.message = explain(error)
        self._failures.report(error)

    def _ignore(self, _error: Exception) -> None:
        """The first click loads the model again and says what is wrong."""


def _points(prompt: Prompt) -> tuple[tuple[float, float, float], ...]:
    if isinstance(prompt, Click):
        return (prompt.position_mm,)
    return (prompt.corner_mm, prompt.opposite_mm) if isinstance(prompt, Box) else prompt.points_mm
