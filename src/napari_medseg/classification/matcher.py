"""The Siamese network at work: embeddings of lesions, and how alike two of them are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medseg.classification.crops import crop, view_extent_mm
from napari_medseg.classification.likeness import likeness_of
from napari_medseg.classification.ready import Ready
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import JobFailed, ModelError
from napari_medseg.imaging.view import Floats
from napari_medseg.networks.siamese import SiameseNetwork


class Matcher(Ready[SiameseNetwork]):
    """A Siamese checkpoint ready to compare.

    Lesions are seen at two scales: at their own size where a mask or a diameter says what that is, else in a cube of
    the side that the card names.

    Parameters
    ----------
    checkpoint : Checkpoint
        Network and card.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; the GPU where there is one.
    """

    _refusal = "compares nothing: choose a Siamese network"

    def embed(self, subject: Subject, *, diameter_mm: float | None = None) -> Floats:
        """Embedding of a lesion: a unit vector, shape (E,).

        Parameters
        ----------
        subject : Subject
            A lesion: scan with mask, or with a position.
        diameter_mm : float, optional
            Its longest diameter, where it is known from elsewhere: from the mask at another time, for instance.

        Raises
        ------
        ModelError
            If it is no lesion, or of another dimensionality than the network learned.
        """
        return np.asarray(self.embed_all([subject], diameter_mm=diameter_mm)[0])

    def embed_all(self, subjects: Sequence[Subject], *, diameter_mm: float | None = None) -> Floats:
        """Embeddings (N, E) of many lesions."""
        inputs = [self.inputs(subject, diameter_mm=diameter_mm) for subject in subjects]
        try:
            with torch.inference_mode():
                parts = [self.network.embed(torch.from_numpy(x[None]).to(self.device)) for x in inputs]
        except (RuntimeError, MemoryError) as error:
            raise JobFailed(f"the Siamese network stopped: {str(error).splitlines()[0]}") from error
        found = torch.cat(parts).float().cpu().numpy()
        if not np.isfinite(found).all():
            raise ModelError(
                f"the model '{self.card.name}' gave an answer that is not a number: choose another version"
            )
        return np.asarray(found)

    def inputs(self, subject: Subject, *, diameter_mm: float | None = None) -> Floats:
        """What the network sees of a lesion: (7, N, N, N)."""
        change: dict[str, object] = {"own_size": True}
        if diameter_mm is not None:
            change = {"extent_mm": view_extent_mm(diameter_mm), "own_size": False}
        looks_at = self.looks_at.model_copy(update=change)
        return crop(subject, looks_at, dims=self.network.encoder.dims).inputs

    def likeness(self, a: Floats, b: Floats) -> NDArray[np.float64] | None:
        """How alike the lesions of embeddings (..., E) look: the share of pairs of different lesions that look less so.

        0 to 1; leading axes broadcast. None where the network's card does not say what different lesions reach.
        """
        if not self.card.other_lesions:
            return None
        return likeness_of((np.asarray(a) * np.asarray(b)).sum(-1), self.card.other_lesions)

    def similarity(self, a: Floats, b: Floats) -> NDArray[np.float32]:
        """How likely embeddings (..., E) are of the same lesion, 0 to 1; leading axes broadcast.

        As among as many pairs of one lesion as of two: for different lesions it is near 0 however alike they look.
        """
        with torch.inference_mode():
            left, right = (torch.from_numpy(np.asarray(x, np.float32)).to(self.device) for x in (a, b))
            return np.asarray(self.network.similarity(left, right).cpu().numpy())
