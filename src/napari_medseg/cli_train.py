"""The commands that train: ``fine-tune``, ``train-classifier``, ``train-click-model`` and ``train-siamese``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import MedSegError
from napari_medseg.terminal import Results, add_json, add_settings, checked_settings, stop_on_signal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from napari_medseg.classification import Subject
    from napari_medseg.classification.features import FeatureCache
    from napari_medseg.imaging.volume import LabelMap, Volume
    from napari_medseg.learning.reports import GateVerdict

_WAIT_S = 5.0  # a training whose window was killed ends at its next report


def fine_tune_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``fine-tune``."""
    from napari_medseg.learning.settings import SHOWN_SETTINGS, FineTuneSettings

    pair = "a scan and its corrected mask; may be repeated"
    parser.add_argument("--pair", metavar=("SCAN", "MASK"), nargs=2, type=Path, action="append", default=[], help=pair)
    pinned = "a scan and a mask on which the new version must not be worse; does not teach; may be repeated"
    parser.add_argument(
        "--pinned", metavar=("SCAN", "MASK"), nargs=2, type=Path, action="append", default=[], help=pinned
    )
    parser.add_argument("--corrections", metavar="DIR", type=Path, help="folder of accepted corrections to learn from")
    parser.add_argument("--model", help="name in the library or model folder to start from (default: the click model)")
    _add_training_options(parser, FineTuneSettings, SHOWN_SETTINGS)


def fine_tune(options: argparse.Namespace, results: Results) -> None:
    """Teach a model with corrected masks."""
    from napari_medseg.learning.settings import FineTuneSettings

    settings = checked_settings(FineTuneSettings, options)
    corrections: list[Any] = [_pair(scan, mask) for scan, mask in options.pair]
    corrections += [_pinned(scan, mask) for scan, mask in options.pinned]
    if options.corrections:
        from napari_medseg.learning.corrections import CorrectionStore

        store = CorrectionStore(options.corrections)
        if trouble := store.trouble():
            raise MedSegError(trouble)
        corrections += [stored.load() for stored in store.list()]
    if not corrections:
        raise MedSegError("there is nothing to learn from: give at least one --pair SCAN MASK or --corrections DIR")
    from napari_medseg.learning.fine_tune import fine_tune as tune
    from napari_medseg.learning.team import joined
    from napari_medseg.segmentation.load import load_model
    from napari_medseg.segmentation.segmenter import Segmenter

    model = load_model(options.model)
    if not isinstance(model, Segmenter):
        raise MedSegError(f"the model '{model.name}' has no weights that could learn: choose another with --model")
    with joined() as team, stop_on_signal() as should_stop, _alone_in(options.out, team.is_leader):
        for report in tune(
            model,
            corrections,
            strategy=options.strategy,
            out=options.out,
            settings=settings,
            seed=options.seed,
            should_stop=should_stop,
        ):
            if team.is_leader:
                results.put(report)
                results.say(report.message)
        if team.is_leader:
            _adopt(options, report.verdict, results)


