"""Tables of cases: a CSV file that says where scans and masks are, and which class each case has."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_medseg.classification.subject import Point, Subject
from napari_medseg.errors import ModelError
from napari_medseg.imaging.files import read_label_map, read_volume

COLUMNS = ("scan", "mask", "label", "position_mm", "class", "patient")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Parameters
    ----------
    scans : tuple of Path
        One, or several of a study.
    mask : Path, optional
        Of a lesion.
    label : int, optional
        Which label of the mask.
    position_mm : tuple of float, optional
        RAS+ position in a lesion without a mask.
    class_name : str
        Its class, where somebody said so.
    patient : str
        Whom it belongs to, where somebody said so.
    """

    scans: tuple[Path, ...]
    mask: Path | None = None
    label: int | None = None
    position_mm: Point | None = None
    class_name: str = ""
    patient: str = ""

    @property
    def person(self) -> str:
        """Whom it belongs to: the patient or, where nobody says who that is, the owner of the first scan."""
        return self.patient or str(self.scans[0].resolve())

    def subject(self) -> Subject:
        """Read its scans and its mask."""
        scans = tuple(read_volume(path) for path in self.scans)
        mask = read_label_map(self.mask) if self.mask is not None else None
        return Subject(scans, mask, self.label, self.position_mm, self.person)


def read_table(path: str | Path) -> tuple[Row, ...]:
    """Read a table of cases.

    The first line names the columns: ``scan`` (a path, or several of a study with ``;`` between them), and any of
    ``mask``, ``label``, ``position_mm`` (``x;y;z``), ``class`` and ``patient``. Paths are relative to the table's
    folder. Lines without a patient belong to the same one where their first scan is the same file.

    Raises
    ------
    ModelError
        If it cannot be read, has no column ``scan``, or a line is wrong; names the line.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if "scan" not in (reader.fieldnames or ()):
                raise ModelError(
                    f"{path} has no column 'scan': its first line must name the columns {', '.join(COLUMNS)}"
                )
            return tuple(_row(line, path, reader.line_num) for line in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"{path} cannot be read as a table ({error}): save it as CSV in UTF-8") from error


def _row(line: Mapping[str, str | None], path: Path, number: int) -> Row:
    def of(name: str) -> str:
        return (line.get(name) or "").strip()

    scans = tuple(path.parent / part.strip() for part in of("scan").split(";") if part.strip())
    if not scans:
        raise ModelError(f"line {number} of {path} names no scan: fill its column 'scan'")
    try:
        label = int(of("label")) if of("label") else None
        numbers = [float(part) for part in of("position_mm").split(";")] if of("position_mm") else None
    except ValueError as error:
        raise ModelError(f"line {number} of {path} holds something that is no number: {error}") from error
    position: Point | None = None
    if numbers is not None:
        if len(numbers) != 3:
            raise ModelError(f"line {number} of {path}: a position is x;y;z in mm, got {of('position_mm')}")
        position = (numbers[0], numbers[1], numbers[2])
    mask = path.parent / of("mask") if of("mask") else None
    return Row(scans, mask, label, position, of("class"), of("patient"))
