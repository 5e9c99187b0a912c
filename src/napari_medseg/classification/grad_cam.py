"""Where a classifier looked: Grad-CAM, on the scan's own grid."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medseg.classification.classifier import Classifier
from napari_medseg.classification.crops import place_back
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import ModelError
from napari_medseg.imaging.view import Floats
from napari_medseg.imaging.volume import Volume
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier
from napari_medseg.networks.study_classifier import StudyClassifier

LEVEL = 2
_LEVEL_OF_NEIGHBOURS = 1


def saliency(classifier: Classifier, subject: Subject, class_name: str | None = None, *, scan: int = 0) -> Volume:
    """Show what speaks for a class (Grad-CAM: Selvaraju et al., ICCV 2017, eq. 1-2).

    Of nearest neighbours: what makes the lesion look more like those of the class than like the others, place by place
    (HiResCAM: Draelos and Carin, arXiv:2011.08891, eq. 3).

    Parameters
    ----------
    classifier : Classifier
        Whose answer is explained.
    subject : Subject
        What was classified.
    class_name : str, optional
        The class to explain; the most probable one by default.
    scan : int
        Of a study: which scan to show.

    Returns
    -------
    Volume
        On the scan's grid, float32, 0 to 1: 1 where most speaks for the class, 0 where nothing does or it was not seen.

    Raises
    ------
    ModelError
        If the classifier has no such class, or its answer has no gradient (a bag of visual words).
    """
    if getattr(classifier.network, "n_words", 0):
        raise ModelError("a bag of visual words has no gradient to show: choose another classifier for a saliency map")
    seen = classifier.crop(subject)
    wanted = class_name if class_name is not None else classifier.classify_crop(seen, subject).best
    if wanted not in classifier.classes:
        raise ModelError(f"the classifier has no class '{wanted}': it has {', '.join(classifier.classes)}")
    x = torch.from_numpy(seen.inputs).to(classifier.device)
    heat = _grad_cam(classifier.network, x if seen.kinds else x[None], seen.kinds, classifier.classes.index(wanted))
    flat = heat if seen.kinds else heat[0]
    shown = place_back(flat, seen, subject.scans[scan], scan)
    largest = float(flat.max())
    source = subject.scans[scan]
    return Volume(shown / largest if largest > 0 else shown, source.affine, f"Saliency: {wanted}", grid=source.grid)


def _grad_cam(network: nn.Module, x: Tensor, kinds: tuple[int, ...], target: int) -> Floats:
    """Heat (B, [D,] H, W) at the resolution of the views, 0 and more."""
    from captum.attr import LayerGradCam

    if isinstance(network, NeighbourClassifier):
        return _by_place(network, x, target)
    forward: Any = network
    if isinstance(network, StudyClassifier):
        which = torch.tensor(kinds, device=x.device)

        def forward(slices: Tensor) -> Tensor:
            # One study is one answer; captum wants a row for each view that goes in.
            logits: Tensor = network(slices, which)[0]
            return logits.expand(len(slices), -1) / len(slices)

    layer = network.encoder.levels[LEVEL]  # type: ignore[union-attr, index]
    cam = LayerGradCam(forward, layer)
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns of the gradient that it asks for itself
        heat = cam.attribute(x.requires_grad_(True), target=target, relu_attributions=True)
    return _at_views(heat, x)


def _by_place(network: NeighbourClassifier, x: Tensor, target: int) -> Floats:
    """Heat of an answer that depends on where something lies in the view.

    The embedding keeps means of cells apart, whose gradients differ in sign: their average over the view, as Grad-CAM
    takes it, says little. Votes of one class alone rise with every likeness, hence the contrast with the others. The
    root keeps single places from outshining all other slices.
    """
    from captum.attr import LayerGradientXActivation

    def contrast(views: Tensor) -> Tensor:
        answer: Tensor = network(views)
        return answer.log_softmax(-1)

    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = LayerGradientXActivation(contrast, network.encoder.levels[_LEVEL_OF_NEIGHBOURS])
        heat = parts.attribute(x.requires_grad_(True), target=target).sum(1, keepdim=True).relu().sqrt()
    return _at_views(heat, x)


def _at_views(heat: Tensor, x: Tensor) -> Floats:
    """Heat (B, 1, ...) of a level at the resolution of the views that went in."""
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    full = F.interpolate(heat.detach().float(), size=x.shape[2:], mode=mode, align_corners=False)
    return np.asarray(full[:, 0].cpu().numpy(), np.float32)
