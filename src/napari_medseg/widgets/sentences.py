"""How the dock says things: every sentence begins with a capital letter and ends with a stop."""

from __future__ import annotations


def sentence(text: str) -> str:
    """Return what somebody said as sentences, one a line.

    Errors of the library begin small and end without a stop, as a command line prints them. What begins with the name
    of a file, a number or a quotation keeps its first letter.
    """
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(text: str) -> str:
    text = text.strip().replace(" -> ", " → ")  # terminals are spared the arrow
    if not text:
        return ""
    first = text.split(maxsplit=1)[0].rstrip(",:;.")
    if first.replace("-", "").isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?…:" else f"{text}."
