"""Learning from corrections: prepare, train, measure, and adopt only what is better."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import Cancelled, JobFailed, LearningError
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.examination import Examination
from napari_medseg.learning.gate import decide, why_inverted
from napari_medseg.learning.lesson import Lesson, prepare_lesson
from napari_medseg.learning.practice import Practice
from napari_medseg.learning.reports import Figures, FineTuneResult, Report, Verdict
from napari_medseg.learning.settings import FineTuneSettings, Strategy
from napari_medseg.learning.team import Team, present_team
from napari_medseg.learning.trainer import STATE, Progress, Trainer
from napari_medseg.models.card import Card
from napari_medseg.models.checkpoint import Checkpoint, save_checkpoint
from napari_medseg.segmentation.memory import is_out_of_memory

if TYPE_CHECKING:
    from napari_medseg.networks.click_unet import ClickUNet
    from napari_medseg.segmentation.segmenter import Segmenter

Pair = tuple[Volume, LabelMap] | tuple[Volume, LabelMap, Sequence[int] | None] | Correction
_REPORT_EVERY_S = 1.0


def fine_tune(
    model: Segmenter,
    corrections: Sequence[Pair],
    *,
    strategy: Strategy | str = "auto",
    out: str | Path | None = None,
    settings: FineTuneSettings | None = None,
    seed: int = 0,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[Report, None, FineTuneResult]:
    """Teach a model with corrected masks.

    Parameters
    ----------
    model : Segmenter
        The version that learns. It becomes the new version when the gate agrees, and stays as it is otherwise.
    corrections : sequence of (Volume, LabelMap), (Volume, LabelMap, reviewed) or Correction
        What to learn from; `reviewed` are the slices along the first axis that somebody checked, None for all.
    strategy : str
        ``auto``, ``head``, ``gradual``, ``full`` or ``features``.
    out : path, optional
        Folder for the trained version, which is written whatever the verdict, and for the state that a stopped or
        killed run goes on from.
    settings : FineTuneSettings, optional
        Everything else; the defaults need no choice.
    seed : int
        The same seed, corrections and settings give the same weights on a CPU.
    should_stop : callable, optional
        Asked before each step.

    Yields
    ------
    Report
        About one a second; the last one is of the kind ``done`` and carries the verdict.

    Returns
    -------
    FineTuneResult
        The trained version and the verdict.

    Raises
    ------
    LearningError
        If the corrections cannot be learned from.
    JobFailed
        If the loss is not a number, memory or disk space does not suffice, or the network stopped. Nothing was changed
        then.
    Cancelled
        If `should_stop` said so. The same call goes on from there where `out` is given.
    """
    stop = should_stop or (lambda: False)
    try:
        yield Report(message=f"Preparing {len(corrections)} corrected case{'s' * (len(corrections) != 1)}")
        cases = [as_correction(pair) for pair in corrections]
        lesson = prepare_lesson(model, cases, strategy=strategy, settings=settings or FineTuneSettings(), seed=seed)
        result = yield from _Training(lesson, Path(out) if out is not None else None, stop).run()
    except OSError as error:
        why = error.strerror or str(error)
        raise JobFailed(
            f"the training could not be stored in {out} ({why}): nothing was changed; make room there and start again"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise JobFailed("there is not enough memory to learn: close other programs, then try again") from error
        raise JobFailed(f"training stopped and changed nothing: {str(error).splitlines()[0]}") from error
    if result.verdict.adopted:
        model.checkpoint = result.checkpoint
    return result


def as_correction(pair: Pair) -> Correction:
    """A pair of scan and mask as a correction of which nothing else is known.

    Raises
    ------
    LearningError
        If it is something else.
    """
    if isinstance(pair, Correction):
        return pair
    if not isinstance(pair, tuple) or len(pair) not in (2, 3):
        raise LearningError(f"expected (Volume, LabelMap) or (Volume, LabelMap, reviewed slices), got {type(pair)}")
    reviewed = pair[2] if len(pair) == 3 else None
    return Correction(pair[0], None, pair[1], None if reviewed is None else tuple(int(k) for k in reviewed))


@dataclass(eq=False)
class _Training:
    """One run of `fine_tune`."""

    lesson: Lesson
    out: Path | None
    stop: Callable[[], bool]
    started: float = field(default_factory=time.perf_counter)
    team: Team = field(default_factory=present_team)

    def run(self) -> Generator[Report, None, FineTuneResult]:
        """Measure, learn, measure again, decide, store."""
        lesson = self.lesson
        trainer = self._trainer()
        exam = Examination(lesson, self.stop)
        if "before" not in trainer.progress.figures:
            yield self._report(trainer, message="Measuring the present version")
            trainer.progress.figures["before"] = self._by_leader(lambda: exam.of_old().model_dump())
        before = Figures(**trainer.progress.figures["before"])
        try:
            yield from self._learn(trainer, exam, before)
            yield self._report(trainer, message="Measuring the new version")
            apart, part = Figures(**trainer.progress.figures["after"]), trainer.progress.figures["part"]
            share = trainer.progress.figures.get("share", 0.0)  # a run that an older version began has none
            part = self._by_leader(lambda: exam.settled_part(trainer.average, part, before))
            trainer.progress.figures["part"] = part
            network = exam.with_part(trainer.average, part)
            guard = before.guard if part == 0 else None
            new = Figures(**self._by_leader(lambda: exam.of_new(network, share, guard).model_dump()))
            after = exam.combined(apart, new)
        except Cancelled as error:
            self._save(trainer)
            done = f"at step {trainer.progress.step} of {lesson.n_steps}"
            raise Cancelled(f"fine-tuning was stopped {done}: nothing was changed") from error
        verdict = decide(
            before,
            after,
            lesson.settings,
            held_out=exam.held_out,
            n_held_out=len(lesson.held_out),
            inverted=why_inverted(lesson.cases),
            version=lesson.card.version,
        )
        result = self._store(network.cpu(), exam.card(share), trainer.progress, verdict)
        verdict = result.verdict.model_copy(update={"sentence": exam.with_names(verdict.sentence)})
        yield self._report(trainer, kind="done", message=verdict.sentence, dice=verdict.dice_after).model_copy(
            update={"verdict": verdict, "dice_before": verdict.dice_before, "remaining_s": 0.0}
        )
        return FineTuneResult(result.checkpoint, verdict, result.folder)

    def _learn(self, trainer: Trainer, exam: Examination, before: Figures) -> Generator[Report, None, None]:
        settings, progress, n_steps = self.lesson.settings, trainer.progress, self.lesson.n_steps
        practice, n_apart = Practice(self.lesson, trainer), round(n_steps * settings.held_out_part)
        exams = {round(n_apart * (k + 1) / settings.validations) for k in range(settings.validations)} | {n_apart}
        reference = before.automatic if before.automatic is not None else before.one_click
        losses: list[float] = []
        said = saved = time.perf_counter()
        while True:
            if progress.step in exams and progress.figures.get("examined") != progress.step:
                dice = self._by_leader(lambda: exam.on_the_way(trainer.average))
                if progress.step == n_apart:
                    part, share, after = self._by_leader(lambda: exam.of_parts(trainer.average, before))
                    progress.figures |= {"part": part, "share": share, "after": after}
                progress.figures["examined"] = progress.step
                yield self._report(trainer, kind="validation", losses=losses, dice=dice, dice_before=reference)
            if time.perf_counter() - saved >= settings.save_every_s or progress.step == n_apart:
                self._save(trainer)
                saved = time.perf_counter()
            if progress.step >= n_steps:
                return
            if self.team.any(self.stop(), self.lesson.device):
                raise Cancelled
            begun = time.perf_counter()
            losses.append(practice.step(with_held_out=progress.step >= n_apart))
            progress.seconds += time.perf_counter() - begun
            if time.perf_counter() - said >= _REPORT_EVERY_S or progress.step == n_steps:
                yield self._report(trainer, losses=losses)
                said, losses = time.perf_counter(), []

    def _trainer(self) -> Trainer:
        lesson = self.lesson
        rate = lesson.settings.learning_rate or lesson.plan.learning_rate
        progress = Progress(lesson.run, patch=lesson.automatic.patch)
        groups = lesson.plan.groups(lesson.network, rate)
        trainer = Trainer(
            lesson.network,
            groups,
            lesson.settings,
            n_steps=lesson.n_steps,
            progress=progress,
            fresh=lesson.fresh_parameters(),
        )
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            trainer.load(self.out)
        return trainer

    def _by_leader(self, make: Callable[[], Any]) -> Any:
        return self.team.from_leader(make, self.lesson.device)

    def _save(self, trainer: Trainer) -> None:
        if self.out is not None and self.team.is_leader:
            trainer.save(self.out)

    def _store(self, network: ClickUNet, card: Card, progress: Progress, verdict: Verdict) -> FineTuneResult:
        """Write the trained version with the verdict in its card, whatever the verdict is."""
        if self.out is not None:
            verdict = verdict.model_copy(update={"folder": str(self.out)})
        figures = {k: v for k, v in verdict.after.model_dump().items() if v is not None}
        figures |= {"seconds": round(progress.seconds, 1), "cases": len(self.lesson.cases)}
        figures["part_of_learned_clicks"] = progress.figures["part"]
        gate = verdict.model_dump(exclude={"folder"})
        training = {**card.training, "patch": list(progress.patch)}
        card = card.model_copy(update={"figures": figures, "gate": gate, "training": training})
        if self.out is not None and self.team.is_leader:
            save_checkpoint(self.out, network, card)
            (self.out / STATE).unlink(missing_ok=True)
        return FineTuneResult(Checkpoint(network, card, self.out), verdict, self.out)

    def _report(
        self,
        trainer: Trainer,
        *,
        kind: str = "progress",
        losses: Sequence[float] = (),
        dice: float | None = None,
        dice_before: float | None = None,
        message: str = "",
    ) -> Report:
        step, n_steps = trainer.progress.step, self.lesson.n_steps
        pace = trainer.progress.seconds / step if step else None
        loss = sum(losses) / len(losses) if losses else None
        text = f"Step {step} of {n_steps}"
        if loss is not None:
            text += f": loss {loss:.3f}"
        if dice is not None:
            text += f", held-out Dice {dice:.3f}"
        return Report(
            kind=kind,
            step=step,
            n_steps=n_steps,
            epoch=round(step * self.lesson.settings.batch / len(self.lesson.cases), 2),
            loss=loss,
            dice=dice,
            dice_before=dice_before,
            seconds=round(time.perf_counter() - self.started, 2),
            remaining_s=None if pace is None else round(pace * (n_steps - step) * 1.1 + 3.0, 1),
            message=message or text,
        )
