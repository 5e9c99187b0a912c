"""What the user is doing now: the open scan, its lesions, the model and the running job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from psygnal import Signal, SignalGroupDescriptor

from napari_medseg.errors import MedSegError
from napari_medseg.session.lesions import Lesion, lesion_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_medseg.imaging.volume import LabelMap, Volume
    from napari_medseg.segmentation.prompts import Prompt
    from napari_medseg.session.export import Saved
    from napari_medseg.session.offers import Offer
    from napari_medseg.session.open import Misfit
    from napari_medseg.session.recovery import Unsaved
    from napari_medseg.session.work import ScanWork


class Segments(Protocol):
    """What the session asks of a model: one answer for one scan and its prompts."""

    @property
    def name(self) -> str:
        """The model's name in the library."""

    @property
    def version(self) -> int:
        """The model's version in the library."""

    @property
    def needs_click(self) -> bool:
        """Whether the model has no answer without a prompt."""

    @property
    def labels(self) -> Mapping[int, str]:
        """The names of the labels that an answer without prompts holds."""

    def segment(
        self,
        volume: Volume,
        prompts: Sequence[Prompt] = (),
        *,
        previous: LabelMap | None = None,
        progress: Callable[[float], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> LabelMap:
        """Segment one lesion from its prompts, or everything the model knows where there are none."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Long work that runs now.

    Parameters
    ----------
    name : str
        What runs, as a person would say it: ``"Reading ct.nii.gz"``.
    fraction : float, optional
        How far it is, 0 to 1; None where nobody can say.
    cancel : callable, optional
        Stops it; None where it cannot be stopped.
    """

    name: str
    fraction: float | None = None
    cancel: Callable[[], None] | None = None

    def at(self, fraction: float | None) -> Job:
        """Return the same job, further on."""
        return replace(self, fraction=fraction)


@dataclass(eq=False)
class Session:
    """The one state that panels show and controllers assign, on the GUI thread only.

    Every field is evented: ``session.events.volume.connect(...)``. Values are immutable, reassign to change.

    Parameters
    ----------
    volume : Volume, optional
        The open scan.
    offers : tuple of Offer
        What the last opened file or folder offers to choose from, where that is more than one.
    misfit : Misfit, optional
        A mask that was opened and does not lie on the open scan: the user says what becomes of it.
    work : ScanWork, optional
        The open scan's working label map and history; changes together with ``volume``.
    lesions : tuple of Lesion
        The rows of the lesion table.
    active_label : int
        The lesion that prompts and brushes work on.
    reviewed : frozenset of int
        Slices (along ``work.axis``) that the user marked as reviewed.
    model : Segments, optional
        The loaded model. None: the next request loads the active version of ``model_name``.
    model_name : str
        A name in the library, or the path of a model folder.
    job : Job, optional
        Long work that runs beside the user's own: fine-tuning.
    busy : Job, optional
        What the user waits for: reading a scan, the model's answer, an export.
    unsaved : tuple of Unsaved
        Work of earlier sessions that can be brought back.
    saved : Saved, optional
        What the last export left on disk.
    question : str
        What the user must agree to before the last export goes on.
    message : str
        The last sentence for the user.
    """

    volume: Volume | None = None
    offers: tuple[Offer, ...] = ()
    misfit: Misfit | None = None
    work: ScanWork | None = None
    lesions: tuple[Lesion, ...] = ()
    active_label: int = 1
    reviewed: frozenset[int] = frozenset()
    model: Segments | None = None
    model_name: str = "click"
    job: Job | None = None
    busy: Job | None = None
    unsaved: tuple[Unsaved, ...] = ()
    saved: Saved | None = None
    question: str = ""
    message: str = ""
    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    @property
    def active(self) -> Lesion | None:
        """The lesion that prompts and brushes work on, once it exists."""
        return lesion_of(self.lesions, self.active_label)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts of the active lesion."""
        return self.active.prompts if self.active else ()


@dataclass(eq=False)
class Failures:
    """Where errors go that nobody expected: the window shows them with their traceback."""

    unexpected: ClassVar[Signal] = Signal(Exception)
    seen: list[Exception] = field(default_factory=list)

    def report(self, error: Exception) -> None:
        """Keep the error and tell whoever listens, unless it is one of ours: its sentence says all there is to say."""
        if not isinstance(error, MedSegError):
            self.seen.append(error)
            self.unexpected.emit(error)
