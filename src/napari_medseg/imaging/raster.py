"""PNG and JPEG pictures as volumes of one slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.assemble import label_map_of, volumes_of
from napari_medseg.imaging.colours import luminance
from napari_medseg.imaging.limits import check_memory, refusing_damage
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.imaging.watch import Tell, silent

_FORMATS = ("PNG", "JPEG")
_MAX_PIXELS = 2**28
_MOST_GREY = 10
_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_raster(path: Path, *, first_only: bool = False, tell: Tell = silent) -> tuple[Volume, ...]:
    """Read a picture as a volume of one slice (1, Y, X); a pixel is taken for 1 mm, colours become luminance.

    Raises
    ------
    ImagingError
        If the picture is damaged, cut off, or larger than 2^28 pixels.
    """
    with refusing_damage(path, "PNG or JPEG"):
        warnings = [f"{path.name} does not give its pixel size; 1 mm is assumed."]
        pixels = _pixels(path, as_labels=False)
        if pixels.ndim == 3:
            pixels = luminance(pixels, path.name, warnings)
        warnings += _oddities(path, pixels)
        return volumes_of(path, pixels[None, None], _AFFINE, warnings=warnings, sides_are_known=False)


def read_raster_label_map(path: Path, *, tell: Tell = silent) -> LabelMap:
    """Read a mask from a PNG: grey values, or the numbers of its palette. A JPEG is refused, as it alters values."""
    with refusing_damage(path, "PNG"):
        pixels = _pixels(path, as_labels=True)
        if pixels.ndim == 3:
            warnings: list[str] = []
            pixels = luminance(pixels, path.name, warnings)
            if warnings:
                raise ImagingError(f"{path.name} is no label map: it holds colours; choose the mask")
        note = f"{path.name} does not give its pixel size; 1 mm is assumed."
        return label_map_of(path, pixels[None], _AFFINE, warnings=[note])


def _oddities(path: Path, pixels: NDArray[Any]) -> list[str]:
    """Say what a look at the picture alone would not tell."""
    warnings = []
    with Image.open(path, formats=_FORMATS) as image:
        is_jpeg, n_frames = image.format == "JPEG", getattr(image, "n_frames", 1)
        if image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1):
            warnings.append(f"{path.name} was turned upright, as its EXIF data ask for.")
    if n_frames > 1:
        warnings.append(f"{path.name} holds {n_frames} pictures; this is the first of them.")
    # Where the data of a JPEG end too early, the library paints the rest in the grey that it had last.
    last = pixels[-max(1, len(pixels) // _MOST_GREY) :]
    if is_jpeg and (last == last[-1, -1]).all() and 0 < int(last.max()) < 255:
        warnings.append(
            f"{path.name} is one single grey at its lower end; it may be cut off, so copy or export it again."
        )
    return warnings


def _pixels(path: Path, *, as_labels: bool) -> NDArray[Any]:
    with Image.open(path, formats=_FORMATS) as file:
        image: Image.Image = file
        width, height = image.size
        if width * height > _MAX_PIXELS:
            raise ImagingError(f"{path.name} says that it is {width} x {height} pixels, more than any X-ray; crop it")
        if as_labels and file.format == "JPEG":
            raise ImagingError(f"{path.name} is a JPEG, which alters values, so it cannot be a mask; save masks as PNG")
        check_memory(path.name, (width, height), width * height * 4)
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "P" and not as_labels:
            return np.array(image.convert("RGB"))
        if image.mode not in ("L", "LA", "P", "1", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
            return np.array(image.convert("RGB"))
        if image.mode == "1":
            return (np.array(image.convert("L")) > 0).astype(np.uint8)
        return np.array(image)
