r"""A Gaussian process on random features: an output layer that measures how far its inputs are from the training data.

Paper
    Rahimi and Recht (2007), "Random Features for Large-Scale Kernel Machines", section 3, algorithm 1.
    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    Liu et al. (2020), "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness"
    (SNGP), section 3.1 and algorithm 1. https://arxiv.org/abs/2006.10108

Equations
    s is the kernel's scale, ρ the ridge.
    (1)  φ(x) = √(2/r) cos(W x/√s + b),  b ~ U(0, 2π),  and E φ(x)·φ(y) = k(x, y) where
         W ~ N(0, 1)        k(x, y) = e^{−‖x−y‖²/(2s)}      gaussian
         W ~ Cauchy(0, 1)   k(x, y) = e^{−‖x−y‖₁/√s}        laplacian
         φ(x) = x/√s        k(x, y) = x·y/s                 linear
    (2)  g(x) = β·φ(x) + bias,  β ~ N(0, I)
    (3)  P = ρ I + Σ_i w_i φ(x_i) φ(x_i)ᵀ     over the training set, once
         w = 1  gaussian    p(1 − p), p = σ(g)  binary_logistic    e^g  poisson
    (4)  cov(x, y) = ρ φ(x)ᵀ P⁻¹ φ(y)
    (5)  P ← m P + (1 − m) (ρ I + B⁻¹ Σ_i w_i φ(x_i) φ(x_i)ᵀ)     for each batch of B, in place of the sum in (3)

Axes
    b example    m model    r random feature    c class

Differs from the paper
    - SNGP has ρ = 1 in (3), and no ρ in (4). With it, ρ is the variance of the noise: (4) is the result of Bayesian linear
      regression, and under "gaussian" that of the Gaussian process with kernel φ(x)·φ(y). Far from all data it is k(x, x).
    - SNGP has a P for each class, with w_i = p_ic(1 − p_ic). Here all classes share one P with w = 1, which is never
      smaller. The other likelihoods need a single class.
    - (5) is the moving average of the authors' code except for the ridge, which in their code is only the initial value of P
      and decays as m^t. Either way, (5) loses the number of examples: P tends to ρ I plus their mean, and the variance is too
      large.

Layer: layers/gaussian_process/    Notebook: notebooks/gaussian_process.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense


class GaussianProcessWeights(NamedTuple):
    """Named as in the layer; β is the kernel of `gp_output_weights`. Without random features, the kernel is linear."""

    random_features: Projection | None
    gp_output_weights: Projection
    gp_output_bias: Float[Array, " c"]
    log_kernel_scale: Float[Array, ""]
    precision_matrix: Float[Array, "r r"] | None = None
    input_norm: LayerNorm | None = None


class GaussianProcess(NamedTuple):
    logits: Float[Array, "b c"]
    covariance: Float[Array, "b b"] | None
    features: Float[Array, "b r"]


def draw_random_features(rng: np.random.Generator, m: int, r: int, kernel: str = "gaussian") -> Projection:
    """W and b of equation (1)."""
    draw = {"gaussian": rng.normal, "laplacian": rng.standard_cauchy}[kernel]
    return Projection(draw(size=(m, r)), rng.uniform(0, 2 * np.pi, size=r))


def features_one(
    x: Float[Array, " m"], w: Float[Array, "m r"], b: Float[Array, " r"], scale: float | Float[Array, ""] = 1.0
) -> Float[Array, " r"]:
    """Equation (1) for one example: each feature is a wave, with a direction, a length and a start of its own."""
    waves = [np.cos(x @ direction / np.sqrt(scale) + start) for direction, start in zip(w.T, b)]
    return np.sqrt(2 / len(b)) * np.array(waves)


def random_features(
    x: Float[Array, "b m"],
    weights: Projection | None,
    scale: float | Float[Array, ""] = 1.0,
    activation: Callable = np.cos,
    scaled: bool = True,
) -> Float[Array, "b r"]:
    """Equation (1) for a batch.

    Args:
        x: Examples.
        weights: W and b; without them the kernel is linear.
        scale: s.
        activation: The activation of each feature.
        scaled: Whether features have the factor √(2/r).
    """
    x = x / np.sqrt(scale)
    if weights is None:
        return x
    phi = activation(dense(x, weights))
    return np.sqrt(2 / phi.shape[-1]) * phi if scaled else phi


def observation_weights(logits: Float[Array, "b c"], likelihood: str = "gaussian") -> Float[Array, " b"]:
    """w of equation (3): the information that an example gives about g, which is the curvature of its negative log-likelihood.

    Raises:
        ValueError: if there is more than one class and the likelihood is not "gaussian".
    """
    if likelihood == "gaussian":
        return np.ones(len(logits))
    if logits.shape[-1] != 1:
        raise ValueError(f"{likelihood} needs 1 class. Received: {logits.shape[-1]}")
    g = logits[:, 0]
    return {"binary_logistic": lambda: 1 / (2 + np.exp(g) + np.exp(-g)), "poisson": lambda: np.exp(g)}[likelihood]()


def precision_by_loop(phi: Float[Array, "b r"], w: Float[Array, " b"], ridge: float = 1.0) -> Float[Array, "r r"]:
    """Equation (3), example by example: the definition."""
    precision = ridge * np.eye(phi.shape[1])
    for feature, weight in zip(phi, w):
        precision += weight * np.outer(feature, feature)
    return precision


def add_batch(
    precision: Float[Array, "r r"], phi: Float[Array, "b r"], w: Float[Array, " b"], ridge: float = 1.0, momentum: float = 0.0
) -> Float[Array, "r r"]:
    """P after one more batch: the sum of equation (3), or with a momentum above 0 the mean of equation (5)."""
    total = np.einsum("b,br,bq->rq", w, phi, phi)
    if momentum <= 0:
        return precision + total
    return momentum * precision + (1 - momentum) * (ridge * np.eye(len(precision)) + total / len(phi))


def variance_one(phi: Float[Array, " r"], precision: Float[Array, "r r"], ridge: float = 1.0) -> float:
    """The diagonal of equation (4): the variance of one example."""
    return float(ridge * phi @ np.linalg.solve(precision, phi))


def covariance(phi: Float[Array, "b r"], precision: Float[Array, "r r"], ridge: float = 1.0) -> Float[Array, "b b"]:
    """Equation (4) for every pair of a batch."""
    return ridge * np.einsum("br,rq->bq", phi, np.linalg.solve(precision, phi.T))


def gaussian_process(
    x: Float[Array, "b m"],
    weights: GaussianProcessWeights,
    ridge: float = 1.0,
    activation: Callable = np.cos,
    scaled: bool = True,
    epsilon: float = 1e-3,
) -> GaussianProcess:
    """Equations (1), (2) and (4).

    Args:
        x: Examples.
        weights: An `input_norm` is applied before the scale. Without a `precision_matrix` there is no covariance.
        ridge: ρ.
        activation: The activation of each feature.
        scaled: Whether features have the factor √(2/r).
        epsilon: The ε of the norm.
    """
    if weights.input_norm is not None:
        x = layer_norm(x, weights.input_norm, epsilon)
    phi = random_features(x, weights.random_features, np.exp(weights.log_kernel_scale), activation, scaled)
    logits = dense(phi, weights.gp_output_weights) + weights.gp_output_bias
    known = weights.precision_matrix is not None
    return GaussianProcess(logits, covariance(phi, weights.precision_matrix, ridge) if known else None, phi)
