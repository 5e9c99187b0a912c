"""The lock of journals: `napari_medseg.imaging.file_lock`, where rooms below find it too."""

from napari_medseg.imaging.file_lock import FileLock

__all__ = ["FileLock"]
