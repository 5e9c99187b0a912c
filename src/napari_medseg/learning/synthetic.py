"""Synthetic scans with known objects: what the click model learns 'one click, one object' from.

Organs, vessels, shells and walls of random shape and brightness, and among them lesions: small and large, bright, dark
and nearly invisible, with rims and necrotic cores, touching walls of their own brightness; then the scanner's blur,
noise, bias field and thick slices. Every draw comes from the generator that is passed in, so a seed makes a scan again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticScan:
    """A scan and its objects.

    Parameters
    ----------
    image : ndarray of float32, shape (Z, Y, X)
        Intensities without unit.
    objects : ndarray of uint8, shape (Z, Y, X)
        Which object each voxel belongs to; 0 is background that nobody clicks on.
    lesions : tuple of int
        The objects that are lesions; the others are organs, vessels and walls.
    spacing_mm : tuple of float
        Voxel size along (z, y, x).
    """

    image: Floats
    objects: NDArray[np.uint8]
    lesions: tuple[int, ...]
    spacing_mm: tuple[float, float, float]


def make_scan(rng: Generator, size: int = 96) -> SyntheticScan:
    """Draw one scan of `size` voxels a side, fewer along its thick axis."""
    canvas = _Canvas(rng, size)
    recipes = (_mixed, _lung, _soft_tissue, _hot_spots)
    recipes[int(rng.choice(4, p=[0.4, 0.2, 0.25, 0.15]))](canvas)
    image = canvas.image()
    objects = canvas.objects
    if rng.random() < 0.65:
        thick = int(rng.integers(2, 7))
        axis = int(rng.choice(3, p=[0.7, 0.15, 0.15]))
        n = size // thick
        image, objects = _thick_slices(image, axis, thick, n), np.take(objects, np.arange(n) * thick + thick // 2, axis)
    else:
        axis, thick = 0, 1
    image = _scanner_noise(rng, image)
    finest = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
    spacing = [finest] * 3
    spacing[axis] *= thick
    return SyntheticScan(
        np.ascontiguousarray(image, np.float32),
        np.ascontiguousarray(objects),
        tuple(canvas.lesions),
        (spacing[0], spacing[1], spacing[2]),
    )


class _Canvas:
    """Objects and brightness, painted one over the other in warped coordinates."""

    def __init__(self, rng: Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.objects = np.zeros((size,) * 3, np.uint8)
        self.brightness = np.zeros((size,) * 3, np.float32)
        self.texture = np.zeros((size,) * 3, np.float32)
        self.lesions: list[int] = []
        self.n_objects = 0
        self.noise_level = float(np.exp(rng.uniform(np.log(0.01), np.log(0.12))))
        amplitude = rng.uniform(0.0, 0.08) * size
        grid = np.arange(size, dtype=np.float32)
        self.axes = [
            _smooth_noise(rng, size, int(rng.integers(4, 8))) * np.float32(amplitude) + grid.reshape(shape)
            for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
        ]
        self.reach = int(np.ceil(amplitude)) + 2
        self.roughness = _smooth_noise(rng, size, int(rng.integers(6, 20)))

    def image(self) -> Floats:
        """Brightness with each object's texture."""
        rng = self.rng
        coarse = _smooth_noise(rng, self.size, int(rng.integers(12, 33)))
        fine = ndimage.gaussian_filter(rng.standard_normal(self.objects.shape, np.float32), 1.0, truncate=2.0)
        mix = coarse * np.float32(rng.random()) + fine * np.float32(3.0 * rng.random())
        return np.asarray(self.brightness + self.texture * mix, np.float32)

    def new_object(self, *, is_lesion: bool = False) -> int:
        """Number of a new object; the last one again when 250 are reached."""
        self.n_objects = min(self.n_objects + 1, 250)
        if is_lesion:
            self.lesions.append(self.n_objects)
        return self.n_objects

    def fill(self, where: NDArray[np.bool_], number: int, brightness: float, texture: float) -> None:
        """Paint everywhere at once."""
        self.objects[where], self.brightness[where], self.texture[where] = number, brightness, texture

    def box(self, centre: Floats, radius: float) -> tuple[slice, slice, slice]:
        """Region that a shape of this radius can reach, warp included."""
        low = np.clip(np.floor(centre - radius - self.reach), 0, self.size - 1).astype(int)
        high = np.clip(np.ceil(centre + radius + self.reach) + 1, 1, self.size).astype(int)
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def ellipsoid(self, centre: Floats, radii: Floats, rough: float) -> tuple[tuple[slice, ...], Floats]:
        """Region and implicit function (inside below 1) of a rotated, rough super-ellipsoid."""
        cut = self.box(centre, float(radii.max()) * 1.3)
        turn = np.linalg.qr(self.rng.standard_normal((3, 3)))[0].astype(np.float32)
        d = [a[cut] - c for a, c in zip(self.axes, centre, strict=True)]
        power = float(self.rng.choice([2.0, 2.0, 2.0, 3.0, 1.5]))
        value = np.zeros_like(d[0])
        for k in range(3):
            along = (turn[k, 0] * d[0] + turn[k, 1] * d[1] + turn[k, 2] * d[2]) / radii[k]
            value += np.square(along) if power == 2.0 else np.abs(along) ** power
        return cut, value + rough * self.roughness[cut]

    def paint(
        self, cut: tuple[slice, ...], inside: NDArray[np.bool_], number: int, brightness: float, texture: float
    ) -> None:
        """Paint part of a region."""
        self.objects[cut][inside] = number
        self.brightness[cut][inside] = brightness
        self.texture[cut][inside] = texture

    def anywhere(self, margin: float = 0.0) -> Floats:
        """A random place."""
        return self.rng.uniform(margin, self.size - margin, 3).astype(np.float32)


