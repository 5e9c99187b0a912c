"""What the lesion table does: select, rename, hide, lock and delete lesions."""

from __future__ import annotations

import numpy as np

from napari_medseg.errors import MedSegError
from napari_medseg.imaging.volume import LabelMap
from napari_medseg.session.lesions import lesion_of, replaced
from napari_medseg.session.measures import Measure, measure_of
from napari_medseg.session.work import Editor


class TableController:
    """Changes the rows of the lesion table.

    Parameters
    ----------
    editor : Editor
        Makes the undoable steps.
    """

    def __init__(self, editor: Editor) -> None:
        self.editor, self.session = editor, editor.session
        self._measures: dict[int, Measure | None] = {}
        editor.stepped.connect(self._forget)
        self.session.events.work.connect(self._forget)

    def volume_ml(self, label: int) -> float:
        """Return a lesion's volume in millilitres."""
        work = self.session.work
        if work is None:
            return 0.0
        return float(work.labels.n_voxels[label]) * LabelMap(work.labels.data, work.volume.affine).voxel_ml

    def measure(self, label: int) -> Measure | None:
        """Return what a lesion measures, worked out once until a lesion changes; None where it is empty."""
        work = self.session.work
        if label not in self._measures and work is not None:
            self._measures[label] = measure_of(work.volume, work.labels, label)
        return self._measures.get(label)

    def centre_of(self, label: int) -> tuple[int, int, int] | None:
        """Return the voxel of a lesion that lies nearest to its centre of mass."""
        work = self.session.work
        region = work.labels.box_of(label) if work is not None else None
        if work is None or region is None:
            return None
        inside = np.argwhere(work.labels.data[region] == label)
        nearest = inside[np.square(inside - inside.mean(0)).sum(1).argmin()]
        z, y, x = (int(at + span.start) for at, span in zip(nearest, region, strict=True))
        return z, y, x

    def select(self, label: int) -> None:
        """Make a lesion the one that prompts and brushes work on."""
        if lesion_of(self.session.lesions, label) is not None:
            self.session.active_label = label

    def rename(self, label: int, name: str) -> None:
        """Give a lesion another name; an empty one changes nothing."""
        if name.strip():
            self.session.lesions = replaced(self.session.lesions, label, name=name.strip())

    def recolour(self, label: int, colour: str) -> None:
        """Give a lesion another colour, ``#rrggbb``."""
        self.session.lesions = replaced(self.session.lesions, label, colour=colour)

    def show(self, label: int, visible: bool) -> None:
        """Draw a lesion or not."""
        self.session.lesions = replaced(self.session.lesions, label, visible=visible)

    def lock(self, label: int, locked: bool) -> None:
        """Keep predictions and brushes away from a lesion, or let them."""
        self.session.lesions = replaced(self.session.lesions, label, locked=locked)

    def delete(self, label: int) -> None:
        """Remove a lesion with its voxels and prompts, as one undoable step."""
        lesion = lesion_of(self.session.lesions, label)
        if lesion is None:
            return
        try:
            work = self.editor.work
            if lesion.locked:
                raise MedSegError(f"'{lesion.name}' is locked: unlock it before you delete it.")
        except MedSegError as error:
            self.session.message = str(error)
            return
        self.editor.absorb(work.labels.box_of(label))
        before = self.editor.table
        self.session.lesions = tuple(each for each in self.session.lesions if each.label != label)
        if self.session.active_label == label:
            self.session.active_label = self.session.lesions[-1].label if self.session.lesions else 1
        self.editor.step("delete lesion", work.labels.clear(label), before=before)
        self.session.message = f"'{lesion.name}' is deleted; undo brings it back."

    def _forget(self) -> None:
        self._measures.clear()
