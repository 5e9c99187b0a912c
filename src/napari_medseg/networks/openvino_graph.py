"""The click network as an OpenVINO graph: the same weights, the same answers, on some processors in less time.

The graph is written down node by node rather than traced: that takes milliseconds, needs no compiler of torch's, and
leaves group norm to operations that every version of OpenVINO compiles.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_medseg.networks.click_unet import ClickUNet, unfold
from napari_medseg.networks.encoder import ResidualBlock, fold

_SLOPE = 0.1
_TELEMETRY = "openvino_telemetry"
_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def silent_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which else tells its makers of every start over the network."""
    kept = sys.modules.get(_TELEMETRY, _TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        openvino = import_module("openvino")
        import_module("openvino.opset13")
    finally:
        if kept is _TELEMETRY:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = kept  # type: ignore[assignment]
    return openvino


class OpenVinoClicks:
    """Answers to prompts by OpenVINO on the processor.

    Parameters
    ----------
    network : ClickUNet
        Whose weights; they are copied.
    dtype : torch.dtype
        float32 or bfloat16: what it computes in. Answers are float32.
    threads : int
        How many threads it may use.
    """

    def __init__(self, network: ClickUNet, dtype: torch.dtype, threads: int) -> None:
        openvino = silent_openvino()
        self._network = network
        self._options = {"INFERENCE_PRECISION_HINT": _PRECISIONS[dtype], "INFERENCE_NUM_THREADS": threads}
        self._core = openvino.Core()
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, 1, D, H, W) of views (B, 7, D, H, W), in float32; D, H, W multiples of 16."""
        folded = np.ascontiguousarray(fold(x.float()).numpy())
        answer = self._of_shape(folded.shape).create_infer_request().infer([folded], share_inputs=True)[0]
        return unfold(torch.from_numpy(np.array(answer)))

    def _of_shape(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._compiled:
            graph = _Writer(shape).click_logits(self._network)
            self._compiled[shape] = self._core.compile_model(graph, "CPU", self._options)
        return self._compiled[shape]


class _Writer:
    """Writes down the graph of a click network for folded views of one shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        openvino = silent_openvino()
        self._op, self._make = openvino.opset13, openvino.Model
        self._input = self._op.parameter(list(shape), np.float32, name="folded_views")

    def click_logits(self, network: ClickUNet) -> Any:
        features = self._encoded(network, self._relu(self._conv(network.stem, self._input)))
        x = features[-1]
        decoder = network.decoder
        for up, block, skip in zip(decoder.ups, decoder.blocks, features[-2::-1], strict=True):
            x = self._doubled(self._conv(up, x), skip)
            x = self._block(block, self._op.concat([x, skip], 1))
        return self._make([self._conv(network.click_head, x)], [self._input], "click_unet")

    def _encoded(self, network: ClickUNet, x: Any) -> list[Any]:
        encoder, features = network.encoder, []
        for down, level in zip([None, *encoder.downs], encoder.levels, strict=True):
            x = self._block(level, x if down is None else self._conv(down, x))
            features.append(x)
        features[-1] = self._block(encoder.bottom, features[-1])
        return features

    def _block(self, block: ResidualBlock | nn.Module, x: Any) -> Any:
        assert isinstance(block, ResidualBlock)
        y = self._relu(self._norm(block.norm1, self._conv(block.conv1, x)))
        y = self._norm(block.norm2, self._conv(block.conv2, y))
        beside = x if isinstance(block.shortcut, nn.Identity) else self._conv(block.shortcut, x)
        return self._relu(self._op.add(y, beside))

    def _conv(self, layer: nn.Module, x: Any) -> Any:
        assert isinstance(layer, nn.Conv3d)
        padding = list(layer.padding)
        y = self._op.convolution(x, _array(layer.weight), list(layer.stride), padding, padding, list(layer.dilation))
        return y if layer.bias is None else self._op.add(y, _by_channel(layer.bias))

    def _norm(self, layer: nn.GroupNorm, x: Any) -> Any:
        shape = [int(n) for n in x.shape]
        grouped = self._op.reshape(x, np.array([shape[0], layer.num_groups, -1]), special_zero=False)
        even = self._op.mvn(grouped, np.array([2]), True, layer.eps, "inside_sqrt")
        y = self._op.reshape(even, np.array(shape), special_zero=False)
        return self._op.add(self._op.multiply(y, _by_channel(layer.weight)), _by_channel(layer.bias))

    def _relu(self, x: Any) -> Any:
        return self._op.prelu(x, np.array([_SLOPE], np.float32))

    def _doubled(self, x: Any, like: Any) -> Any:
        """Nearest neighbours, as `torch.nn.functional.interpolate` takes them."""
        sizes = np.array([int(n) for n in like.shape[2:]])
        return self._op.interpolate(
            x,
            sizes,
            "nearest",
            "sizes",
            axes=np.array([2, 3, 4]),
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


def _array(weight: Tensor) -> Any:
    return weight.detach().float().cpu().numpy()


def _by_channel(weight: Tensor) -> Any:
    return _array(weight).reshape(1, -1, 1, 1, 1)