def _tissue(c: _Canvas, n: int, low: float = 0.0, high: float = 1.0) -> None:
    """Fill the canvas with `n` tissues that interlock, each an object only where `n` is small."""
    fields = np.stack([_smooth_noise(c.rng, c.size, int(c.rng.integers(3, 9))) for _ in range(n)])
    winner = fields.argmax(0)
    for k in range(n):
        number = c.new_object() if c.rng.random() < 0.5 else 0
        c.fill(winner == k, number, c.rng.uniform(low, high), _texture(c))


def _texture(c: _Canvas) -> float:
    return float(c.rng.choice([0.0, 1.0, 1.0, 2.5])) * c.noise_level * float(c.rng.random())


def _organs(c: _Canvas, n: int) -> None:
    for _ in range(n):
        radius = float(np.exp(c.rng.uniform(np.log(0.06), np.log(0.4)))) * c.size
        radii = (radius * c.rng.uniform(0.4, 1.0, 3)).astype(np.float32)
        cut, value = c.ellipsoid(c.anywhere(), radii, c.rng.uniform(0.0, 0.2))
        number, brightness, texture = c.new_object(), c.rng.uniform(0, 1), _texture(c)
        c.paint(cut, value < 1.0, number, brightness, texture)
        if c.rng.random() < 0.35:  # a shell: its inside is another object, of another brightness
            inner = value < float(c.rng.uniform(0.3, 0.85))
            c.paint(cut, inner, c.new_object(), c.rng.uniform(0, 1), _texture(c))


def _vessels(c: _Canvas, n: int, brightness: float | None = None, widest: float = 5.0) -> None:
    for _ in range(n):
        radius = float(np.exp(c.rng.uniform(np.log(0.8), np.log(widest))))
        number = c.new_object()
        level = c.rng.uniform(0, 1) if brightness is None else brightness * c.rng.uniform(0.9, 1.1)
        point = c.anywhere()
        direction = c.rng.standard_normal(3).astype(np.float32)
        for _ in range(int(c.rng.integers(15, 70))):
            direction += 0.35 * c.rng.standard_normal(3).astype(np.float32)
            direction /= np.linalg.norm(direction) + 1e-6
            point = point + direction * max(radius * 0.7, 1.0)
            if (point < 0).any() or (point >= c.size).any():
                break
            cut = c.box(point, radius)
            squared = sum(np.square(a[cut] - p) for a, p in zip(c.axes, point, strict=True))
            c.paint(cut, squared < radius**2, number, level, 0.0)


