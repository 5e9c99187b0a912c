"""How clicks are answered after a training: what held-out figures may decide, and what they may not."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_medseg.learning import examination
from napari_medseg.learning.examination import Examination
from napari_medseg.learning.held_out import HeldOut
from napari_medseg.learning.reports import Figures
from napari_medseg.models.card import AutomaticSettings, Card
from napari_medseg.networks.click_unet import ClickUNet

ANYWHERE = (slice(0, None),) * 3


@pytest.fixture
def chosen(monkeypatch):
    """What is chosen where labels reach `automatic`, and a click `one_click(part, share)`."""

    def choose(automatic, one_click, *, is_whole=True, forgets=lambda part: False):
        lesson = SimpleNamespace(
            cases=(),
            held_out=(HeldOut(0, ANYWHERE, is_whole=is_whole),),
            device="cpu",
            card=Card(name="click"),
            automatic=AutomaticSettings(spacing_mm=(1.0, 1.0, 1.0), patch=(16, 16, 16)),
        )
        exam = Examination(lesson, lambda: False)
        monkeypatch.setattr(examination, "automatic_dice", lambda *_: automatic)
        monkeypatch.setattr(examination, "one_click_dice", lambda made, *_: one_click(*made))
        monkeypatch.setattr(examination, "Checkpoint", lambda network, card: (network, share_of(card)))
        monkeypatch.setattr(exam, "with_part", lambda _network, part: part)
        monkeypatch.setattr(exam, "_clicks_have_learned", lambda _network: True)
        monkeypatch.setattr(exam, "_forgets", lambda part, _before: forgets(part))
        part, share, _ = exam.of_parts(ClickUNet(widths=(8, 8, 8, 8)), Figures(guard=0.6))
        return part, share

    return choose


def share_of(card):
    return card.automatic.share_in_clicks if card.automatic is not None else 0.0


def test_labels_have_a_say_in_clicks_where_they_do_better_than_clicks(chosen):
    assert chosen(0.8, lambda part, share: 0.55 + 0.3 * (share > 0))[1] > 0
    assert chosen(0.8, lambda part, share: 0.55 - 0.3 * (share > 0))[1] == 0


def test_labels_that_do_worse_than_a_click_have_none_however_well_the_held_out_part_went(chosen):
    assert chosen(0.37, lambda part, share: 0.49 + 0.2 * (share > 0))[1] == 0
    assert chosen(None, lambda part, share: 0.49 + 0.2 * (share > 0))[1] == 0


def test_the_other_end_of_the_scan_that_taught_must_show_it_clearly(chosen):
    def better(part, share):
        return 0.8 + 0.03 * (share > 0)

    assert chosen(0.83, better)[1] > 0
    assert chosen(0.91, better, is_whole=False)[1] == 0
    assert chosen(0.62, lambda part, share: 0.55 + 0.19 * (share > 0), is_whole=False)[1] > 0
    assert chosen(0.54, lambda part, share: 0.55 + 0.19 * (share > 0), is_whole=False)[1] == 0


def test_what_clicks_learned_counts_by_whole_cases_alone(chosen):
    def better(part, share):
        return 0.5 + 0.2 * part

    assert chosen(0.3, better)[0] == 1.0
    assert chosen(0.3, better, forgets=lambda part: part > 0.3)[0] == 0.25
    assert chosen(0.3, better, is_whole=False)[0] == 0.25
    assert chosen(0.3, lambda part, share: 0.5 - 0.2 * part, is_whole=False)[0] == 0.0
    assert np.isclose(chosen(0.3, lambda part, share: 0.5 + 0.2 * (part == 0.5))[0], 0.5)
