"""The unit in which a DICOM image states its intensities."""

from __future__ import annotations

from napari_medseg.imaging.dicom.elements import Elements

_WRITTEN = {"BQML": "Bq/ml", "NONE": ""}


def read_unit(elements: Elements) -> str:
    """Unit of the scaled values of a PET or nuclear-medicine image, as a person writes it; ``""`` where none stands.

    Units (0054,1001) of grams per millilitre are standardised uptake values (PS3.3 C.8.9.1): by body weight, unless
    SUV Type (0054,1006) names another mass. Rarer units stay in DICOM's own word.
    """
    unit, kind = elements.word(0x00541001), elements.word(0x00541006)
    if unit == "GML":
        return "SUV" if kind in ("", "BW") else f"SUV {kind}"
    return _WRITTEN.get(unit, unit)
