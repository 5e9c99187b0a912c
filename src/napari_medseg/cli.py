"""The command ``napari-medseg``: the same stories without a window.

Exit status 0 when done, 1 for an expected error (one line on stderr), 2 for wrong usage. With ``--json`` stdout holds
objects alone, one a line; what libraries print goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import __version__
from napari_medseg.cli_classify import classify, classify_arguments, similar, similar_arguments
from napari_medseg.cli_compare import compare, compare_arguments
from napari_medseg.cli_corrections import corrections_arguments, run_corrections_command
from napari_medseg.cli_masks import add_mask_output, convert, convert_arguments
from napari_medseg.cli_models import models_arguments, run_models_command
from napari_medseg.cli_train import (
    fine_tune,
    fine_tune_arguments,
    train_classifier,
    train_classifier_arguments,
    train_click_model,
    train_click_model_arguments,
    train_siamese,
    train_siamese_arguments,
)
from napari_medseg.errors import Cancelled, MedSegError
from napari_medseg.terminal import (
    Results,
    add_json,
    aligned,
    numbers,
    results_on_stdout,
    stop_on_signal,
    with_joined_values,
)

if TYPE_CHECKING:
    from napari_medseg.imaging.volume import LabelMap, Volume
    from napari_medseg.segmentation.prompts import Point, Prompt


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if words is None else words)
    name = given[0] if given and given[0] in _COMMANDS else ""
    parser = _parser_of(name)
    options = parser.parse_args(with_joined_values(given[1:] if name else given))
    command = _COMMANDS[name] if name else _OPEN
    try:
        with results_on_stdout(as_json=getattr(options, "json", False)) as results:
            command.run(options, results)
    except (MedSegError, OSError, MemoryError) as error:
        said = " ".join(str(error).split()) or "not enough memory: close other programs or choose a smaller scan"
        print(f"napari-medseg: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("napari-medseg: stopped", file=sys.stderr)
        return 130
    return 0


@dataclass(frozen=True, slots=True)
class _Command:
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Results], None]


def _parser_of(name: str) -> argparse.ArgumentParser:
    """Parser of one command, or of the program itself; only that command's settings are imported."""
    if name:
        command = _COMMANDS[name]
        parser = argparse.ArgumentParser(prog=f"napari-medseg {name}", description=command.summary)
        command.add_arguments(parser)
        return parser
    width = max(map(len, _COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="napari-medseg",
        usage="napari-medseg [FILES...]\n       napari-medseg COMMAND ...",
        description=_OPEN.summary,
        epilog=f"commands:\n{listed}\n\nnapari-medseg COMMAND --help tells more. For research; not a medical device.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"napari-medseg {__version__}")
    _OPEN.add_arguments(parser)
    return parser


def _open_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, help="scans, masks or DICOM folders to open")


def _open(options: argparse.Namespace, results: Results) -> None:
    for path in options.files:
        if not path.exists():
            _parser_of("").error(f"{path} is neither a file nor a command ({', '.join(_COMMANDS)})")
    import napari

    viewer = napari.Viewer()
    viewer.window.add_plugin_dock_widget("napari-medseg", "MedSeg")
    for path in options.files:
        viewer.open(path, plugin="napari-medseg")
    napari.run()


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--headless", action="store_true", help="no window: write the mask and pictures into a folder")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="that folder (default: demo_output)")


def _demo(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.demo import has_screen, show_demo, tell_demo

    if not options.headless and has_screen():
        show_demo()
        return
    if not options.headless:
        results.say(f"There is no display: the story is told here, with its pictures in {options.out}")
    for line in tell_demo(options.out):
        results.say(line)


def _segment_arguments(parser: argparse.ArgumentParser) -> None:
    from napari_medseg.segmentation.prompts import Box, Click, Lasso, Scribble

    def line(*points: Point, positive: bool) -> Scribble:
        return Scribble(points, positive=positive)

    def loop(*points: Point, positive: bool) -> Lasso:
        return Lasso(points, positive=positive)

    point, corners, points = "X,Y,Z", "X0,Y0,Z0,X1,Y1,Z1", "X0,Y0,Z0,X1,Y1,Z1,..."
    prompts: list[tuple[str, str, Callable[[str], Prompt], str]] = [
        ("--click", point, _reader(Click, 1), "position in the lesion"),
        ("--background", point, _reader(Click, 1, positive=False), "position outside"),
        ("--box", corners, _reader(Box, 2), "two corners round the lesion"),
        ("--background-box", corners, _reader(Box, 2, positive=False), "two corners of a box that holds none of it"),
        ("--scribble", points, _reader(line), "line in the lesion, through these points"),
        ("--background-scribble", points, _reader(line, positive=False), "line outside"),
        ("--lasso", points, _reader(loop), "line round the lesion on a slice, through three points and more"),
        ("--background-lasso", points, _reader(loop, positive=False), "line round what is none of it, on a slice"),
    ]
    parser.add_argument("scan", type=Path, help="scan file or DICOM folder")
    group = parser.add_argument_group("prompts", "RAS millimetres; all may be repeated, and the last one is the newest")
    for option, metavar, read, told in prompts:
        group.add_argument(option, metavar=metavar, dest="prompts", type=read, action="append", default=[], help=told)
    so_far = "the mask so far, corrected by the newest prompt; all labels in it count as the lesion"
    parser.add_argument("--previous", metavar="MASK", type=Path, help=so_far)
    parser.add_argument("--model", help="name in the library or model folder (default: the active click model)")
    add_mask_output(parser)
    add_json(parser)


def _reader(
    make: Callable[..., Prompt], n_points: int | None = None, *, positive: bool = True
) -> Callable[[str], Prompt]:
    """Return a reader of one kind of prompt, of so many points (two and more by default), for argparse."""

    def millimetres(text: str) -> Prompt:
        values = numbers(3 * (n_points or max(2, (text.count(",") + 1) // 3)))(text)
        try:
            return make(*zip(values[::3], values[1::3], values[2::3], strict=True), positive=positive)
        except MedSegError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return millimetres


def _segment(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.imaging.amounts import millilitres
    from napari_medseg.imaging.files import read_volume, write_label_map
    from napari_medseg.imaging.provenance import refuse_scan_itself
    from napari_medseg.segmentation.load import load_model

    volume = read_volume(options.scan)
    refuse_scan_itself(options.out, volume)
    for warning in volume.warnings:
        print(f"{options.scan.name}: {warning}", file=sys.stderr)
    previous = _previous(options, volume)
    model = load_model(options.model)
    if model.needs_click and not options.prompts:
        raise MedSegError(f"the model '{model.name}' needs a click: give --click X,Y,Z or --box X0,Y0,Z0,X1,Y1,Z1")
    start = time.perf_counter()
    with stop_on_signal() as should_stop:
        mask = model.segment(
            volume, options.prompts, previous=previous, progress=_telling(results), should_stop=should_stop
        )
        if should_stop():
            raise Cancelled("stopped: nothing was written")
    seconds = time.perf_counter() - start
    path = write_label_map(options.out, mask, format=options.format, deidentified=options.deidentified)
    n_voxels = int((mask.data > 0).sum())
    volume_ml = n_voxels * mask.voxel_ml
    results.say(f"{path}: {millilitres(volume_ml)} in {seconds:.1f} s, by model {model.card.title}; saved, verified")
    if not n_voxels:
        print("the mask is empty: nothing was found there", file=sys.stderr)
    for warning in mask.warnings:
        print(f"{options.scan.name}: {warning}", file=sys.stderr)
    results.put(
        {
            "mask": str(path),
            "n_voxels": n_voxels,
            "volume_ml": volume_ml,
            "seconds": seconds,
            "model": model.card.name,
            "version": model.card.version,
            "sha256": model.card.sha256,
            "warnings": [*volume.warnings, *mask.warnings],
        }
    )


def _previous(options: argparse.Namespace, volume: Volume) -> LabelMap | None:
    """Read the mask to correct and put it onto the scan's own grid."""
    if options.previous is None:
        return None
    from napari_medseg.imaging.mask_fit import fitted, misfit, read_mask_of

    if not options.prompts:
        raise MedSegError(
            f"nothing says what to correct in {options.previous.name}: give --click or --background X,Y,Z"
        )
    label_map = read_mask_of(options.previous, (volume,))
    for warning in label_map.warnings:
        print(f"{options.previous.name}: {warning}", file=sys.stderr)
    placed = fitted(label_map, volume)
    if placed is None:
        raise MedSegError(f"{misfit(label_map, volume)} Put it onto the scan with convert --scan --resample first.")
    return placed


def _telling(results: Results) -> Callable[[float], None]:
    """Tell how much of the work is done, once a second."""
    told = time.monotonic()

    def tell(part: float) -> None:
        nonlocal told
        if time.monotonic() - told < 1:
            return
        told = time.monotonic()
        results.put({"kind": "progress", "progress": part})
        if not results.as_json:
            print(f"{part:.0%} segmented", file=sys.stderr)

    return tell


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mask", type=Path, help="mask file, or a folder of them")
    parser.add_argument("reference", type=Path, help="its reference, or a folder with files of the same names")
    parser.add_argument("--tolerance-mm", type=float, default=2.0, help="for the surface Dice (default: 2)")
    parser.add_argument("--patients", metavar="REGEX", help="for folders: the patient in a file name, as a first group")
    parser.add_argument("--report", metavar="DIR", type=Path, help="write figures.csv and report.html into this folder")
    add_json(parser)


def _evaluate(options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.evaluation.report import write_segmentation_report
    from napari_medseg.evaluation.study import compare_files, compare_folders, summarise
    from napari_medseg.evaluation.table import figures_lines, summary_lines

    if options.reference.is_dir() and options.mask.is_dir():
        cases = []
        for case in compare_folders(
            options.mask, options.reference, tolerance_mm=options.tolerance_mm, patient_pattern=options.patients
        ):
            results.say(f"{case.name}: Dice {case.figures[0].dice:.3f}")
            cases.append(case)
        results.say(aligned(summary_lines(summarise(cases))))
        results.put({"cases": [case.as_json() for case in cases], "means": [s.as_json() for s in summarise(cases)]})
    else:
        cases = [compare_files(options.mask, options.reference, tolerance_mm=options.tolerance_mm)]
        results.say(aligned(figures_lines(cases[0].figures)))
        results.put(cases[0].as_json())
    if options.report:
        for path in write_segmentation_report(options.report, cases):
            results.say(f"{path}: written")


_OPEN = _Command("Open napari with the MedSeg dock, and the files given.", _open_arguments, _open)
_COMMANDS = {
    "demo": _Command("The whole story on the sample scan.", _demo_arguments, _demo),
    "segment": _Command("Segment a scan, from clicks or automatically.", _segment_arguments, _segment),
    "convert": _Command("Save a mask in another format, on its scan's own grid.", convert_arguments, convert),
    "fine-tune": _Command("Teach a model with corrected masks.", fine_tune_arguments, fine_tune),
    "evaluate": _Command("Compare a mask, or a folder of them, with its reference.", _evaluate_arguments, _evaluate),
    "corrections": _Command(
        "List, pin, remove and export accepted corrections.", corrections_arguments, run_corrections_command
    ),
    "compare": _Command("Compare a scan with a prior one: lesions and change map.", compare_arguments, compare),
    "classify": _Command("Say which class a lesion, an image or a study has.", classify_arguments, classify),
    "similar": _Command("Find similar lesions in your own library.", similar_arguments, similar),
    "train-classifier": _Command("Train a classifier on labelled cases.", train_classifier_arguments, train_classifier),
    "models": _Command(
        "List, show, activate, roll back, export and import models.", models_arguments, run_models_command
    ),
    "train-click-model": _Command("Train the click model anew.", train_click_model_arguments, train_click_model),
    "train-siamese": _Command("Train the network that compares lesions.", train_siamese_arguments, train_siamese),
}
