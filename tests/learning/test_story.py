"""The whole way: corrections on disk, the command line in its own process, the gate, the library, the next scan."""

import numpy as np
import pytest
import torch
from learning_phantom import SPACING, dice, phantom

from napari_medseg.imaging.volume import LabelMap
from napari_medseg.learning.correction import Correction
from napari_medseg.learning.corrections import CorrectionStore
from napari_medseg.models import library as library_module
from napari_medseg.models.card import AutomaticSettings
from napari_medseg.models.checkpoint import Card, save_checkpoint
from napari_medseg.models.library import Library
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.load import load_model
from napari_medseg.session.learn import LearnController
from napari_medseg.session.session import Session


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_corrections_teach_the_next_version_and_one_step_goes_back(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(library_module, "BUNDLED", tmp_path / "weights")
    untaught = Card(
        name="click", labels={1: "Lesion"}, automatic=AutomaticSettings(spacing_mm=SPACING, patch=(16, 32, 32))
    )
    save_checkpoint(tmp_path / "weights" / "click", ClickUNet(widths=(8, 8, 8, 8), n_labels=1), untaught)
    store, library, session = CorrectionStore(tmp_path / "corrections"), Library(tmp_path / "models"), Session()
    for seed in range(3):
        volume, mask = phantom(seed)
        proposed = LabelMap(np.zeros_like(mask.data), mask.affine)
        named = LabelMap(mask.data, mask.affine, {1: "Lesion 1"})
        store.add(Correction(volume, proposed, named, (2, 3, 4, 5, 6, 7, 8)))
    controller = LearnController(session, store, library, arguments=("--steps", "40", "--learning-rate", "0.01"))
    verdict = controller.run_to_the_end()

    assert verdict is not None, session.message
    assert verdict.adopted, verdict.sentence
    assert f"-> {verdict.after.automatic:.2f}, nothing forgotten: version 2 is active" in session.message
    assert library.active("click") == 2
    assert controller.curve.dices
    assert controller.curve.n_steps == 40
    card = library.versions("click")[1]
    assert card.labels == {1: "Lesion"}
    assert card.gate["adopted"]
    assert len(card.data) == 3
    volume, truth = phantom(77)
    answer = load_model(library.path("click")).segment(volume)
    assert dice(answer.data == 1, truth.data == 1) > 0.6
    assert len(store.list()) == 3
    controller.roll_back()
    assert library.active("click") == 1
