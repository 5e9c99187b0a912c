"""Which versions of each model were active: one small file, a copy of it, and a lock round every change."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_medseg.errors import ModelError
from napari_medseg.imaging.durable import write_bytes_durably
from napari_medseg.imaging.file_lock import holding

_WAIT_S = 5.0


class ActiveIndex:
    """For each name the versions that were active, oldest first.

    Parameters
    ----------
    root : Path
        Folder of the library; holds ``index.json`` and its copy ``index.json.1``.
    """

    def __init__(self, root: Path) -> None:
        self.path, self._copy, self._lock = root / "index.json", root / "index.json.1", root / "index.lock"

    def read(self) -> dict[str, Any] | None:
        """Return the index, or its copy where it cannot be read; empty where none was written, None if all is lost."""
        is_damaged = False
        for path in (self.path, self._copy):
            try:
                return _read(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                is_damaged = True
        return None if is_damaged else {}

    def changing(self) -> AbstractContextManager[None]:
        """Keep others from changing the index meanwhile, so that of two changes at once neither is lost.

        Raises
        ------
        ModelError
            If another process does not end its change.
        """
        busy = ModelError(f"{self.path.parent} is being changed by another window or process: try again")
        return holding(self._lock, otherwise=busy, wait_s=_WAIT_S)

    def write(self, index: dict[str, Any]) -> None:
        """Replace the index and its copy; one that cannot be read is renamed, not lost. Call it while `changing`."""
        content = json.dumps(index, indent=1).encode()
        for path in (self._copy, self.path):  # the index last: until it is replaced nothing has changed
            _keep_aside_if_damaged(path)
            write_bytes_durably(path, content)


def _read(path: Path) -> dict[str, Any]:
    index = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(index, dict):
        raise ValueError(f"{path} holds no index")
    return index


def _keep_aside_if_damaged(path: Path) -> None:
    try:
        _read(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as damage:
        try:
            path.replace(path.with_name(f"{path.name}.damaged-{datetime.now():%Y%m%d-%H%M%S}"))
        except OSError:
            raise ModelError(f"{path} can neither be read ({damage}) nor renamed: nothing was changed") from damage
