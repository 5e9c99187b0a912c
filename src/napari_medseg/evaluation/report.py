"""Reports of a study: the cases as a table, and a page with means, intervals and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.evaluation.bootstrap import bootstrap_intervals, honest_share
from napari_medseg.evaluation.classification import ClassificationFigures, Floats, classification_figures
from napari_medseg.evaluation.page import Row, Section, write_csv, write_html
from napari_medseg.evaluation.plots import plot_agreement, plot_cases, plot_classification
from napari_medseg.evaluation.study import FIGURES, Case, summarise


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
        Section("Figures", _sentence(figures, people), interval_rows(truth, probabilities, classes, people)),
        Section(f"Each class against the rest, from a probability of {threshold:g} on", rows=_class_rows(figures)),
        Section("Confusion", "Cases by true class (row) and most probable class (column).", _confusion_rows(figures)),
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
    truth: Sequence[str], probabilities: Floats, classes: Sequence[str], patients: Sequence[str]
) -> list[Row]:
    """One row a figure of a classifier with its 95 % interval; parameters as `classification_figures` has them."""
    names, scores = np.asarray(truth), np.asarray(probabilities)
    shown = ("accuracy", "balanced_accuracy", "auc", "brier", "calibration_error")

    def statistics(cases: NDArray[np.intp]) -> dict[str, float]:
        figures = classification_figures(names[cases].tolist(), scores[cases], classes)
        return {name: getattr(figures, name) for name in shown}

    intervals = bootstrap_intervals(statistics, patients, n_resamples=500)
    shares = {name: honest_share(intervals[name]) for name in ("accuracy", "balanced_accuracy", "auc")}
    return [{"figure": name, "value (95 % interval)": str(each)} for name, each in (intervals | shares).items()]


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
