"""Offers the work that an earlier session did not save."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from napari_medseg.session.recovery import Unsaved
from napari_medseg.session.services import Services
from napari_medseg.widgets.step import button, dim, row

_MOST = 3


class RecoveryBox(QWidget):
    """One card for each piece of unsaved work, newest first; nothing where there is none.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.recovery, self.session = services.recovery, services.session
        self._cards = QVBoxLayout(self)
        self._cards.setContentsMargins(0, 0, 0, 0)
        self._drawn: list[QFrame] = []
        self.session.events.unsaved.connect(self._draw)
        self.session.events.volume.connect(self._draw)
        self._draw()

    def _draw(self, _value: object = None) -> None:
        for card in self._drawn:
            card.hide()
            card.deleteLater()
        offered = [each for each in self.session.unsaved if self._fits(each)][:_MOST]
        self._drawn = [self._card(each) for each in offered]
        for card in self._drawn:
            self._cards.addWidget(card)
        self.setVisible(bool(offered))

    def _fits(self, unsaved: Unsaved) -> bool:
        """Whether its scan can be found, or is open."""
        work = self.session.work
        return unsaved.path is not None or (work is not None and work.fingerprint == unsaved.fingerprint)

    def _card(self, unsaved: Unsaved) -> QFrame:
        card = QFrame()
        card.setProperty("role", "card")
        lesions = "1 lesion" if unsaved.n_lesions == 1 else f"{unsaved.n_lesions} lesions"
        title = QLabel(f"Unsaved work on {unsaved.name or 'a scan'}")
        title.setProperty("role", "title")
        title.setWordWrap(True)
        recover = button("Recover", "Open the scan and bring the lesions back", role="act")
        recover.clicked.connect(partial(self.recovery.recover, unsaved))
        discard = button("Discard", "Forget this work for good")
        discard.clicked.connect(partial(self.recovery.discard, unsaved))
        layout = QVBoxLayout(card)
        layout.setContentsMargins(10, 8, 10, 10)
        layout.addWidget(title)
        layout.addWidget(dim(f"{lesions}, begun {unsaved.when:%d %b %Y, %H:%M}"))
        layout.addLayout(row(recover, discard, stretch=0))
        return card
