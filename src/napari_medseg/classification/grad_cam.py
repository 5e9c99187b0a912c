"""Where a classifier looked: class activation maps, on the scan's own grid."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_medseg.classification.classifier import Classifier
from napari_medseg.classification.crops import place_back
from napari_medseg.classification.subject import Subject
from napari_medseg.errors import ModelError
from napari_medseg.imaging.view import Floats
from napari_medseg.imaging.volume import Volume
from napari_medseg.networks.image_classifier import ImageClassifier
from napari_medseg.networks.neighbour_classifier import NeighbourClassifier
from napari_medseg.networks.study_classifier import StudyClassifier

LEVEL = 2
_LEVEL_BY_PLACE = 1
_BRIGHTEST = 99


def saliency(classifier: Classifier, subject: Subject, class_name: str | None = None, *, scan: int = 0) -> Volume:
    """Show what speaks for a class and against the others.

    Of a lesion or an image place by place (HiResCAM: Draelos and Carin, arXiv:2011.08891, eq. 3), of a study for each
    of its slices (Grad-CAM: Selvaraju et al., ICCV 2017, eq. 1-2).

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
        On the scan's grid, float32, 0 to 1: 1 in the hundredth of the places where most speaks for the class (a single
        place would outshine all others), 0 where nothing does or it was not seen.

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
    network, target = classifier.network, classifier.classes.index(wanted)
    if isinstance(network, StudyClassifier):
        flat = _grad_cam(network, x, seen.kinds, target)
    else:
        flat = _by_place(network, x[None], target)[0]
    shown = place_back(flat, seen, subject.scans[scan], scan)
    source = subject.scans[scan]
    if (flat > 0).any():
        shown = (shown / np.percentile(flat[flat > 0], _BRIGHTEST)).clip(0, 1).astype(np.float32)
    return Volume(shown, source.affine, f"Saliency: {wanted}", grid=source.grid)


def _grad_cam(network: StudyClassifier, x: Tensor, kinds: tuple[int, ...], target: int) -> Floats:
    """Heat (S, H, W) of the slices of a study at their resolution, 0 and more."""
    from captum.attr import LayerGradCam

    which = torch.tensor(kinds, device=x.device)

    def forward(slices: Tensor) -> Tensor:
        # One study is one answer; captum wants a row for each view that goes in.
        logits: Tensor = network(slices, which)[0]
        return logits.expand(len(slices), -1) / len(slices)

    cam = LayerGradCam(forward, network.encoder.levels[LEVEL])
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns of the gradient that it asks for itself
        heat = cam.attribute(x.requires_grad_(True), target=target, relu_attributions=True)
    return _at_views(heat, x)


def _by_place(network: ImageClassifier | NeighbourClassifier, x: Tensor, target: int) -> Floats:
    """Heat (1, [D,] H, W) of a view whose answer depends on where in it something lies.

    Maxima, means over the lesion and means of cells have gradients that differ from place to place: their average over
    the view, as Grad-CAM takes it, says little, and often leaves nothing. Votes and logits of one class alone rise with
    what all classes share, hence the contrast with the others. The root keeps single places from outshining all other
    slices.
    """
    from captum.attr import LayerGradientXActivation

    def contrast(views: Tensor) -> Tensor:
        answer: Tensor = network(views)
        return answer.log_softmax(-1)

    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = LayerGradientXActivation(contrast, network.encoder.levels[_LEVEL_BY_PLACE])
        heat = parts.attribute(x.requires_grad_(True), target=target).sum(1, keepdim=True).relu().sqrt()
    return _at_views(heat, x)


def _at_views(heat: Tensor, x: Tensor) -> Floats:
    """Heat (B, 1, ...) of a level at the resolution of the views that went in."""
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    full = F.interpolate(heat.detach().float(), size=x.shape[2:], mode=mode, align_corners=False)
    return np.asarray(full[:, 0].cpu().numpy(), np.float32)
