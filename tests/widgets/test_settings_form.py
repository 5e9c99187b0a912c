"""The form over a settings model: its words, its defaults, its refusals."""

from __future__ import annotations

import pytest

from napari_medseg.errors import MedSegError
from napari_medseg.learning.settings import SHOWN_SETTINGS, FineTuneSettings
from napari_medseg.widgets.settings_form import SettingsForm


@pytest.fixture
def form(qtbot) -> SettingsForm:
    made = SettingsForm(FineTuneSettings, SHOWN_SETTINGS)
    qtbot.addWidget(made.native)
    return made


def editor(form: SettingsForm, name: str):
    return form[name]


def test_a_form_left_alone_says_nothing(form: SettingsForm) -> None:
    assert form.arguments() == ()


def test_titles_and_descriptions_are_those_of_the_settings(form: SettingsForm) -> None:
    steps = editor(form, "steps")
    assert steps.label == "Steps"
    assert "number of corrected cases" in steps.tooltip
    assert steps.native.placeholderText() == "automatic"


def test_what_was_changed_becomes_options(form: SettingsForm) -> None:
    editor(form, "steps").value = " 40 "
    editor(form, "pull").value = 0.5
    assert form.arguments() == ("--steps", "40", "--pull", "0.5")


@pytest.mark.parametrize(("name", "value", "title"), [("steps", "many", "Steps"), ("learning_rate", "-1", "Learning")])
def test_a_value_out_of_range_is_named_by_its_title(form: SettingsForm, name: str, value: str, title: str) -> None:
    editor(form, name).value = value
    with pytest.raises(MedSegError, match=f"'{title}.*' cannot be {value}"):
        form.arguments()
