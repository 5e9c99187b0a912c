"""Training a classifier: prepare, fit or fine-tune, calibrate, measure, and adopt only what is better."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseg.classification.classifier import Classifier, ClassNetwork
from napari_medseg.classification.features import FeatureCache, describe_all
from napari_medseg.classification.heads import Head, LinearHead, Neighbours, fit_head, fit_words, standardisation
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import Cancelled, JobFailed
from napari_medseg.learning.class_exam import ClassExam
from napari_medseg.learning.class_gate import decide_classes
from napari_medseg.learning.class_lesson import ClassLesson, prepare_class_lesson
from napari_medseg.learning.class_practice import ClassPractice
from napari_medseg.learning.class_reports import ClassReport, ClassTrainingResult, ClassVerdict
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.class_strategies import class_groups
from napari_medseg.learning.settings import FineTuneSettings, Strategy
from napari_medseg.learning.trainer import Progress, Trainer
from napari_medseg.models.checkpoint import Checkpoint, save_checkpoint
from napari_medseg.networks.image_classifier import ImageClassifier, histogram, local_features
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier
from napari_medseg.networks.study_classifier import StudyClassifier

Reports = Generator[ClassReport, None, None]
_REPORT_EVERY_S = 1.0


def train_classifier(
    subjects: Sequence[Subject],
    answers: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    start: Classifier | None = None,
    name: str = "classifier",
    strategy: Strategy | str = "auto",
    settings: ClassTraining | None = None,
    out: str | Path | None = None,
    cache: FeatureCache | None = None,
    seed: int = 0,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[ClassReport, None, ClassTrainingResult]:
    """Train a classifier of lesions, images or studies on labelled cases.

    Parameters
    ----------
    subjects : sequence of Subject
        The cases, all of one kind.
    answers : sequence of str
        Their classes.
    classes : sequence of str, optional
        All classes, in the order of the outputs; those that occur if not given.
    start : Classifier, optional
        A version to go on from; otherwise a new network on the click model's encoder.
    name : str
        What the classifier is called.
    strategy : str
        ``features`` (scikit-learn on a frozen encoder), ``head``, ``gradual``, ``full`` or ``auto``.
    settings : ClassTraining, optional
        Everything else; the defaults need no choice.
    out : path, optional
        Folder for the trained version, which is written whatever the verdict.
    cache : FeatureCache, optional
        Keeps features of a frozen encoder between trainings.
    seed : int
        The same seed, cases and settings give the same weights on a CPU.
    should_stop : callable, optional
        Asked before each step.

    Yields
    ------
    ClassReport
        About one a second; the last one is of the kind ``done`` and carries the verdict.

    Returns
    -------
    ClassTrainingResult
        The trained version and the verdict.

    Raises
    ------
    LearningError
        If nothing can be learned from these cases.
    JobFailed
        If the loss is not a number, memory does not suffice, or the network stopped.
    Cancelled
        If `should_stop` said so.
    """
    stop = should_stop or (lambda: False)
    try:
        yield ClassReport(message=f"Preparing {len(subjects)} labelled cases")
        lesson = prepare_class_lesson(
            subjects,
            answers,
            classes=classes,
            old=start,
            name=name,
            strategy=strategy,
            settings=settings or ClassTraining(),
            seed=seed,
            should_stop=stop,
        )
        run = _Run(lesson, Path(out) if out is not None else None, cache or FeatureCache(), stop)
        return (yield from run.go())
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else "memory ran out"
        raise JobFailed(f"training stopped and changed nothing: {reason}") from error


@dataclass(eq=False)
class _Run:
    """One run of `train_classifier`."""

    lesson: ClassLesson
    out: Path | None
    cache: FeatureCache
    stop: Callable[[], bool]
    started: float = field(default_factory=time.perf_counter)
    exam: ClassExam = field(init=False)

    def __post_init__(self) -> None:
        self.exam = ClassExam(self.lesson, self.cache)

    def go(self) -> Generator[ClassReport, None, ClassTrainingResult]:
        """Fit or fine-tune, calibrate, compare, store."""
        lesson = self.lesson
        device = lesson.settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        network = lesson.network.to(device).eval()
        if lesson.plan.steps == 0:
            yield from self._fit(network)
        else:
            yield from self._learn(network)
            network = self.trained
        before, after = self.exam.compared()
        verdict = decide_classes(
            before,
            after,
            least_gain=lesson.settings.least_gain,
            held_out=self._described_split(),
            is_first=lesson.is_fresh,
            version=lesson.card.version,
        )
        result = self._store(network.cpu(), verdict)
        yield ClassReport(
            kind="done",
            step=lesson.plan.steps,
            n_steps=lesson.plan.steps,
            score=after.balanced_accuracy,
            score_before=before.balanced_accuracy,
            seconds=self._seconds(),
            remaining_s=0.0,
            message=result.verdict.sentence,
            verdict=result.verdict,
        )
        return result

    def _fit(self, network: ClassNetwork) -> Reports:
        """Frozen features to scikit-learn: measured out of fold on every case, then fitted on all of them."""
        assert not isinstance(network, StudyClassifier)
        yield self._say("Computing features")
        described = self._descriptions(network)
        cases, logits = self.lesson.cases, np.zeros((len(self.lesson.cases.answers), len(self.lesson.cases.classes)))
        tested: list[NDArray[np.intp]] = []
        for split in self.lesson.splits:
            features = described(split.train)
            logits[split.test] = self._head(network, features, split.train).logits(features[split.test])
            tested.append(split.test)
        self.exam.held = np.sort(np.concatenate(tested))
        self.exam.measure(logits[self.exam.held])
        everything = np.arange(len(cases.answers))
        self._head(network, described(everything), everything).put_into(network)
        # The card was written before it was known how many lesions are kept.
        self.lesson.card.config.update(network.config)

    def _descriptions(self, network: ClassNetwork) -> Callable[[NDArray[np.intp]], NDArray[np.float32]]:
        """Return what describes all cases (N, F) from the teaching ones: visual words are made of those alone."""
        if not (isinstance(network, ImageClassifier) and network.n_words):
            features = np.stack(self._features(network))
            return lambda teaching: features

        def local_vectors(x: torch.Tensor) -> torch.Tensor:
            return local_features(network.encoder(x))

        local = self._features(network, local_vectors)

        def counted(teaching: NDArray[np.intp]) -> NDArray[np.float32]:
            fit_words(network, [local[k] for k in teaching], seed=self.lesson.seed)
            words = cast(torch.Tensor, network.words).cpu()
            return np.stack([histogram(torch.from_numpy(each)[None], words)[0].numpy() for each in local])

        return counted

    def _head(
        self, network: ClassNetwork, features: NDArray[np.float32], teaching: NDArray[np.intp]
    ) -> LinearHead | Neighbours:
        cases, settings = self.lesson.cases, self.lesson.settings
        if isinstance(network, NeighbourClassifier):
            sharpness = float(network.siamese.sharpness)  # type: ignore[arg-type]
            return Neighbours(features[teaching], cases.answers[teaching], len(cases.classes), sharpness)
        return fit_head(
            settings.head, features[teaching], cases.answers[teaching], len(cases.classes), strength=settings.strength
        )

    def _learn(self, network: ClassNetwork) -> Reports:
        """Optimiser steps; held-out cases join at the end, after they were asked."""
        lesson, settings = self.lesson, self.lesson.settings
        split, everything = lesson.splits[0], np.arange(len(lesson.cases.answers))
        self.exam.held = split.test
        yield self._say("Fitting the last layer")
        self._start(network, split.train)
        n_steps = settings.steps or lesson.plan.steps
        trainer = self._trainer(network, n_steps)
        practice = ClassPractice(
            network,
            lesson.cases,
            self.cache,
            batch=settings.batch,
            is_lesion=lesson.looks_at.task == "lesion",
            seed=lesson.seed,
        )
        n_apart = round(n_steps * settings.held_out_part)
        exams = {round(n_apart * (k + 1) / settings.validations) for k in range(settings.validations)} | {n_apart}
        losses: list[float] = []
        said = time.perf_counter()
        while trainer.progress.step < n_steps:
            if self.stop():
                done = f"at step {trainer.progress.step} of {n_steps}"
                raise Cancelled(f"training was stopped {done}: nothing was changed")
            step = trainer.progress.step
            loss = practice.loss(split.train if step < n_apart else everything)
            if not torch.isfinite(loss):
                trainer.refuse_nan()
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            trainer.step()
            if step + 1 in exams:
                self.exam.ask(self._averaged(trainer))
                yield self._progress(trainer, losses, kind="validation")
            elif time.perf_counter() - said >= _REPORT_EVERY_S:
                yield self._progress(trainer, losses)
                said, losses = time.perf_counter(), []
        self.trained = self._averaged(trainer)

    def _start(self, network: ClassNetwork, teaching: NDArray[np.intp]) -> None:
        """Standardise features, and give a new last layer the best weights for the features as they are."""
        if not self.lesson.is_fresh:
            return
        features = self._features(network)
        if isinstance(network, StudyClassifier):
            mean, scale = standardisation(np.concatenate([features[k] for k in teaching]))
            network.mean.copy_(torch.from_numpy(mean))  # type: ignore[operator]
            network.scale.copy_(torch.from_numpy(scale))  # type: ignore[operator]
            return
        cases, settings = self.lesson.cases, self.lesson.settings
        chosen = np.stack([features[k] for k in teaching])
        head = fit_head(Head.LOGISTIC, chosen, cases.answers[teaching], len(cases.classes), strength=settings.strength)
        head.put_into(network)

    def _features(
        self, network: ClassNetwork, describe: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> list[NDArray[np.float32]]:
        crops = self.lesson.cases.crops
        features = describe_all(network, crops, self.cache, describe=describe, should_stop=self.stop)
        if len(features) < len(self.lesson.cases.crops):
            raise Cancelled("training was stopped: nothing was changed")
        return features

    def _trainer(self, network: ClassNetwork, n_steps: int) -> Trainer:
        lesson, settings = self.lesson, self.lesson.settings
        rate = settings.learning_rate or lesson.plan.learning_rate
        shared = FineTuneSettings(
            pull=0.0 if settings.start == "scratch" else settings.pull,
            average=settings.average,
            held_out_part=settings.held_out_part,
        )
        fresh = lesson.network.depth[0][1] if lesson.is_fresh else ()
        groups = class_groups(lesson.plan, network, rate)
        return Trainer(
            cast(Any, network), groups, shared, n_steps=n_steps, progress=Progress("classifier"), fresh=fresh
        )

    @staticmethod
    def _averaged(trainer: Trainer) -> ClassNetwork:
        return cast(ClassNetwork, trainer.average)

    def _store(self, network: ClassNetwork, verdict: ClassVerdict) -> ClassTrainingResult:
        """Write the trained version with the verdict in its card, whatever the verdict is."""
        lesson = self.lesson
        with torch.no_grad():
            network.temperature.fill_(self.exam.temperature)  # type: ignore[operator]
        figures = {k: v for k, v in self.exam.after.model_dump().items() if v is not None}
        figures |= {
            "seconds": round(self._seconds(), 1),
            "cases": len(lesson.cases.answers),
            "held_out": len(self.exam.held),
        }
        training = {
            "strategy": lesson.plan.strategy.value,
            "learning_rate": lesson.settings.learning_rate or lesson.plan.learning_rate,
            "steps": lesson.settings.steps or lesson.plan.steps,
            "seed": lesson.seed,
            "settings": lesson.settings.model_dump(mode="json"),
        }
        gate = verdict.model_dump(exclude={"folder"})
        card = lesson.card.model_copy(update={"figures": figures, "gate": gate, "training": training})
        if self.out is not None:
            save_checkpoint(self.out, network, card)
            verdict = verdict.model_copy(update={"folder": str(self.out)})
        return ClassTrainingResult(Checkpoint(network.eval(), card, self.out), verdict, self.out)

    def _described_split(self) -> str:
        n = len(self.lesson.cases.answers)
        if self.lesson.plan.steps == 0:
            return f"all {n} cases, each asked by a fit without its patient"
        return f"{len(self.exam.held)} of {n} cases, held out by patient"

    def _progress(self, trainer: Trainer, losses: Sequence[float], *, kind: str = "progress") -> ClassReport:
        step, n_steps = trainer.progress.step, trainer.n_steps
        loss = float(np.mean(losses)) if losses else None
        text = f"Step {step} of {n_steps}" + ("" if loss is None else f": loss {loss:.3f}")
        score = self.exam.after.balanced_accuracy if kind == "validation" else None
        if score is not None:
            text += f", held-out balanced accuracy {score:.3f}"
        return ClassReport(
            kind="validation" if kind == "validation" else "progress",
            step=step,
            n_steps=n_steps,
            epoch=round(step * self.lesson.settings.batch / len(self.lesson.cases.answers), 2),
            loss=loss,
            score=score,
            seconds=self._seconds(),
            remaining_s=round(self._seconds() / step * (n_steps - step), 1),
            message=text,
        )

    def _say(self, message: str) -> ClassReport:
        return ClassReport(message=message, seconds=self._seconds())

    def _seconds(self) -> float:
        return round(time.perf_counter() - self.started, 2)
