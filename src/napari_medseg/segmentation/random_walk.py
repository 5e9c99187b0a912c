"""A random walker that starts with an opinion: probabilities of each voxel, smoothed along but not across edges.

Minimises ``sum_ij w_ij (u_i - u_j)^2 + g sum_i (u_i - p_i)^2`` with seeds held at 0 and 1: L. Grady, 'Multilabel random
walker image segmentation using prior models', CVPR 2005, equation 13, for two labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

_LEAST_WEIGHT = 0.02
_SEED = 50.0
_MOST_ROUNDS = 60
_PRECISION = 0.03

Floats = NDArray[np.float32]


def random_walk(image: Floats, opinion: Floats, seeds: Floats, *, strictness: float, trust: float) -> Floats:
    """Probability of each voxel.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
        Intensities in units of their noise.
    opinion : ndarray, shape (D, H, W)
        What each voxel looks like by itself, 0 to 1.
    seeds : ndarray, shape (D, H, W)
        1 and 0 where a voxel is known, 0.5 elsewhere.
    strictness : float
        How fast the weight between neighbours falls with the square of their difference.
    trust : float
        Weight of the opinion against that of the neighbours.

    Returns
    -------
    ndarray of float32, shape (D, H, W)
        Between 0 and 1.
    """
    weights = []
    for axis in range(3):
        step = np.diff(image, axis=axis)
        weights.append((np.exp(-strictness * step**2) + _LEAST_WEIGHT).astype(np.float32))
    pull = np.where(seeds == 0.5, trust, _SEED).astype(np.float32)
    wanted = np.where(seeds == 0.5, opinion, seeds).astype(np.float32)
    degree = pull.copy()
    for axis, weight in enumerate(weights):
        degree[_behind(axis)] += weight
        degree[_ahead(axis)] += weight

    def product(flat: Floats) -> Floats:
        u = flat.reshape(image.shape)
        out = degree * u
        for axis, weight in enumerate(weights):
            out[_behind(axis)] -= weight * u[_ahead(axis)]
            out[_ahead(axis)] -= weight * u[_behind(axis)]
        return np.asarray(out.ravel())

    n = image.size
    system = LinearOperator((n, n), matvec=product, dtype=np.float32)
    scaled = LinearOperator((n, n), matvec=lambda flat: flat / degree.ravel(), dtype=np.float32)
    solution, _ = cg(
        system,
        (pull * wanted).ravel(),
        wanted.ravel(),
        rtol=0.0,
        atol=_PRECISION * trust * n**0.5,
        maxiter=_MOST_ROUNDS,
        M=scaled,
    )
    walked: Floats = np.clip(solution.reshape(image.shape), 0, 1).astype(np.float32)
    return walked


def _behind(axis: int) -> tuple[slice, ...]:
    return tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))


def _ahead(axis: int) -> tuple[slice, ...]:
    return tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
