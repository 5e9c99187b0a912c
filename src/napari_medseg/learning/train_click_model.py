"""Train the click model: synthetic scans and real lesions, simulated clicks, one loop.

Each batch is used for up to three rounds of clicks: the network's own answer becomes the previous mask, a correcting
click is placed in its largest error, and it learns from that too. So it is corrected in training as it is in use.
"""

from __future__ import annotations

import io
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.random import Generator as Random
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, get_worker_info

from napari_medseg.errors import Cancelled, LearningError
from napari_medseg.imaging.durable import write_bytes_durably
from napari_medseg.learning.click_simulation import correcting_click
from napari_medseg.learning.regions import find_regions
from napari_medseg.learning.samples import (
    LabelledScan,
    Sample,
    draw_samples,
    find_pairs,
    is_held_out,
    read_pairs,
)
from napari_medseg.learning.view_quality import fit_quality
from napari_medseg.models.card import Card, Domain
from napari_medseg.models.checkpoint import save_checkpoint
from napari_medseg.networks.click_unet import WIDTHS, ClickUNet
from napari_medseg.segmentation.familiarity import domain_of
from napari_medseg.segmentation.precision import computing_in
from napari_medseg.segmentation.speed import speed_of
from napari_medseg.segmentation.views import BALL_RADIUS, FADE, NEGATIVE, POSITIVE, PREVIOUS, VALID

Batch = tuple[Tensor, Tensor, Tensor]
_STATE = "training_state.pt"
_VALIDATION_SEED = 20_000_003
_REPORT_EVERY_S = 10.0
_FREE_ON_RESUME = {"steps", "minutes", "ladders", "workers", "licence", "precision"}
_PUBLIC = ("sarcoma", "lung_nodules")


class ClickTraining(BaseModel):
    """Settings of a training run; they are stored in the card of the weights."""

    steps: int = Field(20_000, gt=0, title="Steps", description="Length of the run; with minutes, the shorter ends it.")
    minutes: float | None = Field(
        None,
        gt=0,
        title="Minutes",
        description="Time limit; the schedule follows it. A run by the clock cannot be repeated bit by bit, one by "
        "--steps can. Fitting the choice of scale comes after it.",
    )
    seed: int = Field(0, title="Seed", description="The same seed and steps repeat a run.")
    collections: tuple[str, ...] = Field(
        _PUBLIC, title="Collections", description="Folders of the data folder to learn from."
    )
    synthetic_share: float = Field(
        0.5, ge=0, le=1, title="Synthetic share", description="Part of each batch that is synthetic."
    )
    region_share: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Region share",
        description="Part of the real views that ask for regions nobody outlined, in place of a lesion.",
    )
    sizes: tuple[tuple[Annotated[int, Field(ge=16, multiple_of=16)], Annotated[int, Field(gt=0)]], ...] = Field(
        ((48, 8), (64, 4)),
        min_length=1,
        title="Sizes",
        description="Pairs of view size and batch size, taken in turn.",
    )
    learning_rate: float = Field(1.5e-3, gt=0, title="Learning rate", description="AdamW's, before its cosine decay.")
    widths: tuple[Annotated[int, Field(gt=0, multiple_of=8)], ...] = Field(
        WIDTHS,
        min_length=4,
        max_length=4,
        title="Widths",
        description="Channels of the network's four levels, multiples of 8.",
    )
    ema: float = Field(0.998, ge=0, lt=1, title="EMA", description="Decay of the averaged weights that are kept.")
    rounds: int = Field(
        2, ge=1, title="Rounds", description="How often a batch is used, each time with one more click."
    )
    ladders: int = Field(
        1500, gt=0, title="Ladders", description="Clicks on which the choice among views of several sizes is fitted."
    )
    workers: int | None = Field(
        None,
        ge=0,
        title="Workers",
        description="Processes that prepare batches. If not given, one for a run on a CPU; for one on a GPU, which is "
        "faster than several of them, one for each core but the first.",
    )
    precision: Literal["float32", "bfloat16"] | None = Field(
        None,
        title="Precision",
        description="float32 or bfloat16; the faster one on the machine that begins the run if not given. Only in "
        "the same one a run is repeated.",
    )
    licence: str | None = Field(
        None,
        title="Licence",
        description="What the card says of it; where nothing is given and the data are not the two public collections, "
        "'not stated'.",
    )


