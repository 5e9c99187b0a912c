"""The click network for windows without prompts: the same answers, without multiplying channels that are empty."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medseg.networks.click_unet import ClickUNet, Decoder, unfold
from napari_medseg.networks.encoder import ResidualBlock, fold

_LAST = torch.channels_last_3d


class PromptlessUNet(nn.Module):
    """Named labels of windows without prompts, by a network that learned them.

    Most of the network's input is prompts. Without any, the first convolution is a convolution of the intensities
    alone plus a constant, which comes from the channel that marks the scan and is computed once a window size.

    Parameters
    ----------
    network : ClickUNet
        With labels of its own; its weights are copied as they are now.
    image, valid : int
        Channels of its input that hold the intensities, and 1 inside the scan.
    dtype : torch.dtype, optional
        Precision of the copy; the network's own where nothing is given.

    Raises
    ------
    ValueError
        If the network has no labels of its own.
    """

    def __init__(
        self, network: ClickUNet, *, image: int = 0, valid: int = -1, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if network.label_head is None:
            raise ValueError("this network has no labels of its own: it needs a click")
        own = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        own = own.to(dtype=dtype or own.stem.weight.dtype).to(memory_format=_LAST)  # type: ignore[call-overload]
        assert own.label_head is not None
        body = own if own.label_body is None else own.label_body  # labels may have features of their own
        self.stem_bias = body.stem.bias
        decoder = _ShortDecoder(body.decoder)
        self.rest: Callable[[Tensor], Tensor] = nn.Sequential(body.encoder, decoder, own.label_head).eval()
        self.dtype = body.stem.weight.dtype
        weight = body.stem.weight
        channels = weight.shape[1] // 8
        self._image, self._valid = (
            weight[:, 8 * (c % channels) : 8 * (c % channels) + 8].contiguous(memory_format=_LAST)
            for c in (image, valid)
        )
        self._constant: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, D, H, W) of the labels.

        Parameters
        ----------
        x : Tensor, shape (B, 2, D, H, W)
            Intensities, and 1 inside the scan; D, H, W multiples of 16.
        """
        return unfold(self.rest(self.stem(x)))

    def stem(self, x: Tensor) -> Tensor:
        """What the first convolution makes of a window."""
        image, valid = x[:, :1].to(self.dtype), x[:, 1:]
        y = F.conv3d(fold(image).contiguous(memory_format=_LAST), self._image, padding=1)
        y += self._constant_for(valid) if bool(valid.amin() == 1) else self._marked(valid)
        return F.leaky_relu_(y, 0.1)

    def compile_for(self, x: Tensor) -> None:
        """Fuse layers and pack weights for windows of this shape: worth some seconds where there are many of them."""
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # TorchScript announces its successor, which takes a minute here
            y = self.stem(x)
            assert isinstance(self.rest, nn.Module)
            traced = torch.jit.freeze(torch.jit.trace(self.rest.eval(), y, check_trace=False))  # type: ignore[no-untyped-call]
            self.rest = torch.jit.optimize_for_inference(traced)

    def _constant_for(self, valid: Tensor) -> Tensor:
        """What the marked scan adds where the whole window lies on it; near the border it is padded with zeros."""
        shape = tuple(valid.shape[2:])
        if shape not in self._constant:
            self._constant[shape] = self._marked(torch.ones_like(valid[:1]))
        return self._constant[shape]

    def _marked(self, valid: Tensor) -> Tensor:
        folded = fold(valid.to(self.dtype)).contiguous(memory_format=_LAST)
        return F.conv3d(folded, self._valid, self.stem_bias, padding=1)


class _ShortDecoder(nn.Module):
    """The decoder, whose last step convolves coarse features before it upsamples them: fewer products, same answer."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.ups, self.blocks = decoder.ups[:-1], decoder.blocks[:-1]
        self.last = _UpsampledBlock(decoder.ups[-1], decoder.blocks[-1])  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, block, skip in zip(self.ups, self.blocks, features[-2:0:-1], strict=True):
            x = block(torch.cat([F.interpolate(up(x), size=skip.shape[2:], mode="nearest"), skip], 1))
        answer: Tensor = self.last(x, features[0])
        return answer


class _UpsampledBlock(nn.Module):
    """A residual block of coarse features, upsampled to their nearest, beside fine ones.

    Each 3 x 3 x 3 kernel on upsampled voxels is a transposed 4 x 4 x 4 kernel on the coarse ones: of the 27 products of
    a voxel, those with copies of the same one are summed beforehand.
    """

    def __init__(self, up: nn.Conv3d, block: ResidualBlock) -> None:
        super().__init__()
        self.up, self.block = up, block
        assert isinstance(block.shortcut, nn.Conv3d)
        coarse, self.conv1 = _halves(block.conv1.weight)  # type: ignore[arg-type]
        self.coarse_shortcut, self.shortcut = _halves(block.shortcut.weight)
        eye = torch.eye(4, device=coarse.device)
        copies = eye[:, :3] + eye[:, 1:]  # of a coarse voxel, two along each axis
        flipped = coarse.flip(2, 3, 4).float()
        kernel = torch.einsum("oizyx,az,by,cx->ioabc", flipped, copies, copies, copies)
        self.transposed = kernel.to(coarse.dtype).contiguous(memory_format=_LAST)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        y = F.conv3d(skip, self.conv1, padding=1)
        y += F.conv_transpose3d(x, self.transposed, stride=2, padding=1)
        y = self.block.norm2(self.block.conv2(F.leaky_relu_(self.block.norm1(y), 0.1)))
        y += F.conv3d(skip, self.shortcut)
        y += F.interpolate(F.conv3d(x, self.coarse_shortcut), scale_factor=2.0, mode="nearest")
        return F.leaky_relu_(y, 0.1)


def _halves(weight: Tensor) -> list[Tensor]:
    """The kernel of the first half of the channels, and that of the second."""
    return [half.contiguous(memory_format=_LAST) for half in weight.chunk(2, 1)]