def _wall(c: _Canvas, brightness: float) -> NDArray[np.bool_]:
    """A half-space of one tissue, its surface bent; returns where it is."""
    normal = c.rng.standard_normal(3).astype(np.float32)
    normal /= np.linalg.norm(normal)
    depth = sum(n * (a - c.size / 2) for n, a in zip(normal, c.axes, strict=True))
    where: NDArray[np.bool_] = depth > c.rng.uniform(0.1, 0.4) * c.size
    c.fill(where, c.new_object(), brightness, _texture(c))
    return where


def _lesion(c: _Canvas, radius: float, contrast: Callable[[float], float], near: Floats | None = None) -> None:
    """A lesion of one to four lobes, sometimes with a rim or a necrotic core: one object, whatever its parts."""
    rng = c.rng
    centre = c.anywhere(2.0) if near is None else near
    number = c.new_object(is_lesion=True)
    around = c.brightness[tuple(np.clip(centre.astype(int), 0, c.size - 1))]
    brightness, texture = contrast(float(around)), _texture(c)
    rough = float(rng.choice([0.0, 0.1, 0.25, 0.45]))
    for lobe in range(int(rng.choice([1, 1, 1, 2, 3, 4]))):
        spread = 0.0 if lobe == 0 else 0.8 * radius
        place = (centre + rng.normal(0, 1, 3) * spread / 1.7).astype(np.float32)
        radii = (radius * rng.uniform(0.55, 1.15, 3)).astype(np.float32)
        cut, value = c.ellipsoid(place, np.maximum(radii, 1.0), rough)
        c.paint(cut, value < 1.0, number, brightness, texture)
        if radius > 4 and rng.random() < 0.3:
            core = value < float(rng.uniform(0.15, 0.75))
            c.paint(cut, core, number, contrast(float(around)) if rng.random() < 0.5 else around, texture)


def _radius(c: _Canvas, low: float = 1.5, high: float = 28.0) -> float:
    return float(np.exp(c.rng.uniform(np.log(low), np.log(high))))


def _by_noise(c: _Canvas) -> Callable[[float], float]:
    """Contrast to the surroundings in units of the noise: from invisible to obvious."""
    return lambda around: around + c.rng.choice([-1, 1]) * c.rng.uniform(0.3, 5.0) * max(c.noise_level, 0.02)


def _mixed(c: _Canvas) -> None:
    _tissue(c, int(c.rng.integers(1, 6)))
    _organs(c, int(c.rng.integers(3, 14)))
    _vessels(c, int(c.rng.integers(0, 8)))
    for _ in range(int(c.rng.integers(2, 8))):
        _lesion(c, _radius(c), _by_noise(c) if c.rng.random() < 0.6 else lambda _: float(c.rng.uniform(0, 1)))


def _lung(c: _Canvas) -> None:
    """Dark parenchyma, bright vessels and walls, nodules as bright as they are or like ground glass."""
    rng = c.rng
    c.noise_level = float(rng.uniform(0.01, 0.06))
    c.fill(np.ones_like(c.objects, bool), 0, rng.uniform(0.0, 0.15), c.noise_level)
    tissue = float(rng.uniform(0.6, 1.0))
    walls = [_wall(c, tissue * rng.uniform(0.9, 1.1)) for _ in range(int(rng.integers(0, 3)))]
    _vessels(c, int(rng.integers(6, 30)), tissue, widest=4.0)
    surface = [np.argwhere(w ^ ndimage.binary_dilation(w)) for w in walls]
    for _ in range(int(rng.integers(3, 9))):
        near = None
        edge = [s for s in surface if len(s)]
        if edge and rng.random() < 0.4:
            some = edge[int(rng.integers(len(edge)))]
            near = some[int(rng.integers(len(some)))].astype(np.float32)
        level = tissue * float(rng.uniform(0.85, 1.1) if rng.random() < 0.7 else rng.uniform(0.25, 0.8))
        _lesion(c, _radius(c, 1.5, 14.0), lambda _, level=level: level, near)  # type: ignore[misc]


