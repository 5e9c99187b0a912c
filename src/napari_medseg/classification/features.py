"""Features of a frozen encoder, computed once a crop: retraining on them takes a second."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from napari_medseg.classification.classifier import ClassNetwork
from napari_medseg.classification.crops import Crop
from napari_medseg.imaging.durable import write_durably
from napari_medseg.imaging.view import Floats

_BATCH = 16


class FeatureCache:
    """Keeps arrays by the content they were computed from, in memory and, if a folder is given, on disk.

    Parameters
    ----------
    folder : path, optional
        Where to keep them between runs. Files there are plain arrays that name nobody.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else None
        self._kept: dict[str, Floats] = {}

    def get(self, key: str, make: Callable[[], Floats]) -> Floats:
        """Return the array of that key, made where it is not there yet."""
        if key not in self._kept:
            found = self._read(key)
            if found is None:
                found = make()
                self._write(key, found)
            self._kept[key] = found
        return self._kept[key]

    def __contains__(self, key: str) -> bool:
        return key in self._kept or (self.folder is not None and (self.folder / f"{key}.npy").is_file())

    def _read(self, key: str) -> Floats | None:
        path = None if self.folder is None else self.folder / f"{key}.npy"
        if path is None or not path.is_file():
            return None
        try:
            return np.asarray(np.load(path, allow_pickle=False), np.float32)
        except (OSError, ValueError):
            return None

    def _write(self, key: str, array: Floats) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)

        def save(path: Path) -> None:
            with path.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)

        write_durably(self.folder / f"{key}.npy", save, lambda path: np.load(path, allow_pickle=False))


def describe_all(
    network: ClassNetwork,
    crops: Sequence[Crop],
    cache: FeatureCache | None = None,
    *,
    describe: Callable[[Tensor], Tensor] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Floats]:
    """Features of every crop by a network's ``describe``: (F,) of a view, (S, F) of a study's slices.

    Parameters
    ----------
    network : Module
        With an ``encoder``; in evaluation mode.
    crops : sequence of Crop
        What to describe.
    cache : FeatureCache, optional
        What was computed before is taken from it, and what is new goes into it.
    describe : callable, optional
        Another function of views than the network's own.
    should_stop : callable, optional
        Asked before each crop; True ends early with what is there.
    """
    cache = cache if cache is not None else FeatureCache()
    make = describe or network.describe
    own = f"{digest_of(network)}-{'' if describe is None else describe.__name__}"
    described = []
    for each in crops:
        if should_stop is not None and should_stop():
            break
        key = hashlib.sha256(own.encode() + np.ascontiguousarray(each.inputs).tobytes()).hexdigest()
        described.append(cache.get(key, lambda each=each: _described(network, each, make)))  # type: ignore[misc]
    return described


def digest_of(network: nn.Module) -> str:
    """Hash of what features depend on: the weights of encoder or Siamese network, and the visual words."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if name.startswith(("encoder.", "words", "siamese.")):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _described(network: ClassNetwork, crop: Crop, describe: Callable[[Tensor], Tensor]) -> Floats:
    x = torch.from_numpy(crop.inputs).to(next(network.parameters()).device)
    is_study = bool(crop.kinds)
    with torch.inference_mode():
        parts = [describe(part) for part in torch.split(x if is_study else x[None], _BATCH)]
    features = torch.cat(parts).float().cpu().numpy()
    return features if is_study else np.asarray(features[0])