def train_click_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``train-click-model``."""
    from napari_medseg.learning.train_click_model import ClickTraining

    parser.add_argument("--data", type=Path, required=True, help="folder of collections of x_image and x_mask files")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, card and the state to resume from")
    parser.add_argument("--resume", action="store_true", help="go on from the state in that folder")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    names = "folders in DATA to learn from (default: all that hold pairs; none named: synthetic scans alone); "
    names += "whether the terms of their data allow what you plan is yours to know"
    parser.add_argument("--collections", metavar="NAME", nargs="*", default=argparse.SUPPRESS, help=names)
    sizes = ClickTraining.model_fields["sizes"]
    shown = " ".join("x".join(map(str, pair)) for pair in sizes.default)
    parser.add_argument(
        "--sizes",
        metavar="SIZExBATCH",
        type=_size_and_batch,
        nargs="+",
        default=argparse.SUPPRESS,
        help=f"{sizes.description} (default: {shown})",
    )
    widths = ClickTraining.model_fields["widths"]
    shown = " ".join(map(str, widths.default))
    parser.add_argument(
        "--widths", type=int, nargs=4, default=argparse.SUPPRESS, help=f"{widths.description} (default: {shown})"
    )
    plain = [name for name in ClickTraining.model_fields if name not in ("collections", "sizes", "widths")]
    add_settings(parser, ClickTraining, plain)
    add_json(parser)


def _size_and_batch(text: str) -> tuple[int, int]:
    words = text.split("x")
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise argparse.ArgumentTypeError(f"expected a view size and a batch size like 48x8, got {text!r}")
    return int(words[0]), int(words[1])


def train_click_model(options: argparse.Namespace, results: Results) -> None:
    """Train the click model anew; an interrupt saves where it is, so that it can go on."""
    from dataclasses import asdict

    from napari_medseg.learning.samples import collections_in
    from napari_medseg.learning.train_click_model import ClickTraining
    from napari_medseg.learning.train_click_model import train_click_model as train

    if "collections" not in options:
        options.collections = collections_in(options.data)
    settings = checked_settings(ClickTraining, options)
    with stop_on_signal() as should_stop:
        for report in train(
            options.data,
            options.out,
            settings,
            device=options.device,
            resume=options.resume,
            should_stop=should_stop,
        ):
            results.put(asdict(report))
            dice = ", ".join(f"{d:.3f}" for d in report.dice)
            results.say(
                f"step {report.step}, {report.seconds / 60:.1f} min, {report.progress:.0%}: "
                + (report.message or f"loss {report.loss:.4f}")
                + (f", held-out Dice after each click {dice}" if dice else "")
            )
    results.say(f"{options.out}: weights and card written")


def train_classifier_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``train-classifier``."""
    from napari_medseg.learning.class_settings import SHOWN_CLASS_SETTINGS, ClassTraining

    table = "table of cases: columns scan, mask, label, position_mm, class, patient"
    parser.add_argument("--table", metavar="CSV", type=Path, help=table)
    parser.add_argument("--cases", metavar="DIR", type=Path, help="library of labelled cases (default: your own)")
    parser.add_argument(
        "--task", choices=("lesion", "image", "study"), help="which cases of the library (default: all)"
    )
    parser.add_argument("--classes", metavar="A,B", help="their names in order (default: those that occur)")
    parser.add_argument("--model", help="classifier to go on from: name or folder (default: a new one)")
    parser.add_argument("--name", default="classifier", help="what a new one is called (default: classifier)")
    _add_training_options(parser, ClassTraining, SHOWN_CLASS_SETTINGS)


def train_classifier(options: argparse.Namespace, results: Results) -> None:
    """Train a classifier on labelled cases."""
    from napari_medseg.classification.load import load_classifier
    from napari_medseg.learning.class_settings import ClassTraining
    from napari_medseg.learning.train_classifier import train_classifier as train

    settings = checked_settings(ClassTraining, options)
    subjects, answers = _labelled(options)
    classes = [name.strip() for name in options.classes.split(",")] if options.classes else None
    start = load_classifier(options.model) if options.model else None
    with stop_on_signal() as should_stop, _alone_in(options.out):
        for report in train(
            subjects,
            answers,
            classes=classes,
            start=start,
            name=start.card.name if start is not None else options.adopt or options.name,
            strategy=options.strategy,
            settings=settings,
            out=options.out,
            cache=_cache(),
            seed=options.seed,
            should_stop=should_stop,
        ):
            results.put(report)
            results.say(report.message)
        _adopt(options, report.verdict, results)


