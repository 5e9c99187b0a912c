"""The versions of a model: which is in use, and the way to each of them."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_medseg.session.training import TrainingController, VersionRow
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import GAP, Look
from napari_medseg.widgets.step import button, dim, row

_SHOWN_VERSIONS = 6
_ROW = 28


class VersionList(QWidget):
    """One row a version, newest first, and 'Roll back'; hidden while there is none.

    Parameters
    ----------
    controller : TrainingController
        Knows the versions.
    """

    def __init__(self, controller: TrainingController) -> None:
        super().__init__()
        self.controller = controller
        self._drawn: tuple[VersionRow, ...] = ()
        self._back = button("Roll back", "Use the version again that was in use before")
        self._back.clicked.connect(controller.roll_back)
        self._all = button("", "Show the older versions too")
        self._all.setCheckable(True)
        self._all.toggled.connect(self._fill)
        self._versions, heading = QVBoxLayout(), dim("Versions")
        self._versions.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GAP)
        layout.addLayout(row(heading, self._back, stretch=0))
        layout.addLayout(self._versions)
        layout.addWidget(self._all)

    def set_look(self, look: Look) -> None:
        """Redraw in the theme's colours."""
        self._back.setIcon(icon("undo", look.text, off=look.faint))

    def draw(self) -> None:
        """Draw what the controller knows now."""
        rows = self.controller.versions()
        self.setVisible(bool(rows))
        self._back.setVisible(len(rows) > 1)
        self._back.setEnabled(not self.controller.is_running and bool(rows) and rows[-1].is_active is False)
        if rows == self._drawn:
            return
        self._drawn = rows
        n_older = len(rows) - len(_newest(rows))
        self._all.setText(f"{n_older} older version{'s' if n_older > 1 else ''}")
        self._all.setVisible(n_older > 0)
        self._fill()

    def _fill(self) -> None:
        while (item := self._versions.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        for version in self._drawn if self._all.isChecked() else _newest(self._drawn):
            self._versions.addWidget(self._version(version))

    def _version(self, version: VersionRow) -> QWidget:
        line = QWidget()
        line.setFixedHeight(_ROW)
        made = QHBoxLayout(line)
        made.setContentsMargins(0, 0, 0, 0)
        made.setSpacing(GAP)
        name = QLabel(f"Version {version.number}")
        name.setProperty("role", "title" if version.is_active else "")
        name.setToolTip(version.about)
        figure = "" if version.dice is None else f"{self.controller.figure_short} {version.dice:.2f}"
        about = QLabel(" · ".join(part for part in (figure, "" if version.was_adopted else "refused") if part))
        about.setProperty("role", "dim")
        about.setToolTip(version.about)
        about.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)  # never wider than the dock
        made.addWidget(name)
        made.addWidget(about, 1)
        if version.is_active:
            mark = QLabel("in use")
            mark.setProperty("role", "good")
            made.addWidget(mark)
        else:
            use = button("Use", f"Use version {version.number} from the next answer on")
            use.setAccessibleName(f"Use version {version.number}")
            use.clicked.connect(partial(self.controller.activate, version.number))
            made.addWidget(use)
        return line


def _newest(rows: tuple[VersionRow, ...]) -> tuple[VersionRow, ...]:
    """The newest versions, and the active one whatever its age."""
    newest = rows[:_SHOWN_VERSIONS]
    return newest + tuple(version for version in rows[_SHOWN_VERSIONS:] if version.is_active)
