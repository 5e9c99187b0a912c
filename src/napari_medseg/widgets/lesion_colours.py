"""The colours of lesions as a Labels layer wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_medseg.session.lesions import COLOURS, MAX_LABEL, Lesion


def colours_of(lesions: tuple[Lesion, ...]) -> DirectLabelColormap:
    """Return the layer's colours: those of the table, and ready ones for labels that are not in it yet."""
    colours: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    colours.update({label: COLOURS[(label - 1) % len(COLOURS)] for label in range(1, MAX_LABEL + 1)})
    colours.update({lesion.label: lesion.colour if lesion.visible else "transparent" for lesion in lesions})
    return DirectLabelColormap(color_dict=colours)


def colour_table(colormap: Any) -> np.ndarray[Any, Any]:
    """The colours of all labels, one a row, to compare two colormaps by."""
    return np.array([colormap.color_dict.get(label, (0, 0, 0, 0)) for label in range(MAX_LABEL + 1)])
