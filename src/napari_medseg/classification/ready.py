"""A checkpoint of a network that looks at lesions, images or studies, ready to be asked."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import torch
from torch import nn

from napari_medseg.errors import ModelError
from napari_medseg.models.card import Card, ClassifierInput
from napari_medseg.models.checkpoint import Checkpoint

Network = TypeVar("Network", bound=nn.Module)


class Ready(Generic[Network]):
    """A network on its device, with its card.

    Parameters
    ----------
    checkpoint : Checkpoint
        Network and card.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; the GPU where there is one.

    Raises
    ------
    ModelError
        If the checkpoint is of another make.
    """

    _refusal = "looks at nothing: choose another"

    def __init__(self, checkpoint: Checkpoint, device: str | None = None) -> None:
        if checkpoint.card.looks_at is None:
            raise ModelError(f"the model '{checkpoint.card.name}' {self._refusal}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.checkpoint = checkpoint
        self.network.to(self.device).eval()

    @property
    def card(self) -> Card:
        """What it is and where it came from."""
        return self.checkpoint.card

    @property
    def network(self) -> Network:
        """Its network."""
        return cast(Network, self.checkpoint.network)

    @property
    def looks_at(self) -> ClassifierInput:
        """What it looks at."""
        assert self.card.looks_at is not None
        return self.card.looks_at
