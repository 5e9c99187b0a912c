"""The commands ``classify`` and ``similar``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import MedSegError
from napari_medseg.terminal import (
    Results,
    add_json,
    aligned,
    numbers,
)

if TYPE_CHECKING:
    from napari_medseg.classification import Classifier, Similar, Subject
    from napari_medseg.classification.table import Row
    from napari_medseg.evaluation.bootstrap import Interval

_WORDS = {"balanced_accuracy": "balanced accuracy", "auc": "AUC", "calibration_error": "calibration error"}


def classify_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``classify``."""
    _subject_arguments(parser, several=True)
    parser.add_argument("--model", required=True, help="classifier: a name in the library or a model folder")
    where = "also write where it looked, as .nii.gz; of a study in the scan with the deciding slice"
    parser.add_argument("--saliency", metavar="FILE", type=Path, help=where)
    table = "classify every case of this table instead: columns scan, mask, label, position_mm, class, patient"
    parser.add_argument("--table", metavar="CSV", type=Path, help=table)
    report = "with a table that names classes: write predictions.csv and report.html into this folder"
    parser.add_argument("--report", metavar="DIR", type=Path, help=report)
    threshold = "of the report: a case is called the second of two classes from this probability on (default: 0.5)"
    parser.add_argument("--threshold", metavar="P", type=float, default=0.5, help=threshold)
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

        scan = 0 if answer.deciding_slice is None else answer.deciding_slice[0]
        told["saliency"] = str(write_map(options.saliency, saliency(classifier, subject, scan=scan), options.scans))
        told["saliency_of"] = str(options.scans[scan])
        results.say(f"{options.saliency}: written, of {options.scans[scan].name}")
    results.put(told)


def _classify_table(options: argparse.Namespace, classifier: Classifier, results: Results) -> None:
    from napari_medseg.classification.learned import Learned, case_mark, owners_of
    from napari_medseg.classification.table import read_table

    _check_threshold(options.threshold, classifier)
    rows, learned = read_table(options.table), Learned(classifier.card.data)
    if options.report and not all(row.class_name for row in rows):
        raise MedSegError(f"{options.table} does not name the class of every case, which a report needs")
    found, marks, names = [], [], []
    for row in rows:
        subject = row.subject()
        crop = classifier.crop(subject)
        answer = classifier.classify_crop(crop, subject)
        marks.append(case_mark(crop.inputs))
        names.append(owners_of(subject))
        found.append([answer.probabilities[name] for name in classifier.classes])
        results.say(f"{row.scans[0].name}: {answer.best} ({max(found[-1]):.1%})")
        results.put({"scan": str(row.scans[0]), "truth": row.class_name or None, **answer.as_json()})
    if options.report:
        learned.note(marks, names)
        n_known = sum(learned.holds(mark, own) for mark, own in zip(marks, names, strict=True))
        _report(options, classifier, rows, found, n_known, results)


def _check_threshold(threshold: float, classifier: Classifier) -> None:
    if not 0.0 < threshold < 1.0:
        raise MedSegError(f"--threshold lies between 0 and 1, got {threshold:g}")
    n = len(classifier.classes)
    if threshold != 0.5 and n != 2:
        raise MedSegError(f"--threshold is for two classes and {classifier.card.title} has {n}: leave it out")


def _report(
    options: argparse.Namespace,
    classifier: Classifier,
    rows: Sequence[Row],
    found: Sequence[Sequence[float]],
    n_known: int,
    results: Results,
) -> None:
    """Write the report, and say its main figures."""
    import numpy as np

    from napari_medseg.evaluation.report import figure_intervals, write_classification_report

    truth, people, classes = [row.class_name for row in rows], [row.person for row in rows], classifier.classes
    scores, threshold = np.array(found), options.threshold
    title = f"Classification by {classifier.card.title}"
    intervals = figure_intervals(truth, scores, classes, people, threshold=threshold)
    lines = [[_WORDS.get(name, name), str(each)] for name, each in intervals.items()]
    results.say(aligned([["figure", "value (95 % interval)"], *lines]))
    if n_known:
        results.say(f"It has learned from {n_known} of these {len(rows)} cases, or from their patients.")
    results.put(
        {
            "figures": {name: _interval(each) for name, each in intervals.items()},
            "cases": len(rows),
            "patients": len(set(people)),
            "threshold": threshold,
            "learned_from": n_known,
        }
    )
    for path in write_classification_report(
        options.report, truth, scores, classes, patients=people, threshold=threshold, title=title
    ):
        results.say(f"{path}: written")


def _interval(interval: Interval) -> dict[str, Any]:
    from napari_medseg.evaluation.masks import finite_or_none

    return finite_or_none({"value": interval.value, "low": interval.low, "high": interval.high})


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
        kept = library.add(subject, options.add, paths=[path.resolve() for path in options.scans])
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
