"""'Find similar': the nearest lesions of the user's own library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_medseg.classification.cases import CaseLibrary, StoredCase
from napari_medseg.classification.features import FeatureCache, digest_of
from napari_medseg.classification.matcher import Matcher
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import ModelError
from napari_medseg.imaging.view import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Similar:
    """A case of the library, and how alike it is.

    Parameters
    ----------
    case : StoredCase
        With its class, thumbnail and the place of its scan.
    similarity : float
        How likely it is the very same lesion, 0 to 1; near 0 for different lesions, however alike they look.
    likeness : float, optional
        How alike it looks: the share of pairs of different lesions that look less alike, 0 to 1. None where the
        network's card does not say what different lesions reach.
    """

    case: StoredCase
    similarity: float
    likeness: float | None = None

    def as_json(self) -> dict[str, object]:
        """Return what JSON can hold."""
        card = self.case.card
        return {
            "case": self.case.id,
            "likeness": None if self.likeness is None else round(self.likeness, 4),
            "similarity": round(self.similarity, 4),
            "class": card.class_name,
            "paths": card.paths,
            "position_mm": card.position_mm,
            "label": card.label,
            "diameter_mm": card.diameter_mm,
            "thumbnail": str(self.case.folder / "thumbnail.png"),
        }


def find_similar(
    matcher: Matcher, library: CaseLibrary, subject: Subject, *, n: int = 5, without: Sequence[str] = ()
) -> tuple[Similar, ...]:
    """Most similar lesions of a library, most similar first.

    Parameters
    ----------
    matcher : Matcher
        Compares.
    library : CaseLibrary
        What is searched; embeddings are kept in it, so that a second search takes milliseconds.
    subject : Subject
        The lesion.
    n : int
        At most so many.
    without : sequence of str
        Names of cases to leave out: the lesion itself, for instance.

    Raises
    ------
    ModelError
        If the subject is no lesion that the network can look at, or the library holds no other one.
    """
    own = matcher.embed(subject)
    is_flat = matcher.network.encoder.dims == 2
    lesions = [case for case in library.list(task="lesion") if case.card.is_flat == is_flat]
    cases = [case for case in lesions if case.id not in without]
    if not cases:
        raise ModelError("your library holds no other lesion yet: label lesions while you read, then search again")
    known = embeddings(matcher, library, cases)
    scores, likeness = matcher.similarity(known, own), matcher.likeness(known, own)
    order = np.argsort(-(known @ own))[:n]
    return tuple(Similar(cases[k], float(scores[k]), None if likeness is None else float(likeness[k])) for k in order)


def embeddings(matcher: Matcher, library: CaseLibrary, cases: Sequence[StoredCase]) -> Floats:
    """Embeddings (N, E) of cases; those computed before are read from the library."""
    cache = FeatureCache(library.root / ".embeddings")
    own = digest_of(matcher.network)[:16]
    found = []
    for case in cases:
        # A number is given again when the last case was removed: the case's time tells them apart.
        key = f"{own}-{case.id}-{case.stamp}"
        found.append(cache.get(key, lambda case=case: matcher.embed(case.subject())))  # type: ignore[misc]
    return np.stack(found)
