"""The classical CNN: an encoder, pooling, a last layer, a softmax over named classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medseg.networks.encoder import CLICK_WIDTHS, ImageEncoder, n_pooled, pooled

LEVELS = (1, 2, 3)
WORD_LEVEL = 2


class ImageClassifier(nn.Module):
    """Classifies a view of a lesion, a region or a whole image.

    One network serves all kinds of transfer: trained end to end, with a last layer that scikit-learn fitted to frozen
    features, and with a bag of visual words in the place of pooling.

    Parameters
    ----------
    n_classes : int
        At least 2.
    dims : int
        3 for volumes, 2 for images.
    widths : sequence of int
        Channels of the encoder's levels.
    levels : sequence of int
        Levels of the encoder that are pooled.
    n_words : int
        Size of the visual vocabulary; 0 pools instead.
    grid : int
        Cells a side whose means are kept apart, for images whose layout matters; 0 for none.
    """

    def __init__(
        self,
        *,
        n_classes: int = 2,
        dims: int = 3,
        widths: Sequence[int] = CLICK_WIDTHS,
        levels: Sequence[int] = LEVELS,
        n_words: int = 0,
        grid: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = ImageEncoder(dims=dims, widths=tuple(widths))
        self.levels, self.n_words, self.grid = tuple(levels), n_words, grid
        n = n_words or n_pooled(self.encoder.widths, self.levels, dims=dims, grid=grid)
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("words", torch.zeros(n_words, self.encoder.widths[WORD_LEVEL]))
        self.register_buffer("temperature", torch.ones(1))
        self.head = nn.Linear(n, n_classes)

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to build this network again."""
        return {
            "n_classes": self.head.out_features,
            "dims": self.encoder.dims,
            "widths": list(self.encoder.widths),
            "levels": list(self.levels),
            "n_words": self.n_words,
            "grid": self.grid,
        }

    @property
    def depth(self) -> list[tuple[str, tuple[str, ...]]]:
        """Layer groups from the last layer down."""
        return [("heads", ("head.",)), *self.encoder.depth()]

    def describe(self, x: Tensor) -> Tensor:
        """What the last layer sees before it is standardised, shape (B, F), of views (B, 7, [D,] H, W)."""
        features = self.encoder(x)
        if self.n_words:
            return histogram(local_features(features), self.words)  # type: ignore[arg-type]
        return pooled(features, x, self.levels, self.grid)

    def classify(self, description: Tensor) -> Tensor:
        """Logits (B, n_classes) from `describe`'s answer."""
        answer: Tensor = self.head((description - self.mean) / self.scale)  # type: ignore[operator]
        return answer

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_classes), before calibration."""
        return self.classify(self.describe(x))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities (Guo et al. 2017, arXiv:1706.04599, eq. 9)."""
        return (logits / self.temperature).softmax(-1)  # type: ignore[operator]


def local_features(features: list[Tensor]) -> Tensor:
    """Unit vectors (B, positions, C) of one level: what visual words are made of."""
    return F.normalize(features[WORD_LEVEL].flatten(2).transpose(1, 2), dim=-1)


def histogram(local: Tensor, words: Tensor) -> Tensor:
    """Share of the positions (B, K) whose nearest word is each of the K words; its square root (Hellinger)."""
    nearest = torch.cdist(local, words.expand(len(local), -1, -1)).argmin(-1)
    counts = torch.zeros(len(local), len(words), dtype=local.dtype, device=local.device)
    counts.scatter_add_(1, nearest, torch.ones_like(nearest, dtype=local.dtype))
    return (counts / local.shape[1]).sqrt()
