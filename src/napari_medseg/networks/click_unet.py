"""The promptable 3-D U-Net: a view of the scan with its prompts in, a mask and an estimate of its quality out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medseg.networks.channels import N_CHANNELS
from napari_medseg.networks.encoder import CLICK_WIDTHS, Encoder, ResidualBlock, fold

WIDTHS = CLICK_WIDTHS


class Decoder(nn.Module):
    """From the encoder's features back to half the view's resolution."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))[::-1]
        self.ups = nn.ModuleList([nn.Conv3d(coarse, fine, 1) for fine, coarse in pairs])
        self.blocks = nn.ModuleList([ResidualBlock(3, 2 * fine, fine) for fine, _ in pairs])

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, block, skip in zip(self.ups, self.blocks, features[-2::-1], strict=True):
            x = F.interpolate(up(x), size=skip.shape[2:], mode="nearest")
            x = block(torch.cat([x, skip], 1))
        return x


def _without_widths(_head: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let older versions load, whose head did not know how wide a view is: to them all are alike."""
    name = f"{prefix}mlp.0.weight"
    if name in state and state[name].shape[1] == 4:
        state[name] = F.pad(state[name], (0, 1))


class QualityHead(nn.Module):
    """Estimates the Dice that a view's mask reaches on the whole lesion: how the best of several views is chosen.

    It sees only how the mask fills its view, and how wide that is among the views tried: in whole scans the widest hold
    many things, in a crop round a lesion they do not. Features of the scan would tell it which data set a scan is from,
    and with that, how large its lesions are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(5, 64), nn.LeakyReLU(0.1), nn.Linear(64, 1))
        self.register_load_state_dict_pre_hook(_without_widths)  # type: ignore[no-untyped-call]

    def forward(self, logits: Tensor, widths: Tensor) -> Tensor:
        answer: Tensor = self.mlp(self.describe(logits, widths).to(self.mlp[0].weight.dtype))  # type: ignore[arg-type]
        return answer.float().squeeze(1)

    @staticmethod
    def describe(logits: Tensor, widths: Tensor) -> Tensor:
        """What the estimate is made from (B, 5): the mask's size, its parts at the view's border, its doubt, the width.

        Parameters
        ----------
        logits : Tensor, shape (B, 1, D, H, W)
            The mask in its view.
        widths : Tensor, shape (B,)
            Logarithm of how much wider the view is than the narrowest one of its ladder.
        """
        p = logits.float().sigmoid()
        coarse = F.avg_pool3d(p, 2)
        border = torch.ones_like(coarse)
        border[:, :, 1:-1, 1:-1, 1:-1] = 0
        statistics = [
            p.mean((1, 2, 3, 4)).clamp_min(1e-6).log() / 10,
            (coarse * border).amax((1, 2, 3, 4)),
            (coarse * border).sum((1, 2, 3, 4)) / coarse.sum((1, 2, 3, 4)).clamp_min(1.0),
            (p * (1 - p)).sum((1, 2, 3, 4)) / p.sum((1, 2, 3, 4)).clamp_min(1.0),
            widths.float(),
        ]
        return torch.stack(statistics, 1)


class LabelBody(nn.Module):
    """Features of the named labels alone: what they learn cannot change the answers to prompts."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(8 * N_CHANNELS, widths[0], 3, padding=1)
        self.encoder = Encoder(widths)
        self.decoder = Decoder(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Decoder's output at half resolution, of a view (B, 7, D, H, W)."""
        answer: Tensor = self.decoder(self.encoder(F.leaky_relu(first_features(self.stem, x), 0.1)))
        return answer


