"""``napari-medseg corrections``: list, pin, unpin, remove and export what accepted corrections took."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.terminal import Results, add_json, aligned

if TYPE_CHECKING:
    from napari_medseg.learning.corrections import CorrectionStore


def corrections_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|pin|unpin|remove|csv")
    for name, what in (
        ("list", "all corrections with what they took, and the mean of each version"),
        ("pin", "no later version may get worse on this case; it no longer teaches"),
        ("unpin", "let the case teach again"),
        ("remove", "let the case teach no more; it is kept in the folder 'removed'"),
        ("csv", "write what each correction took into a table"),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("--folder", type=Path, help="folder of corrections (default: the user's own)")
        if name in ("pin", "unpin", "remove"):
            action.add_argument("name", help="name of the correction, as 'list' shows it: correction-0001")
        if name == "csv":
            action.add_argument("--out", type=Path, required=True, help="file to write, as corrections.csv")
        add_json(action)


def run_corrections_command(options: argparse.Namespace, results: Results) -> None:
    """Run the action that was named."""
    from napari_medseg.learning.corrections import CorrectionStore
    from napari_medseg.learning.corrections_folder import corrections_folder

    _ACTIONS[options.action](CorrectionStore(options.folder or corrections_folder()), options, results)


def _list(store: CorrectionStore, options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.learning.corrections_folder import in_words
    from napari_medseg.learning.effort import efforts, mean_efforts

    cases = efforts(store.list())
    lines = [["correction", "scan", "proposed by", "seconds", "voxels", "clicks", ""]]
    for case in cases:
        counts = [f"{case.seconds:.0f}", str(case.voxels), str(case.clicks)]
        lines.append([case.correction, case.scan, case.model, *counts, "pinned" if case.pinned else ""])
        results.put(asdict(case))
    for mean in mean_efforts(cases):
        counts = [f"{mean.seconds:.0f}", f"{mean.voxels:.0f}", f"{mean.clicks:.1f}"]
        lines.append([f"mean of {mean.n_cases}", "", mean.model, *counts, ""])
    trouble = store.trouble()
    if cases:
        results.say(aligned(lines))
    elif not trouble:
        results.say(f"there are no corrections in {in_words(store.root)}: accept one in the dock first")
    if trouble:
        results.put({"trouble": trouble})
        results.say(trouble)


def _pin(store: CorrectionStore, options: argparse.Namespace, results: Results) -> None:
    is_pinned = options.action == "pin"
    store.pin(options.name, is_pinned)
    results.put({"correction": options.name, "pinned": is_pinned})
    results.say(f"{options.name}: {'pinned, no later version may get worse on it' if is_pinned else 'teaches again'}")


def _remove(store: CorrectionStore, options: argparse.Namespace, results: Results) -> None:
    kept = store.remove(options.name)
    results.put({"correction": options.name, "kept_at": str(kept)})
    results.say(f"{options.name} teaches no more; it is kept at {kept}")


def _csv(store: CorrectionStore, options: argparse.Namespace, results: Results) -> None:
    from napari_medseg.learning.effort import efforts, write_efforts

    cases = efforts(store.list(superseded=True))
    path = write_efforts(options.out, cases)
    results.put({"path": str(path), "n_corrections": len(cases)})
    results.say(f"{path}: {len(cases)} corrections written")


_ACTIONS: dict[str, Callable[[CorrectionStore, argparse.Namespace, Results], None]] = {
    "list": _list,
    "pin": _pin,
    "unpin": _pin,
    "remove": _remove,
    "csv": _csv,
}
