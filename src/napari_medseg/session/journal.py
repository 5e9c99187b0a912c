"""A journal of one scan's work: what a crash would lose is at most what was not yet handed to the disk.

Frames are appended to a file, each with its length and checksum; a frame holds how a few boxes of the label map and the
lesion table look after a change, so that replaying is writing them in order. When the file has grown, a second one is
begun with everything so far in its first frame, and the one before stays: two generations.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.session.labels import whole_region
from napari_medseg.session.lesions import Proposal, Region

SYNC_EVERY_S = 5.0
MAX_BYTES = 32 * 2**20
_MAGIC = b"MSJ1"
_HEAD = struct.Struct("<4sII")
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """How a box of the label map looks: its labels and its locks."""

    region: Region
    labels: NDArray[np.uint8]
    locked: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One change.

    Parameters
    ----------
    table : dict
        The lesion table and what else JSON holds.
    patches : tuple of Patch
        The boxes that changed, as they are now.
    is_whole : bool
        Whether the patches are everything there is.
    proposals : tuple of (int, Proposal)
        What the model alone answered for a label, where that is new.
    """

    table: dict[str, Any]
    patches: tuple[Patch, ...] = ()
    is_whole: bool = False
    proposals: tuple[tuple[int, Proposal], ...] = ()


