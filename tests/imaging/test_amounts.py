"""Volumes with three significant digits, from a litre to a voxel."""

import pytest

from napari_medseg.imaging.amounts import millilitres, three_digits


@pytest.mark.parametrize(
    ("volume_ml", "text"),
    [
        (12345.6, "12300 ml"),
        (1082.78, "1080 ml"),
        (999.6, "1000 ml"),
        (142.3, "142 ml"),
        (99.96, "100 ml"),
        (20.0, "20 ml"),
        (5.2349, "5.23 ml"),
        (0.9996, "1 ml"),
        (0.042, "0.042 ml"),
        (0.001, "0.001 ml"),
        (0.000125, "0.125 µl"),
        (2.7e-9, "0.0000027 µl"),
        (0.0, "0 ml"),
    ],
)
def test_a_volume_is_told_with_three_digits(volume_ml, text):
    assert millilitres(volume_ml) == text


@pytest.mark.parametrize(("value", "text"), [(-1082.78, "-1080"), (float("nan"), "nan"), (100, "100")])
def test_other_numbers_are_told_too(value, text):
    assert three_digits(value) == text