@dataclass(frozen=True, slots=True)
class ClickReport:
    """What a run says of itself every now and then: losses since the last one, and Dice on held-out lesions.

    Before the first and after the last step `message` says what is done in place of steps.
    """

    step: int
    seconds: float
    progress: float
    loss: float
    dice: tuple[float, ...] = ()
    message: str = ""


class _Batches(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batch number i of a seed, the same whenever and wherever it is made."""

    def __init__(self, scans: Sequence[LabelledScan], settings: ClickTraining, seed: int, start: int, n: int) -> None:
        self.scans, self.settings, self.seed, self.start, self.n = scans, settings, seed, start, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor, Tensor]:
        if get_worker_info() is not None:
            torch.set_num_threads(1)
        number = self.start + item
        size, n = self.settings.sizes[number % len(self.settings.sizes)]
        rng = np.random.default_rng((self.seed, number))
        shares = {"synthetic_share": self.settings.synthetic_share, "region_share": self.settings.region_share}
        return collate(draw_samples(rng, self.scans, n=n, size=size, **shares))


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack samples: inputs (B, 7, N, N, N), truth (B, 1, N, N, N), whole sizes (B,)."""
    return (
        torch.from_numpy(np.stack([s.inputs for s in samples])),
        torch.from_numpy(np.stack([s.truth for s in samples]))[:, None],
        torch.tensor([s.total for s in samples], dtype=torch.float32),
    )


def click_loss(logits: Tensor, quality: Tensor, inputs: Tensor, truth: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Dice + BCE inside the scan, heavier where the user clicked, and BCE of the estimated Dice.

    Returns
    -------
    Tensor, scalar
        The loss.
    Tensor, shape (B,)
        Dice of the thresholded masks with the whole lesions.
    """
    logits = logits.float()
    inside = inputs[:, VALID : VALID + 1]
    clicked = torch.maximum(inputs[:, POSITIVE : POSITIVE + 1], inputs[:, NEGATIVE : NEGATIVE + 1])
    weight = inside * (1.0 + 8.0 * (clicked - 0.55).clamp_min(0.0))
    probability = logits.sigmoid() * inside
    axes = (1, 2, 3, 4)
    bce = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * weight).sum(axes) / weight.sum(
        axes
    ).clamp_min(1.0)
    overlap = 2 * (probability * truth).sum(axes) + 1.0
    dice = 1 - overlap / (probability.sum(axes) + truth.sum(axes) + 1.0)
    with torch.no_grad():
        mask = ((logits > 0) & (inside > 0)).float()
        reached = 2 * (mask * truth).sum(axes) / (mask.sum(axes) + total.clamp_min(1e-3))
        reached = reached.clamp(0, 1)
    estimate = F.binary_cross_entropy_with_logits(quality, reached)
    return (dice + 2.0 * bce).mean() + estimate, reached


def next_round(inputs: Tensor, truth: Tensor, logits: Tensor, rng: Random) -> Tensor:
    """Inputs for another round: the answer as the previous mask, and a correcting click in its largest error."""
    inputs = inputs.clone()
    mask = (logits.detach() > 0).float() * inputs[:, VALID : VALID + 1]
    inputs[:, PREVIOUS] = mask[:, 0]
    inputs[:, POSITIVE : NEGATIVE + 1] *= FADE
    wanted = (truth > 0.5).cpu().numpy()
    given = (mask > 0).cpu().numpy()
    seen = (inputs[:, VALID] > 0).cpu().numpy()
    for k in range(len(inputs)):
        found = correcting_click(wanted[k, 0] & seen[k], given[k, 0] & seen[k], rng)
        if found is not None:
            index, positive = found
            channel = inputs[k, POSITIVE if positive else NEGATIVE]
            channel.copy_(torch.maximum(channel, _ramp(index, channel.shape[0]).to(channel)))
    return inputs


def _ramp(index: NDArray[np.float64], size: int) -> Tensor:
    z, y, x = (torch.arange(size, dtype=torch.float32) - float(c) for c in index)
    distance = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).sqrt()
    return (1.0 - distance / BALL_RADIUS).clamp_min(0.0)


class _Run:
    """Network, average, optimiser and step: everything that a resumed run needs."""

    def __init__(self, settings: ClickTraining, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self._use(settings.precision or speed_of(device.type).precision)
        self.network = ClickUNet(widths=settings.widths).to(device)
        self.average = ClickUNet(widths=settings.widths).to(device)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=settings.learning_rate, weight_decay=1e-2)
        self.step, self.seconds = 0, 0.0
        self.domain: Domain | None = None

    def _use(self, precision: str) -> None:
        """Compute in this precision, and say so in the card: only in the same one a run can be repeated."""
        self.settings = self.settings.model_copy(update={"precision": precision})
        self.dtype: torch.dtype = getattr(torch, precision)

    def progress(self) -> float:
        """Part of the run that is done, by steps or by time, whichever is further."""
        by_time = self.seconds / 60.0 / self.settings.minutes if self.settings.minutes else 0.0
        return min(1.0, max(self.step / self.settings.steps, by_time))

    def learn(self, inputs: Tensor, truth: Tensor, total: Tensor) -> tuple[float, Tensor]:
        """One optimiser step; returns the loss and the logits that it was measured on."""
        warm = min(1.0, (self.step + 1) / min(200, 1 + self.settings.steps // 10))
        rate = self.settings.learning_rate * warm * (0.51 + 0.49 * math.cos(math.pi * self.progress()))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with computing_in(self.dtype, self.device):
            logits, quality = self.network(inputs)
        loss, _ = click_loss(logits, quality, inputs, truth, total)
        if not torch.isfinite(loss):
            raise LearningError(f"the loss is not a number at step {self.step}: lower the learning rate and resume")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        return float(loss.detach()), logits.detach()

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs, in one file that is whole or not there."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "settings": _shaping(self.settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "precision": self.settings.precision,
        }
        stored = io.BytesIO()
        torch.save(state, stored)
        write_bytes_durably(folder / _STATE, stored.getvalue())

    def load(self, folder: Path, precision: str | None = None) -> None:
        """Go on where a run in this folder stopped, in its precision; `precision` is what the user asks for, if any.

        Raises
        ------
        LearningError
            If the state cannot be read, or is of a run with other settings. One that does not tell them is taken.
        """
        wanted = _shaping(self.settings)
        try:
            state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
            other = {k: v for k, v in state.get("settings", {}).items() if k in wanted and v != wanted[k]}
            begun = state.get("precision", "bfloat16")  # older states do not tell it: all were in 16 bits
            other |= {"precision": begun} if precision not in (None, begun) else {}
            if not other:
                self._restore(state)
                self._use(begun)
        except Exception as error:  # torch has no error of its own for a file that it cannot read
            raise LearningError(
                f"{folder / _STATE} is damaged or of another network: train from the start in another folder"
            ) from error
        if other:
            raise LearningError(
                f"the training in {folder} was begun with {_options(other)}: resume it with the same, or train "
                "from the start in another folder"
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def train_click_model(
    data: Path,
    out: Path,
    settings: ClickTraining,
    *,
    device: str | None = None,
    resume: bool = False,
    save_every: int = 200,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[ClickReport, None, Path]:
    """Train, and leave the averaged weights with their card in ``out``.

    Parameters
    ----------
    data : Path
        Folder of collections, each with pairs ``x_image.nii.gz`` and ``x_mask.nii.gz``; a quarter of the patients,
        chosen by a hash of their names, is kept out of training.
    out : Path
        Folder for the weights, the state to resume from and ``metrics.jsonl``.
    settings : ClickTraining
        What to train, and how long.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; the GPU where there is one.
    resume : bool
        Go on from the state in `out`, if there is one; without it, such a folder is refused. The settings must be
        those that the run was begun with, but for how long it is.
    save_every : int
        Steps between two states.
    should_stop : callable, optional
        Asked after each batch, scan and ladder of views; True ends the run, which can go on from its saved state.

    Yields
    ------
    ClickReport
        About every `save_every` steps, after the state was saved; about every ten seconds before the first and after
        the last step.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    LearningError
        If there is nothing to learn from, the loss stops being a number, or `out` holds another training.
    Cancelled
        If it was asked to stop.
    """
    stop = should_stop or (lambda: False)
    if not resume and (out / _STATE).exists():
        raise LearningError(f"{out} holds a training already: go on with it by --resume, or choose another folder")
    run = _Run(settings, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    if resume and (out / _STATE).is_file():
        run.load(out, settings.precision)
    settings = run.settings
    pairs = find_pairs(data, settings.collections) if settings.collections else []
    scans = [s for s in read_pairs(p for p in pairs if not is_held_out(p[3])) if s.mask.any()]
    if pairs and not scans:
        raise LearningError(
            f"no patient in {data} is left to learn from: their masks are empty, or their names put them among those "
            "kept for measuring, about a quarter; add patients"
        )
    if settings.region_share:
        scans = yield from _with_regions(run, scans, stop)
    if scans:
        run.domain = domain_of(((s.image, s.spacing_mm, s.mask) for s in scans), [s.modality for s in scans])
    kept = [s for s in read_pairs(p for p in pairs if is_held_out(p[3])) if s.mask.any()]
    check = _validation_batches(kept, settings)
    if run.progress() < 1.0:
        yield from _learn(run, scans, check, out, save_every, stop)
    if not settings.region_share:
        scans = yield from _with_regions(run, scans, stop)
    error = yield from _fit_choice(run, scans, stop)
    dice = _validate(run, check)
    save_checkpoint(out, run.average, _card(settings, run, scans, dice))
    told = f"the choice of scale was fitted on {settings.ladders} clicks: its estimate of Dice errs by {error:.2f}"
    yield ClickReport(run.step, run.seconds, 1.0, 0.0, dice, told)
    return out


def _with_regions(
    run: _Run, scans: Sequence[LabelledScan], stop: Callable[[], bool]
) -> Generator[ClickReport, None, list[LabelledScan]]:
    found, told = list[LabelledScan](), time.perf_counter()
    for scan in scans:
        if stop():
            raise Cancelled(f"training was stopped at step {run.step}: --resume goes on from there")
        found.append(replace(scan, regions=find_regions(scan.image, scan.mask, scan.spacing_mm)))
        if time.perf_counter() - told >= _REPORT_EVERY_S:
            told = time.perf_counter()
            message = f"dividing scans into regions: {len(found)} of {len(scans)}"
            yield ClickReport(run.step, run.seconds, run.progress(), 0.0, message=message)
    return found


def _learn(
    run: _Run,
    scans: Sequence[LabelledScan],
    check: Sequence[Batch],
    out: Path,
    save_every: int,
    stop: Callable[[], bool],
) -> Generator[ClickReport, None, None]:
    """The loop: batches, rounds of clicks, and a state saved every now and then."""
    settings, losses, saved = run.settings, list[float](), run.step
    batches = _Batches(scans, settings, settings.seed, run.step // settings.rounds, settings.steps)
    since = time.perf_counter()
    for batch in DataLoader(batches, batch_size=None, num_workers=_workers(settings, run.device)):
        inputs, truth, total = (t.to(run.device) for t in batch)
        rng = np.random.default_rng((settings.seed, run.step, 1))
        for round_number in range(settings.rounds):
            loss, logits = run.learn(inputs, truth, total)
            losses.append(loss)
            if round_number < settings.rounds - 1:
                inputs = next_round(inputs, truth, logits, rng)
        run.seconds, since = run.seconds + time.perf_counter() - since, time.perf_counter()
        done, asked = run.progress() >= 1.0, stop()
        if run.step - saved >= save_every or done or asked:
            saved = run.step
            run.save(out)
            dice = _validate(run, check) if done or (run.step // save_every) % 5 == 0 else ()
            report = ClickReport(run.step, run.seconds, run.progress(), float(np.mean(losses)), dice)
            _record(out, report)
            losses.clear()
            save_checkpoint(out, run.average, _card(settings, run, scans, dice))
            yield report
            since = time.perf_counter()
        if done:
            return
        if asked:
            raise Cancelled(f"training was stopped at step {run.step}: --resume goes on from there")


def _workers(settings: ClickTraining, device: torch.device) -> int:
    """Processes that prepare batches; they change no batch."""
    if settings.workers is not None:
        return settings.workers
    return 1 if device.type == "cpu" else max(1, (os.cpu_count() or 1) - 1)


def _fit_choice(
    run: _Run, scans: Sequence[LabelledScan], stop: Callable[[], bool]
) -> Generator[ClickReport, None, float]:
    """Fit the choice of scale, the same for the same weights and seed; returns how far its estimate errs."""
    torch.manual_seed(run.settings.seed)
    n_clicks, told = run.settings.ladders, time.perf_counter()
    fitting = fit_quality(
        run.average, scans, np.random.default_rng(run.settings.seed), n_clicks=n_clicks, dtype=run.dtype
    )
    while True:
        try:
            n_done = next(fitting)
        except StopIteration as end:
            return float(end.value)
        if stop():
            where = f"at click {n_done} of {n_clicks} of the choice of scale"
            raise Cancelled(f"training was stopped {where}: --resume fits that from its start")
        if time.perf_counter() - told >= _REPORT_EVERY_S:
            told = time.perf_counter()
            message = f"fitting the choice of scale: click {n_done} of {n_clicks}"
            yield ClickReport(run.step, run.seconds, 1.0, 0.0, message=message)


def _validation_batches(scans: Sequence[LabelledScan], settings: ClickTraining) -> list[Batch]:
    """Fixed views of lesions of held-out patients."""
    if not scans:
        return []
    rng = np.random.default_rng(_VALIDATION_SEED)
    size, n = settings.sizes[0]
    return [collate(draw_samples(rng, scans, n=n, size=size, synthetic_share=0.0)) for _ in range(6)]


@torch.no_grad()
def _validate(run: _Run, batches: Sequence[Batch]) -> tuple[float, ...]:
    """Mean Dice in the view after each of three rounds of clicks, by the averaged weights."""
    if not batches:
        return ()
    rng = np.random.default_rng(_VALIDATION_SEED)
    sums = np.zeros(3)
    for inputs, truth, _ in batches:
        inputs, truth = inputs.to(run.device), truth.to(run.device)
        for k in range(3):
            with computing_in(run.dtype, run.device):
                logits, _ = run.average(inputs)
            mask = ((logits > 0) & (inputs[:, VALID : VALID + 1] > 0)).float()
            wanted = (truth > 0.5).float()
            both = 2 * (mask * wanted).sum((1, 2, 3, 4)) + 1e-3
            sums[k] += float((both / (mask.sum((1, 2, 3, 4)) + wanted.sum((1, 2, 3, 4)) + 1e-3)).mean())
            inputs = next_round(inputs, truth, logits, rng)
    return tuple(float(x) for x in (sums / len(batches)).round(4))


def _record(out: Path, report: ClickReport) -> None:
    line = {k: getattr(report, k) for k in ("step", "seconds", "progress", "loss", "dice")}
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def _shaping(settings: ClickTraining) -> dict[str, Any]:
    """Settings that a run keeps from its start to its end."""
    return settings.model_dump(mode="json", exclude=_FREE_ON_RESUME)


def _options(values: Mapping[str, Any]) -> str:
    """Settings as the command line takes them."""
    words = []
    for name, value in values.items():
        each = value if isinstance(value, list) else [value]
        words.append(f"--{name.replace('_', '-')}")
        words += ["x".join(map(str, v)) if isinstance(v, list) else str(v) for v in each]
    return shlex.join(words)


def _command(settings: ClickTraining) -> str:
    """The command that trains like this, without its folders; it takes all collections where none is named."""
    given = settings.model_dump(mode="json", exclude_defaults=True) | {"collections": list(settings.collections)}
    return f"napari-medseg train-click-model {_options(given)}"


def _licence(settings: ClickTraining) -> str:
    if settings.licence is not None:
        return settings.licence
    is_public = bool(settings.collections) and set(settings.collections) <= set(_PUBLIC)
    return "BSD-3-Clause; trained on CC BY 3.0 data, see NOTICE" if is_public else "not stated"


def _card(settings: ClickTraining, run: _Run, scans: Sequence[LabelledScan], dice: tuple[float, ...]) -> Card:
    patients = {s.patient for s in scans}
    figures = {"steps": run.step, "minutes": round(run.seconds / 60, 1)}
    if dice:
        figures |= {f"held_out_view_dice_click_{k + 1}": d for k, d in enumerate(dice)}
    return Card(
        name="click",
        version=1,
        architecture="click_unet",
        config=run.average.config,
        labels={},
        needs_click=True,
        data=[
            *([f"{len(patients)} patients of {', '.join(settings.collections)}"] if patients else []),
            "synthetic scans",
        ],
        licence=_licence(settings),
        command=_command(settings),
        figures=figures,
        domain=run.domain,
        training=settings.model_dump(mode="json"),
    )
