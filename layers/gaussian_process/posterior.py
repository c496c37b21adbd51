"""From features to the precision of a Gaussian process's weights, and from that to its covariance (Keras 3).

Axes: `b` example, `r` feature, `c` class.
"""

import keras
import numpy as np
from keras import ops

LIKELIHOODS = ("gaussian", "binary_logistic", "poisson")


def observation_roots(likelihood, logits):
    """√w of equation (3) of `reference/gaussian_process.py`, `(b, 1)`, from logits `(b, 1)`; 1 for "gaussian"."""
    if likelihood == "gaussian":
        return 1.0
    if likelihood == "poisson":
        return ops.exp(logits / 2)
    return ops.sqrt(ops.sigmoid(logits) * ops.sigmoid(-logits))


def sum_of_squares(features, roots):
    """Σ w φ φᵀ of a batch, `(r, r)`."""
    features = features * roots
    return ops.matmul(ops.transpose(features), features)


def with_batch(precision, total, count, momentum, ridge):
    """P after one more batch: equation (3) or, for a momentum above 0, (5).

    Args:
        precision: P, `(r, r)`.
        total: Σ w φ φᵀ of the batch.
        count: Its size, a float tensor; an empty batch changes nothing.
    """
    if momentum <= 0:
        return precision + total
    kept = ops.where(count > 0, *(ops.convert_to_tensor(m, precision.dtype) for m in (momentum, 1.0)))
    mean = total / ops.maximum(count, 1.0)
    return kept * precision + (1 - kept) * (ridge * ops.eye(precision.shape[0], dtype=precision.dtype) + mean)


def covariance_factor(precision, ridge):
    """F of `(r, r)` with FᵀF = ρ P⁻¹, lower triangular: √ρ L⁻¹, for P = L Lᵀ.

    A sum of many examples may be so large that rounding leaves nothing of the ridge, and then P is not positive. A ridge below
    that counts as much as the rounding, ε times the trace, in P and in the prior alike: less is known then, never more.

    Returns:
        F; where P is not positive all the same, NaN throughout, which `covariance` and `check_factor` look for.

    Raises:
        ValueError: instead of that, where the backend says so itself.
    """
    epsilon = float(np.finfo(keras.backend.standardize_dtype(precision.dtype)).eps)
    excess = ops.maximum(epsilon * ops.trace(precision) - ridge, 0.0)
    identity = ops.eye(precision.shape[0], dtype=precision.dtype)
    try:
        lower = ops.cholesky(precision + excess * identity)
    except Exception as error:  # each backend has one of its own, and some give NaN instead
        raise ValueError(not_positive(ridge)) from error
    factor = ops.sqrt(ridge + excess) * ops.solve_triangular(lower, identity, lower=True)
    return ops.where(ops.all(ops.isfinite(factor)), factor, np.nan)


def covariance(features, factor, diagonal):
    """Equation (4), `(b, b)`, or its diagonal `(b,)`; as VᵀV, V = F Φᵀ, which cannot be negative.

    Without an F, which a compiled program cannot raise an error for, nothing is known: every covariance is infinite.
    """
    v = ops.matmul(factor, ops.transpose(features))
    values = ops.sum(ops.square(v), axis=0) if diagonal else ops.matmul(ops.transpose(v), v)
    return ops.where(ops.isnan(factor[0, 0]), np.inf, values)


def check_factor(factor, ridge):
    """Raise a ValueError if there is no F, wherever values are known: not while a program is compiled."""
    if truth(ops.isnan(factor[0, 0])):
        raise ValueError(not_positive(ridge))


def truth(tensor):
    """A boolean tensor as a bool; None while a program is compiled, where it has no value yet."""
    try:
        return bool(tensor)
    except TypeError:
        return None


def not_positive(ridge):
    return (
        "precision_matrix must be finite and positive definite. See whether features and logits are finite, or raise "
        f"gp_cov_ridge_penalty. Received: gp_cov_ridge_penalty={ridge}"
    )
