"""The story without a window: open, click, correct, fine-tune, the next scan, export. Every figure is measured.

The lesions show what a click does. The liver shows what learning does: on the first patient the model needs a click and
many corrections, on the next one it needs none.
"""

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

_N_CORRECTED = 12
_N_STEPS = 120  # a third of what a user's own corrections get: the demo shall end within minutes on two cores


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A sample scan as its file holds it, with what is known of it: its lesions, and its liver with those in it."""

    volume: Volume
    lesions: LabelMap
    liver: NDArray[np.bool_]

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
    yield f"   {_draw_click(folder, clicked)}"

    proposed = _liver(model, first)
    reviewed = worst_slices(proposed.data, first.liver, _N_CORRECTED)
    corrected = corrected_slices(proposed, first.liver, reviewed)
    worse, better = (dice(mask.data, first.liver) for mask in (proposed, corrected))
    n, n_all = len(reviewed), len(proposed.data)
    yield f"3. The liver, one click and {n} corrected slices of {n_all}: Dice {worse:.2f} -> {better:.2f}"

    before = _liver(model, following)
    yield "4. Fine-tuning on these slices"
    yield from _fine_tuned(model, (first.volume, corrected, reviewed), folder)

    # The trained version, whatever the gate decided: the line above says whether it is in use.
    yield from _next_scan(load_model(folder / "model"), following, before, folder)
    yield from _exported(mask=corrected, scan=folder / "patient_1.nii.gz", out=folder / "patient_1_liver.nii.gz")
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
    labels = [k for k, name in made.organs.names.items() if name == "liver"]
    return Patient(read_volume(path), made.lesions, np.isin(made.organs.data, labels))


def _described(volume: Volume) -> str:
    from napari_medseg.imaging.orientation import describe_grid

    name = volume.path.name if volume.path else volume.name
    return f"{name}: {describe_grid(volume)}"


def _clicked(model: Any, patient: Patient) -> Answers:
    from napari_medseg.segmentation.prompts import Click

    start = time.monotonic()
    masks = {k: model.segment(patient.volume, [Click(patient.click_in(k))]) for k in patient.names()}
    return Answers(patient, masks, (time.monotonic() - start) / len(masks))


def _liver(model: Any, patient: Patient) -> LabelMap:
    """Answer to one click in the middle of the liver."""
    from napari_medseg.segmentation.prompts import Click

    mask = model.segment(patient.volume, [Click(middle_mm(patient.liver, patient.volume))])
    return LabelMap((mask.data > 0).astype(np.uint8), mask.affine, {1: "liver"}, grid=patient.volume.grid)


def _fine_tuned(
    model: Any, correction: tuple[Volume, LabelMap, tuple[int, ...]], folder: Path
) -> Generator[str, None, None]:
    from napari_medseg.learning.fine_tune import fine_tune
    from napari_medseg.learning.settings import FineTuneSettings

    settings = FineTuneSettings(steps=_N_STEPS, validations=4, held_out_part=0.8)
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


def _next_scan(model: Any, patient: Patient, before: LabelMap, folder: Path) -> Generator[str, None, None]:
    yield f"5. The next patient's liver. Before, one click: Dice {dice(before.data, patient.liver):.2f}"
    after = _liver(model, patient) if model.needs_click else model.segment(patient.volume)
    how = "one click" if model.needs_click else "without any click"
    yield f"   By the version that was trained, {how}: Dice {dice(after.data, patient.liver):.2f}"
    yield f"   {_draw_next(folder, patient, before, after, how)}"


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


def _draw_click(folder: Path, clicked: Answers) -> Path:
    """The scan with a click, and the mask that answers it, on the slice of the largest lesion."""
    patient, label = clicked.patient, next(iter(clicked.masks))
    click, lesion = patient.click_in(label), patient.lesions.data == label
    z = round(float(patient.volume.index_of(click)[0]))
    mask = clicked.masks[label].data
    panels = [
        Panel("Click", patient.volume, z, (), click, frame=(lesion, mask)),
        Panel(
            f"Mask: Dice {dice(mask, lesion):.2f}",
            patient.volume,
            z,
            (Outline(lesion, TRUTH, "truth"), Outline(mask, MASK, "mask")),
            frame=(lesion, mask),
        ),
    ]
    return pictures.draw_slices(folder / "click_to_mask.png", panels)


def _draw_next(folder: Path, patient: Patient, before: LabelMap, after: LabelMap, how: str) -> Path:
    """The next patient's liver before and after learning."""
    z = int(patient.liver.sum(axis=(1, 2)).argmax())
    truth = Outline(patient.liver, TRUTH, "truth")
    panels = [
        Panel(
            f"{title}: Dice {dice(mask.data, patient.liver):.2f}",
            patient.volume,
            z,
            (truth, Outline(mask.data, colour, "mask")),
            frame=(patient.liver, before.data, after.data),
        )
        for title, mask, colour in (("Before, one click", before, EARLIER), (f"After, {how}", after, MASK))
    ]
    return pictures.draw_slices(folder / "next_patient.png", panels)
