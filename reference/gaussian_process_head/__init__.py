r"""A classification head that measures how far its inputs are from the training data.

Paper
    Liu et al. (2020), "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness"
    (SNGP), section 3 and appendix A. https://arxiv.org/abs/2006.10108

Equations
    (1)  h = φ(x_CLS W̄ + b),   W̄ = W · min(1, c / σ̂)         the pooler, which keeps distances
    (2)  g = β·features(h) + bias,   v = cov(h, h)            the Gaussian process: logits, and their variance
    (3)  logits g / √(1 + λ v)                                mean field: their σ is about E σ(g + √v n), n ~ N(0, 1), for λ = π/8

Axes
    b batch    t position    m model    f pooler    r random feature    c class

Differs from the paper
    - The paper bounds every layer of the network that computes x_CLS. This is only the head, so only its pooler is bounded.
    - v is the same for all classes, as in the authors' code (see `reference/gaussian_process.py`).
    - The paper averages softmax over draws. Its code has (3), which is derived for one logit. Under softmax every logit varies,
      and the difference of two has variance 2 v, so for two classes λ = π/4 corresponds to π/8. Without a λ, g is returned.
    - The token x_CLS and the pooler are those of `reference/classification_head.py`.

Layer: layers/gaussian_process_head.py    Notebook: notebooks/gaussian_process_head.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from reference.common.projection import Projection, dense
from reference.gaussian_process import GaussianProcessWeights, features_one, gaussian_process, variance_one
from reference.gaussian_process_head.posterior import mean_field_logits
from reference.spectral_normalization import SpectralNormalizationWeights, bounded, estimated_norm, spectral_einsum


class GaussianProcessHeadWeights(NamedTuple):
    """Named as in the layer. The pooler may be bounded, unbounded or absent; the logits may be a Gaussian process or not."""

    pooler_dense: SpectralNormalizationWeights | Projection | None
    logits: GaussianProcessWeights | Projection


class Head(NamedTuple):
    logits: Float[Array, "b c"]
    covariance: Float[Array, "b b"] | None
    pooled: Float[Array, "b _"]


def head_one(
    x: Float[Array, " m"], weights: GaussianProcessHeadWeights, factor: float, c: float = 0.95, ridge: float = 1.0
) -> Float[Array, " c"]:
    """Equations (1) to (3) for the vector of one token, with both parts there: the definition everything else must match."""
    (kernel, bias), u, v = weights.pooler_dense
    h = np.tanh(x @ bounded(kernel, estimated_norm(kernel, u, v), c) + bias)
    process = weights.logits
    phi = features_one(h, *process.random_features, np.exp(process.log_kernel_scale))
    g = phi @ process.gp_output_weights.kernel + process.gp_output_bias
    return g / np.sqrt(1 + factor * variance_one(phi, process.precision_matrix, ridge))


def pooled(
    x: Float[Array, "b m"], weights: SpectralNormalizationWeights | Projection | None, phi: Callable = np.tanh, c: float = 0.95
) -> Float[Array, "b _"]:
    """Equation (1). Without u and v the kernel is not bounded; without weights there is no pooler."""
    if weights is None:
        return x
    bounds = isinstance(weights, SpectralNormalizationWeights)
    return phi(spectral_einsum(x, weights, "bm,mf->bf", c)[0] if bounds else dense(x, weights))


def gaussian_process_head(
    features: Float[Array, "b *t m"],
    weights: GaussianProcessHeadWeights,
    cls_token_idx: int = 0,
    phi: Callable = np.tanh,
    factor: float | None = None,
    c: float = 0.95,
    **process: object,
) -> Head:
    """Equations (1) to (3) for every sequence.

    Args:
        features: Sequences `(b, t, m)`, or one vector per sequence, `(b, m)`.
        weights: In any of the forms that `GaussianProcessHeadWeights` allows.
        cls_token_idx: The position whose vector is classified.
        phi: The activation φ of the pooler.
        factor: λ; with None, (3) is skipped.
        c: The bound on the pooler's kernel.
        process: Further arguments of `reference.gaussian_process.gaussian_process`.
    """
    h = pooled(features[:, cls_token_idx] if features.ndim == 3 else features, weights.pooler_dense, phi, c)
    if isinstance(weights.logits, Projection):
        return Head(dense(h, weights.logits), None, h)
    logits, covariance, _ = gaussian_process(h, weights.logits, **process)
    if factor is not None:
        logits = mean_field_logits(logits, np.diagonal(covariance), factor)
    return Head(logits, covariance, h)


def softmax(logits: Float[Array, "b c"]) -> Float[Array, "b c"]:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def expected_softmax(
    logits: Float[Array, "b c"], variance: Float[Array, " b"], draws: Float[Array, "_ b c"]
) -> Float[Array, "b c"]:
    """E softmax(g + √v n), which (3) approximates, as a mean over draws n from N(0, I)."""
    return np.mean([softmax(logits + np.sqrt(variance)[:, None] * n) for n in draws], axis=0)
