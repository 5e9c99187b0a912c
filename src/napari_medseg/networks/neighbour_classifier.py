"""The Siamese network as a classifier: the labelled lesions nearest to a new one vote for their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_medseg.networks.encoder import SMALL_WIDTHS, ImageEncoder
from napari_medseg.networks.siamese import EMBEDDING, SiameseNetwork


class NeighbourClassifier(nn.Module):
    """Classes by similarity to labelled lesions: a kernel estimate in the space of the Siamese network's embeddings.

    Every labelled lesion votes with the weight that its similarity gives it, and every class with the mean of its
    votes: the nearest ones decide, and a class gains nothing by having many cases.

    Parameters
    ----------
    n_classes : int
        At least 2.
    n_known : int
        How many labelled lesions it keeps.
    dims, widths, n_embedding
        Of the Siamese network.
    """

    def __init__(
        self,
        *,
        n_classes: int = 2,
        n_known: int = 0,
        dims: int = 3,
        widths: Sequence[int] = SMALL_WIDTHS,
        n_embedding: int = EMBEDDING,
    ) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.siamese = SiameseNetwork(dims=dims, widths=widths, n_embedding=n_embedding)
        self.register_buffer("known", torch.zeros(n_known, n_embedding))
        self.register_buffer("answers", torch.zeros(n_known, dtype=torch.int64))
        self.register_buffer("temperature", torch.ones(1))

    @property
    def encoder(self) -> ImageEncoder:
        """The encoder of the Siamese network."""
        return self.siamese.encoder

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to build this network again."""
        return {"n_classes": self.n_classes, "n_known": len(self.known), **self.siamese.config}

    @property
    def depth(self) -> list[tuple[str, tuple[str, ...]]]:
        """Layer groups: none, as nothing is learned by steps."""
        return []

    def keep(self, known: Tensor, answers: Tensor) -> None:
        """Replace the labelled lesions by unit vectors (N, E) and their classes (N,); every class occurs."""
        self.known, self.answers = known, answers

    def describe(self, x: Tensor) -> Tensor:
        """Unit vectors (B, E) of views (B, 7, [D,] H, W)."""
        return self.siamese.embed(x)

    def classify(self, description: Tensor) -> Tensor:
        """Logits (B, n_classes) from `describe`'s answer."""
        return votes(description, self.known, self.answers, self.n_classes, self.siamese.sharpness)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_classes), before calibration."""
        return self.classify(self.describe(x))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities."""
        return (logits / self.temperature).softmax(-1)  # type: ignore[operator]


def votes(embedded: Tensor, known: Tensor, answers: Tensor, n_classes: int, sharpness: Tensor) -> Tensor:
    """Logarithm of each class's mean vote (B, C) for unit vectors (B, E), from known ones (N, E) of `answers` (N,)."""
    cosine = embedded @ known.T
    per_class = [
        torch.logsumexp(sharpness * cosine[:, answers == k], 1) - (answers == k).sum().clamp(min=1).log()
        for k in range(n_classes)
    ]
    return torch.stack(per_class, 1)
