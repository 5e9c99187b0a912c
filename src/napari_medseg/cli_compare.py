"""The command ``compare``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.terminal import Results, add_json, add_settings, aligned, checked_settings, stop_on_signal

if TYPE_CHECKING:
    from napari_medseg.followup.compare import FollowUp
    from napari_medseg.followup.matching import Row

_SETTINGS = ("criterion", "volume_percent", "least_ml", "growth_percent", "growth_mm", "shrinkage_percent")


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``compare``."""
    from napari_medseg.followup.settings import CompareSettings

    parser.add_argument("prior", type=Path, help="the earlier scan: file or DICOM folder")
    parser.add_argument("current", type=Path, help="the later scan of the same patient")
    parser.add_argument("--prior-mask", metavar="MASK", type=Path, help="lesions on the earlier scan")
    proposed = "lesions on the later scan; where only one mask is given, its lesions are proposed on the other scan"
    parser.add_argument("--current-mask", metavar="MASK", type=Path, help=proposed)
    out = "write lesions.csv, the registered prior, the change map and its mask, and the proposal into this folder"
    parser.add_argument("--out", metavar="DIR", type=Path, help=out)
    parser.add_argument("--model", help="what segments proposals: name in the library or folder (default: click model)")
    parser.add_argument("--no-model", action="store_true", help="propose the moved masks themselves")
    parser.add_argument("--score", action="store_true", help="add the Siamese network's change score of each lesion")
    add_settings(parser, CompareSettings, (*_SETTINGS, "common_share", "tolerance_mm"))
    add_json(parser)


def compare(options: argparse.Namespace, results: Results) -> None:
    """Compare a scan with a prior one."""
    from napari_medseg.followup.compare import compare_visits
    from napari_medseg.followup.settings import CompareSettings
    from napari_medseg.imaging.files import read_label_map, read_volume

    settings = checked_settings(CompareSettings, options)
    prior, current = read_volume(options.prior), read_volume(options.current)
    masks = [path and read_label_map(path) for path in (options.prior_mask, options.current_mask)]

    def loaded() -> Any:
        from napari_medseg.segmentation.load import load_model

        return load_model(options.model)

    with stop_on_signal() as should_stop:
        model = None if options.no_model else loaded
        found = compare_visits(prior, current, *masks, settings=settings, model=model, should_stop=should_stop)
    if options.score:
        from napari_medseg.followup.siamese import with_scores

        found = with_scores(found, prior)
    if found.rows:
        results.say(aligned(_lines(found.rows)))
    results.say(found.sentence)
    for note in found.notes:
        print(note, file=sys.stderr)
    written = write(options.out, found) if options.out else []
    for path in written:
        results.say(f"{path}: written")
    results.put({**found.as_json(), "files": [str(path) for path in written]})


def write(folder: Path, found: FollowUp) -> list[Path]:
    """Write a comparison into a folder and return the files."""
    from napari_medseg.followup.writing import write_follow_up

    return write_follow_up(folder, found)


def _lines(rows: tuple[Row, ...]) -> list[list[str]]:
    has_scores = any(row.change_score is not None for row in rows)
    headings = ["lesion", "state", "prior (ml)", "now (ml)", "%", "long (mm)", "long %", "short (mm)", "short %"]
    lines = [[*headings, *(["score"] if has_scores else []), "note"]]
    for row in rows:
        told = row.as_json()
        long_mm, short_mm = (
            f"{told[f'prior_{key}_mm'] or 0:.1f} > {told[f'current_{key}_mm'] or 0:.1f}" for key in ("long", "short")
        )
        score = [_number(row.change_score, ".3f")] if has_scores else []
        lines.append(
            [row.name, row.state.value, _ml(row.prior_ml), _ml(row.current_ml),
             _number(row.volume_percent, "+.0f"), long_mm, _number(row.long_percent, "+.0f"), short_mm,
             _number(row.short_percent, "+.0f"), *score, row.note]
        )  # fmt: skip
    return lines


def _ml(value: float | None) -> str:
    from napari_medseg.imaging.amounts import three_digits

    return "–" if value is None else three_digits(value)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