def _soft_tissue(c: _Canvas) -> None:
    """Muscle, fat, bone and one or two large lesions that look much like muscle."""
    rng = c.rng
    c.fill(np.ones_like(c.objects, bool), 0, 0.0, 0.0)
    limb = np.full(3, c.size / 2, np.float32) + rng.normal(0, 0.05 * c.size, 3).astype(np.float32)
    cut, value = c.ellipsoid(limb, (c.size * rng.uniform(0.35, 0.9, 3)).astype(np.float32), 0.1)
    fat, muscle = rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0)
    c.paint(cut, value < 1.0, 0, fat, _texture(c))
    c.paint(cut, value < rng.uniform(0.5, 0.95), c.new_object(), muscle, _texture(c))
    _organs(c, int(rng.integers(1, 7)))
    _vessels(c, int(rng.integers(0, 5)))
    for _ in range(int(rng.integers(1, 4))):
        offset = float(rng.choice([-1, 1]) * rng.uniform(0.5, 6.0)) * c.noise_level
        where = (limb + rng.normal(0, 0.15 * c.size, 3)).astype(np.float32)
        _lesion(c, _radius(c, 5.0, 0.33 * c.size), lambda _, offset=offset: muscle + offset, where)  # type: ignore[misc]


def _hot_spots(c: _Canvas) -> None:
    """PET-like: a dim smooth body, bright lesions and bright normal uptake, blurred."""
    rng = c.rng
    _tissue(c, int(rng.integers(1, 5)), 0.05, 0.3)
    _organs(c, int(rng.integers(0, 3)))
    c.brightness *= 0.4
    for _ in range(int(rng.integers(2, 7))):
        level = float(rng.uniform(0.25, 1.0))
        _lesion(c, _radius(c, 2.5, 25.0), lambda _, level=level: level)  # type: ignore[misc]
    c.texture += np.float32(0.5 * c.noise_level)
    blur = float(rng.uniform(1.0, 3.0))
    c.brightness = ndimage.gaussian_filter(c.brightness, blur, truncate=2.5)


def _smooth_noise(rng: Generator, size: int, cells: int) -> Floats:
    """Smooth random field of unit deviation, about `cells` bumps a side."""
    coarse = rng.standard_normal((cells,) * 3, np.float32)
    at = np.linspace(0, cells - 1, size)
    near = np.clip(at.astype(int), 0, cells - 2)
    t = (at - near).astype(np.float32)
    t = t * t * (3 - 2 * t)
    m = np.zeros((size, cells), np.float32)
    m[np.arange(size), near], m[np.arange(size), near + 1] = 1 - t, t
    field = np.matmul(m, coarse @ m.T)
    field = (m @ field.reshape(cells, -1)).reshape(size, size, size)
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def _thick_slices(image: Floats, axis: int, thick: int, n: int) -> Floats:
    moved = np.moveaxis(image, axis, 0)[: n * thick]
    return np.moveaxis(moved.reshape(n, thick, *moved.shape[1:]).mean(1), 0, axis)


def _scanner_noise(rng: Generator, image: Floats) -> Floats:
    """Partial volume, bias field, noise, streaks, and sometimes an inverted or bent intensity scale."""
    if rng.random() < 0.8:
        image = ndimage.gaussian_filter(image, float(rng.uniform(0.2, 1.0)), truncate=2.5)
    if rng.random() < 0.4:
        z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape)
        a, b, c = rng.normal(0, 0.25, 3).astype(np.float32)
        image = image * np.exp(a * z[:, None, None] + b * y[:, None] + c * x)
    sigma = np.float32(np.exp(rng.uniform(np.log(0.005), np.log(0.12))))
    noise = rng.standard_normal(image.shape, np.float32)
    if rng.random() < 0.4:
        noise = ndimage.uniform_filter(noise, int(rng.integers(2, 4))) * np.float32(3.0)
    image = image + sigma * noise
    if rng.random() < 0.1:
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(2, 8)
        y, x = np.mgrid[: image.shape[1], : image.shape[2]]
        image = image + np.float32(0.05) * np.sin((np.cos(angle) * y + np.sin(angle) * x) / pitch).astype(np.float32)
    if rng.random() < 0.3:
        image = -image
    if rng.random() < 0.3:
        image = np.sign(image) * np.abs(image) ** np.float32(rng.uniform(0.6, 1.6))
    return image
