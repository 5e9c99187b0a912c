"""A FLAIR-like MR of a head: folded cortex, ventricles, cerebellum, eyes, and lesions of known masks.

Arbitrary intensities, with a coil's bias field and Rician noise. A vitamin capsule is taped to the right temple, as
technicians do, so that left and right can be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    tube,
    union,
)

ORGANS = {1: "white matter", 2: "grey matter", 3: "ventricles", 4: "deep nuclei", 5: "cerebellum", 6: "brain stem"}
_ORGAN_OF = {name: label for label, name in ORGANS.items()}
_FOLD_MM = 4.2
_WHITE, _GREY, _FLUID, _FAT, _MUSCLE, _BONE, _MARROW = 330.0, 425.0, 70.0, 620.0, 230.0, 25.0, 260.0


@dataclass(frozen=True)
class BrainPatient:
    """What differs between patients: the seed, white matter lesions and a tumour."""

    seed: int
    plaques: tuple[tuple[Triple, Triple], ...]
    tumour: tuple[Triple, float] | None = None


PATIENTS = {
    1: BrainPatient(
        seed=5,
        plaques=(
            ((24.0, 12.0, 26.0), (7.5, 4.5, 5.0)),
            ((-23.0, -26.0, 24.0), (8.0, 4.5, 5.5)),
            ((27.0, -38.0, 20.0), (5.0, 6.5, 5.0)),
            ((33.0, -6.0, 36.0), (4.5, 4.5, 5.0)),
            ((-20.0, 26.0, 20.0), (5.0, 4.5, 5.0)),
        ),
        tumour=((-38.0, 22.0, 34.0), 15.0),
    )
}


class Head:
    """One patient on one grid: ``image`` without noise, ``organs`` and ``lesions`` after construction."""

    def __init__(self, patient: BrainPatient, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> None:
        self.patient = patient
        self.canvas = Canvas(shape, affine, background=0.0)
        self.organs = np.zeros(shape, np.uint8)
        self.lesions = np.zeros(shape, np.uint8)
        rng = np.random.default_rng(patient.seed)
        c = self.canvas
        bend = [2.2 * c.waves(Waves.random(rng, 26.0)) for _ in range(3)]
        self.here: Positions = (c.right + bend[0], c.anterior + bend[1], c.superior + bend[2])
        self.folds = c.waves(Waves.random(rng, _FOLD_MM, n=160))
        self.depth = c.waves(Waves.random(rng, 7.0, n=60))
        self.fine = c.waves(Waves.random(rng, 3.0, n=40))
        self.bias = c.waves(Waves.random(rng, 90.0))
        self._head()
        self._cerebrum()
        self._deep()
        self._hindbrain()
        self._face()
        self._lesions()

    def _mark(self, distance: Field, organ: str) -> None:
        self.organs[distance < 0] = _ORGAN_OF[organ]

    def _head(self) -> None:
        c = self.canvas
        skull = ellipsoid(self.here, (0, -2, 14), (72, 90, 78), power=2.15)
        neck = np.maximum(column(self.here, (0, -22), (54, 62)), self.here[2] + 20.0)
        face = ellipsoid(self.here, (0, 46, -44), (56, 50, 52), power=2.3)
        skin = union(skull - 7.5, neck, face, blend_mm=22)
        c.paint(skin, 300.0)
        c.paint(skin + 2.2, _FAT + 30.0 * self.fine)
        c.paint(union(skull - 2.5, neck + 9.0, face + 9.0, blend_mm=16), _MUSCLE + 60.0 * self.depth)
        c.paint(skull, _BONE)
        c.paint(np.abs(skull + 3.2) - 1.2 - 0.3 * self.depth, _MARROW)
        self.inner = skull + 6.5
        c.paint(self.inner, _FLUID)
        c.paint(np.maximum(self.inner, self.here[2] + 14.0), 55.0 + 45.0 * self.depth)  # the base of the skull
        capsule = tube((c.right, c.anterior, c.superior), (86, 14, 4), (86, 16, 18), 4.2)
        c.paint(capsule, 780.0)

    def _cerebrum(self) -> None:
        c = self.canvas
        right, anterior, superior = self.here
        frontal = _step((anterior - 20.0) / 5.0)
        temporal = _step((np.abs(right) - 23.0) / 3.0) * _step((34.0 - anterior) / 4.0) * _step((anterior + 36.0) / 5.0)
        base = -3.0 - 18.0 * frontal - 40.0 * temporal * (1 - frontal) - superior
        fissure = 1.4 + 0.9 * self.depth * 0.5 - np.abs(right + 0.8 * np.sin(anterior / 21.0))
        surface = np.maximum(self.inner + 2.2, base)
        surface = np.maximum(surface, np.where(superior > 14.0, fissure, -9.0))
        for side in (1.0, -1.0):  # the Sylvian fissures
            sylvian = tube(self.here, (side * 66, 16, 4), (side * 40, -20, 14), 2.6, 1.0)
            surface = np.maximum(surface, -sylvian)
        # sulci: thin sheets where a wavy function changes sign, deeper in some places than in others
        to_sheet = _FOLD_MM * np.abs(self.folds)
        sulci = np.minimum(0.9 - to_sheet, surface + 14.0 + 3.5 * self.depth)
        cortex = np.asarray(np.maximum(surface, sulci), np.float32)
        c.paint(np.asarray(surface - 2.5, np.float32), _FLUID)
        c.paint(cortex, _GREY + 14.0 * self.fine)
        self._mark(cortex, "grey matter")
        white = np.maximum(surface + 3.8, np.minimum(3.6 - to_sheet, surface + 17.0 + 3.5 * self.depth))
        white = np.asarray(white, np.float32)
        c.paint(white, _WHITE + 9.0 * self.fine + 6.0 * self.depth)
        self._mark(white, "white matter")
        self.surface = np.asarray(surface, np.float32)

    def _deep(self) -> None:
        c = self.canvas
        for side in (1.0, -1.0):
            for centre, radii, turn in (
                ((side * 11, -16, 13), (9, 15, 10), 20.0),  # thalamus
                ((side * 26, 3, 10), (7.5, 15, 11), 14.0),  # putamen
                ((side * 14, 17, 14), (5, 9, 11), 10.0),  # head of the caudate
            ):
                nucleus = ellipsoid(self.here, centre, radii, turn_deg=-side * turn)
                c.paint(nucleus, _GREY - 15.0 + 8.0 * self.fine)
                self._mark(nucleus, "deep nuclei")
        horns = []
        for side in (1.0, -1.0):
            horns += [
                tube(self.here, (side * 7, 28, 16), (side * 10, -4, 25), 5.0, 5.5),
                tube(self.here, (side * 10, -4, 25), (side * 21, -38, 16), 5.5, 7.0),
                tube(self.here, (side * 21, -38, 16), (side * 24, -58, 14), 5.5, 2.0),
                tube(self.here, (side * 23, -38, 14), (side * 36, -8, -8), 4.0, 2.0),
            ]
        ventricles = union(*horns, blend_mm=5)
        third = ellipsoid(self.here, (0, -6, 6), (2.6, 14, 12))
        septum = 1.1 - np.abs(self.here[0])
        ventricles = union(np.asarray(np.maximum(ventricles, septum), np.float32), third)
        c.paint(ventricles - 1.6, _WHITE + 55.0)  # the bright lining
        c.paint(ventricles, _FLUID - 15.0)
        self._mark(ventricles, "ventricles")
        for side in (1.0, -1.0):  # choroid plexus
            c.paint(tube(self.here, (side * 13, -14, 22), (side * 20, -36, 15), 1.8), 380.0)

    def _hindbrain(self) -> None:
        c = self.canvas
        lobes = union(
            ellipsoid(self.here, (24, -56, -26), (30, 26, 21)),
            ellipsoid(self.here, (-24, -56, -26), (30, 26, 21)),
            blend_mm=8,
        )
        lobes = np.maximum(lobes, self.inner + 3.0)
        folia = np.abs(np.mod(np.hypot(self.here[1] + 30.0, self.here[2] + 10.0) + 1.5 * self.depth, 5.0) - 2.5)
        c.paint(lobes - 2.0, _FLUID)
        c.paint(lobes, np.where((folia < 0.55) & (lobes > -9.0), _FLUID + 150.0, _GREY - 10.0) + 8.0 * self.fine)
        c.paint(lobes + 11.0, _WHITE + 10.0)
        self._mark(lobes, "cerebellum")
        stem = union(
            tube(self.here, (0, -20, 2), (0, -27, -20), 11.0, 12.5),
            tube(self.here, (0, -27, -20), (0, -38, -70), 12.0, 7.5),
            blend_mm=6,
        )
        c.paint(stem - 3.5, _FLUID)
        c.paint(stem, _WHITE + 12.0 + 8.0 * self.fine)
        self._mark(stem, "brain stem")
        c.paint(ellipsoid(self.here, (0, -41, -24), (6.5, 4.5, 9.0)), _FLUID - 15.0)

    def _face(self) -> None:
        c = self.canvas
        for side in (1.0, -1.0):
            orbit = tube(self.here, (side * 31, 72, -26), (side * 16, 42, -24), 16.0, 7.0)
            c.paint(orbit, _FAT)
            c.paint(tube(self.here, (side * 30, 68, -26), (side * 15, 40, -23), 2.2), 300.0)
            eye = ellipsoid(self.here, (side * 32, 76, -26), (12.0, 12.0, 12.0))
            c.paint(eye - 1.4, 240.0)
            c.paint(eye, _FLUID - 20.0)
            c.paint(ellipsoid(self.here, (side * 32.5, 85, -26), (4.6, 2.4, 4.6)), 170.0)
            c.paint(ellipsoid(self.here, (side * 16, 58, -44), (10, 22, 18)), 8.0)
            c.paint(ellipsoid(self.here, (side * 52, -34, -36), (9, 14, 13)), 40.0 + 25.0 * self.folds)
        c.paint(ellipsoid(self.here, (0, 76, 10), (17, 7, 11)), 6.0)  # frontal sinus
        nose = tube(self.here, (0, 88, -24), (0, 94, -52), 7.0, 10.0)
        c.paint(nose, 430.0)
        c.paint(ellipsoid(self.here, (0, 62, -50), (5, 34, 16)), 12.0)

    def _lesions(self) -> None:
        c = self.canvas
        label = 0
        where = (c.right, c.anterior, c.superior)
        if self.patient.tumour is not None:
            centre, radius = self.patient.tumour
            label += 1
            oedema = ellipsoid(
                where, (centre[0] + 4, centre[1] - 6, centre[2]), (1.9 * radius, 1.8 * radius, 1.5 * radius)
            )
            oedema = np.maximum(oedema + 5.0 * self.depth, np.maximum(self.surface + 6.0, 4.0 - np.abs(c.right)))
            c.paint(np.where(self.organs == _ORGAN_OF["white matter"], 0.5 * oedema, 9.0), 520.0)
            mass = ellipsoid(where, centre, (radius, radius * 1.1, radius * 0.95)) + 1.8 * self.depth
            c.paint(mass, 640.0 + 25.0 * self.fine)
            c.paint(mass + 0.5 * radius + 1.5 * self.folds, 210.0)
            self.lesions[mass < 0] = label
        for centre, radii in self.patient.plaques:
            label += 1
            plaque = ellipsoid(where, centre, radii) + 0.7 * self.depth
            c.paint(0.7 * plaque, 610.0)
            self.lesions[plaque < 0] = label

    def scan(self, noise: float, seed: int) -> NDArray[np.int16]:
        """Return the magnitude image: bias field, blur of the readout, Rician noise."""
        c = self.canvas
        rng = np.random.default_rng(seed)
        near_coil = 1.0 + 0.10 * self.bias + 0.10 * np.hypot(c.right / 75.0, c.anterior / 95.0) ** 2
        grain = [noise * correlated_noise(rng, c.shape, peak=0.35) for _ in range(2)]
        magnitude = np.hypot(c.image * near_coil + grain[0], grain[1])
        return np.asarray(np.clip(6 * np.round(magnitude / 6), 0, 4000), np.int16)


def _step(value: Field) -> Field:
    """Smooth step from 0 to 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(value, -30.0, 30.0))), np.float32)
