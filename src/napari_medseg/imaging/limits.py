"""What this machine can hold, and refusing in one sentence what it cannot or what a damaged file only claims."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_medseg.errors import ImagingError, MedSegError

# The bound of the deflate format: no stream of n bytes can hold more than 1032 n.
DEFLATE_RATIO = 1032
MAX_DIMENSION = 2**31 - 1
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that can be allocated now without swapping, inside the limits of a container too."""
    import psutil  # type: ignore[import-untyped]

    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        reclaimable = sum(int(value) for key, value in statistics if key == "inactive_file")
        available = min(available, max(limit - used + reclaimable, 0))
    return available


def check_memory(name: str, shape: tuple[int, ...], n_bytes: int) -> None:
    """Refuse an array that this machine cannot hold, before anything is allocated.

    Raises
    ------
    ImagingError
        Names the file, the shape, and both figures.
    """
    available = available_memory()
    if n_bytes > available:
        size = " x ".join(str(n) for n in shape)
        raise ImagingError(
            f"{name} says that it holds {size} voxels, which need {in_words(n_bytes)} of memory, but this machine has "
            f"{in_words(available)} free; close other programs, crop the scan, or repair the file if that size is wrong"
        )


def check_claim(name: str, claimed: int, possible: int) -> None:
    """Refuse a header that promises more bytes than its file can possibly hold."""
    if claimed > possible:
        raise ImagingError(
            f"{name} ends too early: its header promises {in_words(claimed)} of voxels but the file can hold at most "
            f"{in_words(possible)}; copy or export it again"
        )


def in_words(n_bytes: float) -> str:
    """``1536`` -> ``"1.5 KiB"``."""
    if n_bytes < 1024:
        return f"{max(int(n_bytes), 0)} bytes"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        n_bytes /= 1024
        if n_bytes < 1024 or unit == "PiB":
            break
    return f"{n_bytes:.3g} {unit}"


@contextlib.contextmanager
def refusing_damage(path: Path, format_name: str) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged or unreadable file into one sentence that names the file.

    The bytes come from anybody, so every exception of a parser here means that the file is not what it says.
    """
    try:
        # Absurd numbers in a header overflow on the way to being refused; that is no news to anybody.
        with np.errstate(all="ignore"):
            yield
    except MedSegError:
        raise
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else path.name
        raise ImagingError(f"{missing} does not exist; check the path") from error
    except PermissionError as error:
        raise ImagingError(f"{path.name} may not be read by you; ask for access or copy it elsewhere") from error
    except MemoryError as error:
        raise ImagingError(f"{path.name} does not fit into this machine's memory; crop it or free memory") from error
    except EOFError as error:
        raise ImagingError(f"{path.name} ends too early; copy or export it again") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ImagingError(f"{path.name} is damaged as a {format_name} file ({reason}); export it again") from error
