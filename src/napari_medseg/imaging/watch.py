"""Telling how far reading is, and stopping it midway."""

from __future__ import annotations

from collections.abc import Callable

from napari_medseg.errors import Cancelled

Tell = Callable[[float], None]
_STEP = 0.01


def silent(share: float) -> None:
    """Tell nobody; what a reader calls where nobody watches."""


def telling(progress: Callable[[float], None] | None, should_stop: Callable[[], bool] | None) -> Tell:
    """Return what a reader calls with the share done, 0 to 1, every few milliseconds.

    Parameters
    ----------
    progress : callable, optional
        Called with the share whenever it has grown by a hundredth.
    should_stop : callable, optional
        Asked each time.

    Raises
    ------
    Cancelled
        Out of the call, if ``should_stop`` said so.
    """
    if progress is None and should_stop is None:
        return silent
    told = -1.0

    def tell(share: float) -> None:
        nonlocal told
        if should_stop is not None and should_stop():
            raise Cancelled("Reading was cancelled.")
        if progress is not None and share >= min(told + _STEP, 1.0) and share > told:
            told = share
            progress(share)

    return tell


def part(tell: Tell, start: float, stop: float) -> Tell:
    """Return what one part of the work calls with its own share, 0 to 1, where it is a part of the whole."""
    return silent if tell is silent else lambda share: tell(start + (stop - start) * share)
