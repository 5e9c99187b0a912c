"""The commands ``classify`` and ``similar``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import MedSegError
from napari_medseg.terminal import (
    Results,
    add_json,
    aligned,
    numbers,
)

if TYPE_CHECKING:
    from napari_medseg.classification import Classifier, Similar, Subject


def classify_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``classify``."""
    _subject_arguments(parser, several=True)
    parser.add_argument("--model", required=True, help="classifier: a name in the library or a model folder")
    parser.add_argument("--saliency", metavar="FILE", type=Path, help="also write where it looked, as .nii.gz")
    table = "classify every case of this table instead: columns scan, mask, label, position_mm, class, patient"
    parser.add_argument("--table", metavar="CSV", type=Path, help=table)
    report = "with a table that names classes: write predictions.csv and report.html into this folder"
    parser.add_argument("--report", metavar="DIR", type=Path, help=report)
    add_json(parser)


def classify(options: argparse.Namespace, results: Results) -> None:
    """Say which class a lesion, an image or a study has."""
    from napari_medseg.classification import load_classifier, saliency

    if options.table is None and not options.scans:
        raise MedSegError("there is nothing to classify: name a scan, or a table with --table")
    classifier = load_classifier(options.model)
    if options.table is not None:
        _classify_table(options, classifier, results)
        return
    subject = _subject(options)
    answer = classifier.classify(subject)
    shown = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    results.say(aligned([[name, f"{probability:.1%}"] for name, probability in shown]))
    if answer.deciding_slice is not None:
        scan, axis, index = answer.deciding_slice
        results.say(f"decided by slice {index} along axis {axis} of {options.scans[scan].name}")
    told = answer.as_json()
    if options.saliency:
        from napari_medseg.classification.write import write_map

        told["saliency"] = str(write_map(options.saliency, saliency(classifier, subject)))
        results.say(f"{options.saliency}: written")
    results.put(told)


def _classify_table(options: argparse.Namespace, classifier: Classifier, results: Results) -> None:
    import numpy as np

    from napari_medseg.classification.table import read_table

    rows = read_table(options.table)
    found = []
    for row in rows:
        answer = classifier.classify(row.subject())
        found.append([answer.probabilities[name] for name in classifier.classes])
        results.say(f"{row.scans[0].name}: {answer.best} ({max(found[-1]):.1%})")
        results.put({"scan": str(row.scans[0]), "truth": row.class_name or None, **answer.as_json()})
    if options.report:
        from napari_medseg.evaluation.report import write_classification_report

        truth = [row.class_name for row in rows]
        if not all(truth):
            raise MedSegError(f"{options.table} does not name the class of every case, which a report needs")
        people = [row.patient or str(row.scans[0]) for row in rows]
        title = f"Classification by {classifier.card.title}"
        for path in write_classification_report(
            options.report, truth, np.array(found), classifier.classes, patients=people, title=title
        ):
            results.say(f"{path}: written")


def similar_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``similar``."""
    _subject_arguments(parser, several=False)
    parser.add_argument("--cases", metavar="DIR", type=Path, help="library of cases (default: your own)")
    parser.add_argument("--model", help="Siamese network: name or folder (default: the bundled one)")
    parser.add_argument("-n", type=int, default=5, help="how many (default: 5)")
    keep = "then keep this lesion in the library, with this class ('' for none)"
    parser.add_argument("--add", metavar="CLASS", help=keep)
    add_json(parser)


def similar(options: argparse.Namespace, results: Results) -> None:
    """Find the most similar lesions of the library."""
    from napari_medseg.classification import CaseLibrary, find_similar, load_matcher
    from napari_medseg.classification.likeness import WHAT_ALIKE_MEANS, in_percent

    subject, library = _subject(options), CaseLibrary(options.cases)
    found: tuple[Similar, ...] = ()
    if options.add is None or library.list(task="lesion"):
        found = find_similar(load_matcher(options.model), library, subject, n=options.n)
    lines = [["case", "looks alike", "class", "longest side (mm)", "scan"]]
    for one in found:
        card = one.case.card
        size = "–" if card.diameter_mm is None else f"{card.diameter_mm:.0f}"
        alike = in_percent(one.likeness)
        lines.append([one.case.id, alike, card.class_name or "–", size, ", ".join(card.paths) or "–"])
        results.put(one.as_json())
    if found:
        results.say(aligned(lines))
        results.say(WHAT_ALIKE_MEANS)
    if options.add is not None:
        kept = library.add(subject, options.add, paths=options.scans)
        results.say(f"{kept.id}: kept in {library.root}")
        results.put({"added": kept.id, "class": kept.card.class_name})


def _subject_arguments(parser: argparse.ArgumentParser, *, several: bool) -> None:
    what = "scan file or DICOM folder; several make one study" if several else "scan file or DICOM folder"
    parser.add_argument("scans", metavar="SCAN", nargs="*" if several else 1, type=Path, help=what)
    parser.add_argument("--mask", type=Path, help="where the lesion is: a mask on the scan's grid")
    parser.add_argument("--label", type=int, help="which label of the mask (default: all)")
    parser.add_argument(
        "--click", metavar="X,Y,Z", type=numbers(3), help="or a position in the lesion, RAS millimetres"
    )


def _subject(options: argparse.Namespace) -> Subject:
    from napari_medseg.classification.table import Row

    subject = Row(tuple(options.scans), options.mask, options.label, options.click).subject()
    for scan in subject.scans:
        for warning in scan.warnings:
            print(f"{scan.name}: {warning}", file=sys.stderr)
    return subject
