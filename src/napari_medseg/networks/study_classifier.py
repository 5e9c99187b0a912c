"""The aggregation CNN: convolutions and pooling a slice, learned attention over slices and inputs, one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_medseg.networks.encoder import CLICK_WIDTHS, ImageEncoder, n_pooled, pooled

LEVELS = (0, 1, 2, 3)
_HIDDEN = 64


class StudyClassifier(nn.Module):
    """Classifies a study: any number of slices of one or more scans (views, sequences, modalities).

    The attention is the gated one of Ilse et al., Attention-based deep multiple instance learning, ICML 2018, eq. 9.

    Parameters
    ----------
    n_classes : int
        At least 2.
    n_inputs : int
        How many kinds of scans a study may have.
    widths : sequence of int
        Channels of the encoder's levels.
    levels : sequence of int
        Levels of the encoder that are pooled.
    """

    def __init__(
        self,
        *,
        n_classes: int = 2,
        n_inputs: int = 1,
        widths: Sequence[int] = CLICK_WIDTHS,
        levels: Sequence[int] = LEVELS,
    ) -> None:
        super().__init__()
        self.encoder = ImageEncoder(dims=2, widths=tuple(widths))
        self.levels = tuple(levels)
        n = n_pooled(self.encoder.widths, self.levels)
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("temperature", torch.ones(1))
        self.reduce = nn.Linear(n, _HIDDEN)
        self.kind = nn.Embedding(n_inputs, _HIDDEN)
        self.gate = nn.Linear(_HIDDEN, 2 * _HIDDEN)
        self.attention = nn.Linear(_HIDDEN, 1)
        self.head = nn.Linear(_HIDDEN, n_classes)
        nn.init.normal_(self.kind.weight, std=0.02)

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to build this network again."""
        return {
            "n_classes": self.head.out_features,
            "n_inputs": self.kind.num_embeddings,
            "widths": list(self.encoder.widths),
            "levels": list(self.levels),
        }

    @property
    def depth(self) -> list[tuple[str, tuple[str, ...]]]:
        """Layer groups from the last layers down."""
        return [("heads", ("head.", "attention.", "gate.", "kind.", "reduce.")), *self.encoder.depth()]

    def describe(self, x: Tensor) -> Tensor:
        """Features (S, F) of slices (S, 7, H, W)."""
        return pooled(self.encoder(x), x, self.levels)

    def classify(self, description: Tensor, kinds: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Answer from slices' features.

        Parameters
        ----------
        description : Tensor, shape (B, S, F)
            As `describe` makes them, padded to the longest study.
        kinds : Tensor of int, shape (B, S)
            Which input each slice belongs to.
        inside : Tensor of bool, shape (B, S), optional
            False where a slice is padding.

        Returns
        -------
        Tensor, shape (B, n_classes)
            Logits of the studies.
        Tensor, shape (B, S)
            Attention; sums to 1 over a study's slices.
        """
        standard = (description - self.mean) / self.scale  # type: ignore[operator]
        h = torch.tanh(self.reduce(standard) + self.kind(kinds))
        value, gate = self.gate(h).chunk(2, -1)
        score = self.attention(torch.tanh(value) * torch.sigmoid(gate)).squeeze(-1)
        if inside is not None:
            score = score.masked_fill(~inside, -torch.inf)
        attention = score.softmax(-1)
        return self.head((attention.unsqueeze(-1) * h).sum(1)), attention

    def forward(self, x: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (1, n_classes) and attention (1, S) of one study's slices (S, 7, H, W) of `kinds` (S,)."""
        return self.classify(self.describe(x)[None], kinds[None])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities."""
        return (logits / self.temperature).softmax(-1)  # type: ignore[operator]
