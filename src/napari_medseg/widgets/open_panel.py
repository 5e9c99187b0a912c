"""Step 1: open a scan, choose among several, see what the reader had to assume."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from qtpy.QtWidgets import QComboBox, QFileDialog, QFrame, QLabel, QVBoxLayout, QWidget

from napari_medseg.imaging.mask_or_scan import may_be_mask
from napari_medseg.imaging.volume import Volume
from napari_medseg.session.services import Services
from napari_medseg.session.stage import distinct_names
from napari_medseg.widgets.icons import icon
from napari_medseg.widgets.look import Look
from napari_medseg.widgets.misfit_box import MisfitBox
from napari_medseg.widgets.reader import distinct_paths
from napari_medseg.widgets.recovery_box import RecoveryBox
from napari_medseg.widgets.series_chooser import SeriesChooser
from napari_medseg.widgets.step import button, column, repolish, row


class OpenPanel(QWidget):
    """Opens scans and masks.

    Parameters
    ----------
    services : Services
        The session and its controllers.
    """

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services, self.session = services, services.session
        self._look: Look | None = None
        self._build()
        session = self.session
        session.events.volume.connect(self._draw)
        session.events.offers.connect(self._draw)
        self._draw()

    def set_look(self, look: Look) -> None:
        """Redraw the icons in the theme's colours."""
        self._look = look
        self._draw_icons()

    @property
    def _is_first_thing_to_do(self) -> bool:
        return self.session.volume is None and not self.session.offers

    def _draw_icons(self) -> None:
        look = self._look
        if look is None:
            return
        self._open.setIcon(icon("file", look.on_accent if self._is_first_thing_to_do else look.text))
        for each, name in ((self._folder, "folder"), (self._sample, "sample"), (self._mask, "mask")):
            each.setIcon(icon(name, look.text, off=look.faint))

    def _build(self) -> None:
        self._drop = DropArea()
        self._drop.dropped.connect(self.services.opening.open)
        self._open = button("Open a file…", "NIfTI, NRRD, MetaImage, TIFF or DICOM", role="main")
        self._open.clicked.connect(self._on_open)
        self._folder = button("Folder…", "A folder of DICOM slices, or of several series")
        self._folder.clicked.connect(self._on_folder)
        self._sample = button("Try the sample", "A small scan that this plugin makes itself")
        self._sample.clicked.connect(self._on_sample)
        self._mask = button("Mask…", "Take the labels of a mask file over as lesions of the open scan")
        self._mask.clicked.connect(self._on_mask)
        self._scans = QComboBox()
        self._scans.setToolTip("The scan that you work on")
        self._scans.activated.connect(lambda index: self.services.opening.choose(self.services.opening.scans[index]))
        layout = column(self)
        recovery, chooser, misfit = RecoveryBox(self.services), SeriesChooser(self.services), MisfitBox(self.services)
        for widget in (recovery, misfit, self._drop, self._scans, chooser):
            layout.addWidget(widget)
        layout.addLayout(row(self._open, self._folder, stretch=0))
        layout.addLayout(row(self._sample, self._mask, stretch=0))

    def _draw(self, _value: object = None) -> None:
        volume, scans = self.session.volume, self.services.opening.scans
        self._drop.setVisible(volume is None and not self.session.offers)
        self._sample.setVisible(volume is None)
        self._mask.setVisible(volume is not None)
        self._open.setProperty("role", "main" if self._is_first_thing_to_do else "")
        self._open.setText("Open a file…" if volume is None else "Another file…")
        repolish(self._open)
        self._draw_icons()
        self._scans.setVisible(len(scans) > 1)
        self._scans.clear()
        self._scans.addItems(distinct_names(scans))
        if volume is not None:
            self._scans.setCurrentIndex(next(i for i, scan in enumerate(scans) if scan is volume))

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a scan", "", "Scans (*);;All files (*)")
        if path:
            self.services.opening.open(Path(path))

    def _on_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder of scans")
        if path:
            self.services.opening.open(Path(path))

    def _on_mask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a mask of this scan", str(self._folder_of_scan()), "Masks (*)"
        )
        if path:
            self.services.opening.open_mask(Path(path))

    def _on_sample(self) -> None:
        self.services.opening.open_sample()

    def _folder_of_scan(self) -> Path:
        path = self.session.volume.path if self.session.volume is not None else None
        return path.parent if path is not None else Path()


class DropArea(QFrame):
    """Where scans are dropped; says what to do first."""

    dropped = Signal(Path)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("drop")
        self.setAcceptDrops(True)
        text = QLabel("Drop a scan here\nor press Open")
        text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        text.setProperty("role", "dim")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 18, 8, 18)
        layout.addWidget(text)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Welcome files."""
        if event is not None and event.mimeData() is not None and event.mimeData().hasUrls():
            event.acceptProposedAction()
            self._mark(True)

    def dragLeaveEvent(self, event: QDragLeaveEvent | None) -> None:
        """Forget the files."""
        self._mark(False)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open the files or folders."""
        self._mark(False)
        paths = dropped_paths(event)
        if event is not None and paths:
            event.acceptProposedAction()
            for path in paths:
                self.dropped.emit(path)

    def _mark(self, over: bool) -> None:
        self.setProperty("over", over)
        repolish(self)


def dropped_paths(event: QDropEvent | None) -> list[Path]:
    """Return the local files of a drop, masks last; many slices of one folder are that folder."""
    if event is None or event.mimeData() is None:
        return []
    paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
    return sorted(distinct_paths(paths), key=may_be_mask) if paths else []


def describe(volume: Volume) -> str:
    """Return modality, size in voxels and spacing in one line, fastest axis first."""
    return " · ".join(part for part in (volume.modality, size_text(volume)) if part)


def size_text(volume: Volume) -> str:
    """Return size in voxels and spacing, fastest axis first."""
    size = "×".join(str(n) for n in reversed(volume.data.shape))
    spacing = "×".join(f"{step:.2f}".rstrip("0").rstrip(".") for step in reversed(volume.spacing_mm))
    return f"{size} · {spacing} mm"
