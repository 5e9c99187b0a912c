"""Asks what becomes of a mask that does not lie on the open scan; nothing is moved unasked."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout

from napari_medseg.session.open import Misfit
from napari_medseg.session.services import Services
from napari_medseg.widgets.sentences import sentence
from napari_medseg.widgets.step import button, dim, row

_ANSWERS = {
    "Nearest": ("nearest", "Each voxel of the scan takes the label at its centre: labels exact, edges in stairs"),
    "Smooth": ("smooth", "Each voxel of the scan takes the label with the largest share of it: rounder edges"),
    "Leave it": ("", "Do not take the mask over"),
}


class MisfitBox(QFrame):
    """A card with both grids and the ways out; hidden where every mask fits.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._build(services)
        services.session.events.misfit.connect(self._draw)
        self._draw(services.session.misfit)

    def _build(self, services: Services) -> None:
        self.setProperty("role", "card")
        title = QLabel("This mask does not lie on the scan. Resample it?")
        title.setProperty("role", "title")
        title.setWordWrap(True)
        self._reason = dim()
        buttons = []
        for text, (method, tip) in _ANSWERS.items():
            made = button(text, tip, role="act" if method == "nearest" else "")
            made.clicked.connect(partial(self._on_answer, services, method))
            buttons.append(made)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 10)
        layout.addWidget(title)
        layout.addWidget(self._reason)
        layout.addLayout(row(*buttons))

    def _draw(self, misfit: Misfit | None) -> None:
        self._reason.setText(sentence(misfit.reason) if misfit is not None else "")
        self.setVisible(misfit is not None)

    def _on_answer(self, services: Services, method: str) -> None:
        services.opening.answer_misfit(method)
