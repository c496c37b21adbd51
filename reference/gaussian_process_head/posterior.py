r"""The exact posterior of a Gaussian process, which random features approximate, and the use of its variance.

Paper
    Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", equations (2.8), (2.11) and (2.23) to (2.24).
    https://gaussianprocess.org/gpml
    Liu et al. (2020), SNGP, appendix A (mean field). https://arxiv.org/abs/2006.10108

Equations
    ρ is the variance of the noise.
    (1)  y = g(x) + noise,  cov(g(x), g(y)) = k(x, y):   mean   k_ts (K_ss + ρ I)⁻¹ y
                                                         cov    K_tt − K_ts (K_ss + ρ I)⁻¹ K_st
    (2)  y = β·φ(x) + noise,  β ~ N(0, I):               mean   φ_tᵀ P⁻¹ Φᵀ y,   P = ρ I + ΦᵀΦ
                                                         cov    ρ φ_tᵀ P⁻¹ φ_u
    (3)  (2), one observation at a time; C is the covariance of β:
         β ← β + C φ (y − β·φ)/(ρ + φᵀC φ),   C ← C − C φ φᵀC/(ρ + φᵀC φ)
    (4)  E σ(g),  g ~ N(μ, v)   ≈   σ(μ/√(1 + λ v)),   λ = π/8

Axes
    t test example    s training example    m model    r feature    c class

Differs from the paper
    - (1) to (3) do not differ from it. (2) equals (1) for the kernel φ(x)·φ(y).
    - SNGP names λ = π/8 and 3/π². The first makes (4) exact where the logistic function is as steep as a normal distribution
      function; the second gives both the same variance.

Layer: layers/gaussian_process/    Notebook: notebooks/gaussian_process.ipynb
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


class Posterior(NamedTuple):
    mean: Float[Array, "t c"]
    covariance: Float[Array, "t t"]


def gaussian_kernel(x: Float[Array, "t m"], y: Float[Array, "s m"], scale: float = 1.0) -> Float[Array, "t s"]:
    """e^{−‖x−y‖²/(2 scale)}."""
    # Row by row, because all differences at once would take t s m numbers.
    return np.exp(-np.stack([np.sum((x_t - y) ** 2, axis=-1) for x_t in x]) / (2 * scale))


def laplacian_kernel(x: Float[Array, "t m"], y: Float[Array, "s m"], scale: float = 1.0) -> Float[Array, "t s"]:
    """e^{−‖x−y‖₁/√scale}."""
    return np.exp(-np.stack([np.sum(np.abs(x_t - y), axis=-1) for x_t in x]) / np.sqrt(scale))


def exact_posterior(
    x: Float[Array, "t m"], known: Float[Array, "s m"], y: Float[Array, "s c"], kernel: Callable, ridge: float = 1.0
) -> Posterior:
    """Equation (1), whose cost grows with the cube of the number of known examples."""
    noisy = kernel(known, known) + ridge * np.eye(len(known))
    across = kernel(x, known)
    return Posterior(across @ np.linalg.solve(noisy, y), kernel(x, x) - across @ np.linalg.solve(noisy, across.T))


def linear_posterior(
    phi: Float[Array, "t r"], known: Float[Array, "s r"], y: Float[Array, "s c"], ridge: float = 1.0
) -> Posterior:
    """Equation (2), whose cost grows with the number of known examples."""
    precision = ridge * np.eye(known.shape[1]) + known.T @ known
    return Posterior(phi @ posterior_mean(known, y, ridge), ridge * phi @ np.linalg.solve(precision, phi.T))


def posterior_mean(known: Float[Array, "s r"], y: Float[Array, "s c"], ridge: float = 1.0) -> Float[Array, "r c"]:
    """The mean of β in equation (2), which is also where Σ (y − β·φ)² + ρ‖β‖² is least."""
    return np.linalg.solve(ridge * np.eye(known.shape[1]) + known.T @ known, known.T @ y)


def linear_posterior_by_updates(
    phi: Float[Array, "t r"], known: Float[Array, "s r"], y: Float[Array, "s c"], ridge: float = 1.0
) -> Posterior:
    """Equation (3): no matrix is inverted, and each observation reduces the covariance."""
    beta, c = np.zeros((known.shape[1], y.shape[1])), np.eye(known.shape[1])
    for feature, observed in zip(known, y):
        gain = c @ feature / (ridge + feature @ c @ feature)
        beta = beta + np.outer(gain, observed - feature @ beta)
        c = c - np.outer(gain, feature @ c)
    return Posterior(phi @ beta, phi @ c @ phi.T)


def mean_field_logits(
    logits: Float[Array, "t c"], variance: Float[Array, " t"], factor: float = math.pi / 8
) -> Float[Array, "t c"]:
    """Equation (4), before the σ: logits that are nearer to 0 the less is known."""
    return logits / np.sqrt(1 + factor * variance)[:, None]
