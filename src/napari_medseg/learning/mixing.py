"""How much is kept of what the answers to clicks have learned: a mix of old and new weights.

Between the weights of two versions lies a line of networks, of which those in the middle often know both what the old
one knew and what the new one learned (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, eq. 1).
Nothing of the old version is the mix 0: then every answer to a click stays as it was, bit by bit.
"""

from __future__ import annotations

import copy

import torch

from napari_medseg.networks.click_unet import ClickUNet

PARTS = (1.0, 0.5, 0.25)
PARTS_FROM_ONE_SCAN = (0.25,)
SMALLEST_PART = 0.125


def mixed(old: ClickUNet, new: ClickUNet, part: float) -> ClickUNet:
    """Return the new network with its click path moved back to `part` of the way from the old one; a copy."""
    network = copy.deepcopy(new)
    before = dict(old.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("label_"):
                start = before[name].to(parameter)
                parameter.copy_(start if part == 0 else start.lerp(parameter, part))
    return network
