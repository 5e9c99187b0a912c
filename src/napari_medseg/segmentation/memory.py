"""What to do when a GPU's memory does not suffice: smaller batches, then the CPU, then one sentence."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

NOT_ENOUGH_MEMORY = "not enough memory to segment this scan: close other scans or programs and try again"

Batch = TypeVar("Batch", bound=Any)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU: torch says it in several ways."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in text or "can't allocate" in text
    )


def release_gpu() -> None:
    """Give memory that nothing needs any more back to the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_smaller_batches(run: Callable[..., Any], *batch: Batch) -> Any:
    """Run a network on a batch, or on halves of it, as often as memory demands.

    Parameters
    ----------
    run : callable
        From a batch to an array or tensor of answers, or a tuple of them.
    *batch : ndarray or Tensor, shape (B, ...)
        Its arguments, all of one length.

    Raises
    ------
    RuntimeError
        If a single input is too much, or for another reason.
    """
    try:
        return run(*batch)
    except RuntimeError as error:
        if len(batch[0]) < 2 or not is_out_of_memory(error):
            raise
    release_gpu()  # outside the handler: the error holds the frames whose memory is to be freed
    half = len(batch[0]) // 2
    parts = [in_smaller_batches(run, *(each[cut] for each in batch)) for cut in (slice(half), slice(half, None))]
    if isinstance(parts[0], tuple):
        return tuple(_joined(pair) for pair in zip(*parts, strict=True))
    return _joined(parts)


def _joined(parts: Any) -> Any:
    return torch.cat(list(parts)) if isinstance(parts[0], torch.Tensor) else np.concatenate(list(parts))
