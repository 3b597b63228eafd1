"""A surrogate of what measuring would find: Gaussian processes over the choices of a space, in a few lines of numpy.

The kernel is a sum: one part for each dimension alone, because what settings do to cost is nearly a product of their
effects, hence a sum in logarithms; and one for all together, for what is left. Each part's weight is the one that makes
the data likeliest, so that dimensions that do not matter stop taking part (Duvenaud et al., NeurIPS 2011: additive
kernels).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REACH = 0.6
"""How far one measurement speaks for its neighbours, of an ordered dimension's whole range."""
KINSHIP = 0.25
"""How much one word's measurement says about another word's."""
WEIGHTS = (0.0, 0.1, 0.5, 2.0)
"""Variances a part of the kernel may have, to that of the data."""
NOISE = (1e-3, 1e-2, 1e-1)
"""Variances of the measurements, likewise."""
SWEEPS = 2


@dataclass(frozen=True, slots=True)
class Belief:
    """Mean and standard deviation at each of N places, float64 (N,)."""

    mean: Array
    deviation: Array

    def raised(self, by: Sequence[float]) -> "Belief":
        """The same about values that are larger by so much at each place."""
        return Belief(self.mean + np.asarray(by, np.float64), self.deviation)

    def above(self, limit: float) -> Array:
        """The probability of a value of at least `limit` at each place."""
        return _normal((self.mean - limit) / self.deviation)

    def below(self, limit: float) -> Array:
        return 1 - self.above(limit)

    def gain(self, best: float) -> Array:
        """Expected improvement on `best` at each place (Jones et al., 1998)."""
        z = (self.mean - best) / self.deviation
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        return np.asarray(self.deviation * (z * _normal(z) + density))


def believe(seen: Array, values: Sequence[float], asked: Array, ordered: Sequence[bool]) -> Belief:
    """What `values`, measured at places `seen` (M, D), tell about places `asked` (N, D).

    `ordered`: of each dimension whether its numbers are ranks from 0 to 1, or just tell choices apart.
    """
    found = np.asarray(values, np.float64)
    middle, scale = found.mean(), max(float(found.std()), 1e-6)
    target = (found - middle) / scale
    own, across = _parts(seen, seen, ordered), _parts(seen, asked, ordered)
    weights, noise = _likeliest(own, target)
    inverse = np.linalg.inv(np.tensordot(weights, own, 1) + noise * np.eye(len(target)))
    cross = np.tensordot(weights, across, 1)
    mean = cross.T @ inverse @ target
    variance = weights.sum() - np.einsum("mn,mk,kn->n", cross, inverse, cross)
    return Belief(middle + scale * mean, scale * np.sqrt(np.maximum(variance, 1e-6)))


def _parts(left: Array, right: Array, ordered: Sequence[bool]) -> Array:
    """The kernel's parts, float64 (D + 2, M, N): all alike, one for each dimension, all together."""
    apart = np.abs(left[:, None, :] - right[None, :, :])
    near = np.where(ordered, np.exp(-0.5 * (apart / REACH) ** 2), np.where(apart > 0, KINSHIP, 1.0))
    constant = np.ones((1, *apart.shape[:2]))
    return np.concatenate([constant, near.transpose(2, 0, 1), near.prod(axis=2)[None]])


def _likeliest(parts: Array, target: Array) -> tuple[Array, float]:
    """Weights of the parts and noise that maximise the marginal likelihood, one after the other."""
    weights = np.full(len(parts), 0.5)
    noise = NOISE[1]
    best = _likelihood(parts, weights, noise, target)
    for _ in range(SWEEPS):
        for part in range(1, len(parts)):
            for weight in WEIGHTS:
                tried = weights.copy()
                tried[part] = weight
                score = _likelihood(parts, tried, noise, target)
                if score > best:
                    best, weights = score, tried
        for value in NOISE:
            score = _likelihood(parts, weights, value, target)
            if score > best:
                best, noise = score, value
    return weights, noise


def _likelihood(parts: Array, weights: Array, noise: float, target: Array) -> float:
    """The logarithm of the target's marginal likelihood, and of a prior that prefers few parts."""
    kernel = np.tensordot(weights, parts, 1) + noise * np.eye(len(target))
    lower = np.linalg.cholesky(kernel)
    whitened = np.linalg.solve(lower, target)
    return float(-0.5 * whitened @ whitened - np.log(np.diag(lower)).sum() - 0.3 * weights.sum())


def _normal(z: Array) -> Array:
    """The normal distribution function, to 8e-8 (Abramowitz and Stegun 1964, 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * series
    return np.asarray(np.where(z > 0, 1 - tail, tail))