def train_siamese_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``train-siamese``."""
    from napari_medseg.learning.train_siamese import SiameseTraining

    parser.add_argument("--data", type=Path, required=True, help="folder of collections of x_image and x_mask files")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    add_settings(parser, SiameseTraining, ("minutes", "steps", "seed", "n_synthetic"))
    add_json(parser)


def train_siamese(options: argparse.Namespace, results: Results) -> None:
    """Train the network that compares lesions; an interrupt ends it with what it has learned so far."""
    from dataclasses import asdict

    from napari_medseg.learning.train_siamese import SiameseTraining
    from napari_medseg.learning.train_siamese import train_siamese as train

    settings = checked_settings(SiameseTraining, options)
    with stop_on_signal() as should_stop:
        for report in train(options.data, options.out, settings, should_stop=should_stop):
            results.put(asdict(report))
            results.say(
                f"step {report.step}, {report.progress:.0%}: loss {report.loss:.3f}, recall {report.recall:.2f}"
            )
    results.say(f"{options.out}: weights and card written")


def _add_training_options(parser: argparse.ArgumentParser, settings: type[BaseModel], shown: Sequence[str]) -> None:
    """What every gated training can be told: how it learns, where the version goes, and some of its settings."""
    from napari_medseg.learning.settings import Strategy

    names = " ".join(f"{s.value}: {s.description}" for s in Strategy)
    parser.add_argument("--strategy", choices=[s.value for s in Strategy], default=Strategy.AUTO.value, help=names)
    parser.add_argument("--out", type=Path, required=True, help="folder for the new version, whatever the verdict")
    adopt = (
        "also add it to the library under this name, active if the gate agrees; a first version of a name that the "
        "gate refuses is not added, as it would be in use"
    )
    parser.add_argument("--adopt", metavar="NAME", help=adopt)
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (default: 0)")
    add_settings(parser, settings, shown)
    add_json(parser)


def _pair(scan: Path, mask: Path) -> tuple[Volume, LabelMap]:
    """Read a scan and its mask; a mask that leaves slices of the scan out is put onto its whole grid."""
    from napari_medseg.imaging.files import read_volume
    from napari_medseg.imaging.mask_fit import fitted, is_elsewhere, misfit, read_mask_of
    from napari_medseg.imaging.orientation import describe_grid, same_grid

    volume = read_volume(scan)
    label_map = read_mask_of(mask, (volume,))
    if is_elsewhere(label_map, volume):
        raise MedSegError(f"{misfit(label_map, volume)} Give the scan that it was drawn on.")
    if same_grid(volume, label_map, tol_mm=0.1):
        return volume, label_map
    placed = fitted(label_map, volume)
    if placed is None:
        grids = f"{scan.name} ({describe_grid(volume)}) and {mask.name} ({describe_grid(label_map)})"
        raise MedSegError(f"{grids} lie on different grids: export the mask on the scan's own grid first")
    return volume, placed


def _pinned(scan: Path, mask: Path) -> Any:
    from napari_medseg.learning.correction import Correction

    volume, label_map = _pair(scan, mask)
    return Correction(volume, None, label_map, pinned=True, name=scan.name)


def _alone_in(folder: Path, is_leader: bool = True) -> AbstractContextManager[None]:
    """Keep every other process from training into a folder; of a team the leader does."""
    from napari_medseg.imaging.file_lock import holding

    busy = MedSegError(f"another process is training into {folder}: wait until it is done or choose another --out")
    return holding(folder / ".lock", otherwise=busy, wait_s=_WAIT_S) if is_leader else nullcontext()


def _adopt(options: argparse.Namespace, verdict: GateVerdict | None, results: Results) -> None:
    """Add what was trained to the library, if that was asked for."""
    from napari_medseg.models.library import Library

    name, library = options.adopt, Library()
    if not name or verdict is None:
        return
    version = library.take_over(name, options.out, verdict.model_dump(mode="json", exclude={"folder"}))
    if version is None:
        results.say(f"'{name}' was not added to the library: as its only version a refused one would be in use")
    else:
        active = "active" if library.active(name) == version else "not active"
        results.say(f"'{name}' version {version} is in the library, {active}")


def _cache() -> FeatureCache:
    from napari_medseg.classification.features import FeatureCache
    from napari_medseg.home import home_folder

    return FeatureCache(home_folder() / "features")


def _labelled(options: argparse.Namespace) -> tuple[list[Subject], list[str]]:
    """Cases and their classes, from a table or from the library."""
    if options.table is not None:
        from napari_medseg.classification.table import read_table

        rows = [row for row in read_table(options.table) if row.class_name]
        return [row.subject() for row in rows], [row.class_name for row in rows]
    from napari_medseg.classification import CaseLibrary

    stored = [case for case in CaseLibrary(options.cases).list(task=options.task) if case.card.class_name]
    return [case.subject() for case in stored], [case.card.class_name for case in stored]
