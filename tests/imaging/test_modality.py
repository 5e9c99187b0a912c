"""A scan that does not say what it is: CT only where that is beyond doubt."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medseg.imaging.modality import guess_modality


def ct_like():
    rng = np.random.default_rng(0)
    data = np.full((20, 40, 40), -1000, np.int16)
    data[:, 8:32, 8:32] = rng.normal(40, 15, (20, 24, 24))
    return data


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("HU", ct_like(), "CT"),
        ("HU with marks outside the field", np.where(ct_like() == -1000, [-1000, -3024] * 20, ct_like()), "CT"),
        ("resampled HU", ct_like() * 0.999 + 0.25, "CT"),
        ("shifted to positive", ct_like() + 1024, ""),
        ("MR", np.abs(ct_like()) + 5, ""),
        ("scaled to 0..1", (ct_like() + 1000) / 1040, ""),
        ("all air", np.full((4, 5, 6), -1000, np.int16), ""),
        ("a mask", (ct_like() > 0).astype(np.uint8), ""),
        ("a difference image", ct_like().astype(np.float32) * 3 - 900, ""),
        ("not a number", np.where(ct_like() > 60, np.nan, ct_like()), ""),
        ("fractions far below air", ct_like() * 1.7, ""),
    ],
)
def test_only_hounsfield_units_are_ct(name, data, expected):
    assert guess_modality(data) == expected
