"""Units of length that files name, in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 1e-6),
    **dict.fromkeys(("inch", "in", '"'), 25.4),
}


def mm_of_units(units: Sequence[str], name: str, warnings: list[str]) -> list[float]:
    """Millimetres in the unit of each axis; all 1 with a warning where one of several different ones is unknown."""
    units = [unit.strip() for unit in units]
    named = sorted({unit for unit in units if unit})
    if len(named) < 2:
        return [mm_of_unit(named, name, warnings)] * len(units)
    unknown: list[str] = []
    factors = [mm_of_unit([unit] if unit else [], name, unknown) for unit in units]
    if any("assumed" in note for note in unknown):
        return [mm_of_unit(named, name, warnings)] * len(units)
    if set(factors) != {1.0}:
        warnings.append(f"{name} is measured in {' and '.join(named)}; it was converted to millimetres.")
    return factors


def mm_of_unit(units: Sequence[str], name: str, warnings: list[str]) -> float:
    """Millimetres in one unit of a file's axes; 1 with a warning where it is unknown or the axes differ."""
    # JVM programs write the micro sign as an escape.
    known = {_MM.get(unit.strip().lower().replace("\\u00b5", "µ")) for unit in units}
    if not known:
        return 1.0
    factor = known.pop()
    if known or factor is None:
        warnings.append(f"{name} measures in {' and '.join(sorted(set(units)))[:40]!r}; millimetres are assumed.")
        return 1.0
    if factor != 1.0:
        warnings.append(f"{name} is measured in {units[0]}; it was converted to millimetres.")
    return factor
