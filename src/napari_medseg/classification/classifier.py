"""A classifier at work: a lesion, an image or a study in, probabilities by class name out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseg.classification.crops import Crop, Place, crop
from napari_medseg.classification.ready import Ready
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import JobFailed, ModelError
from napari_medseg.networks.image_classifier import ImageClassifier
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier
from napari_medseg.networks.study_classifier import StudyClassifier

if TYPE_CHECKING:
    from napari_medseg.imaging.volume import Volume

ClassNetwork = ImageClassifier | StudyClassifier | NeighbourClassifier


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """How much each slice of one scan of a study decided.

    Parameters
    ----------
    scan : int
        Which scan of the study.
    axis : int
        Axis of the scan's array that slices are counted along.
    weights : ndarray, shape (slices of that axis,)
        0 to 1; over the slices that were looked at, of all scans together, they sum to 1. Slices between those that
        were looked at take values between theirs.
    """

    scan: int
    axis: int
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a classifier says about one subject.

    Parameters
    ----------
    probabilities : mapping of str to float
        Calibrated probability of each class, by name; they sum to 1.
    attention : tuple of Attention
        Of a study: one a scan; empty otherwise.
    deciding_slice : tuple of int, optional
        Of a study: scan, axis and index of the slice with the most attention.
    model : str
        Name and version of the classifier.
    """

    probabilities: Mapping[str, float]
    attention: tuple[Attention, ...] = ()
    deciding_slice: tuple[int, int, int] | None = None
    model: str = ""

    @property
    def best(self) -> str:
        """Name of the most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    def as_json(self) -> dict[str, object]:
        """Return everything but whole arrays, as JSON can hold it."""
        return {
            "class": self.best,
            "probabilities": dict(self.probabilities),
            "model": self.model,
            "deciding_slice": None
            if self.deciding_slice is None
            else dict(zip(("scan", "axis", "index"), self.deciding_slice, strict=True)),
            "attention": [
                {"scan": a.scan, "axis": a.axis, "weights": [round(float(w), 5) for w in a.weights]}
                for a in self.attention
            ],
        }


class Classifier(Ready[ClassNetwork]):
    """A checkpoint ready to classify.

    Parameters
    ----------
    checkpoint : Checkpoint
        Network and card.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; the GPU where there is one.

    Raises
    ------
    ModelError
        If the checkpoint is no classifier.
    """

    _refusal = "does not classify: choose a trained classifier"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes, in the order of the network's outputs."""
        return tuple(name for _, name in sorted(self.card.labels.items()))

    @property
    def is_study(self) -> bool:
        """Whether it looks at all slices of a study."""
        return isinstance(self.network, StudyClassifier)

    def crop(self, subject: Subject) -> Crop:
        """Make the network's input for a subject.

        Raises
        ------
        ModelError
            If it is of another kind or dimensionality than the classifier learned.
        """
        return crop(subject, self.looks_at, dims=self.network.encoder.dims)

    def classify(self, subject: Subject | Volume) -> Answer:
        """Classify a lesion, an image or a study; a bare volume is an image or a study of one scan.

        Raises
        ------
        ModelError
            If it is of another kind or dimensionality than the classifier learned, or the answer is not a number.
        JobFailed
            If memory ran out.
        """
        subject = subject if isinstance(subject, Subject) else Subject((subject,))
        return self.classify_crop(self.crop(subject), subject)

    def classify_crop(self, crop: Crop, subject: Subject) -> Answer:
        """Classify a subject whose crop was made before."""
        try:
            with torch.inference_mode():
                logits, attention = self.logits(crop)
                probabilities = self.network.probabilities(logits)[0].double().cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            raise JobFailed(f"the classifier stopped: {str(error).splitlines()[0]}") from error
        if not np.isfinite(probabilities).all():
            raise ModelError(
                f"the model '{self.card.name}' gave an answer that is not a number: choose another version"
            )
        shown = dict(zip(self.classes, (probabilities / probabilities.sum()).tolist(), strict=True))
        return Answer(MappingProxyType(shown), *_explained(attention, crop, subject), model=self.card.title)

    def logits(self, crop: Crop) -> tuple[torch.Tensor, NDArray[np.float64] | None]:
        """Logits (1, C) before calibration and, of a study, the attention (S,) of its slices."""
        x = torch.from_numpy(crop.inputs).to(self.device)
        if isinstance(self.network, StudyClassifier):
            answer, attention = self.network(x, torch.tensor(crop.kinds, device=self.device))
            return answer, attention[0].detach().double().cpu().numpy()
        return self.network(x[None]), None


def _explained(
    attention: NDArray[np.float64] | None, crop: Crop, subject: Subject
) -> tuple[tuple[Attention, ...], tuple[int, int, int] | None]:
    if attention is None:
        return (), None
    best: Place = crop.places[int(attention.argmax())]
    shown = []
    for number, scan in enumerate(subject.scans):
        own = [
            (place.index, weight) for place, weight in zip(crop.places, attention, strict=True) if place.scan == number
        ]
        axis = next(place.axis for place in crop.places if place.scan == number)
        at, weights = zip(*own, strict=True)
        shown.append(Attention(number, axis, np.interp(np.arange(scan.data.shape[axis]), at, weights)))
    assert best.index is not None
    return tuple(shown), (best.scan, best.axis, best.index)


def probabilities_of(classifier: Classifier, subjects: Sequence[Subject]) -> NDArray[np.float64]:
    """Probabilities (N, C) of many subjects, in the order of the classifier's classes."""
    answers = [classifier.classify(subject).probabilities for subject in subjects]
    return np.array([[answer[name] for name in classifier.classes] for answer in answers])
