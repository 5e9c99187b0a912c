"""The story without a window: open, click, correct, fine-tune, the next scan, export. Every figure is measured."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.demo import pictures, window
from napari_medseg.demo.pictures import EARLIER, MASK, TRUTH, Outline, Panel
from napari_medseg.demo.reader import corrected_slices, middle_mm, worst_slices
from napari_medseg.errors import JobFailed
from napari_medseg.evaluation.overlap import dice
from napari_medseg.imaging.volume import LabelMap, Volume

if TYPE_CHECKING:
    from napari_medseg.segmentation.prompts import Point

_N_CORRECTED = 6


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A sample scan as its file holds it, with the known lesions."""

    volume: Volume
    lesions: LabelMap

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Voxels of any lesion."""
        return np.asarray(self.lesions.data > 0)

    def clicks(self) -> dict[str, Point]:
        """Where a reader would click: the middle of each lesion, by name and number."""
        found = {}
        for label in np.unique(self.lesions.data[self.lesions.data > 0]):
            name = self.lesions.names.get(int(label), "lesion")
            found[f"{name} {label}"] = middle_mm(self.lesions.data == label, self.lesions)
        return found


def tell_demo(folder: Path) -> Generator[str, None, None]:
    """Run the story on the two sample patients, writing into a folder, and tell each step with its figures.

    Raises
    ------
    MedSegError
        If a step fails.
    """
    from napari_medseg.segmentation.load import load_model

    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    first, following = _patient(1, folder), _patient(2, folder)
    yield f"1. Opened {_described(first.volume)}"

    model: Any = load_model()
    mask, seconds = _clicked(model, first)
    yield f"2. Clicked {len(first.clicks())} lesions with {model.card.title}: Dice {dice(mask.data, first.truth):.3f}, "
    yield f"   {int((mask.data > 0).sum()) * mask.voxel_ml:.1f} ml, {seconds:.1f} s a click"

    reviewed = worst_slices(mask.data, first.truth, _N_CORRECTED)
    corrected = corrected_slices(mask, first.truth, reviewed)
    better = dice(corrected.data, first.truth)
    yield f"3. Corrected the {len(reviewed)} worst of {mask.data.shape[0]} slices: Dice {better:.3f}"
    yield f"   {_draw_first(folder, first, mask, corrected)}"

    before, _ = _clicked(model, following)
    yield "4. Fine-tuning on the corrected slices"
    yield from _fine_tuned(model, (first.volume, corrected, reviewed), folder)

    yield from _next_scan(model, following, before, folder)
    yield from _exported(mask=corrected, scan=folder / "patient_1.nii.gz", out=folder / "patient_1_lesions.nii.gz")
    yield from _window(folder)
    yield f"The story took {time.monotonic() - start:.0f} s; everything is in {folder}"


def _patient(number: int, folder: Path) -> Patient:
    """Save a sample scan as NIfTI and read it back, as a user's own scan would be."""
    import nibabel as nib

    from napari_medseg.imaging.files import read_volume
    from napari_medseg.imaging.orientation import to_disk
    from napari_medseg.imaging.phantom import chest_ct

    made = chest_ct(number)
    grid = made.volume.grid
    assert grid is not None
    path = folder / f"patient_{number}.nii.gz"
    on_disk = np.asarray(to_disk(made.volume.data, grid))
    nib.save(nib.Nifti1Image(on_disk, grid.affine), path)  # type: ignore[no-untyped-call]
    return Patient(read_volume(path), made.lesions)


def _described(volume: Volume) -> str:
    from napari_medseg.imaging.orientation import describe_grid

    name = volume.path.name if volume.path else volume.name
    return f"{name}: {describe_grid(volume)}"


def _clicked(model: Any, patient: Patient) -> tuple[LabelMap, float]:
    """One click into each lesion; the masks together, and the mean seconds a click took."""
    from napari_medseg.segmentation.prompts import Click

    start = time.monotonic()
    masks = [model.segment(patient.volume, [Click(position)]) for position in patient.clicks().values()]
    together = np.any([mask.data > 0 for mask in masks], axis=0).astype(np.uint8)
    seconds = (time.monotonic() - start) / len(masks)
    return LabelMap(together, patient.volume.affine, {1: "lesion"}, grid=patient.volume.grid), seconds


