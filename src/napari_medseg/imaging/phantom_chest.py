"""A CT-like chest and upper abdomen: lungs, heart, liver, bones, vessels, and lesions of known masks.

Hounsfield units of a contrast scan in the portal venous phase. Positions are RAS millimetres; the liver lies on the
right, the stomach's gas anterior and the spine posterior, so every flip shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging.phantom_shapes import (
    Canvas,
    Field,
    Positions,
    Triple,
    Waves,
    column,
    correlated_noise,
    ellipsoid,
    paint_tree,
    tree,
    tube,
    union,
)

ORGANS = {1: "lungs", 2: "heart", 3: "liver", 4: "spleen", 5: "kidneys", 6: "bones", 7: "aorta", 8: "stomach"}
_LUNG_DIRECTIONS = (
    (0.9, 0.7, 0.1),
    (1.0, -0.2, 0.1),
    (0.6, -0.9, -0.1),
    (0.7, 0.5, -0.6),
    (0.6, -0.4, -0.8),
    (0.5, 0.4, 0.9),
    (0.5, -0.6, 0.8),
)
_ORGAN_OF = {name: label for label, name in ORGANS.items()}


@dataclass(frozen=True)
class Lesion:
    """One lesion of a phantom: where, how large, how it looks."""

    name: str
    centre: Triple
    radii: Triple
    value: float
    core: float
    rough: float = 0.12


@dataclass(frozen=True)
class ChestPatient:
    """What differs between patients."""

    seed: int
    build: float = 1.0  # width of the body against the average
    fat_mm: float = 17.0
    liver_shift: Triple = (0.0, 0.0, 0.0)
    lesions: tuple[Lesion, ...] = field(default_factory=tuple)


PATIENTS = {
    1: ChestPatient(
        seed=11,
        lesions=(
            Lesion("liver lesion", (74.0, -16.0, -22.0), (19.0, 17.0, 18.0), 66.0, 38.0),
            Lesion("lung nodule", (-78.0, -8.0, 44.0), (10.5, 10.0, 10.0), 34.0, 34.0, rough=0.22),
            Lesion("liver lesion", (22.0, 44.0, -14.0), (10.0, 9.0, 9.0), 62.0, 55.0),
        ),
    ),
    2: ChestPatient(
        seed=29,
        build=0.93,
        fat_mm=12.0,
        liver_shift=(-5.0, 2.0, -6.0),
        lesions=(
            Lesion("liver lesion", (66.0, 26.0, -38.0), (22.0, 18.0, 20.0), 64.0, 36.0),
            Lesion("lung nodule", (82.0, -22.0, 50.0), (8.5, 9.0, 8.5), 30.0, 30.0, rough=0.25),
            Lesion("liver lesion", (44.0, -38.0, -14.0), (12.0, 11.0, 11.0), 58.0, 48.0),
        ),
    ),
}


class Chest:
    """One patient on one grid: ``image`` (HU without noise), ``organs`` and ``lesions`` after construction."""

    def __init__(self, patient: ChestPatient, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> None:
        self.patient = patient
        self.canvas = Canvas(shape, affine, background=-1000.0)
        self.organs = np.zeros(shape, np.uint8)
        self.lesions = np.zeros(shape, np.uint8)
        rng = np.random.default_rng(patient.seed)
        bend = [4.0 * self.canvas.waves(Waves.random(rng, 38.0)) for _ in range(3)]
        c = self.canvas
        self.here: Positions = (
            (c.right + bend[0]) / np.float32(patient.build),
            c.anterior + bend[1],
            c.superior + bend[2],
        )
        self.fine = c.waves(Waves.random(rng, 4.0))
        self.rough = c.waves(Waves.random(rng, 9.0, n=40))
        self._body()
        self._lungs(rng)
        self._abdomen(rng)
        self._bones()
        self._lesions()

    def _mark(self, distance: Field, organ: str) -> None:
        self.organs[distance < 0] = _ORGAN_OF[organ]

    def _body(self) -> None:
        c, fat = self.canvas, self.patient.fat_mm
        wall = union(
            column(self.here, (0, 0), (150, 104), power=2.6),
            column(self.here, (0, -42), (126, 66), power=2.2),
            blend_mm=16,
        )
        c.paint(wall, 5.0)
        c.paint(wall + 2.5, -104.0 + 7.0 * self.fine)
        muscle = column(self.here, (0, -2), (150 - fat, 103 - fat), power=2.4)
        c.paint(muscle, 52.0 + 6.0 * self.fine)
        # the skin's and the muscles' layers of fat
        c.paint(np.abs(muscle + 6.5 + 2.0 * self.rough) - 1.1, -60.0)
        self.cavity = column(self.here, (0, 2), (138 - fat, 88 - fat), power=2.3)
        right, anterior, superior = self.here
        domes = [
            height - reach * ((right - middle) ** 2 / 66.0**2 + (anterior - 4.0) ** 2 / 78.0**2)
            for middle, height, reach in ((58.0, 26.0, 52.0), (-62.0, 12.0, 46.0))
        ]
        self.below = superior - np.maximum(domes[0], domes[1])  # distance to the diaphragm, negative in the abdomen
        c.paint(self.cavity, -98.0 + 9.0 * self.rough)

    def _lungs(self, rng: np.random.Generator) -> None:
        c = self.canvas
        middle = union(
            column(self.here, (-6, 12), (34, 62)),
            ellipsoid(self.here, (-24, 24, 30), (56, 46, 52)),
            column(self.here, (0, -52), (30, 30)),
            blend_mm=14,
        )
        lungs = np.maximum(np.maximum(self.cavity + 3.0, 4.0 - self.below), -middle)
        c.paint(np.maximum(self.cavity, -self.below - 0.5), 45.0)
        c.paint(np.maximum(np.maximum(self.cavity + 4, -self.below), middle), -70.0 + 30.0 * self.rough)
        c.paint(lungs, -865.0 + 14.0 * self.rough - 0.35 * self.here[1])
        self._mark(lungs, "lungs")
        for side in (1.0, -1.0):
            for x, y, z in _LUNG_DIRECTIONS:
                root = (side * 30.0, -4.0, 40.0 - 4.0 * side)
                branches = tree(rng, root, (side * x, y, z), length=27.0, radius=5.2, levels=6)
                paint_tree(c, branches, 60.0, lungs)
            pipe = tube(self.here, (side * 8.0, -22.0, 60.0), (side * 52.0, -18.0, 22.0), 6.0, 2.5)
            c.paint(np.maximum(pipe - 1.6, -self.below), 20.0)
            c.paint(np.maximum(pipe, -self.below), -985.0)
        self._heart()

    def _heart(self) -> None:
        c = self.canvas
        heart = np.maximum(ellipsoid(self.here, (-22, 22, 34), (52, 40, 44), turn_deg=-28), 4.0 - self.below)
        c.paint(heart - 3.0, -80.0)
        c.paint(heart, 88.0 + 5.0 * self.fine)
        self._mark(heart, "heart")
        for centre, radii in (
            ((-42, 16, 26), (20, 15, 28)),
            ((-6, 36, 30), (24, 13, 27)),
            ((10, 10, 46), (14, 16, 20)),
            ((-16, -8, 48), (24, 11, 18)),
        ):
            chamber = ellipsoid(self.here, centre, radii, turn_deg=-28)
            c.paint(np.maximum(chamber, heart + 5.0), 158.0)
        self._great_vessels(heart)
        aorta = column(self.here, (-15, -36), (11.5, 11.5))
        c.paint(aorta - 1.5, 45.0)
        c.paint(aorta, 166.0)
        self._mark(aorta, "aorta")
        c.paint(np.maximum(column(self.here, (-2, -24), (7, 5)), -self.below - 20), 42.0)  # oesophagus

    def _great_vessels(self, heart: Field) -> None:
        """Ascending aorta, superior vena cava, pulmonary arteries, windpipe: above the heart."""
        c = self.canvas
        for start, end, radius, value in (
            ((6, 24, 40), (10, 16, 100), 14.0, 162.0),
            ((30, 6, 40), (28, 4, 100), 9.0, 138.0),
            ((-22, 36, 44), (-26, 12, 68), 13.0, 158.0),
            ((-26, 12, 68), (-58, -14, 52), 9.0, 158.0),
            ((-24, 10, 66), (44, -8, 46), 9.5, 158.0),
        ):
            vessel = np.maximum(tube(self.here, start, end, radius), -heart)
            c.paint(vessel - 1.5, 30.0)
            c.paint(vessel, value)
        windpipe = tube(self.here, (2, -16, 110), (0, -20, 66), 8.5)
        c.paint(windpipe - 1.8, 40.0)
        c.paint(windpipe, -1000.0)

    def _abdomen(self, rng: np.random.Generator) -> None:
        inside = np.maximum(self.cavity + 1.5, self.below + 3.0)
        self._liver(rng, inside)
        c = self.canvas
        spleen = np.maximum(ellipsoid(self.here, (-90, -34, -22), (25, 40, 42), turn_deg=18), inside)
        c.paint(spleen, 122.0 + 4.0 * self.fine)
        self._mark(spleen, "spleen")
        self._stomach(inside)
        for centre in ((-56.0, -44.0, -74.0), (54.0, -46.0, -88.0)):
            self._kidney(centre)
        c.paint(np.maximum(column(self.here, (20, -16), (11, 9)), self.below), 146.0)  # inferior vena cava
        aorta = column(self.here, (-12, -30), (10.5, 10.5))
        c.paint(np.maximum(aorta, self.below + 6), 166.0)
        self._mark(np.maximum(aorta, self.below + 6), "aorta")
        pancreas = union(
            tube(self.here, (24, 12, -66), (-16, 18, -56), 10.0),
            tube(self.here, (-16, 18, -56), (-66, -14, -44), 9.0, 7.0),
        )
        c.paint(np.maximum(pancreas + 1.5 * self.rough, inside), 92.0)
        for start, end in (
            ((-30, 44, -84), (34, 52, -88)),
            ((-84, 22, -84), (-40, 40, -72)),
            ((-10, 20, -90), (-44, 6, -84)),
        ):
            bowel = np.maximum(tube(self.here, start, end, 15.0) + 2.0 * self.rough, inside)
            c.paint(np.where(self._free(bowel), bowel, 9.0), 62.0)
            c.paint(np.where(self._free(bowel), bowel + 4.0, 9.0), 18.0 + 30.0 * self.rough)

    def _free(self, distance: Field) -> Field:
        """Where a shape meets no organ."""
        return np.asarray((self.organs == 0) & (distance < 8.0))

    def _liver(self, rng: np.random.Generator, inside: Field) -> None:
        c, (dr, da, ds) = self.canvas, self.patient.liver_shift
        liver = union(
            ellipsoid(self.here, (64 + dr, 0 + da, -22 + ds), (62, 76, 70)),
            ellipsoid(self.here, (4 + dr, 40 + da, -6 + ds), (64, 28, 32)),
            blend_mm=18,
        )
        spine = column(self.here, (2, -54), (38, 44))
        liver = np.maximum(np.maximum(liver, inside), -spine)
        c.paint(liver, 108.0 + 3.5 * self.fine + 2.0 * self.rough)
        self._mark(liver, "liver")
        self.liver = liver
        for root, towards in (
            ((24.0, 0.0, -34.0), (0.9, 0.1, 0.1)),
            ((24.0, 0.0, -34.0), (-0.3, 1.0, 0.4)),
            ((26.0, -16.0, 14.0), (0.8, 0.3, -0.5)),
            ((26.0, -16.0, 14.0), (0.5, 0.9, -0.3)),
        ):
            branches = tree(rng, (root[0] + dr, root[1] + da, root[2] + ds), towards, length=26.0, radius=5.0, levels=4)
            paint_tree(c, branches, 150.0, liver + 2.0)
        bladder = ellipsoid(self.here, (36 + dr, 46 + da, -58 + ds), (14, 18, 22))
        c.paint(bladder - 2.0, 50.0)
        c.paint(bladder, 8.0)

    def _stomach(self, inside: Field) -> None:
        c = self.canvas
        stomach = union(
            ellipsoid(self.here, (-60, 14, -12), (38, 40, 34)),
            ellipsoid(self.here, (-34, 44, -44), (44, 22, 24)),
            blend_mm=14,
        )
        stomach = np.maximum(np.maximum(stomach, inside), -(self.liver - 2.0))
        stomach = np.where(self.organs == _ORGAN_OF["spleen"], np.float32(5.0), stomach)
        self._mark(stomach, "stomach")
        c.paint(stomach, 66.0)
        c.paint(stomach + 5.0, 16.0 + 16.0 * self.rough)
        c.paint(np.maximum(stomach + 5.0, 36.0 - c.anterior), -960.0)  # gas rises: the patient lies on the back

    def _kidney(self, centre: Triple) -> None:
        c = self.canvas
        side = np.sign(centre[0])
        kidney = ellipsoid(self.here, centre, (24, 27, 46), turn_deg=-20.0 * side)
        hilum = ellipsoid(self.here, (centre[0] - side * 20, centre[1] + 8, centre[2]), (17, 10, 18))
        kidney = np.maximum(kidney, -hilum)
        c.paint(kidney - 7.0, -98.0)
        self.organs[kidney < 7.0] = 0
        c.paint(kidney, 188.0)
        c.paint(kidney + 8.0, 138.0 + 14.0 * self.rough)
        c.paint(
            np.maximum(ellipsoid(self.here, (centre[0] - side * 8, centre[1] + 3, centre[2]), (8, 6, 16)), kidney),
            -60.0,
        )
        self._mark(kidney, "kidneys")

    def _bones(self) -> None:
        c = self.canvas
        right, anterior, superior = self.here
        back = union(
            ellipsoid((right, anterior, superior * 0), (34, -78, 0), (30, 22, 1e4)),
            ellipsoid((right, anterior, superior * 0), (-34, -78, 0), (30, 22, 1e4)),
        )
        c.paint(np.maximum(back, -self._lung_distance()), 58.0 + 10.0 * self.rough)
        phase = np.mod(superior + 13.0, 31.0) - 15.5
        disc = np.abs(phase) - 11.0  # negative inside a vertebra
        body = column(self.here, (0, -54), (22, 17))
        c.paint(body, 78.0)
        self._bone(np.maximum(body, disc), 175.0 + 26.0 * self.rough)
        arch = np.abs(column(self.here, (0, -80), (14, 12))) - 4.0
        spine = union(tube(self.here, (0, -92, 0), (0, -108, 0), 1.0), column(self.here, (0, -100), (4, 14)))
        wings = np.maximum(column(self.here, (0, -84), (44, 5)), np.abs(phase - 2.0) - 6.0)
        self._bone(np.maximum(union(arch, spine, wings), np.abs(phase + 2.0) - 10.0), 260.0)
        c.paint(column(self.here, (0, -80), (9.5, 8.5)), 22.0)
        self._bone(ellipsoid(self.here, (0, 87, 66), (17, 5.5, 62)), 150.0, cortex=330.0)
        self._ribs()

    def _lung_distance(self) -> Field:
        return np.where(self.organs == _ORGAN_OF["lungs"], np.float32(-5.0), np.float32(5.0))

    def _bone(self, distance: Field, marrow: float | Field, *, cortex: float = 520.0) -> None:
        c = self.canvas
        c.paint(distance, cortex)
        c.paint(distance + 3.2, marrow)
        self._mark(distance, "bones")

    def _ribs(self) -> None:
        right, anterior, superior = self.here
        a, b = 143.0 - self.patient.fat_mm, 93.0 - self.patient.fat_mm
        ring = column(self.here, (0, 2), (a, b), power=2.3)
        backness = -(anterior - 2.0) / b / np.maximum(np.hypot(right / a, (anterior - 2.0) / b), 0.05)
        turn = np.arccos(np.clip(backness, -1.0, 1.0))  # 0 at the spine, pi at the sternum
        for number in range(9):
            top = 120.0 - 25.0 * number
            run = superior - (top - 45.0 * (1 - np.cos(turn)))
            reach = np.pi * 0.78 if number < 5 else np.pi * (0.78 - 0.09 * (number - 4))
            rib = np.sqrt(ring**2 + (0.8 * run) ** 2) - 4.4
            rib = np.maximum(rib, (turn - reach) * 70.0)
            rib = np.maximum(rib, (0.16 - turn) * 70.0)
            self._bone(np.asarray(rib, np.float32), 240.0)
            if number < 5:
                gristle = np.sqrt(ring**2 + (0.8 * run) ** 2) - 4.2
                self.canvas.paint(np.asarray(np.maximum(gristle, (reach - turn) * 70.0), np.float32), 105.0)

    def _lesions(self) -> None:
        c = self.canvas
        for label, lesion in enumerate(self.patient.lesions, start=1):
            shape = ellipsoid((c.right, c.anterior, c.superior), lesion.centre, lesion.radii)
            shape = shape + np.float32(lesion.rough * min(lesion.radii)) * self.rough
            if "nodule" in lesion.name:
                # spikes: thin ridges that reach into the lung
                shape = shape - 3.0 * np.exp(-((self.fine / 0.18) ** 2)) * np.exp(-((np.maximum(shape, 0) / 4.0) ** 2))
            c.paint(shape, lesion.value)
            c.paint(0.6 * (shape + 0.45 * min(lesion.radii)), lesion.core)
            self.lesions[shape < 0] = label

    def scan(self, noise_hu: float, seed: int) -> NDArray[np.int16]:
        """Return the image as a scanner would: with noise, and the couch under the patient, in steps of 4 HU."""
        c = self.canvas
        couch = np.abs(np.hypot(c.right, c.anterior - 300.0) - 412.0) - 1.5
        c.paint(np.asarray(couch, np.float32), -350.0)
        noise = correlated_noise(np.random.default_rng(seed), c.shape)
        image = c.image + noise_hu * noise * np.where(c.image < -950, 0.2, 1.0)
        return np.asarray(np.clip(4 * np.round(image / 4), -1000, 3000), np.int16)
