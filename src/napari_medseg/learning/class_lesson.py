"""Everything that training one classifier needs, prepared once: cases, network, layers, what is held out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseg.classification.cases import task_of
from napari_medseg.classification.classifier import Classifier, ClassNetwork
from napari_medseg.classification.crops import crop
from napari_medseg.classification.heads import Head
from napari_medseg.classification.learned import Learned, case_mark, owners_of, patient_mark
from napari_medseg.classification.load import SIAMESE
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import Cancelled, LearningError
from napari_medseg.evaluation.splits import Split
from napari_medseg.learning.class_cases import (
    LabelledCases,
    check_cases,
    choose_input,
    dimensions,
    folds,
    people,
)
from napari_medseg.learning.class_settings import ClassTraining
from napari_medseg.learning.class_strategies import ClassPlan, class_plan, suited
from napari_medseg.learning.settings import Strategy
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import load_checkpoint, read_card
from napari_medseg.models.library import CLICK, Library
from napari_medseg.networks.image_classifier import ImageClassifier
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier
from napari_medseg.networks.registry import architecture_of
from napari_medseg.networks.study_classifier import StudyClassifier

_GRID = 4


@dataclass(frozen=True, slots=True, eq=False)
class ClassLesson:
    """One training of a classifier, ready to start.

    Parameters
    ----------
    old : Classifier, optional
        The version in use.
    network : ImageClassifier or StudyClassifier
        What learns: a copy of the old one's, or new with a pretrained encoder.
    card : Card
        Of the new version, as far as it is known before the training.
    cases : LabelledCases
        What teaches.
    marks : tuple of str
        What the card says of each case.
    owners : tuple of tuple of str
        The names that the owner of each case goes by; none where nobody knows.
    splits : tuple of Split
        By patient; the first is what trained networks are measured on.
    plan, settings, seed
        How it is learned.
    is_fresh : bool
        Whether the last layer is new.
    """

    old: Classifier | None
    network: ClassNetwork
    card: Card
    cases: LabelledCases
    marks: tuple[str, ...]
    owners: tuple[tuple[str, ...], ...]
    splits: tuple[Split, ...]
    plan: ClassPlan
    settings: ClassTraining
    seed: int
    is_fresh: bool

    @property
    def looks_at(self) -> ClassifierInput:
        """What the classifier looks at."""
        assert self.card.looks_at is not None
        return self.card.looks_at

    @property
    def is_study(self) -> bool:
        """Whether slices of studies are aggregated."""
        return isinstance(self.network, StudyClassifier)


def prepare_class_lesson(
    subjects: Sequence[Subject],
    answers: Sequence[str],
    *,
    classes: Sequence[str] | None,
    old: Classifier | None,
    name: str,
    strategy: Strategy | str,
    settings: ClassTraining,
    seed: int,
    should_stop: Callable[[], bool],
) -> ClassLesson:
    """Check the cases and choose everything that the training needs.

    Raises
    ------
    LearningError
        If nothing can be learned from these cases.
    ModelError
        If a case is of another kind or dimensionality than the classifier in use looks at.
    Cancelled
        If `should_stop` said so.
    """
    if classes is None and old is not None and set(answers) <= set(old.classes):
        classes = old.classes
    names = check_cases(subjects, answers, classes)
    settings = settings.model_copy(update={"head": _head(old, settings)})
    is_study = old.is_study if old is not None else task_of(subjects[0]) == "study"
    from_scratch = settings.start == "scratch" and old is None
    strategy = suited(strategy, settings.head, is_study=is_study, from_scratch=from_scratch)
    looks_at = old.looks_at if old is not None else _input(subjects, settings)
    dims = old.network.encoder.dims if old is not None else dimensions(subjects)
    crops = []
    for subject in subjects:
        if should_stop():
            raise Cancelled("training was stopped: nothing was changed")
        crops.append(crop(subject, looks_at, dims=dims))
    cases = LabelledCases(tuple(crops), np.array([names.index(a) for a in answers]), names, people(subjects))
    splits = folds(cases, seed=seed)
    if not splits:
        raise LearningError(
            "every class needs cases of at least two patients, so that some can be held out: label more"
        )
    torch.manual_seed(seed)
    is_fresh = old is None or old.classes != names
    network = _network(old, len(names), looks_at, dims, settings)
    plan = class_plan(strategy, len(subjects), dims=dims, is_study=is_study, from_scratch=from_scratch)
    marks = tuple(case_mark(c.inputs) for c in crops)
    owners = tuple(owners_of(subject) for subject in subjects)
    card = _card(old, name, names, looks_at, network, [*marks, *(patient_mark(o) for own in owners for o in own)])
    return ClassLesson(old, network, card, cases, marks, owners, splits, plan, settings, seed, is_fresh)


def _input(subjects: Sequence[Subject], settings: ClassTraining) -> ClassifierInput:
    """What a new classifier looks at: nearest neighbours at what the Siamese network learned, others by their cases."""
    if settings.head is not Head.NEIGHBOURS:
        return choose_input(subjects, settings)
    card = read_card(Library().path(SIAMESE))
    assert card.looks_at is not None
    return card.looks_at.model_copy(update={"own_size": True})


def _head(old: Classifier | None, settings: ClassTraining) -> Head:
    """The last layer to fit: whether there are words or neighbours, the network of the version in use decides."""
    if old is None or old.is_study:
        return settings.head
    own = Head.NEIGHBOURS if isinstance(old.network, NeighbourClassifier) else Head.LOGISTIC
    own = Head.WORDS if getattr(old.network, "n_words", 0) else own
    fits = (own, Head.LOGISTIC) if own is not Head.LOGISTIC else (Head.LOGISTIC, Head.SVM, Head.NEAREST_MEAN)
    if settings.head not in fits:
        raise LearningError(f"'{old.card.name}' has no last layer '{settings.head}': train a new classifier with it")
    return settings.head if own is Head.LOGISTIC else own


def _network(
    old: Classifier | None, n_classes: int, looks_at: ClassifierInput, dims: int, settings: ClassTraining
) -> ClassNetwork:
    """Return a copy of the old network, its last layer replaced where the classes are others; or a new one."""
    n_words = settings.n_words if settings.head is Head.WORDS else 0
    if old is not None:
        network = copy.deepcopy(old.network).cpu()
        if isinstance(network, NeighbourClassifier):
            network.n_classes = n_classes
        elif network.head.out_features != n_classes:
            network.head = torch.nn.Linear(network.head.in_features, n_classes)
        return network
    if settings.head is Head.NEIGHBOURS:
        siamese = load_checkpoint(Library().path(SIAMESE)).network
        voting = NeighbourClassifier(n_classes=n_classes, **siamese.config)  # type: ignore[arg-type]
        voting.siamese.load_state_dict(siamese.state_dict())
        return voting
    click = load_checkpoint(Library().path(CLICK)) if settings.start == "pretrained" else None
    widths = {} if click is None else {"widths": click.card.config["widths"]}
    fresh: ClassNetwork
    if looks_at.task == "study":
        fresh = StudyClassifier(n_classes=n_classes, n_inputs=max(1, len(looks_at.inputs)), **widths)
    else:
        grid = _GRID if looks_at.task == "image" else 0
        fresh = ImageClassifier(n_classes=n_classes, dims=dims, n_words=n_words, grid=grid, **widths)
    if click is not None:
        fresh.encoder.take_over(click.network.state_dict())
    return fresh


def _card(
    old: Classifier | None,
    name: str,
    classes: Sequence[str],
    looks_at: ClassifierInput,
    network: ClassNetwork,
    data: Sequence[str],
) -> Card:
    before = [] if old is None else old.card.data
    return Card(
        name=name,
        version=1 if old is None else old.card.version + 1,
        architecture=architecture_of(network),
        config=network.config,
        labels=dict(enumerate(classes)),
        needs_click=False,
        looks_at=looks_at,
        parent=None if old is None else f"{old.card.title} ({old.card.sha256[:12]})",
        # What the old version learned is in the weights that the new one goes on from.
        data=list(dict.fromkeys([*before, *data])),
        command="napari-medseg train-classifier",
    )


def unknown_to(
    old: Classifier, marks: Sequence[str], owners: Sequence[Sequence[str]], held: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Those of the held-out cases of whose owners the old version has learned nothing.

    Parameters
    ----------
    old : Classifier
        The old version.
    marks : sequence of str
        What a card says of each case, held out or not.
    owners : sequence of sequence of str
        The names that the owner of each case goes by.
    held : ndarray of int
        Which cases are held out.
    """
    learned = Learned(old.card.data)
    learned.note(marks, owners)
    return np.array([k for k in held if not learned.holds(marks[k], owners[k])], np.intp)
