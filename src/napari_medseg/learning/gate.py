"""The gate: a new version is adopted only when it is better on the corrections and has forgotten nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from napari_medseg.learning.cases import Case
from napari_medseg.learning.reports import Figures, Verdict
from napari_medseg.learning.settings import FineTuneSettings

_INVERTED_BORDER = 0.8
_INVERTED_PART = 0.5
_MOST_DRIFT = 0.15
_SPREAD = 0.06
_TOLD = 0.005
_A_CLICK = 0.04  # part of the Dice that a click is worth which the new version no longer needs


def decide(
    before: Figures,
    after: Figures,
    settings: FineTuneSettings,
    *,
    held_out: str,
    n_held_out: int = 1,
    inverted: str = "",
    version: int = 2,
) -> Verdict:
    """Compare the old version with the new one.

    Parameters
    ----------
    before, after : Figures
        Of the old and the new version, on the same held-out cases and the same guard set. A model without labels of
        its own has no automatic figure; then the new version's is compared with what one click reached, less what a
        click is worth.
    settings : FineTuneSettings
        The least gain and the largest loss.
    held_out : str
        What the figures were measured on, for a person.
    n_held_out : int
        How many cases that were: the mean of few varies by chance, and what may be chance is no reason to refuse,
        as long as something else gains as much.
    inverted : str
        Why the masks look inverted, if they do.
    version : int
        Number of the new version.
    """
    headline_before, headline_after = headline(before, after)
    gain = max(_gain(before, after))
    reasons = [inverted] if inverted else []
    chance = settings.largest_loss + _SPREAD / max(1, n_held_out) ** 0.5
    tolerated = max(0.0, min(chance, gain))  # nothing may lose more than something else gains
    if _drop(before.one_click, after.one_click) > tolerated:
        reasons.append(f"one click would reach {after.one_click or 0:.2f} instead of {before.one_click:.2f}")
    if _drop(before.automatic, after.automatic) > tolerated:
        reasons.append(f"without a click it would reach {after.automatic or 0:.2f} instead of {before.automatic:.2f}")
    if _drop(before.guard, after.guard) > settings.largest_loss:
        reasons.append(f"it forgot other lesions ({before.guard or 0:.2f} -> {after.guard or 0:.2f})")
    if _drop(before.kept, after.kept) > _MOST_DRIFT:
        reasons.append(f"labels that it knew before would change (they agree to {after.kept or 0:.2f})")
    reasons += _worse_pinned(before.pinned or {}, after.pinned or {}, settings.largest_loss)
    if gain < settings.least_gain and not reasons:
        reasons.append("that is no gain")
    adopted = not reasons
    numbers = f"Dice on your corrections {headline_before:.2f} -> {headline_after:.2f}"
    if adopted:
        price = _price(before, after, settings.largest_loss)
        sentence = f"{numbers}, {price}: version {version} is active{_aside(before, after)}"
    else:
        sentence = f"{numbers}, but {' and '.join(reasons)}: nothing was changed, the old version stays active"
    return Verdict(
        adopted=adopted,
        sentence=sentence,
        dice_before=headline_before,
        dice_after=headline_after,
        guard_before=before.guard or 0.0,
        guard_after=after.guard or 0.0,
        before=before,
        after=after,
        held_out=held_out,
    )


def headline(before: Figures, after: Figures) -> tuple[float, float]:
    """Two figures to show: without a click where the old version could do that, else each version at its best."""
    if before.automatic is not None and after.automatic is not None:
        return before.automatic, after.automatic
    return before.best, after.best


def why_inverted(cases: Sequence[Case]) -> str:
    """Say why the masks look as if background and lesion were exchanged; empty where they do not."""
    parts = [(_part(case), _border_part(case)) for case in cases]
    wrong = [(p, b) for p, b in parts if p > _INVERTED_PART and b > _INVERTED_BORDER]
    if not wrong:
        return ""
    many = "the masks" if len(wrong) > 1 or len(cases) == 1 else "one of the masks"
    return (
        f"{many} look inverted (they cover {wrong[0][0]:.0%} of the scan and {wrong[0][1]:.0%} of its edges): "
        "check that the lesion is labelled, not its surroundings"
    )


def _part(case: Case) -> float:
    return float((case.truth[case.seen] > 0).mean())


def _border_part(case: Case) -> float:
    """Part of the scan's outermost voxels that a label covers, over the axes that have more than two slices."""
    border = np.zeros(case.truth.shape, bool)
    for axis, n in enumerate(case.truth.shape):
        if n > 2:
            edge = np.moveaxis(border, axis, 0)
            edge[0], edge[-1] = True, True
    border &= case.seen
    return float((case.truth[border] > 0).mean()) if border.any() else 0.0


def _gain(before: Figures, after: Figures) -> list[float]:
    gains = []
    if after.one_click is not None and before.one_click is not None:
        gains.append(after.one_click - before.one_click)
    if after.automatic is not None:
        reached = (1 - _A_CLICK) * (before.one_click or 0.0) if before.automatic is None else before.automatic
        gains.append(after.automatic - reached)
    return gains or [0.0]


def _worse_pinned(before: Mapping[str, float], after: Mapping[str, float], largest_loss: float) -> list[str]:
    """One reason for each pinned case that got worse, the worst first."""
    drops = sorted((after.get(name, 0.0) - dice, name) for name, dice in before.items())
    return [
        f"the pinned case {name} got worse ({before[name]:.2f} -> {after.get(name, 0.0):.2f})"
        for change, name in drops
        if -change > largest_loss
    ]


def _drop(before: float | None, after: float | None) -> float:
    return 0.0 if before is None else before - (after or 0.0)


def _price(before: Figures, after: Figures, largest_loss: float) -> str:
    """What an adopted version paid for its gain."""
    prices = []
    if _drop(before.kept, after.kept) > largest_loss:
        prices.append(f"labels that it knew agree to {after.kept or 0:.2f} with what they were")
    if _drop(before.one_click, after.one_click) >= _TOLD:
        prices.append(f"after one click {before.one_click:.2f} -> {after.one_click or 0:.2f}")
    return " and ".join(prices) or "nothing forgotten"


def _aside(before: Figures, after: Figures) -> str:
    if before.automatic is None and after.automatic is not None:
        return f"; without a click it reaches {after.automatic:.2f}"
    return ""
