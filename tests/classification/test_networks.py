"""The networks: the flattened encoder, attention, visual words, similarity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_medseg.errors import ModelError
from napari_medseg.networks.channels import POSITIVE, PREVIOUS
from napari_medseg.networks.click_unet import ClickUNet, unfold
from napari_medseg.networks.encoder import ImageEncoder, ResidualBlock, fold, n_pooled, pooled
from napari_medseg.networks.image_classifier import ImageClassifier, histogram
from napari_medseg.networks.registry import build
from napari_medseg.networks.siamese import SiameseNetwork
from napari_medseg.networks.study_classifier import StudyClassifier

NARROW = (8, 8, 16, 16)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_the_encoder_is_the_click_networks() -> None:
    click, encoder = ClickUNet(widths=NARROW), ImageEncoder(widths=NARROW)
    encoder.take_over(click.state_dict())
    x = torch.randn(1, 7, 16, 32, 48)
    assert torch.equal(unfold(fold(x)), x)
    for own, theirs in zip(encoder(x), click.features(x)[0], strict=True):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gradients_in_16_bits_are_those_of_32_bits(depth: int) -> None:
    torch.manual_seed(0)
    block, x = ResidualBlock(3, 32, 32), torch.randn(4, 32, depth, 4, 4)

    def gradients(low: bool) -> list[Tensor]:
        block.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            answer = block(x)
        answer.float().square().mean().backward()
        return [p.grad.clone() for p in block.parameters() if p.grad is not None]

    for _ in range(4):
        garbage = [torch.full((200_000,), float("nan")) for _ in range(4)]  # memory that somebody else wrote
        del garbage
        for low, exact in zip(gradients(low=True), gradients(low=False), strict=True):
            assert float((low - exact).norm()) < 0.2 * float(exact.norm())


def test_in_two_dimensions_it_answers_as_for_a_scan_that_does_not_change_along_z() -> None:
    click = ClickUNet(widths=NARROW)
    solid, flat = ImageEncoder(dims=3, widths=NARROW), ImageEncoder(dims=2, widths=NARROW)
    solid.take_over(click.state_dict())
    flat.take_over(click.state_dict())
    x = torch.randn(1, 7, 1, 32, 48)
    middle = solid(x.expand(-1, -1, 64, -1, -1))[0][:, :, 16]
    found = flat(x[:, :, 0])[0]
    # Group norm sees the zeros beyond the first and last slice in three dimensions alone.
    assert torch.corrcoef(torch.stack([middle.flatten(), found.flatten()]))[0, 1] > 0.995


def test_an_encoder_of_other_widths_is_refused() -> None:
    with pytest.raises(ValueError, match="has shape"):
        ImageEncoder(widths=(8, 8, 8, 8)).take_over(ClickUNet(widths=NARROW).state_dict())


@pytest.mark.parametrize("dims", [2, 3])
def test_pooling_marks_the_mask_else_the_click_else_everything(dims: int) -> None:
    size = (32,) * dims
    x = torch.zeros(3, 7, *size)
    x[0, PREVIOUS, :8] = 1
    x[1, POSITIVE, :8] = 1
    features = [torch.zeros(3, 4, *(s // 2**k for s in size)) for k in range(1, 5)]
    features[0][:, :, :4] = 1.0
    inside = pooled(features, x, (0,))[:, 8:]
    assert inside.shape[1] + 8 == n_pooled((4, 4, 4, 4), (0,), dims=dims)
    torch.testing.assert_close(inside[:, 0], torch.tensor([1.0, 1.0, 0.25]))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("image_classifier", {"dims": 2, "widths": NARROW, "n_classes": 3, "grid": 4}),
        ("image_classifier", {"dims": 3, "widths": NARROW, "n_words": 5}),
        ("study_classifier", {"widths": NARROW, "n_inputs": 2}),
        ("siamese", {"widths": NARROW, "n_embedding": 8}),
    ],
)
def test_the_registry_builds_a_network_again_from_its_own_configuration(architecture: str, config: dict) -> None:
    network = build(architecture, config)
    again = build(architecture, network.config)  # type: ignore[arg-type]
    again.load_state_dict(network.state_dict())
    n_grouped = sum(
        p.numel() for _, starts in network.depth for k, p in network.named_parameters() if k.startswith(starts)
    )
    assert n_grouped == sum(p.numel() for p in network.parameters()), "every parameter is in one group"


def test_a_configuration_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be built"):
        build("image_classifier", {"dims": 4})


def test_attention_sums_to_one_and_padding_changes_nothing() -> None:
    network = StudyClassifier(widths=NARROW, n_inputs=2).eval()
    x, kinds = torch.randn(5, 7, 32, 32), torch.tensor([0, 0, 0, 1, 1])
    logits, attention = network(x, kinds)
    assert attention.shape == (1, 5)
    torch.testing.assert_close(attention.sum(), torch.tensor(1.0))
    described = network.describe(x)
    padded = torch.cat([described, torch.randn(3, described.shape[1])])[None]
    inside = torch.tensor([[True] * 5 + [False] * 3])
    more, longer = network.classify(padded, torch.cat([kinds, torch.zeros(3, dtype=torch.long)])[None], inside)
    torch.testing.assert_close(more, logits)
    assert longer[0, 5:].sum() == 0


def test_visual_words_count_the_nearest() -> None:
    words = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    local = torch.tensor([[[0.9, 0.1], [0.8, 0.0], [0.1, 0.7], [1.0, 0.2]]])
    torch.testing.assert_close(histogram(local, words) ** 2, torch.tensor([[0.75, 0.25]]))


def test_both_branches_are_one_and_similarity_lies_between_0_and_1() -> None:
    network = SiameseNetwork(widths=NARROW, n_embedding=8).eval()
    a, b = torch.randn(2, 7, 32, 32, 32), torch.randn(2, 7, 32, 32, 32)
    there, back = network(a, b), network(b, a)
    torch.testing.assert_close(there, back)
    assert ((there > 0) & (there < 1)).all()
    assert (network(a, a) >= there).all()
    assert isinstance(network.head.out_features, int)


def test_temperature_divides_logits() -> None:
    network = ImageClassifier(dims=2, widths=NARROW)
    network.temperature.fill_(2.0)
    torch.testing.assert_close(
        network.probabilities(torch.tensor([[0.0, 2.0]])), torch.tensor([[0.0, 1.0]]).softmax(-1)
    )
