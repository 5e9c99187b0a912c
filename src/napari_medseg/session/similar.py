"""'Find similar': the most similar lesions of the user's own library, and the way to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_medseg.errors import MedSegError
from napari_medseg.session.labelling import LESION, LabelController
from napari_medseg.session.open import OpenController
from napari_medseg.session.runner import Runner, Ticket, explain
from napari_medseg.session.session import Failures, Job
from napari_medseg.session.work import ScanWork

if TYPE_CHECKING:
    from napari_medseg.classification.cases import CaseCard
    from napari_medseg.classification.matcher import Matcher
    from napari_medseg.classification.subject import Subject
    from napari_medseg.imaging.volume import Volume

N_SIMILAR = 8


def bundled_matcher() -> Matcher:
    """Load the Siamese network that comes with the program."""
    from napari_medseg.classification import load_matcher

    return load_matcher()


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A similar lesion, ready to be drawn.

    Parameters
    ----------
    id : str
        Name of the case.
    card : CaseCard
        Its class and where its scan is.
    likeness : float or None
        How alike they look: the share of pairs of different lesions that look less alike, 0 to 1.
    picture : ndarray of uint8, shape (H, W)
        Its thumbnail.
    """

    id: str
    card: CaseCard
    likeness: float | None
    picture: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What a search found, and what it is about.

    Parameters
    ----------
    work : ScanWork
        The scan of the lesion that was asked about.
    what : str
        That lesion, as a person says it.
    found : tuple of Neighbour
        Most similar first.
    """

    work: ScanWork
    what: str
    found: tuple[Neighbour, ...]


class SimilarController:
    """Searches the user's own cases for lesions that look like the selected one.

    Parameters
    ----------
    labelling : LabelController
        The cases, and the lesion in view.
    opening : OpenController
        Opens a case's scan.
    runner : Runner
        Where the Siamese network works.
    loader : callable
        Loads that network.
    failures : Failures, optional
        Where unexpected errors go.

    Attributes
    ----------
    changed : Signal
        There are other neighbours to show, or none any more.
    jumped : Signal
        Emits the voxel ``(z, y, x)`` to look at.
    """

    changed = Signal()
    jumped = Signal(tuple)

    def __init__(
        self,
        labelling: LabelController,
        opening: OpenController,
        runner: Runner,
        *,
        loader: Callable[[], Matcher] = bundled_matcher,
        failures: Failures | None = None,
    ) -> None:
        self.labelling, self.session, self.opening = labelling, labelling.session, opening
        self._runner, self._loader, self._failures = runner, loader, failures or Failures()
        self._matcher: Matcher | None = None
        self._wanted: tuple[Path, CaseCard] | None = None
        self._last: Neighbours | None = None
        self._visited: list[Volume] = []
        self.session.events.volume.connect(self._on_volume)

    @property
    def shown(self) -> Neighbours | None:
        """The last answer, while its scan is in view or one of the cases that were opened from it."""
        scan = self.session.volume
        if self._last is None or scan is None:
            return None
        known = (self._last.work.volume, *self._visited)
        return self._last if any(each is scan for each in known) else None

    @property
    def neighbours(self) -> tuple[Neighbour, ...]:
        """Those of the last answer, most similar first; none once another scan is in view."""
        return () if self.shown is None else self.shown.found

    @property
    def is_away(self) -> bool:
        """Whether a similar case is in view, and not the scan that was asked about."""
        return self.shown is not None and self.shown.work is not self.session.work

    def back(self) -> None:
        """Show the scan again that was asked about."""
        if self._last is None:
            return
        scan = self._last.work.volume
        if not any(each is scan for each in self.opening.scans):
            self.session.message = f"'{scan.name}' is no longer open."
            return
        self.opening.choose(scan)

    def find(self) -> None:
        """Search; `changed` tells when there is an answer."""
        try:
            work, subject = self.labelling.editor.work, self.labelling.subject(LESION)
        except MedSegError as error:
            self.session.message = str(error)
            return
        own = self._own_case()
        active = self.session.active
        what = active.name if active is not None else ""
        self.session.busy = Job(f"Searching for lesions like {what}", None, self._cancel)
        self._runner.submit(
            lambda ticket: Neighbours(work, what, self._search(subject, own, ticket)),
            done=self._on_found,
            failed=self._on_failed,
        )

    def open(self, neighbour: Neighbour) -> None:
        """Open the scan of a case and show the lesion."""
        card = neighbour.card
        path = next((Path(each) for each in card.paths if Path(each).exists()), None)
        if path is None:
            where = card.paths[0] if card.paths else "a scan that was not a file"
            self.session.message = f"The scan of {neighbour.id} is no longer there ({where}): put it back to open it."
            return
        known = next((scan for scan in self.opening.scans if _is_at(scan, path)), None)
        if known is None:
            self._wanted = (path, card)
            self.opening.open(path)
            return
        self._visited.append(known)
        self.opening.choose(known)
        self._show(known, card)

    def _own_case(self) -> tuple[str, ...]:
        if self.labelling.target != LESION:
            return ()
        case = self.labelling.case()
        return () if case is None else (case.id,)

    def _search(self, subject: Subject, without: tuple[str, ...], _ticket: Ticket) -> tuple[Neighbour, ...]:
        """Runs where models answer."""
        from napari_medseg.classification import find_similar

        if self._matcher is None:
            self._matcher = self._loader()
        found = find_similar(self._matcher, self.labelling.cases, subject, n=N_SIMILAR, without=without)
        return tuple(Neighbour(s.case.id, s.case.card, s.likeness, s.case.thumbnail()) for s in found)

    def _on_found(self, neighbours: Neighbours) -> None:
        from napari_medseg.classification.likeness import in_percent

        self.session.busy = None
        if neighbours.work is not self.session.work:
            return
        self._last, self._visited = neighbours, []
        best = neighbours.found[0]
        named = f"'{best.card.class_name}'" if best.card.class_name else "without a class"
        alike = f"; both look more alike than {in_percent(best.likeness)} of pairs of different lesions"
        self.session.message = f"The most similar lesion is {named}{alike if best.likeness is not None else ''}."
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self.session.busy = None
        self.session.message = explain(error)
        self._failures.report(error)

    def _on_volume(self, volume: Volume | None) -> None:
        wanted = self._wanted
        if wanted is not None and volume is not None and _is_at(volume, wanted[0]):
            self._wanted = None
            self._visited.append(volume)
            self._show(volume, wanted[1])
        if self._last is not None:
            self.changed.emit()

    def _show(self, volume: Volume, card: CaseCard) -> None:
        if card.task != LESION or card.position_mm is None:
            return
        index = np.clip(np.round(volume.index_of(card.position_mm)), 0, np.array(volume.data.shape) - 1)
        self.jumped.emit(tuple(int(at) for at in index))

    def _cancel(self) -> None:
        self._runner.cancel()
        self.session.busy = None
        self.session.message = "Stopped."


def _is_at(volume: Volume, path: Path) -> bool:
    return volume.path is not None and volume.path.resolve() == path.resolve()