class ClickUNet(nn.Module):
    """Promptable segmentation of one view.

    The first stage folds each 2x2x2 block of voxels into channels and the heads unfold it again, so that all
    convolutions run at half the view's resolution: that is what two laptop cores can afford.

    Parameters
    ----------
    widths : tuple of int
        Channels at 1/2, 1/4, 1/8, 1/16 of the view's resolution; multiples of 8.
    n_labels : int
        Number of named labels that a fine-tuned network segments without prompts; 0 for a pure click model.
    own_label_body : bool
        Whether the labels have features of their own, beside those that answer to prompts.
    """

    def __init__(self, *, widths: tuple[int, ...] = WIDTHS, n_labels: int = 0, own_label_body: bool = False) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stem = nn.Conv3d(8 * N_CHANNELS, widths[0], 3, padding=1)
        self.encoder = Encoder(self.widths)
        self.decoder = Decoder(self.widths)
        self.click_head = nn.Conv3d(widths[0], 8, 1)
        self.quality_head = QualityHead()
        self.label_head: nn.Conv3d | None = None
        self.label_body: LabelBody | None = LabelBody(self.widths) if own_label_body else None
        if n_labels:
            self.set_labels(n_labels)

    def set_labels(self, n_labels: int) -> None:
        """Give the network `n_labels` outputs of its own; those it already has keep their weights."""
        old, fresh = self.label_head, nn.Conv3d(self.widths[0], 8 * n_labels, 1)
        with torch.no_grad():
            fresh.weight.copy_(self.click_head.weight.repeat(n_labels, 1, 1, 1, 1))
            if self.click_head.bias is not None and fresh.bias is not None:
                fresh.bias.copy_(self.click_head.bias.repeat(n_labels))
            if old is not None and old.bias is not None and fresh.bias is not None:
                kept = min(old.out_channels, fresh.out_channels)
                fresh.weight[:kept] = old.weight[:kept]
                fresh.bias[:kept] = old.bias[:kept]
        self.label_head = fresh.to(self.click_head.weight)

    def separate_labels(self) -> None:
        """Give the labels a copy of the features, to learn without changing the answers to prompts."""
        if self.label_body is None:
            body = LabelBody(self.widths)
            for name in ("stem", "encoder", "decoder"):
                getattr(body, name).load_state_dict(getattr(self, name).state_dict())
            self.label_body = body.to(self.click_head.weight)

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor needs to build this network again."""
        n_labels = 0 if self.label_head is None else self.label_head.out_channels // 8
        own = {} if self.label_body is None else {"own_label_body": True}
        return {"widths": list(self.widths), "n_labels": n_labels, **own}

    def features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encoder features (fine to coarse) and the decoder's output at half resolution."""
        encoded = self.encoder(F.leaky_relu(first_features(self.stem, x), 0.1))
        return encoded, self.decoder(encoded)

    def click_logits(self, fine: Tensor) -> Tensor:
        """Logits (B, 1, D, H, W) of the prompted lesion from the decoder's output."""
        return unfold(self.click_head(fine))

    def forward(self, x: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Segment what the prompts mean.

        Parameters
        ----------
        x : Tensor, shape (B, 7, D, H, W)
            Views as `segmentation.views.render` makes them; D, H, W multiples of 16.
        widths : Tensor, shape (B,), optional
            Logarithm of how much wider each view is than the narrowest one of its ladder; 0 for views that stand alone.

        Returns
        -------
        Tensor, shape (B, 1, D, H, W)
            Logits of the lesion.
        Tensor, shape (B,)
            Logit of the estimated Dice of that mask with the whole lesion.
        """
        logits = self.click_logits(self.features(x)[1])
        return logits, self.quality_head(logits.detach(), x.new_zeros(len(x)) if widths is None else widths)

    def segment_labels(self, x: Tensor) -> Tensor:
        """Logits (B, K, D, H, W) of the named labels, one sigmoid a label, for a view without prompts.

        Raises
        ------
        ValueError
            If the network has no labels of its own.
        """
        return self.label_logits(self.label_features(x))

    def label_features(self, x: Tensor) -> Tensor:
        """Decoder's output at half resolution that the named labels are read from."""
        fine: Tensor = self.features(x)[1] if self.label_body is None else self.label_body(x)
        return fine

    def label_logits(self, fine: Tensor) -> Tensor:
        """Logits (B, K, D, H, W) of the named labels from `label_features`.

        Raises
        ------
        ValueError
            If the network has no labels of its own.
        """
        if self.label_head is None:
            raise ValueError("this network has no labels of its own: it needs a click")
        return unfold(self.label_head(fine))


def first_features(stem: nn.Conv3d, x: Tensor) -> Tensor:
    """The stem's answer to a view, without multiplying channels in which there is nothing.

    A first click has no mask so far, no background and mostly no box; labels are learned without any prompt.
    """
    if x.device.type == "cpu":  # a GPU would have to be waited for to know
        there = [c for c in range(x.shape[1]) if bool(x[:, c].any())]
        if 0 < len(there) < x.shape[1]:
            weight = torch.cat([stem.weight[:, 8 * c : 8 * c + 8] for c in there], 1)
            return F.conv3d(fold(x[:, there]), weight, stem.bias, padding=1)
    answer: Tensor = stem(fold(x))
    return answer


def unfold(x: Tensor) -> Tensor:
    """(B, 8 K, D, H, W) -> (B, K, 2 D, 2 H, 2 W): the inverse of `fold`."""
    b, c, d, h, w = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)
