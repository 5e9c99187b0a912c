"""napari writer: Labels layers as masks on their scan's own on-disk grid."""

from __future__ import annotations

from typing import Any


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Labels layer by its suffix: NIfTI, NRRD (also ``.seg.nrrd``), MetaImage, DICOM SEG, surfaces.

    Parameters
    ----------
    path : str
        Where to; an older file is replaced only after the new one was read back and compared.
    data : array of int, shape (Z, Y, X)
        The layer's labels.
    attributes : dict
        The layer's attributes.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    MedSegError
        In one sentence: what is wrong with the layer or the path, and what to do.
    """
    from napari_medseg.imaging.files import write_label_map
    from napari_medseg.widgets.labels_layer import label_map_of

    return [str(write_label_map(path, label_map_of(data, attributes)))]
