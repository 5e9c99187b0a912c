"""Comparing open scans: what is refused, and that stopping leaves things as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_medseg.imaging.registration import Registration
from napari_medseg.session.prior import PriorController


def test_bad_input_is_a_sentence(services, volume) -> None:
    following = PriorController(services.opening, services.display)
    following.compare(volume)
    assert (
        services.session.message == f"'{volume.name}' and '{volume.name}' are the same scan: choose the prior visit's"
    )
    assert following.found is None
    following.compare(replace(volume))
    assert services.session.message == "Open both visits first: the prior, then the current scan."
    assert services.session.busy is None


def test_a_comparison_without_lesions_gives_the_map(services, volume, monkeypatch) -> None:
    from napari_medseg.followup import compare as room

    monkeypatch.setattr(room, "register_rigid", lambda *_s, **_h: Registration(np.eye(4), 0.5, 1.0))
    prior = volume
    data = np.random.default_rng(0).normal(100, 20, volume.data.shape).astype(np.float32)
    data[:2] = 0
    current = replace(volume, data=data, name="current")
    services.opening.choose(current)
    following = PriorController(services.opening, services.display)
    assert following.choices() == (prior,)
    following.compare(prior)
    assert following.found is not None, services.session.message
    assert "No lesion is marked" in services.session.message
    assert following.found.change.map.data.shape == volume.data.shape
    following.forget()
    assert following.found is None


def test_stopping(slow, volume, another_volume) -> None:
    slow.opening.choose(another_volume)
    following = PriorController(slow.opening, slow.runner)
    following.compare(volume)
    assert slow.session.busy.name == f"Comparing with {volume.name}"
    slow.session.busy.cancel()
    slow.runner.finish()
    assert (following.found, slow.session.busy, slow.session.message) == (None, None, "Stopped.")
