"""Everything that one training needs, prepared once: cases, layers, grid, precision, and what is held out."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_medseg.errors import LearningError
from napari_medseg.learning.cases import (
    Case,
    Outputs,
    choose_grid,
    choose_patch,
    match_outputs,
    prepare,
    with_old_answers,
)
from napari_medseg.learning.click_lessons import ClickLesson
from napari_medseg.learning.correction import Correction, content_hash
from napari_medseg.learning.held_out import HeldOut, choose_held_out, weights_without
from napari_medseg.learning.settings import FineTuneSettings, Strategy
from napari_medseg.learning.strategies import Plan, plan
from napari_medseg.learning.targets import click_lessons
from napari_medseg.models.card import AutomaticSettings, Card
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.automatic import label_probabilities, network_shape
from napari_medseg.segmentation.precision import faster_dtype

if TYPE_CHECKING:
    from napari_medseg.segmentation.segmenter import Segmenter

_STATE_FORMAT = 3  # a run does not go on from a state that another release wrote in another way


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What teaches in one phase.

    Parameters
    ----------
    cases : tuple of Case
        Cases that patches are cut from.
    weights : tuple of Tensor
        Their voxel weights; 0 where something is held out.
    lessons : tuple of ClickLesson
        Lesions that simulated clicks ask for.
    """

    cases: tuple[Case, ...]
    weights: tuple[Tensor, ...]
    lessons: tuple[ClickLesson, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One training, ready to start.

    Parameters
    ----------
    old : Checkpoint
        The version that learns.
    network : ClickUNet
        A copy of its network, with outputs for the new labels.
    card : Card
        Card of the new version, as far as it is known before the training.
    cases, pinned : tuple of Case
        Cases that teach, and cases that never teach and must not get worse.
    outputs : Outputs
        What each output of the network means.
    plan, n_steps, settings, seed
        How it is learned.
    device, dtype
        Where and in which precision.
    held_out : tuple of HeldOut
        What figures are measured on.
    run : str
        Hash of all that the result depends on.
    """

    old: Checkpoint
    network: ClickUNet
    card: Card
    cases: tuple[Case, ...]
    pinned: tuple[Case, ...]
    outputs: Outputs
    plan: Plan
    n_steps: int
    settings: FineTuneSettings
    seed: int
    device: torch.device
    dtype: torch.dtype
    held_out: tuple[HeldOut, ...]
    run: str

    @property
    def automatic(self) -> AutomaticSettings:
        """The network's grid and windows."""
        assert self.card.automatic is not None
        return self.card.automatic

    def fresh_parameters(self) -> tuple[str, ...]:
        """Parameters without old weights: the label head, unless its labels are the old ones."""
        return () if len(self.old.card.labels) == len(self.outputs.labels) else ("label_head.",)

    def material(self, *, with_held_out: bool) -> Material:
        """What teaches before the held-out cases join, and after."""
        held = () if with_held_out else self.held_out
        weights = weights_without(self.cases, held)
        hidden = {h.index: h for h in held}
        usable = [k for k, w in enumerate(weights) if (w > 0).any()]
        lessons = [each for k in usable for each in click_lessons(self.cases[k], hidden.get(k))]
        return Material(tuple(self.cases[k] for k in usable), tuple(weights[k] for k in usable), tuple(lessons))


def prepare_lesson(
    model: Segmenter,
    corrections: Sequence[Correction],
    *,
    strategy: Strategy | str,
    settings: FineTuneSettings,
    seed: int,
) -> Lesson:
    """Prepare a training.

    Raises
    ------
    LearningError
        If there is nothing to learn from, or the model cannot learn.
    """
    old = getattr(model, "checkpoint", None)
    if not isinstance(old, Checkpoint) or not isinstance(old.network, ClickUNet):
        raise LearningError(f"the model '{model.name}' cannot learn: choose the click model or one made from it")
    teaching = [c for c in corrections if not c.pinned]
    if not teaching:
        raise LearningError("there is nothing to learn from: accept at least one correction that is not pinned")
    chosen = plan(strategy, len(teaching))
    outputs = match_outputs(old.card.labels, corrections)
    spacing, patch = _grid(old.card, teaching, settings)
    n = len(outputs.labels)
    cases = [
        prepare(c, of, n, spacing, settings.corrected_weight)
        for c, of in zip(corrections, outputs.of_case, strict=True)
    ]
    if not any((case.labels[case.weight > 0] > 0).any() for case in cases if not case.correction.pinned):
        raise LearningError("no reviewed slice holds a lesion: mark the slices that you corrected as reviewed")
    device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = getattr(torch, settings.precision) if settings.precision else faster_dtype(old.network, device)
    if old.card.automatic is not None and old.card.automatic.spacing_mm == spacing:
        old.network.to(device).eval()
        cases = [_with_old_answers(case, old, device, dtype) for case in cases]
    learning = tuple(case for case in cases if not case.correction.pinned)
    network = copy.deepcopy(old.network)
    if chosen.own_features:
        network.separate_labels()
    if network.config["n_labels"] != n:
        network.set_labels(n)
    automatic = AutomaticSettings(spacing_mm=spacing, patch=patch)
    hashes = [content_hash(c.volume) for c in corrections]
    card = _card(old.card, outputs, automatic, hashes, network)
    return Lesson(
        old=old,
        network=network.to(device),
        card=card.model_copy(update={"training": _training(chosen, settings, seed, dtype)}),
        cases=learning,
        pinned=tuple(case for case in cases if case.correction.pinned),
        outputs=outputs,
        plan=chosen,
        n_steps=settings.steps or chosen.steps,
        settings=settings,
        seed=seed,
        device=device,
        dtype=dtype,
        held_out=choose_held_out(learning),
        run=_run_hash(old.card, cases, hashes, _training(chosen, settings, seed, dtype)),
    )


def _with_old_answers(case: Case, old: Checkpoint, device: torch.device, dtype: torch.dtype) -> Case:
    if case.taught[: len(old.card.labels)].all():
        return case
    assert old.card.automatic is not None and isinstance(old.network, ClickUNet)  # noqa: PT018 - the caller looked
    return with_old_answers(
        case, label_probabilities(old.network, old.card.automatic, case.volume, device=device, dtype=dtype)
    )


def _grid(
    card: Card, corrections: Sequence[Correction], settings: FineTuneSettings
) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Keep the grid of a model that has labels: its features were learned on it. Otherwise choose one by the cases."""
    spacing, patch = choose_grid(corrections)
    if card.automatic is not None and settings.spacing_mm is None:
        spacing, patch = card.automatic.spacing_mm, card.automatic.patch
    if settings.spacing_mm is not None:
        spacing = settings.spacing_mm
        shapes = [network_shape(c.volume.data.shape, c.volume.spacing_mm, spacing) for c in corrections]
        patch = choose_patch(np.median(shapes, axis=0))
    return spacing, settings.patch or patch


def _card(old: Card, outputs: Outputs, automatic: AutomaticSettings, hashes: list[str], network: ClickUNet) -> Card:
    return Card(
        name=old.name,
        version=old.version + 1,
        architecture=old.architecture,
        config=network.config,
        labels=outputs.labels,
        needs_click=False,
        automatic=automatic,
        parent=f"{old.title} ({old.sha256[:12]})",
        data=[*old.data, *(f"scan sha256 {h[:16]}" for h in hashes)],
        licence=old.licence,
        command="napari-medseg fine-tune",
    )


def _training(chosen: Plan, settings: FineTuneSettings, seed: int, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "strategy": chosen.strategy.value,
        "learning_rate": settings.learning_rate or chosen.learning_rate,
        "steps": settings.steps or chosen.steps,
        "seed": seed,
        "precision": str(dtype).removeprefix("torch."),
        "settings": settings.model_dump(mode="json"),
    }


def _run_hash(old: Card, cases: Sequence[Case], hashes: Sequence[str], training: dict[str, Any]) -> str:
    about = [_STATE_FORMAT, old.sha256, old.version, training, list(hashes)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for case in cases:
        digest.update(case.labels.numpy().tobytes())
        digest.update(case.weight.numpy().tobytes())
        digest.update(bytes(case.correction.pinned))
    return digest.hexdigest()
