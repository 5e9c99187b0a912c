"""The errors this package raises on purpose: one sentence each, naming the file or value and what to do next."""

from __future__ import annotations


class MedSegError(Exception):
    """Base of every expected error. ``str(error)`` is one sentence fit to show to a user."""


class ImagingError(MedSegError):
    """A scan or mask that cannot be read, written or placed on its grid.

    File names and headers are quoted in the sentence and may hold anything: what cannot be printed becomes ``?``.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in sentence))


class ModelError(MedSegError):
    """A model that cannot be loaded, or an answer that cannot be trusted."""


class LearningError(MedSegError):
    """Corrections or settings that cannot be trained on."""


class EvaluationError(MedSegError):
    """Figures that cannot be computed from what was given."""


class JobFailed(MedSegError):
    """Long work that stopped before its result: out of memory, a dead process, a full disk."""


class Cancelled(MedSegError):
    """Long work that the user stopped."""
