"""Saving that leaves either the old file or the whole new one, whatever happens in between.

Write beside, sync, read back, replace, sync the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from napari_medseg.errors import ImagingError, MedSegError

_PREFIX = ".medseg-"
_STALE_AFTER_S = 24 * 3600
# A temporary name ends like the file it becomes, as some writers look at the ending; anything else could be a patient's
# name ("scan.doe") and is left out.
_KNOWN_ENDINGS = (
    *(".seg.nrrd", ".nii.gz", ".nii", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".tif", ".tiff"),
    *(".png", ".jpg", ".stl", ".obj", ".ply", ".vtp", ".json", ".jsonl", ".csv", ".txt", ".md", ".html", ".svg"),
    *(".npz", ".npy", ".safetensors", ".onnx", ".pdf", ".zip"),
)
_FULL_DISK = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_durably(path: str | Path, write: Callable[[Path], None], verify: Callable[[Path], None]) -> Path:
    """Save a file so that a crash, a kill or a full disk leaves the old one intact.

    Parameters
    ----------
    path : str or Path
        Where the file shall be. A link is followed, not replaced.
    write : callable
        Writes the whole content to the path it is given (a temporary file in the same folder).
    verify : callable
        Reads the path it is given back and raises a `MedSegError` where it is not what was meant.

    Returns
    -------
    Path
        ``path``, which now holds the verified content.

    Raises
    ------
    ImagingError
        If the file cannot be written in full; names the file, the free and the needed space.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()
    _check_target(target)
    _remove_stale(target.parent)
    temporary = target.with_name(_temporary_name(target.name))
    try:
        write(temporary)
        _sync(temporary)
        _verify(verify, temporary, target)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)  # noqa: PTH105 - the name that everybody knows to be atomic
    except OSError as error:
        raise _explained(error, target, temporary) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return Path(path)


def write_bytes_durably(path: str | Path, content: bytes) -> Path:
    """Save bytes (a JSON text, say) with the promises of `write_durably`."""

    def verify(temporary: Path) -> None:
        if temporary.read_bytes() != content:
            raise ImagingError(f"{Path(path).name} did not read back as it was written; the disk may be failing")

    return write_durably(path, lambda temporary: _write_all(temporary, content), verify)


def _verify(verify: Callable[[Path], None], temporary: Path, target: Path) -> None:
    try:
        verify(temporary)
    except MedSegError as error:
        # A reader names the file that it was given; the user knows only the one that was to be saved.
        raise type(error)(str(error).replace(temporary.name, target.name)) from error


def _write_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _temporary_name(name: str) -> str:
    ending = next((known for known in _KNOWN_ENDINGS if name.lower().endswith(known)), "")
    return f"{_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{ending}"


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise ImagingError(f"{target} is a folder; give the file a name inside it")
    if not target.parent.is_dir():
        raise ImagingError(f"{target.name} cannot be saved: the folder {target.parent} does not exist; create it first")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and some network file systems cannot sync one: the file itself is already safe.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove what a killed save left in this folder more than a day ago."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_PREFIX}[0-9]*-*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_AFTER_S:
                    left.unlink()


def _explained(error: OSError, target: Path, temporary: Path) -> MedSegError:
    kept = "the previous file is untouched" if target.exists() else "nothing was left behind"
    if error.errno in _FULL_DISK:
        free, written = shutil.disk_usage(target.parent).free, 0
        with contextlib.suppress(OSError):
            written = temporary.stat().st_size
        return ImagingError(
            f"{target.name} could not be saved: the disk or your quota is full ({_size(free)} free, more than "
            f"{_size(written)} needed); free some space or choose another folder, {kept}"
        )
    reason = error.strerror or str(error)
    return ImagingError(f"{target.name} could not be saved in {target.parent}: {reason}; choose another folder, {kept}")


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
