"""The Siamese network: two branches with shared weights, and how alike what they see is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medseg.networks.encoder import SMALL_WIDTHS, ImageEncoder, n_pooled, pooled

LEVELS = (0, 1, 2, 3)
EMBEDDING = 64
_GRID_LEVEL, _GRID = 2, 4


class SiameseNetwork(nn.Module):
    """Embeds views so that views of the same lesion lie close together.

    Parameters
    ----------
    dims : int
        3 for volumes, 2 for images.
    widths : sequence of int
        Channels of the encoder's levels.
    n_embedding : int
        Length of an embedding.
    """

    def __init__(self, *, dims: int = 3, widths: Sequence[int] = SMALL_WIDTHS, n_embedding: int = EMBEDDING) -> None:
        super().__init__()
        self.encoder = ImageEncoder(dims=dims, widths=tuple(widths))
        n = n_pooled(self.encoder.widths, LEVELS) + self.encoder.widths[_GRID_LEVEL] * int(_GRID**dims)
        self.norm = nn.LayerNorm(n)
        self.head = nn.Linear(n, n_embedding)
        self.register_buffer("sharpness", torch.tensor([10.0]))
        self.register_buffer("threshold", torch.tensor([0.5]))

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to build this network again."""
        return {
            "dims": self.encoder.dims,
            "widths": list(self.encoder.widths),
            "n_embedding": self.head.out_features,
        }

    @property
    def depth(self) -> list[tuple[str, tuple[str, ...]]]:
        """Layer groups from the last layers down."""
        return [("heads", ("head.", "norm.")), *self.encoder.depth()]

    def embed(self, x: Tensor) -> Tensor:
        """Unit vectors (B, n_embedding) of views (B, 7, [D,] H, W)."""
        features = self.encoder(x)
        cells = F.adaptive_avg_pool3d if x.ndim == 5 else F.adaptive_avg_pool2d
        layout = cells(features[_GRID_LEVEL], _GRID).flatten(1)
        described = torch.cat([pooled(features, x, LEVELS), layout], 1)
        return F.normalize(self.head(self.norm(described)), dim=-1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """How likely embeddings (..., n_embedding) are of one lesion, 0..1, among pairs as it was calibrated on."""
        cosine = (a * b).sum(-1)
        return torch.sigmoid(self.sharpness * (cosine - self.threshold))  # type: ignore[operator]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Similarity (B,) of two batches of views: both go through the same weights."""
        return self.similarity(self.embed(a), self.embed(b))
