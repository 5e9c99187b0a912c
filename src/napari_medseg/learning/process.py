"""Fine-tuning in a process of its own: the same command line, its JSON lines as reports, an end whatever happens."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import IO, TypeVar

from pydantic import ValidationError

from napari_medseg.errors import Cancelled, JobFailed
from napari_medseg.learning.class_reports import ClassReport
from napari_medseg.learning.reports import Report

AnyReport = TypeVar("AnyReport", Report, ClassReport)
POLITE, _MOST_POLITE = 10, 19
_GRACE_S = 3.0
_POLL_S = 0.1
_STOPPED = {
    False: "fine-tuning was stopped: nothing was changed; start it again to go on from there",
    True: "training was stopped: nothing was changed",
}


def run_job(
    arguments: Sequence[str],
    *,
    should_stop: Callable[[], bool] | None = None,
    command: Sequence[str] | None = None,
) -> Generator[Report, None, Report]:
    """Fine-tune a segmentation model in another process; as `run_reporting`, with its reports."""
    return (yield from run_reporting(arguments, Report, should_stop=should_stop, command=command))


def run_reporting(
    arguments: Sequence[str],
    reports: type[AnyReport],
    *,
    should_stop: Callable[[], bool] | None = None,
    command: Sequence[str] | None = None,
) -> Generator[AnyReport, None, AnyReport]:
    """Run ``napari-medseg`` with these arguments in another process, at low priority.

    Parameters
    ----------
    arguments : sequence of str
        As on the command line, ``--json`` included: ``["fine-tune", "--corrections", ..., "--json"]``.
    reports : type
        `Report`, or `ClassReport` for ``train-classifier``.
    should_stop : callable, optional
        Asked about ten times a second; after True the process is gone within 5 s.
    command : sequence of str, optional
        Another program than ``python -m napari_medseg``.

    Yields
    ------
    Report or ClassReport
        Each line that the process prints.

    Returns
    -------
    Report or ClassReport
        The last one, of the kind ``done``.

    Raises
    ------
    Cancelled
        If `should_stop` said so.
    JobFailed
        If the process ended without a result; says why.
    """
    program: list[str] = list(command) if command is not None else [sys.executable, "-m", "napari_medseg"]
    with tempfile.TemporaryFile() as noise:
        process = _started([*program, *arguments], noise)
        last: AnyReport | None = None
        try:
            for line in _lines(process, should_stop or (lambda: False), _STOPPED[reports is ClassReport]):
                report = _report(line, reports)
                if report is not None:
                    last = report
                    yield report
            status = process.wait()
        finally:
            end(process)
        if status != 0 or last is None or last.kind != "done":
            raise JobFailed(_why(status, noise))
        return last


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process: ask, wait a little, then force it."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _started(command: list[str], noise: IO[bytes]) -> subprocess.Popen[bytes]:
    # Waiting threads that sleep instead of spinning leave the processor to the window.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
    flags = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
            env=environment,
            creationflags=flags,
        )
    except OSError as error:
        raise JobFailed(f"the training process could not be started ({error}): install napari-medseg again") from error
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, process.pid, min(_MOST_POLITE, own + POLITE))
    return process


def _lines(
    process: subprocess.Popen[bytes], should_stop: Callable[[], bool], stopped: str
) -> Generator[bytes, None, None]:
    """Lines as they come, until the process closes its output; `stopped` is what a cancel says."""
    said: queue.Queue[bytes | None] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        with suppress(ValueError, OSError):  # closed under us after a cancel
            for line in process.stdout:
                said.put(line)
        said.put(None)

    threading.Thread(target=listen, name="medseg-job", daemon=True).start()
    while True:
        if should_stop():
            raise Cancelled(stopped)
        try:
            line = said.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if line is None:
            return
        yield line


def _report(line: bytes, reports: type[AnyReport]) -> AnyReport | None:
    try:
        return reports.model_validate_json(line)
    except ValidationError:
        return None


def _why(status: int, noise: IO[bytes]) -> str:
    """One sentence: what the process said last, or how it died."""
    noise.seek(max(0, noise.seek(0, os.SEEK_END) - 4000))
    said = [line.strip() for line in noise.read().decode(errors="replace").splitlines() if line.strip()]
    own = [line.removeprefix("napari-medseg: ") for line in said if line.startswith("napari-medseg: ")]
    if own:
        return own[-1]
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        memory = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return (
            f"the training process was ended by the system ({name}{memory}): nothing was changed; start it again to go "
            "on from there"
        )
    last = f" ({said[-1][:200]})" if said else ""
    return f"the training process stopped without a result, status {status}{last}: nothing was changed"
