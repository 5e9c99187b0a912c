"""Training classifiers on labelled cases: the ways to learn, what is still missing, and the run itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_medseg.learning.class_reports import ClassReport
from napari_medseg.learning.process import run_reporting
from napari_medseg.models.library import Library
from napari_medseg.session.labelling import LESION, LabelController
from napari_medseg.session.session import Failures, Session
from napari_medseg.session.training import Launch, TrainingController

FAMILIES = {
    "lesion": "Classical CNN: one view of each lesion, on the click model's encoder.",
    "image": "Classical CNN of 2-D images, on the click model's encoder.",
    "study": "Aggregation CNN: all slices of a study, weighed by learned attention.",
}
SIAMESE_FAMILY = "Siamese network: the labelled lesions that look most alike vote."


@dataclass(frozen=True, slots=True)
class Way:
    """One way to learn.

    Parameters
    ----------
    caption, description : str
        As the list shows it.
    options : tuple of str
        Its command line.
    suffix : str
        Of the model's name, where its network is of another make.
    tasks : tuple of str
        The kinds of cases that it can learn from.
    """

    caption: str
    description: str
    options: tuple[str, ...] = ()
    suffix: str = ""
    tasks: tuple[str, ...] = ("lesion", "image", "study")


_FLAT = ("lesion", "image")
_FEATURES = ("--strategy", "features", "--head")
WAYS = (
    Way("Automatic", "Features and logistic regression up to 40 cases, fine-tuning from the top down beyond."),
    Way("Logistic regression", "On features of the frozen encoder: seconds.", (*_FEATURES, "logistic"), tasks=_FLAT),
    Way("Support vectors (SVM)", "On features of the frozen encoder: seconds.", (*_FEATURES, "svm"), tasks=_FLAT),
    Way(
        "Nearest class mean",
        "On features of the frozen encoder; for few cases.",
        (*_FEATURES, "nearest-mean"),
        "",
        _FLAT,
    ),
    Way(
        "Bag of visual words",
        "A vocabulary of local features, counted, and a linear classifier. Shows no saliency.",
        (*_FEATURES, "words"),
        "-words",
        _FLAT,
    ),
    Way(
        "Nearest neighbours (Siamese)",
        "The labelled lesions that look most alike vote; nothing is fitted, so two cases a class are enough to begin.",
        (*_FEATURES, "neighbours"),
        "-neighbours",
        ("lesion",),
    ),
    Way("Last layer", "Only the last layer learns, by gradient steps.", ("--strategy", "head")),
    Way("Gradual", "The last layer first, then layer by layer from the top.", ("--strategy", "gradual")),
    Way("All layers", "Every layer, at a small learning rate.", ("--strategy", "full")),
)


run_class_job = partial(run_reporting, reports=ClassReport)
"""Runs ``train-classifier`` in another process and gives its reports."""


class ClassLearnController(TrainingController):
    """What 'Train classifier' does: `TrainingController` over the labelled cases.

    Parameters
    ----------
    session : Session
        The state.
    labelling : LabelController
        The cases, and which kind is labelled now.
    library : Library
        The versions.
    failures : Failures, optional
        Where unexpected errors go.
    launch : callable
        Runs the command line in another process and gives its reports.
    arguments : sequence of str
        More of the command line: ``("--steps", "200")``.
    """

    figure = "balanced accuracy"
    figure_short = "bal. acc."
    _report = ClassReport
    _folder = ".training-classes"

    def __init__(
        self,
        session: Session,
        labelling: LabelController,
        library: Library,
        *,
        failures: Failures | None = None,
        launch: Launch = run_class_job,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(session, library, launch=launch, arguments=arguments, failures=failures)
        self.labelling = labelling
        self._way = WAYS[0]

    @property
    def ways(self) -> tuple[Way, ...]:
        """What can be chosen for the kind of case that is labelled now; the first one is the default."""
        return tuple(way for way in WAYS if self.labelling.task in way.tasks)

    @property
    def way(self) -> Way:
        """The chosen way."""
        return self._way if self._way in self.ways else WAYS[0]

    @way.setter
    def way(self, way: Way) -> None:
        self._way = way
        self.changed.emit()

    @property
    def name(self) -> str:
        """The classifier that learns: one a kind of case."""
        return f"{self.labelling.task}-classifier{self.way.suffix}"

    @property
    def family(self) -> str:
        """The kind of network that the chosen way trains, in a sentence."""
        return SIAMESE_FAMILY if "neighbours" in self.way.options else FAMILIES[self.labelling.task]

    def missing(self) -> str:
        """What must be labelled before anything can be learned, in one sentence; empty where nothing is missing."""
        counts = self.labelling.counts()
        used = [name for name, n in counts.items() if n]
        n_cases = sum(counts.values())
        what = "lesions" if self.labelling.task == LESION else "scans"
        if not used:
            return f"Label {what} first: at least two of each of two classes."
        if len(used) == 1:
            all_of_them = f"All {n_cases} labelled {what} are" if n_cases > 1 else f"The one labelled {what[:-1]} is"
            return f"{all_of_them} '{used[0]}': label some of another class too."
        for name, n in counts.items():
            if n == 0:
                return f"Nobody labelled a case '{name}' yet: label at least two, or remove that class."
            if n == 1:
                return f"There is only one case of '{name}': label at least two of each class."
        return ""

    def start(self) -> None:
        """Begin to learn from all labelled cases of this kind. Call :meth:`poll` until it is False."""
        if self.is_running:
            return
        missing = self.missing()
        if missing:
            self.session.message = missing
            return
        task, classes, name, way = self.labelling.task, self.labelling.classes(), self.name, self.way
        arguments = ["train-classifier", "--cases", str(self.labelling.cases.root), "--task", task]
        arguments += ["--classes", ",".join(classes), "--name", name, *way.options]
        if name in self.library.names():
            arguments += ["--model", str(self.library.path(name))]

        def prepare(_folder: Path) -> list[str]:
            return arguments

        self._begin("Training a classifier", prepare)

    def _forget_model(self) -> None:
        """Answers look up the active version themselves."""
