import json
import shutil

import pytest
import torch

from napari_medseg.errors import ModelError
from napari_medseg.models.checkpoint import AutomaticSettings, Card, load_checkpoint, read_card, save_checkpoint
from napari_medseg.networks.click_unet import ClickUNet


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ClickUNet(widths=(8, 8, 8, 16), n_labels=2)


@pytest.fixture
def saved(network, tmp_path):
    settings = AutomaticSettings(spacing_mm=(3.0, 1.0, 1.0))
    card = Card(name="liver", labels={1: "liver", 4: "lesion"}, needs_click=False, automatic=settings)
    return save_checkpoint(tmp_path / "liver", network, card)


def test_comes_back_as_saved(network, saved):
    checkpoint = load_checkpoint(saved)
    assert checkpoint.folder == saved
    assert checkpoint.card.labels == {1: "liver", 4: "lesion"}
    assert checkpoint.card.automatic is not None
    assert checkpoint.card.automatic.spacing_mm == (3.0, 1.0, 1.0)
    assert not checkpoint.network.training
    for name, value in network.state_dict().items():
        again = checkpoint.network.state_dict()[name]
        assert again.dtype == torch.float32
        assert torch.allclose(again, value, rtol=1e-3, atol=1e-6), name


def test_weights_are_stored_in_half_the_size(network, saved):
    n_values = sum(v.numel() for v in network.state_dict().values())
    assert (saved / "weights.safetensors").stat().st_size < 2.2 * n_values + 20_000


def test_a_weight_too_large_for_16_bits_keeps_its_value(network, tmp_path):
    with torch.no_grad():
        network.click_head.bias.fill_(1e6)
    again = load_checkpoint(save_checkpoint(tmp_path / "m", network, Card(name="m"))).network
    assert torch.equal(again.click_head.bias, network.click_head.bias)


def test_a_diverged_network_is_not_saved(network, saved):
    before = read_card(saved).sha256
    with torch.no_grad():
        network.click_head.bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"click_head\.bias"):
        save_checkpoint(saved, network, Card(name="m"))
    assert before


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "missing", "text"])
def test_damaged_weights_are_refused(saved, damage):
    weights = saved / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    weights.write_bytes({"flip": content, "truncate": content[:-100], "empty": b"", "text": b"hello"}.get(damage, b""))
    if damage == "missing":
        weights.unlink()
    with pytest.raises(ModelError, match="copy the"):
        load_checkpoint(saved)


@pytest.mark.parametrize("card", ["", "{", "[]", "{}", '{"name": 3, "version": "x"}'])
def test_a_foreign_card_is_refused(saved, card):
    (saved / "card.json").write_text(card)
    with pytest.raises(ModelError, match="not a model card"):
        load_checkpoint(saved)


def test_a_folder_without_card_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is not a model"):
        load_checkpoint(tmp_path)


def test_an_unknown_architecture_is_refused(saved):
    card = json.loads((saved / "card.json").read_text())
    (saved / "card.json").write_text(json.dumps({**card, "architecture": "os.system"}))
    with pytest.raises(ModelError, match=r"unknown architecture 'os\.system'"):
        load_checkpoint(saved)


def test_weights_of_another_network_are_refused(saved, tmp_path):
    other = save_checkpoint(tmp_path / "other", ClickUNet(widths=(8, 8, 8, 8)), Card(name="other"))
    card = json.loads((saved / "card.json").read_text())
    foreign = json.loads((other / "card.json").read_text())
    shutil.copy(other / "weights.safetensors", saved / "weights.safetensors")
    (saved / "card.json").write_text(json.dumps({**card, "sha256": foreign["sha256"]}))
    with pytest.raises(ModelError, match="do not fit"):
        load_checkpoint(saved)