@dataclass(eq=False)
class Replay:
    """What a journal holds, put together.

    Parameters
    ----------
    labels, locked : ndarray, shape (Z, Y, X)
        The label map and its locks.
    table : dict
        The newest lesion table.
    n_entries, n_damaged : int
        Frames that were used, and that were not.
    proposals : dict of int to Proposal
        What the model alone answered last for each label.
    """

    labels: NDArray[np.uint8]
    locked: NDArray[np.bool_]
    table: dict[str, Any] = field(default_factory=dict)
    n_entries: int = 0
    n_damaged: int = 0
    proposals: dict[int, Proposal] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take one more change over."""
        if entry.is_whole:
            self.labels[...] = 0
            self.locked[...] = False
        for patch in entry.patches:
            self.labels[patch.region] = patch.labels
            self.locked[patch.region] = patch.locked
        self.proposals.update(entry.proposals)
        self.table = entry.table
        self.n_entries += 1

    def as_entry(self) -> Entry:
        """Return everything in one entry."""
        region = filled_box((self.labels > 0) | self.locked)
        patches = () if region is None else (Patch(region, self.labels[region], self.locked[region]),)
        return Entry(self.table, patches, is_whole=True, proposals=tuple(self.proposals.items()))


class Journal:
    """Appends to the journal in a folder, in a thread of its own.

    Parameters
    ----------
    folder : Path
        Made at the first entry.
    shape : tuple of int, (Z, Y, X)
        The scan's shape.
    on_failed : callable
        Told once, from the thread, when nothing can be written any more.
    max_bytes : int
        A file that has grown beyond this is followed by the next generation.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int],
        *,
        on_failed: Callable[[OSError], None] = lambda _: None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder, self._shape, self._max_bytes = folder, shape, max_bytes
        self._on_failed = on_failed
        self._entries: queue.SimpleQueue[Entry | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def append(self, entry: Entry) -> None:
        """Hand an entry to the thread; the arrays in it must not change any more."""
        self._put(entry)

    def when_safe(self, call: Callable[[], None]) -> None:
        """Call from the thread once all entries so far are on the disk; never where they cannot be written."""
        self._put(call)

    def _put(self, entry: Entry | Callable[[], None]) -> None:
        if self._has_failed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="medseg-journal", daemon=True)
            self._thread.start()
        self._entries.put(entry)

    def close(self) -> None:
        """Write what waits and end the thread."""
        if self._thread is not None:
            self._entries.put(None)
            self._thread.join(10.0)
            self._thread = None

    def _work(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            self._has_failed = True
            self._on_failed(error)

    def _write_all(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max(_generations(self.folder), default=0) + 1
        while number:
            with _file(self.folder, number).open("ab") as file:
                number = self._fill(file, number)

    def _fill(self, file: BinaryIO, number: int) -> int:
        """Append entries until the file is full (then the next number) or nothing more comes (then 0)."""
        synced = time.monotonic()
        while (entry := self._next(file)) is not None:
            file.write(pack(entry))
            file.flush()
            if time.monotonic() - synced > SYNC_EVERY_S:
                os.fsync(file.fileno())
                synced = time.monotonic()
            if file.tell() > self._max_bytes:
                os.fsync(file.fileno())
                self._begin(number + 1)
                return number + 1
        os.fsync(file.fileno())
        return 0

    def _next(self, file: BinaryIO) -> Entry | None:
        while callable(entry := self._wait(file)):
            os.fsync(file.fileno())
            entry()
        return entry

    def _wait(self, file: BinaryIO) -> Entry | Callable[[], None] | None:
        try:
            return self._entries.get(timeout=SYNC_EVERY_S)
        except queue.Empty:
            os.fsync(file.fileno())
            return self._entries.get()

    def _begin(self, number: int) -> None:
        """Start a generation with everything so far, and forget the one before the last."""
        path = _file(self.folder, number)
        beside = path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(pack(replay(self.folder, self._shape).as_entry()))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        for old in _generations(self.folder):
            if old < number - 1:
                _file(self.folder, old).unlink()


def replay(folder: Path, shape: tuple[int, int, int]) -> Replay:
    """Put together what the last two generations of a journal hold; damaged frames are left out."""
    found = Replay(np.zeros(shape, np.uint8), np.zeros(shape, bool))
    for number in _generations(folder)[-2:]:
        for entry in _entries(_file(folder, number), shape):
            if entry is None:
                found.n_damaged += 1
            else:
                found.add(entry)
    return found


def last_table(folder: Path) -> dict[str, Any]:
    """Return the newest lesion table of a journal without reading its boxes; empty where there is none."""
    for number in reversed(_generations(folder)):
        table: dict[str, Any] = {}
        for payload in _payloads(_file(folder, number)):
            if payload is not None:
                table = json.loads(payload[_SIZE.size : _SIZE.size + _SIZE.unpack_from(payload)[0]])["table"]
        if table:
            return table
    return {}


def is_empty(folder: Path) -> bool:
    """Whether nothing was ever written into a journal."""
    return all(_file(folder, number).stat().st_size == 0 for number in _generations(folder))


def pack(entry: Entry) -> bytes:
    """Return the frame of an entry."""
    blobs = [zlib.compress(patch.labels.tobytes() + np.packbits(patch.locked).tobytes(), 1) for patch in entry.patches]
    answers = [zlib.compress(np.packbits(answer.mask).tobytes(), 1) for _, answer in entry.proposals]
    about = {
        "table": entry.table,
        "whole": entry.is_whole,
        "boxes": [
            {"region": [[span.start, span.stop] for span in patch.region], "bytes": len(blob)}
            for patch, blob in zip(entry.patches, blobs, strict=True)
        ],
        "proposals": [
            {
                "label": label,
                "model": answer.model,
                "region": [[span.start, span.stop] for span in answer.region],
                "bytes": len(blob),
            }
            for (label, answer), blob in zip(entry.proposals, answers, strict=True)
        ],
    }
    text = json.dumps(about).encode()
    payload = b"".join([_SIZE.pack(len(text)), text, *blobs, *answers])
    return _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload


def unpack(payload: bytes, shape: tuple[int, int, int]) -> Entry:
    """Return the entry in a frame's payload.

    Raises
    ------
    ValueError
        If a box does not fit the scan.
    """
    (size,) = _SIZE.unpack_from(payload)
    about, at, patches = json.loads(payload[_SIZE.size : _SIZE.size + size]), _SIZE.size + size, []
    for box in about["boxes"]:
        region = _region(box["region"], shape)
        inside = _size_of(region)
        n_voxels = int(np.prod(inside))
        raw = _inflated(payload[at : at + box["bytes"]], n_voxels + (n_voxels + 7) // 8)
        labels = np.frombuffer(raw, np.uint8, n_voxels).reshape(inside)
        patches.append(Patch(region, labels, _bits(raw[n_voxels:], inside)))
        at += box["bytes"]
    proposals = []
    for box in about.get("proposals", ()):
        region = _region(box["region"], shape)
        inside = _size_of(region)
        raw = _inflated(payload[at : at + box["bytes"]], (int(np.prod(inside)) + 7) // 8)
        proposals.append((int(box["label"]), Proposal(region, _bits(raw, inside), model=str(box.get("model", "")))))
        at += box["bytes"]
    return Entry(about["table"], tuple(patches), bool(about["whole"]), tuple(proposals))


def _size_of(region: Region) -> tuple[int, ...]:
    return tuple(span.stop - span.start for span in region)


def _inflated(blob: bytes, expected: int) -> bytes:
    """Decompress; the expected size caps what a damaged or foreign file can make this allocate."""
    raw = zlib.decompressobj().decompress(blob, expected)
    if len(raw) != expected:
        raise ValueError("a box of the journal is damaged")
    return raw


def _bits(raw: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    packed = np.frombuffer(raw, np.uint8)
    return np.unpackbits(packed, count=int(np.prod(shape))).astype(bool).reshape(shape)


def _entries(path: Path, shape: tuple[int, int, int]) -> Iterator[Entry | None]:
    for payload in _payloads(path):
        try:
            yield None if payload is None else unpack(payload, shape)
        except (ValueError, KeyError, TypeError, zlib.error):
            yield None


def _payloads(path: Path) -> Iterator[bytes | None]:
    """Give each frame's payload; None for a damaged one. A frame that was cut off by a crash ends the file."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            magic, size, checksum = _HEAD.unpack(head)
            payload = file.read(size) if magic == _MAGIC else b""
            if magic != _MAGIC or len(payload) < size:
                yield None
                return
            yield payload if zlib.crc32(payload) == checksum else None


def _region(spans: list[list[int]], shape: tuple[int, int, int]) -> Region:
    z, y, x = (slice(int(start), int(stop)) for start, stop in spans)
    whole = whole_region(shape)
    if any(not 0 <= span.start < span.stop <= limit.stop for span, limit in zip((z, y, x), whole, strict=True)):
        raise ValueError("a box of the journal lies outside of the scan")
    return z, y, x


def _generations(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.log") if path.stem.isdigit())


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.log"
