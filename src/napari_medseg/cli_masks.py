"""The command ``convert``, and how every command that writes a mask is told the format."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_medseg.errors import MedSegError
from napari_medseg.terminal import Results, add_json

if TYPE_CHECKING:
    from napari_medseg.imaging.volume import LabelMap, Volume


def add_mask_output(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, ``--format`` and ``--deidentified``."""
    from napari_medseg.imaging.mask_formats import FORMAT_KEYS, MASK_ENDINGS

    endings = f"file to write; its ending ({', '.join(MASK_ENDINGS)}) says the format"
    parser.add_argument("--out", metavar="MASK", type=_mask_path, required=True, help=endings)
    kinds = "format, where the ending leaves it open: a .dcm is a DICOM SEG unless this says rtstruct"
    parser.add_argument("--format", choices=FORMAT_KEYS, help=kinds)
    without = "leave the patient, dates and UIDs out of a DICOM SEG or RTSTRUCT (other formats never carry them)"
    parser.add_argument("--deidentified", action="store_true", help=without)


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``convert``."""
    parser.add_argument("mask", type=Path, help="mask file: NIfTI, NRRD, MetaImage, DICOM SEG or RTSTRUCT")
    of_scan = "its scan: the mask is put onto the scan's own grid; needed to write a DICOM SEG or RTSTRUCT"
    parser.add_argument("--scan", type=Path, help=of_scan)
    asked = "put a mask that lies on another grid onto the scan's; without this it is refused"
    parser.add_argument("--resample", choices=("nearest", "smooth"), help=asked)
    parser.add_argument("--label", type=int, help="only this label (default: all)")
    add_mask_output(parser)
    add_json(parser)


def convert(options: argparse.Namespace, results: Results) -> None:
    """Write a mask in another format."""
    from napari_medseg.imaging.amounts import millilitres
    from napari_medseg.imaging.files import read_label_map, read_volume, write_label_map
    from napari_medseg.imaging.provenance import refuse_scan_itself

    if options.scan is None:
        if options.resample:
            raise MedSegError("--resample needs the grid of a scan: give it with --scan")
        label_map = read_label_map(options.mask)
    else:
        volume = read_volume(options.scan)
        label_map = _on_scan(options.mask, volume, options.resample)
    for warning in label_map.warnings:
        print(f"{options.mask.name}: {warning}", file=sys.stderr)
    if options.label is not None:
        if not (label_map.data == options.label).any():
            raise MedSegError(f"no voxel of {options.mask.name} has label {options.label}; choose another")
        label_map = replace(label_map, data=label_map.data * (label_map.data == options.label))
    if options.scan is not None:
        refuse_scan_itself(options.out, volume)
    path = write_label_map(options.out, label_map, format=options.format, deidentified=options.deidentified)
    n_voxels = int((label_map.data > 0).sum())
    results.say(f"{path}: {millilitres(n_voxels * label_map.voxel_ml)}; saved, verified")
    results.put({"mask": str(path), "n_voxels": n_voxels, "volume_ml": n_voxels * label_map.voxel_ml})


def _on_scan(mask: Path, volume: Volume, method: str | None) -> LabelMap:
    from napari_medseg.imaging.mask_fit import fitted, misfit, read_mask_of, resampled

    label_map = read_mask_of(mask, (volume,))
    placed = fitted(label_map, volume)
    if placed is None:
        if method is None:
            raise MedSegError(f"{misfit(label_map, volume)} Give --resample nearest or --resample smooth.")
        placed = resampled(label_map, volume, method)
    kept = {key: label_map.metadata[key] for key in ("colours",) if key in label_map.metadata}
    return replace(placed, metadata=MappingProxyType({**volume.metadata, **kept}))


def _mask_path(text: str) -> Path:
    from napari_medseg.imaging.mask_formats import MASK_ENDINGS
    from napari_medseg.imaging.suffixes import suffix_of

    if not suffix_of(Path(text), MASK_ENDINGS):
        raise argparse.ArgumentTypeError(f"{text} has none of the endings {', '.join(MASK_ENDINGS)}")
    return Path(text)
