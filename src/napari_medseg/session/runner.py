"""Where long work runs: one thread a lane, answers arrive on the caller's thread.

In most lanes the newest request wins. A lane that keeps all works off one after the other: nothing saved gets lost.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from napari_medseg.errors import Cancelled, JobFailed, MedSegError

Result = TypeVar("Result")
Post = Callable[[Callable[[], None]], None]
LAST_WORK_S, LAST_ANSWER_S = 60.0, 10.0


@dataclass(eq=False)
class Ticket:
    """One numbered request. Its work asks :meth:`should_stop` and calls :meth:`report`.

    Parameters
    ----------
    number : int
        Counts up within a lane.
    on_progress : callable, optional
        Receives the fraction done, on the caller's thread.
    post : callable
        Runs a function on the caller's thread.
    cancelled : bool
        Whether nobody waits for the answer any more.
    on_dropped : callable, optional
        Told once, on the caller's thread, when the request is cancelled.
    """

    number: int
    on_progress: Callable[[float], None] | None = None
    post: Post = field(default=lambda call: call())
    cancelled: bool = False
    on_dropped: Callable[[], None] | None = None

    def should_stop(self) -> bool:
        """Whether nobody waits for this answer any more."""
        return self.cancelled

    def cancel(self) -> None:
        """Stop waiting for the answer: it is dropped if it comes."""
        if not self.cancelled:
            self.cancelled = True
            if self.on_dropped is not None:
                self.post(self.on_dropped)

    def report(self, fraction: float) -> None:
        """Tell the caller how far the work is, 0 to 1."""
        on_progress = self.on_progress
        if on_progress is not None and not self.cancelled:
            self.post(lambda: None if self.cancelled else on_progress(fraction))


class Runner(Protocol):
    """Runs one piece of work at a time; what becomes of an older request when a newer one comes, each kind says."""

    def submit(
        self,
        work: Callable[[Ticket], Any],
        *,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        on_progress: Callable[[float], None] | None = None,
        dropped: Callable[[], None] | None = None,
    ) -> Ticket:
        """Ask for work; exactly one of ``done``, ``failed`` and ``dropped`` (a newer request won) is called later."""

    def cancel(self) -> bool:
        """Drop the newest request; whether there was one."""


@dataclass(eq=False)
class _Request:
    ticket: Ticket
    work: Callable[[Ticket], Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]

    def run(self) -> Callable[[], None]:
        """Do the work and return how to deliver its outcome."""
        try:
            result = self.work(self.ticket)
        except (RuntimeError, MemoryError, OSError) as error:
            # A RuntimeError is often CUDA out of memory, and generator workers of napari swallow it.
            return self._fail(JobFailed(_sentence(error)))
        except Exception as error:
            return self._fail(error)
        return lambda: self.done(result)

    def _fail(self, error: Exception) -> Callable[[], None]:
        return lambda: self.failed(error)


class InlineRunner:
    """Runs the work at once, on the calling thread: for tests and scripts."""

    def __init__(self) -> None:
        self._number = 0

    def submit(
        self,
        work: Callable[[Ticket], Any],
        *,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        on_progress: Callable[[float], None] | None = None,
        dropped: Callable[[], None] | None = None,
    ) -> Ticket:
        """Run the work and deliver its outcome before returning; nothing is ever dropped here."""
        self._number += 1
        ticket = Ticket(self._number, on_progress)
        _Request(ticket, work, done, failed).run()()
        return ticket

    def cancel(self) -> bool:
        """Nothing ever waits here."""
        return False


class ThreadRunner:
    """One worker thread; while it works, only the newest waiting request is kept.

    Parameters
    ----------
    post : callable
        Runs a function on the caller's thread (the GUI thread in a window).
    name : str
        The thread's name.
    keeps_all : bool
        Work every request off, first in, first out, even after `close`; no request can be dropped.
    """

    def __init__(self, post: Post, *, name: str = "medseg", keeps_all: bool = False) -> None:
        self._post, self._name, self._keeps_all = post, name, keeps_all
        self._lock = threading.Lock()
        self._wakes = threading.Condition(self._lock)
        self._waiting: deque[_Request] = deque()
        self._newest: Ticket | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._number = 0

    def submit(
        self,
        work: Callable[[Ticket], Any],
        *,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        on_progress: Callable[[float], None] | None = None,
        dropped: Callable[[], None] | None = None,
    ) -> Ticket:
        """Queue the work in the place of whatever waits (the request that runs is asked to stop), or behind it."""
        self.cancel()
        with self._wakes:
            self._number += 1
            ticket = Ticket(self._number, on_progress, self._post, on_dropped=dropped)
            self._newest = ticket
            self._waiting.append(_Request(ticket, work, done, failed))
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()
                atexit.register(_end, weakref.ref(self))
            self._wakes.notify()
        return ticket

    def cancel(self) -> bool:
        """Drop the newest request; whether there was one."""
        if self._keeps_all:
            return False
        with self._wakes:
            ticket, self._newest = self._newest, None
            self._waiting.clear()
        if ticket is None or ticket.cancelled:
            return False
        ticket.cancel()
        return True

    def close(self) -> None:
        """Drop everything and end the thread once its work returns; a lane that keeps all is waited for."""
        self.cancel()
        with self._wakes:
            self._closed = True
            self._wakes.notify()
        if self._keeps_all and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(LAST_WORK_S)

    def _loop(self) -> None:
        while (request := self._take()) is not None:
            deliver = request.run()
            self._post(_unless_stale(request.ticket, deliver, self._finish))
            del request, deliver

    def _take(self) -> _Request | None:
        with self._wakes:
            while not self._waiting and not self._closed:
                self._wakes.wait()
            return self._waiting.popleft() if self._waiting else None

    def _finish(self, ticket: Ticket) -> None:
        with self._wakes:
            if self._newest is ticket:
                self._newest = None


def _end(reference: weakref.ref[ThreadRunner]) -> None:
    """Wait for the work of a runner at the interpreter's end: native code that outlives it aborts the process."""
    runner = reference()
    if runner is not None:
        runner.close()
        if runner._thread is not None:
            runner._thread.join(LAST_ANSWER_S)


def _unless_stale(ticket: Ticket, deliver: Callable[[], None], finish: Callable[[Ticket], None]) -> Callable[[], None]:
    def call() -> None:
        finish(ticket)
        if not ticket.cancelled:
            deliver()

    return call


def _sentence(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, MemoryError) or (text and "out of memory" in text[0].lower()):
        return "Not enough memory for this: close other scans or programs, or choose a smaller model, then try again."
    return text[0] if text else f"The work stopped without saying why ({type(error).__name__})."


def explain(error: Exception) -> str:
    """Return the one sentence to show for an error."""
    if isinstance(error, Cancelled):
        return "Stopped."
    if isinstance(error, MedSegError):
        return str(error)
    return f"Something unexpected happened ({type(error).__name__}): the details are in napari's notification."
