"""What the dock says reads as sentences, whoever said it."""

import pytest

from napari_medseg.widgets.sentences import sentence


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("fine-tuning was stopped: nothing was changed", "Fine-tuning was stopped: nothing was changed."),
        ("Accepted: 2 lesions.", "Accepted: 2 lesions."),
        ("ct.nii.gz is cut short: copy it again", "ct.nii.gz is cut short: copy it again."),
        ("'a' has 4 axes: a scan has two or three.", "'a' has 4 axes: a scan has two or three."),
        ("/data/x is empty", "/data/x is empty."),
        ("Resampling for display…", "Resampling for display…"),
        ("nnUNet weights are not read", "nnUNet weights are not read."),
        ("save it first?", "Save it first?"),
        ("one thing\nand another", "One thing.\nAnd another."),
        ("Dice 0.50 -> 0.60: version 2 is active", "Dice 0.50 → 0.60: version 2 is active."),
        ("", ""),
    ],
)
def test_sentences(said, shown):
    assert sentence(said) == shown
    assert sentence(shown) == shown
