"""The story without a window: open, click, correct, fine-tune, the next scan, export. Every figure is measured."""

from __future__ import annotations

import time
from collections.abc import Generator
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
_N_STEPS = 80  # a third of what a user's own corrections get: the demo shall end within five minutes on two cores


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A sample scan as its file holds it, with the known lesions."""

    volume: Volume
    lesions: LabelMap

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Voxels of any lesion."""
        return np.asarray(self.lesions.data > 0)

    def names(self) -> dict[int, str]:
        """Each lesion's label and name, the one with most voxels first."""
        sizes = np.bincount(self.lesions.data.ravel())
        labels = sorted((int(k) for k in np.flatnonzero(sizes) if k), key=lambda k: -sizes[k])
        return {k: f"{self.lesions.names.get(k, 'lesion')} {k}" for k in labels}

    def click_in(self, label: int) -> Point:
        """Where a reader would click: the middle of a lesion."""
        return middle_mm(self.lesions.data == label, self.lesions)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model answered to one click into each lesion of a patient."""

    patient: Patient
    masks: dict[int, LabelMap]
    seconds: float

    @property
    def together(self) -> LabelMap:
        """All masks as one."""
        data = np.any([mask.data > 0 for mask in self.masks.values()], axis=0).astype(np.uint8)
        return LabelMap(data, self.patient.volume.affine, {1: "lesion"}, grid=self.patient.volume.grid)

    @property
    def dice(self) -> dict[int, float]:
        """Dice of each lesion."""
        return {k: dice(mask.data, self.patient.lesions.data == k) for k, mask in self.masks.items()}

    def __str__(self) -> str:
        return ", ".join(f"{self.patient.names()[k]} {value:.2f}" for k, value in self.dice.items())


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
    clicked = _clicked(model, first)
    yield f"2. One click into each lesion, {model.card.title}, {clicked.seconds:.1f} s a click. Dice: {clicked}"

    proposed = clicked.together
    reviewed = worst_slices(proposed.data, first.truth, _N_CORRECTED)
    corrected = corrected_slices(proposed, first.truth, reviewed)
    worse, better = (dice(mask.data, first.truth) for mask in (proposed, corrected))
    n = len(reviewed)
    yield f"3. Corrected {n} of {len(proposed.data)} slices: Dice over all lesions {worse:.2f} -> {better:.2f}"
    yield f"   {_draw_click(folder, clicked, corrected)}"

    before = _clicked(model, following)
    yield "4. Fine-tuning on the corrected slices"
    yield from _fine_tuned(model, (first.volume, corrected, reviewed), folder)

    yield from _next_scan(model, before, folder)
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


def _clicked(model: Any, patient: Patient) -> Answers:
    from napari_medseg.segmentation.prompts import Click

    start = time.monotonic()
    masks = {k: model.segment(patient.volume, [Click(patient.click_in(k))]) for k in patient.names()}
    return Answers(patient, masks, (time.monotonic() - start) / len(masks))


def _fine_tuned(
    model: Any, correction: tuple[Volume, LabelMap, tuple[int, ...]], folder: Path
) -> Generator[str, None, None]:
    from napari_medseg.learning.fine_tune import fine_tune
    from napari_medseg.learning.settings import FineTuneSettings

    settings = FineTuneSettings(steps=_N_STEPS, validations=4)
    steps: list[int] = []
    losses: list[float] = []
    held_out: list[tuple[int, float]] = []
    for report in fine_tune(model, [correction], out=folder / "model", settings=settings):
        if report.loss is not None:
            steps.append(report.step)
            losses.append(report.loss)
        if report.kind == "validation" and report.dice is not None:
            held_out.append((report.step, report.dice))
        if report.kind != "progress":
            yield f"   {report.message}"
    yield f"   {pictures.draw_learning(folder / 'learning.png', steps, losses, held_out)}"


def _next_scan(model: Any, before: Answers, folder: Path) -> Generator[str, None, None]:
    patient, after = before.patient, _clicked(model, before.patient)
    yield f"5. The next patient, one click into each lesion. Dice before: {before}"
    yield f"   after fine-tuning: {after}"
    if not model.needs_click:
        automatic = model.segment(patient.volume)
        yield f"   without any click, all lesions: {dice(automatic.data, patient.truth):.2f}"
    yield f"   {_draw_next(folder, before, after)}"


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


def _draw_click(folder: Path, clicked: Answers, corrected: LabelMap) -> Path:
    """One click and the correction, on the slice that is clicked in the largest lesion."""
    patient, label = clicked.patient, next(iter(clicked.masks))
    lesion, click = patient.lesions.data == label, patient.click_in(label)
    around = np.where(lesion | (clicked.masks[label].data > 0), corrected.data, 0)
    return pictures.draw_slices(
        folder / "click_to_mask.png",
        [
            _panel("One click", patient, click, lesion, Outline(clicked.masks[label].data, MASK, "mask"), click),
            _panel("Corrected", patient, click, lesion, Outline(around, MASK, "mask")),
        ],
    )


def _draw_next(folder: Path, before: Answers, after: Answers) -> Path:
    """The same click in the next patient's largest lesion, before and after learning."""
    patient, label = before.patient, next(iter(before.masks))
    lesion, click = patient.lesions.data == label, patient.click_in(label)
    old, new = (answers.masks[label].data for answers in (before, after))
    return pictures.draw_slices(
        folder / "next_patient.png",
        [
            _panel("Next patient, before", patient, click, lesion, Outline(old, EARLIER, "before"), click),
            _panel("Next patient, after", patient, click, lesion, Outline(new, MASK, "after"), click),
        ],
    )


def _panel(
    title: str, patient: Patient, at: Point, lesion: NDArray[np.bool_], outline: Outline, click: Point | None = None
) -> Panel:
    z = round(float(patient.volume.index_of(at)[0]))
    outlines = (Outline(lesion, TRUTH, "truth"), outline)
    return Panel(f"{title}: Dice {dice(outline.mask, lesion):.2f}", patient.volume, z, outlines, click)
