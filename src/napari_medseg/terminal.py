"""What the command line asks of a terminal: results apart from noise, signals, and words as values."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, get_args

from napari_medseg.errors import MedSegError

if TYPE_CHECKING:
    from pydantic import BaseModel

_LIST_OF_NUMBERS = re.compile(r"-[\d.][\d.,eE+-]*")


@dataclass(frozen=True, slots=True)
class Results:
    """Where a command's answers go: lines for people, or objects for programs."""

    stream: TextIO
    as_json: bool

    def say(self, text: str) -> None:
        """Print a line for people."""
        if not self.as_json:
            print(text, file=self.stream, flush=True)

    def put(self, answer: Mapping[str, Any] | BaseModel) -> None:
        """Print an object for programs."""
        if self.as_json:
            text = json.dumps(answer, allow_nan=False) if isinstance(answer, Mapping) else answer.model_dump_json()
            print(text, file=self.stream, flush=True)


@contextlib.contextmanager
def results_on_stdout(*, as_json: bool) -> Iterator[Results]:
    """Give the real stdout to results; with ``--json`` everything else that is printed goes to stderr."""
    if not as_json:
        yield Results(sys.stdout, as_json)
        return
    try:
        descriptor = os.dup(sys.stdout.fileno())
    except (io.UnsupportedOperation, AttributeError):
        # stdout is an object without a file: no library can write past it.
        stdout = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield Results(stdout, as_json)
        return
    sys.stdout.flush()
    with open(descriptor, "w", encoding="utf-8") as stream, contextlib.redirect_stdout(sys.stderr):  # noqa: PTH123
        os.dup2(2, 1)
        try:
            yield Results(stream, as_json)
        finally:
            stream.flush()
            os.dup2(descriptor, 1)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """A first interrupt or termination asks the work to stop where it can; a second one ends the program."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        for each in before:
            signal.signal(each, before[each])

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def with_joined_values(words: Sequence[str]) -> list[str]:
    """``--click -1,2,3`` as ``--click=-1,2,3``: argparse takes a word that starts with a dash for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and _LIST_OF_NUMBERS.fullmatch(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def numbers(n: int) -> Callable[[str], tuple[float, ...]]:
    """Return a reader of `n` numbers with commas between them, for argparse."""

    def millimetres(text: str) -> tuple[float, ...]:
        values = tuple(float(word) for word in text.split(","))
        if len(values) != n:
            raise argparse.ArgumentTypeError(f"expected {n} numbers with commas between them, got {text!r}")
        return values

    return millimetres


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print objects, one a line, and nothing else")


def add_settings(parser: argparse.ArgumentParser, settings: type[BaseModel], names: Sequence[str]) -> None:
    """Options for some fields of a settings model, with the types and descriptions that it gives."""
    for name in names:
        field = settings.model_fields[name]
        allowed = (field.annotation, *get_args(field.annotation))
        kind = next((kind for kind in (int, float) if kind in allowed), str)
        shown = f"{field.description}" + ("" if field.default is None else f" (default: {field.default})")
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=argparse.SUPPRESS, help=shown.replace("%", "%%"))


def checked_settings(settings: type[BaseModel], options: argparse.Namespace) -> Any:
    """Build the settings from what was given on the command line.

    Raises
    ------
    MedSegError
        If a value is out of its range.
    """
    from pydantic import ValidationError

    given = {name: value for name, value in vars(options).items() if name in settings.model_fields}
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "the settings"
        raise MedSegError(f"{where} cannot be {first['input']!r}: {first['msg']}") from error


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first to the left and the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = (
        (cell.rjust(width) if column else cell.ljust(width))
        for line in lines
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return "\n".join("  ".join(next(padded) for _ in widths).rstrip() for _ in lines)
