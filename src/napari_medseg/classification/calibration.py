"""Probabilities that mean what they say: one temperature, fitted on held-out cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RANGE = (-4.0, 4.0)


def fit_temperature(logits: NDArray[np.floating], answers: NDArray[np.integer]) -> float:
    """Temperature that makes held-out cases most likely (Guo et al. 2017, arXiv:1706.04599, section 4.2).

    Parameters
    ----------
    logits : ndarray, shape (N, C)
        Of cases that no weight was fitted to.
    answers : ndarray of int, shape (N,)
        Their classes.

    Returns
    -------
    float
        Logits are divided by it; 1 where there is no case.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if not len(answers):
        return 1.0
    scores, rows = np.asarray(logits, np.float64), np.arange(len(answers))

    def surprise(log_temperature: float) -> float:
        # A weak pull to 1 keeps a handful of cases that are all called right from making every answer certain.
        scaled = log_softmax(scores / np.exp(log_temperature), axis=1)
        return float(-scaled[rows, answers].sum() + 0.5 * log_temperature**2)

    return float(np.exp(minimize_scalar(surprise, bounds=_RANGE, method="bounded").x))
