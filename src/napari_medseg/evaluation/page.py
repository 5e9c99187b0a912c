"""What leaves the program: a table as CSV, and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.imaging.durable import write_bytes_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
img { max-width: 100% }
footer { margin-top: 2em; color: #777; font-size: 13px }
@media print { body { margin: 0; font-size: 11px } }
"""
_FOOTER = "Made with napari-medseg. For research; not a medical device."


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """One part of a page: a heading, a sentence, a table, a plot; each but the heading may be left out."""

    heading: str
    text: str = ""
    rows: Sequence[Row] = ()
    figure: Figure | None = None


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows of equal columns; undefined figures are empty cells. The file is replaced in one step."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    table.writeheader()
    table.writerows(rows)
    return write_bytes_durably(path, text.getvalue().encode("utf-8"))


def write_html(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write one page with its plots inside. The file is replaced in one step."""
    body = "\n".join(_section(section) for section in sections)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{body}\n<footer>{_FOOTER}</footer>"
        "</body></html>\n"
    )
    return write_bytes_durably(path, page.encode("utf-8"))


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.heading)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.rows:
        parts.append(_table(section.rows))
    if section.figure is not None:
        image = io.BytesIO()
        section.figure.savefig(image, format="png", dpi=110)
        source = base64.b64encode(image.getvalue()).decode("ascii")
        parts.append(f'<img alt="{html.escape(section.heading)}" src="data:image/png;base64,{source}">')
    return "\n".join(parts)


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    lines = ("".join(f"<td>{html.escape(str(value))}</td>" for value in row.values()) for row in rows)
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
