"""Reports of a study: the cases as a table, and a page with means, intervals and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.evaluation.bootstrap import Interval, bootstrap_intervals, honest_share
from napari_medseg.evaluation.classification import ClassificationFigures, Floats, classification_figures
from napari_medseg.evaluation.page import Row, Section, write_csv, write_html
from napari_medseg.evaluation.plots import plot_agreement, plot_cases, plot_classification
from napari_medseg.evaluation.study import FIGURES, Case, summarise

_OF_ALL, _ERRORS = ("accuracy", "balanced_accuracy", "auc"), ("brier", "calibration_error")
_OF_CLASS = ("sensitivity", "specificity", "precision")


def write_segmentation_report(folder: Path, cases: Sequence[Case], *, title: str = "Segmentation") -> tuple[Path, Path]:
    """Write ``figures.csv`` (a row a case and label) and ``report.html`` (means with intervals, plots, the cases).

    Returns
    -------
    tuple of Path
        The table and the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for case in cases for row in case.rows()]
    n_patients = len({case.patient for case in cases})
    sections = [
        Section(
            "Means",
            f"{len(cases)} cases of {n_patients} patients; 95 % intervals from resampled patients.",
            mean_rows(cases),
        ),
        Section("Case by case", figure=plot_cases(cases)),
        Section(
            "Agreement of volumes",
            "Difference against mean (Bland and Altman): bias and 95 % limits of agreement.",
            figure=plot_agreement(cases),
        ),
        Section("Table", rows=[{k: _shown(v) for k, v in row.items()} for row in rows]),
    ]
    return write_csv(folder / "figures.csv", rows), write_html(folder / "report.html", title, sections)


def write_classification_report(
    folder: Path,
    truth: Sequence[str],
    probabilities: Floats,
    classes: Sequence[str],
    *,
    patients: Sequence[str] | None = None,
    threshold: float = 0.5,
    title: str = "Classification",
) -> tuple[Path, Path]:
    """Write ``predictions.csv`` (a row a case) and ``report.html`` (intervals, ROC, calibration, confusion).

    The parameters are those of `classification_figures`; `patients` names the patient of each case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = classification_figures(truth, probabilities, classes, threshold=threshold)
    people = list(patients) if patients is not None else [str(k) for k in range(len(truth))]
    rows = [
        {"case": k, "patient": patient, "truth": answer, **dict(zip(classes, map(float, scores), strict=True))}
        for k, (patient, answer, scores) in enumerate(zip(people, truth, probabilities, strict=True))
    ]
    sections = [
        Section(
            "Figures",
            _sentence(figures, people),
            interval_rows(truth, probabilities, classes, people, threshold=threshold),
        ),
        Section("Each class against the rest", _called(classes, threshold), _class_rows(figures)),
        Section("Confusion", "Cases by true class (row) and called class (column).", _confusion_rows(figures)),
        Section("ROC and calibration", figure=plot_classification(truth, np.asarray(probabilities), classes)),
    ]
    return write_csv(folder / "predictions.csv", rows), write_html(folder / "report.html", title, sections)


def mean_rows(cases: Sequence[Case]) -> list[Row]:
    """One row a figure of the masks: its mean and 95 % interval for each label."""
    summaries = summarise(cases)
    return [
        {"figure": figure, **{f"{s.name} ({s.n_cases})": str(s.means[figure]) for s in summaries}} for figure in FIGURES
    ]


def interval_rows(
    truth: Sequence[str],
    probabilities: Floats,
    classes: Sequence[str],
    patients: Sequence[str],
    *,
    threshold: float = 0.5,
) -> list[Row]:
    """One row a figure of a classifier with its 95 % interval; parameters as `figure_intervals` has them."""
    found = figure_intervals(truth, probabilities, classes, patients, threshold=threshold)
    return [{"figure": name, "value (95 % interval)": str(each)} for name, each in found.items()]


def figure_intervals(
    truth: Sequence[str],
    probabilities: Floats,
    classes: Sequence[str],
    patients: Sequence[str],
    *,
    threshold: float = 0.5,
) -> dict[str, Interval]:
    """Figures of a classifier by name, with 95 % intervals from resampled patients.

    Sensitivity, specificity and precision are those of the second of two classes, and of each of more; their names say
    whose: ``sensitivity (malignant)``.

    Parameters
    ----------
    truth, probabilities, classes, threshold
        As `classification_figures` has them.
    patients : sequence of str
        The patient of each case.
    """
    names, scores = np.asarray(truth), np.asarray(probabilities)
    shown = classes[1:] if len(classes) == 2 else classes

    def figures_of(cases: NDArray[np.intp]) -> dict[str, float]:
        figures = classification_figures(names[cases].tolist(), scores[cases], classes, threshold=threshold)
        own = {f"{name} ({f.name})": getattr(f, name) for f in figures.classes if f.name in shown for name in _OF_CLASS}
        return {
            **{name: getattr(figures, name) for name in _OF_ALL},
            **own,
            **{n: getattr(figures, n) for n in _ERRORS},
        }

    intervals = bootstrap_intervals(figures_of, patients, n_resamples=500)
    for name in shown:
        k, is_own = list(classes).index(name), names == name
        for figure, counted in zip(_OF_CLASS, (is_own, ~is_own, scores[:, k] >= threshold), strict=True):
            n_patients = len({patients[at] for at in np.flatnonzero(counted).tolist()})
            intervals[f"{figure} ({name})"] = replace(intervals[f"{figure} ({name})"], n_patients=n_patients)
    return {name: each if name in _ERRORS else honest_share(each) for name, each in intervals.items()}


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _class_rows(figures: ClassificationFigures) -> list[Row]:
    names = ("n", "sensitivity", "specificity", "precision", "auc")
    return [{"class": f.name, **{name: _shown(getattr(f, name)) for name in names}} for f in figures.classes]


def _confusion_rows(figures: ClassificationFigures) -> list[Row]:
    names = [f.name for f in figures.classes]
    return [
        {"true class": name, **dict(zip(names, counts.tolist(), strict=True))}
        for name, counts in zip(names, figures.confusion, strict=True)
    ]


def _sentence(figures: ClassificationFigures, patients: Sequence[str]) -> str:
    return f"{figures.n} cases of {len(set(patients))} patients; intervals from resampled patients."


def _called(classes: Sequence[str], threshold: float) -> str:
    if len(classes) == 2:
        return f"A case is called '{classes[1]}' from a probability of {threshold:g} on, and otherwise '{classes[0]}'."
    return f"Each class from a probability of {threshold:g} on; accuracy and confusion are of the most probable class."
