"""The choice among views: what its loss rewards, and that fitting it touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medseg.learning.view_quality import choice_loss, fit_quality
from napari_medseg.networks.click_unet import ClickUNet
from napari_medseg.segmentation.click import widths_in_ladder
from napari_medseg.segmentation.views import View


def test_choosing_the_better_view_costs_less() -> None:
    reached = torch.tensor([[0.2, 0.9, 0.5]])
    right = choice_loss(torch.tensor([[-2.0, 2.0, 0.0]]), reached)
    wrong = choice_loss(torch.tensor([[2.0, -2.0, 0.0]]), reached)
    assert right < wrong


def test_views_that_a_ladder_does_not_have_count_for_nothing() -> None:
    estimate, reached = torch.tensor([[-1.0, 1.5]]), torch.tensor([[0.3, 0.8]])
    padded = choice_loss(torch.cat([estimate, torch.tensor([[9.0]])], 1), torch.cat([reached, -torch.ones(1, 1)], 1))
    torch.testing.assert_close(padded, choice_loss(estimate, reached))


def test_fitting_the_choice_leaves_the_masks_as_they_were() -> None:
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8))
    before = {name: p.clone() for name, p in network.named_parameters()}
    fitting = fit_quality(network, [], np.random.default_rng(1), n_clicks=3)
    assert [next(fitting) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(StopIteration) as end:
        next(fitting)
    assert 0 <= end.value.value <= 1
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(name.startswith("quality_head") for name in moved)


def test_the_choice_may_depend_on_how_wide_a_view_is_among_its_ladder() -> None:
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8)).eval()
    views = torch.randn(1, 7, 16, 16, 16).repeat(3, 1, 1, 1, 1)
    alone = network(views)[1]
    in_ladder = network(views, torch.tensor([0.0, 0.5, 1.0]))[1]
    torch.testing.assert_close(alone, alone[:1].expand(3))
    torch.testing.assert_close(in_ladder[0], alone[0])
    assert len(set(in_ladder.tolist())) == 3


def test_widths_are_told_by_the_narrowest_view() -> None:
    views = [View(np.zeros(3), mm, 48) for mm in (20.0, 40.0, 80.0)]
    np.testing.assert_allclose(widths_in_ladder(views), [0, np.log(2), np.log(4)], rtol=1e-6)


def test_weights_whose_head_knew_no_widths_still_load() -> None:
    torch.manual_seed(0)
    network = ClickUNet(widths=(8, 8, 8, 8)).eval()
    older = network.state_dict()
    older["quality_head.mlp.0.weight"] = older["quality_head.mlp.0.weight"][:, :4]
    network.load_state_dict(older)
    views = torch.randn(1, 7, 16, 16, 16).repeat(2, 1, 1, 1, 1)
    quality = network(views, torch.tensor([0.0, 1.0]))[1]
    torch.testing.assert_close(quality[0], quality[1])
