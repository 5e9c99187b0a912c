"""Amounts as people read them: three significant digits, and a unit."""

from __future__ import annotations

import math


def three_digits(value: float) -> str:
    """Write a number with three significant digits and never with an exponent: ``1080``, ``5.23``, ``0.042``."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    text = f"{round(value, decimals):.{max(decimals, 0)}f}"
    return text.rstrip("0").rstrip(".") if decimals > 0 else text


def millilitres(volume_ml: float) -> str:
    """Write a volume: ``1080 ml``, ``5.23 ml``, ``0.042 ml``; in microlitres below a thousandth: ``0.52 µl``."""
    if 0 < volume_ml < 0.001:
        return f"{three_digits(1000 * volume_ml)} µl"
    return f"{three_digits(volume_ml)} ml"
