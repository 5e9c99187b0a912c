"""Train the Siamese network: views of one lesion are pulled together, those of others pushed apart.

Each batch holds two views of each of its lesions. The loss is that of Chen et al., A simple framework for contrastive
learning of visual representations, ICML 2020, eq. 1; lesions of the same patient are not pushed apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional as F

from napari_medseg.classification.likeness import Reference, reference_of
from napari_medseg.errors import LearningError
from napari_medseg.learning.samples import LabelledScan, draw_target, find_pairs, is_held_out, read_pairs
from napari_medseg.learning.siamese_views import StoredLesion, draw_views, store_lesion
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import save_checkpoint
from napari_medseg.networks.encoder import SMALL_WIDTHS
from napari_medseg.networks.siamese import SiameseNetwork
from napari_medseg.segmentation.precision import computing_in
from napari_medseg.segmentation.speed import speed_of

_CLICK_MM = 40.0
_CALIBRATION_ROUNDS = 4


class SiameseTraining(BaseModel):
    """Settings of a training run; they are stored in the card of the weights."""

    steps: int = Field(380, gt=0, title="Steps", description="Length of the run; with minutes, the shorter ends it.")
    minutes: float | None = Field(None, gt=0, title="Minutes", description="Limit of processor time.")
    seed: int = Field(0, title="Seed", description="The same seed and steps repeat a run.")
    collections: tuple[str, ...] = Field(
        ("sarcoma", "lung_nodules"), title="Collections", description="Folders of the data folder to learn from."
    )
    n_synthetic: int = Field(0, ge=0, title="Synthetic lesions", description="Drawn before the run.")
    size: int = Field(32, ge=32, multiple_of=16, title="Size", description="Points along each side of a view.")
    batch: int = Field(20, ge=4, title="Lesions a step", description="Each is seen twice.")
    learning_rate: float = Field(1.5e-3, gt=0, title="Learning rate", description="AdamW's, before its cosine decay.")
    warmth: float = Field(0.1, gt=0, title="Temperature", description="Of the contrastive loss.")
    widths: tuple[int, ...] = Field(SMALL_WIDTHS, title="Widths", description="Channels of the encoder's levels.")
    held_out: bool = Field(True, title="Held out", description="Keep a quarter of the patients out of training.")


@dataclass(frozen=True, slots=True)
class SiameseReport:
    """What a run says of itself: loss, and how often the nearest other view of a batch is the right one."""

    step: int
    seconds: float
    progress: float
    loss: float
    recall: float
    message: str = ""


def train_siamese(
    data: Path, out: Path, settings: SiameseTraining, *, should_stop: Callable[[], bool] | None = None
) -> Generator[SiameseReport, None, Path]:
    """Train, calibrate the similarity, and leave weights and card in ``out``.

    Parameters
    ----------
    data : Path
        Folder of collections, each with pairs ``x_image.nii.gz`` and ``x_mask.nii.gz``.
    out : Path
        Folder for weights and card.
    settings : SiameseTraining
        What to train, and how long.
    should_stop : callable, optional
        Asked before each step; True ends the run with what it has learned so far.

    Yields
    ------
    SiameseReport
        Every 10 steps.

    Raises
    ------
    LearningError
        If there is nothing to learn from, or the loss stops being a number.
    """
    torch.manual_seed(settings.seed)
    pairs = find_pairs(data, settings.collections) if settings.collections else []
    held_out = [p for p in pairs if settings.held_out and is_held_out(p[3])]
    scans = read_pairs(p for p in pairs if p not in held_out)
    lesions = [*_real(scans, settings), *_synthetic(scans, settings)]
    if len(lesions) < settings.batch:
        raise LearningError(f"{len(lesions)} lesions are fewer than a batch of {settings.batch}: give more data")
    network = SiameseNetwork(widths=settings.widths)
    yield from _learn(network, lesions, settings, should_stop or (lambda: False))
    _calibrate(network, lesions, settings)
    patients = sorted({scan.patient for scan in scans})
    card = _card(network, settings, len(patients))
    card.other_lesions = others_reach(network, _real(read_pairs(held_out), settings) or lesions, settings)
    save_checkpoint(out, network, card)
    return out


@torch.inference_mode()
def others_reach(network: SiameseNetwork, lesions: Sequence[StoredLesion], settings: SiameseTraining) -> Reference:
    """Which cosine each share of the pairs of different lesions stays below; held-out ones, where there are some."""
    look = torch.Generator().manual_seed(settings.seed + 2)
    embedded = [network.eval().embed(draw_views([each], settings.size, look)) for each in lesions]
    return reference_of(torch.cat(embedded).float().numpy(), [lesion.patient for lesion in lesions])


def contrastive_loss(embedded: Tensor, patients: Sequence[str], warmth: float) -> tuple[Tensor, float]:
    """Loss of a batch, and the share of views whose nearest other view is their partner.

    Parameters
    ----------
    embedded : Tensor, shape (2 N, E)
        Unit vectors; view k and view N + k are of one lesion.
    patients : sequence of str
        Of the N lesions.
    warmth : float
        Temperature of the softmax.
    """
    n = len(patients)
    scores = embedded @ embedded.T / warmth
    same = torch.tensor([[a == b for b in patients] for a in patients]).repeat(2, 2)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    same[torch.arange(2 * n), partner] = False
    scores = scores.masked_fill(same, -1e4)
    loss = F.cross_entropy(scores, partner)
    return loss, float((scores.argmax(1) == partner).float().mean())


def _real(scans: Sequence[LabelledScan], settings: SiameseTraining) -> list[StoredLesion]:
    return [
        store_lesion(scan.image, scan.mask, scan.spacing_mm, patient=scan.patient, size=settings.size)
        for scan in scans
        if scan.mask.any()
    ]


def _synthetic(scans: Sequence[LabelledScan], settings: SiameseTraining) -> list[StoredLesion]:
    rng = np.random.default_rng(settings.seed)
    found = []
    for number in range(settings.n_synthetic):
        image, mask, spacing = draw_target(rng, (), 1.0)
        found.append(store_lesion(image, mask, spacing, patient=f"synthetic {number}", size=settings.size))
    return found


def _learn(
    network: SiameseNetwork, lesions: Sequence[StoredLesion], settings: SiameseTraining, stop: Callable[[], bool]
) -> Generator[SiameseReport, None, None]:
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-3)
    draw, look = np.random.default_rng(settings.seed), torch.Generator().manual_seed(settings.seed)
    dtype = speed_of("cpu").dtype
    started, losses, recalls = time.process_time(), list[float](), list[float]()
    network.train()
    done, step = 0.0, 0
    while done < 1.0 and not stop():
        seconds = time.process_time() - started
        done = max((step + 1) / settings.steps, seconds / 60 / settings.minutes if settings.minutes else 0.0)
        for group in optimiser.param_groups:
            group["lr"] = (
                settings.learning_rate * min(1.0, (step + 1) / 30) * (0.51 + 0.49 * math.cos(math.pi * min(1.0, done)))
            )
        chosen = [lesions[k] for k in draw.choice(len(lesions), settings.batch, replace=False)]
        views = torch.cat([draw_views(chosen, settings.size, look) for _ in range(2)])
        patients = [lesion.patient for lesion in chosen]
        # On some processors low precision now and then gives what is not a number: that step is done again.
        done_low = _backward(network, views, patients, settings.warmth, dtype)
        done_now = done_low or _backward(network, views, patients, settings.warmth, torch.float32)
        loss, recall = done_now or (math.nan, 0.0)
        if not math.isfinite(loss):
            raise LearningError(f"the loss is not a number at step {step}: lower the learning rate")
        optimiser.step()
        step += 1
        losses.append(loss)
        recalls.append(recall)
        if step % 10 == 0 or done >= 1.0:
            yield SiameseReport(step, seconds, min(1.0, done), float(np.mean(losses)), float(np.mean(recalls)))
            losses.clear()
            recalls.clear()


def _backward(
    network: SiameseNetwork, views: Tensor, patients: Sequence[str], warmth: float, dtype: torch.dtype
) -> tuple[float, float] | None:
    """Loss and recall of one batch, with fresh gradients; None where something in it is not a number."""
    network.zero_grad(set_to_none=True)
    with computing_in(dtype, torch.device("cpu")):
        embedded = network.embed(views)
    loss, recall = contrastive_loss(embedded.float(), patients, warmth)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    is_sound = bool(torch.isfinite(loss)) and all(bool(torch.isfinite(g).all()) for g in gradients)
    return (float(loss.detach()), recall) if is_sound else None


@torch.inference_mode()
def _calibrate(network: SiameseNetwork, lesions: Sequence[StoredLesion], settings: SiameseTraining) -> None:
    """Fit the logistic curve from the cosine of two embeddings to how likely they are of one lesion."""
    from sklearn.linear_model import LogisticRegression

    network.eval()
    draw, look = np.random.default_rng(settings.seed + 1), torch.Generator().manual_seed(settings.seed + 1)
    cosines, same = [], []
    for _ in range(_CALIBRATION_ROUNDS):
        chosen = [lesions[k] for k in draw.choice(len(lesions), min(len(lesions), 2 * settings.batch), replace=False)]
        a, b = (network.embed(draw_views(chosen, settings.size, look)) for _ in range(2))
        cosines.append((a @ b.T).flatten().numpy())
        same.append(np.eye(len(chosen), dtype=bool).ravel())
    x, y = np.concatenate(cosines)[:, None], np.concatenate(same)
    curve = LogisticRegression(C=1e3, class_weight="balanced").fit(x, y)
    slope = max(float(curve.coef_[0, 0]), 1.0)
    network.sharpness.fill_(slope)  # type: ignore[operator]
    network.threshold.fill_(-float(curve.intercept_[0]) / slope)  # type: ignore[operator]


def _card(network: SiameseNetwork, settings: SiameseTraining, n_patients: int) -> Card:
    return Card(
        name="siamese",
        architecture="siamese",
        config=network.config,
        needs_click=False,
        looks_at=ClassifierInput(task="lesion", size=settings.size, extent_mm=_CLICK_MM),
        data=[
            f"{n_patients} patients of {', '.join(settings.collections)}",
            *([f"{settings.n_synthetic} synthetic lesions"] if settings.n_synthetic else []),
        ],
        licence="BSD-3-Clause; trained on CC BY 3.0 data, see NOTICE",
        command="napari-medseg train-siamese",
        training=settings.model_dump(mode="json") | {"precision": speed_of("cpu").precision},
    )