def _fine_tuned(
    model: Any, correction: tuple[Volume, LabelMap, tuple[int, ...]], folder: Path
) -> Generator[str, None, None]:
    from napari_medseg.learning.fine_tune import fine_tune

    steps: list[int] = []
    losses: list[float] = []
    held_out: list[tuple[int, float]] = []
    for report in fine_tune(model, [correction], out=folder / "model", seed=0):
        if report.loss is not None:
            steps.append(report.step)
            losses.append(report.loss)
        if report.kind == "validation" and report.dice is not None:
            held_out.append((report.step, report.dice))
        if report.kind != "progress":
            yield f"   {report.message}"
    yield f"   {pictures.draw_learning(folder / 'learning.png', steps, losses, held_out)}"


def _next_scan(model: Any, patient: Patient, before: LabelMap, folder: Path) -> Generator[str, None, None]:
    after, _ = _clicked(model, patient)
    yield (
        f"5. The next patient, one click a lesion: Dice {dice(before.data, patient.truth):.3f} before, "
        f"{dice(after.data, patient.truth):.3f} after fine-tuning"
    )
    if not model.needs_click:
        automatic = model.segment(patient.volume)
        yield f"   without any click: Dice {dice(automatic.data, patient.truth):.3f}"
    yield f"   {_draw_next(folder, patient, before, after)}"


def _exported(*, mask: LabelMap, scan: Path, out: Path) -> Generator[str, None, None]:
    """Save the mask, read it and the scan with another program's library, and compare."""
    import nibabel as nib

    from napari_medseg.imaging.files import read_label_map, write_label_map

    write_label_map(out, mask)
    saved: Any = nib.load(out)
    original: Any = nib.load(scan)
    same_grid = saved.shape == original.shape and np.allclose(saved.affine, original.affine, atol=1e-4)
    same_voxels = np.array_equal(read_label_map(out).data, mask.data)
    if not same_grid or not same_voxels:
        raise JobFailed(f"{out.name} does not lie on the grid of {scan.name}: please report this")
    yield f"6. Saved {out}: same shape, affine and voxels when read again"


def _window(folder: Path) -> Generator[str, None, None]:
    if not window.has_screen():
        yield "7. No screen: no picture of the window (xvfb-run gives one)"
        return
    try:
        for path in window.picture_window(folder):
            yield f"7. {path}"
    except JobFailed as error:
        yield f"7. No picture of the window: {error}"


def _draw_first(folder: Path, patient: Patient, mask: LabelMap, corrected: LabelMap) -> Path:
    z = _slice_of_first(patient)
    truth = Outline(patient.truth, TRUTH, "truth")
    click = next(iter(patient.clicks().values()))
    answers: Sequence[tuple[str, LabelMap]] = (("One click", mask), ("After the correction", corrected))
    panels = [
        Panel(
            f"{title}: Dice {dice(m.data, patient.truth):.2f}",
            patient.volume,
            z,
            (truth, Outline(m.data, MASK, "mask")),
            click if m is mask else None,
        )
        for title, m in answers
    ]
    return pictures.draw_slices(folder / "click_to_mask.png", panels)


def _draw_next(folder: Path, patient: Patient, before: LabelMap, after: LabelMap) -> Path:
    z = _slice_of_first(patient)
    truth = Outline(patient.truth, TRUTH, "truth")
    click = next(iter(patient.clicks().values()))
    panels = [
        Panel(f"{title}: Dice {dice(m.data, patient.truth):.2f}", patient.volume, z, (truth, outline), click)
        for title, m, outline in (
            ("Next patient, before", before, Outline(before.data, EARLIER, "before")),
            ("Next patient, after fine-tuning", after, Outline(after.data, MASK, "after")),
        )
    ]
    return pictures.draw_slices(folder / "next_patient.png", panels)


def _slice_of_first(patient: Patient) -> int:
    """Return the slice through the point that is clicked first."""
    position = next(iter(patient.clicks().values()))
    return round(float(patient.volume.index_of(position)[0]))
