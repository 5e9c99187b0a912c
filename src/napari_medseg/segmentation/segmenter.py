"""A model at work: prompts in, a mask on the scan's own grid out."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.errors import JobFailed, ModelError
from napari_medseg.imaging.filled_box import filled_box
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.models.checkpoint import Checkpoint
from napari_medseg.segmentation.checks import checked
from napari_medseg.segmentation.click import (
    Answer,
    Floats,
    Scene,
    nothing_without_a_click,
    obey,
    segment_again,
    segment_first,
)
from napari_medseg.segmentation.confidence import confidence_of, without_doubt_at
from napari_medseg.segmentation.familiarity import unlike_training, unusual_size
from napari_medseg.segmentation.memory import (
    NOT_ENOUGH_MEMORY,
    in_smaller_batches,
    is_out_of_memory,
    release_gpu,
)
from napari_medseg.segmentation.precision import faster_dtype, faster_engine
from napari_medseg.segmentation.prompts import Prompt
from napari_medseg.segmentation.speed import measure_later, use_threads
from napari_medseg.segmentation.views import Prompts

if TYPE_CHECKING:
    import torch

    from napari_medseg.models.card import Card
    from napari_medseg.networks.click_unet import ClickUNet
    from napari_medseg.networks.openvino_graph import OpenVinoClicks


class Segmenter:
    """A checkpoint ready to segment.

    Parameters
    ----------
    checkpoint : Checkpoint
        Network and card.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; the GPU where there is one.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | None = None) -> None:
        import torch

        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        use_threads()
        self._is_exact = False
        self.checkpoint = checkpoint
        self._ready: ClickUNet | None = None
        self._engine: OpenVinoClicks | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """Network and card; assign another to change what this model is."""
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._ready = None
        self._looked_at: tuple[weakref.ref[NDArray[Any]], tuple[Any, ...], tuple[str, ...]] | None = None

    @property
    def card(self) -> Card:
        """What the model is and where it came from."""
        return self._checkpoint.card

    @property
    def network(self) -> ClickUNet:
        """The network in 32-bit floats."""
        return self._checkpoint.network  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """Name in the library."""
        return self.card.name

    @property
    def version(self) -> int:
        """Version in the library."""
        return self.card.version

    @property
    def labels(self) -> Mapping[int, str]:
        """Labels that it segments without prompts; empty for a pure click model."""
        return MappingProxyType(dict(self.card.labels))

    @property
    def needs_click(self) -> bool:
        """Whether it segments only what a prompt points at."""
        return self.card.needs_click

    def segment(
        self,
        volume: Volume,
        prompts: Sequence[Prompt] = (),
        *,
        previous: LabelMap | None = None,
        progress: Callable[[float], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> LabelMap:
        """Segment a lesion from prompts, or everything the model has labels for without.

        Parameters
        ----------
        volume : Volume
            The scan.
        prompts : sequence of Click, Box, Scribble or Lasso
            Oldest first, in world millimetres (RAS+).
        previous : LabelMap, optional
            The mask so far, on the volume's grid; it is corrected by the newest prompts.
        progress : callable, optional
            Called with the part that is done, 0 to 1.
        should_stop : callable, optional
            Asked now and then; True stops with `Cancelled`.

        Returns
        -------
        LabelMap
            On the volume's grid: 1 is the lesion, or the model's own labels where there was no prompt. Empty, with a
            sentence in its ``warnings``, where there was no prompt and the model needs a click.

        Raises
        ------
        ModelError
            If a prompt lies outside the scan, `previous` lies on another grid, or the network's answer is not a number.
        Cancelled
            If `should_stop` said so.
        JobFailed
            If memory ran out, on the GPU and on the CPU.
        """
        try:
            answer = self._unless_out_of_memory(volume, prompts, previous, progress, should_stop)
            if answer is None:  # outside the handler, so that nothing holds the GPU's memory any more
                if not self._leave_gpu():
                    raise MemoryError
                answer = self._answer(volume, prompts, previous, progress, should_stop)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise JobFailed(NOT_ENOUGH_MEMORY) from error
        measure_later(self.device.type)
        cautions = (*self._unlike_training(volume), *self._unusual_size(answer, volume))
        return replace(answer, warnings=(*answer.warnings, *cautions)) if cautions else answer

    def _unless_out_of_memory(self, *arguments: Any) -> LabelMap | None:
        try:
            return self._answer(*arguments)
        except RuntimeError as error:
            if not (self._is_on_gpu and is_out_of_memory(error)):
                raise
            return None

    def _answer(
        self,
        volume: Volume,
        prompts: Sequence[Prompt],
        previous: LabelMap | None,
        progress: Callable[[float], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> LabelMap:
        if not prompts:
            return self._segment_labels(volume, progress, should_stop)
        return self._segment_prompted(volume, prompts, previous, should_stop)

    def _unlike_training(self, volume: Volume) -> tuple[str, ...]:
        """What about the scan this model has never seen: looked at once a scan, not at every click."""
        about, looked_at = (volume.spacing_mm, volume.modality), self._looked_at
        if looked_at is None or looked_at[0]() is not volume.data or looked_at[1] != about:
            looked_at = weakref.ref(volume.data), about, unlike_training(volume, self.card)
            self._looked_at = looked_at
        return looked_at[2]

    def _unusual_size(self, answer: LabelMap, volume: Volume) -> tuple[str, ...]:
        if answer.confidence is None or self.card.labels:
            return ()
        cut = answer.data[answer.confidence.region]
        box = filled_box(cut)
        if box is None:
            return ()
        extents = [(part.stop - part.start) * mm for part, mm in zip(box, volume.spacing_mm, strict=True)]
        return unusual_size(float(max(extents)), volume.spacing_mm, self.card)

    def _leave_gpu(self) -> bool:
        """Go on on the CPU from now on; False where the network runs there already."""
        import torch

        if not self._is_on_gpu:
            return False
        self.device, self._ready = torch.device("cpu"), None
        release_gpu()
        return True

    @property
    def _is_on_gpu(self) -> bool:
        return self.device.type != "cpu"

    def _segment_labels(
        self, volume: Volume, progress: Callable[[float], None] | None, should_stop: Callable[[], bool] | None
    ) -> LabelMap:
        from napari_medseg.segmentation.automatic import segment_automatically

        if self.needs_click or self.card.automatic is None:
            return nothing_without_a_click(self.name, volume)
        return segment_automatically(
            self._network(),
            self.card,
            volume,
            device=self.device,
            dtype=self._dtype(),
            progress=progress,
            should_stop=should_stop,
        )

    def _segment_prompted(
        self,
        volume: Volume,
        prompts: Sequence[Prompt],
        previous: LabelMap | None,
        should_stop: Callable[[], bool] | None,
    ) -> LabelMap:
        drawn = checked(prompts, volume, previous)
        spacing = np.array(volume.spacing_mm)
        scene = Scene(volume.data, spacing, drawn, self._predict, should_stop)
        data = np.zeros(volume.data.shape, np.uint8)
        filled, was = None if previous is None else filled_box(previous.data), None
        if previous is not None and filled is not None:
            data[filled] = previous.data[filled] > 0
            probability, region = segment_again(scene, data, filled)
            was = data[region]
        else:
            probability, region = self._with_named(volume, drawn, segment_first(scene))
        data[region] = obey(probability, region, drawn, spacing, was)
        confidence = confidence_of(probability, data[region], region)
        return LabelMap(
            data,
            volume.affine,
            {1: "Lesion"},
            grid=volume.grid,
            metadata=volume.metadata,
            confidence=without_doubt_at(confidence, prompts, volume.affine, volume.spacing_mm),
        )

    def _with_named(self, volume: Volume, prompts: Prompts, answer: Answer) -> Answer:
        """The answer to a first click, heard together with what the model knows by name there."""
        settings = self.card.automatic
        if settings is None or not settings.share_in_clicks:
            return answer
        from napari_medseg.segmentation.named import named_structure, with_named

        named = named_structure(self._network(), settings, volume, prompts, self._dtype())
        return answer if named is None else with_named(answer, named, settings.share_in_clicks)

    def _dtype(self) -> torch.dtype:
        import torch

        if self._ready is not None:  # a self-test that ends midway counts from the next start
            return self._ready.stem.weight.dtype
        return torch.float32 if self._is_exact else faster_dtype(self.network, self.device)

    def _network(self) -> ClickUNet:
        """Return the network as it runs: on the device, in the faster precision."""
        if self._ready is None:
            import copy

            self._engine = None if self._is_exact else faster_engine(self.network, self.device, self._dtype())
            self._ready = copy.deepcopy(self.network).eval().to(self.device, self._dtype())
        return self._ready

    def _predict(self, inputs: Floats, widths: Floats) -> tuple[Floats, Floats]:
        """Probabilities (B, N, N, N) and estimated Dice (B,) for a batch of views and their widths in a ladder (B,)."""
        import torch

        try:
            probability, estimate = in_smaller_batches(self._run, inputs, widths)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise JobFailed(f"the network stopped: {error}") from error
        if not (np.isfinite(probability).all() and np.isfinite(estimate).all()):
            if not self._is_exact and (self._dtype() != torch.float32 or self._engine is not None):
                self._is_exact, self._ready = True, None
                return self._predict(inputs, widths)
            raise ModelError(f"the model '{self.name}' gave an answer that is not a number: choose another version")
        return probability, estimate

    def _run(self, inputs: Floats, widths: Floats) -> tuple[Floats, Floats]:
        import torch

        network = self._network()
        with torch.inference_mode():
            views, wide = torch.from_numpy(inputs), torch.from_numpy(widths).to(self.device)
            logits = self._by_engine(views)
            if logits is None:
                logits, quality = network(views.to(self.device, self._dtype()), wide)
            else:
                quality = network.quality_head(logits, wide)
            probability = logits.float().sigmoid()[:, 0].cpu().numpy()
            return probability, quality.float().sigmoid().cpu().numpy()

    def _by_engine(self, views: torch.Tensor) -> torch.Tensor | None:
        """Logits by OpenVINO; None where torch is to answer, and from then on where OpenVINO stopped."""
        if self._engine is not None:
            try:
                return self._engine(views)
            except RuntimeError:
                self._engine = None
        return None
