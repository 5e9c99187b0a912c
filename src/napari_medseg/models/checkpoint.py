"""A network, its weights and its card in one folder: safetensors and JSON, verified by SHA-256; nothing runs code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_medseg.errors import ModelError
from napari_medseg.imaging.durable import write_durably
from napari_medseg.models.card import AutomaticSettings, Card

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "weights.safetensors"
CARD = "card.json"
_MOST_CARD_BYTES = 4_000_000
_HALF_MAX = 65504.0

__all__ = ["AutomaticSettings", "Card", "Checkpoint", "load_checkpoint", "read_card", "save_checkpoint"]


@dataclass(eq=False)
class Checkpoint:
    """A network ready to run, its card, and the folder it was read from."""

    network: nn.Module
    card: Card
    folder: Path | None = None


def save_checkpoint(folder: str | Path, network: nn.Module, card: Card) -> Path:
    """Write a network and its card into a folder.

    Weights are stored as 16-bit floats where that keeps them finite (half the size; they load as 32-bit). The card on
    disk carries the network's present configuration and the SHA-256 of the weights.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ModelError
        If a weight is not finite: a network that diverged is never stored.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _compact(network.state_dict())
    (folder / CARD).unlink(missing_ok=True)  # an interrupted save is a folder without a card, not a wrong pair
    weights = write_durably(folder / WEIGHTS, lambda path: save_file(tensors, path), _verify_readable)
    digest = sha256_of(weights)
    config = getattr(network, "config", card.config)
    write_card(folder, card.model_copy(update={"sha256": digest, "config": config}))
    return folder


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a network and its card, in evaluation mode and 32-bit floats on the CPU.

    Raises
    ------
    ModelError
        If the folder holds no model, if its files were damaged or changed, or if they ask for an unknown network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from napari_medseg.networks.registry import build

    folder = Path(folder)
    card = read_card(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{folder} has a card but no {WEIGHTS}: copy the whole model folder again")
    if sha256_of(weights) != card.sha256:
        raise ModelError(
            f"{weights} is damaged or was changed: its SHA-256 is not the one in its card; copy the model again"
        )
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{weights} is not a safetensors file ({error}): copy the model again") from error
    network = build(card.architecture, card.config)
    _fill(network, tensors, weights)
    return Checkpoint(network.eval(), card, folder)


def read_card(folder: str | Path) -> Card:
    """Read a model's card alone: quick, and without torch.

    Raises
    ------
    ModelError
        If there is no card, or it is not one.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise ModelError(f"{folder} is not a model: it has no {CARD}; choose a folder with {WEIGHTS} and {CARD}")
    if path.stat().st_size > _MOST_CARD_BYTES:
        raise ModelError(f"{path} is too large for a model card: choose a folder that this program wrote")
    try:
        return Card.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        raise ModelError(f"{path} is not a model card ({_first_line(error)}): copy the model again") from error


def write_card(folder: str | Path, card: Card) -> Path:
    """Write a model's card durably and return its path."""
    path, text = Path(folder) / CARD, card.model_dump_json(indent=1)
    return write_durably(path, lambda part: _write_text(part, text), lambda part: _verify_text(part, text))


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return _digest(stream)


def _digest(stream: Any) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _compact(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, 16-bit where no value overflows."""
    import torch

    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if value.is_floating_point():
            if not torch.isfinite(value).all():
                raise ModelError(f"the network was not saved: its weight '{name}' is not a finite number")
            if value.numel() and value.abs().max() <= _HALF_MAX:
                value = value.to(torch.float16)
        tensors[name] = value.contiguous().clone()
    return tensors


def _fill(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a state as 32-bit floats; every name and shape must fit."""
    import torch

    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{path} holds a weight that is not a number ('{name}'): it cannot be used")
    try:
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except RuntimeError as error:
        raise ModelError(f"the weights in {path} do not fit the network in their card: copy the model again") from error


def _verify_readable(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  (not a mapping)
            tensors.get_tensor(name)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _verify_text(path: Path, text: str) -> None:
    if path.read_text(encoding="utf-8") != text:
        raise ModelError(f"{path} was not written completely: is the disk full?")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return " ".join(line.strip() for line in lines[1:3]) if isinstance(error, ValidationError) else lines[0]
