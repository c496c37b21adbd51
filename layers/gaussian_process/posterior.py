"""The precision of a Gaussian process's weights from features, and the covariance from the precision (Keras 3).

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
        count: Number of examples in the batch, a float tensor. An empty batch changes nothing.
        momentum: m.
        ridge: ρ.
    """
    if momentum <= 0:
        return precision + total
    kept = ops.where(count > 0, *(ops.convert_to_tensor(m, precision.dtype) for m in (momentum, 1.0)))
    mean = total / ops.maximum(count, 1.0)
    return kept * precision + (1 - kept) * (ridge * ops.eye(precision.shape[0], dtype=precision.dtype) + mean)


def covariance_factor(precision, ridge):
    """F, `(r, r)`, with FᵀF = ρ P⁻¹: the lower triangular √ρ L⁻¹, for P = L Lᵀ.

    The sum over many examples may be so large that the ridge is lost to rounding, and P is not positive definite. Therefore a
    ridge smaller than the rounding error, ε times the trace, is replaced by it, in P and in the prior alike. This can only
    increase the variance.

    Returns:
        F. If P is still not positive definite, all entries are NaN, which `covariance` and `check_factor` handle.

    Raises:
        ValueError: if P is not positive definite and the backend itself raises an error.
    """
    epsilon = float(np.finfo(keras.backend.standardize_dtype(precision.dtype)).eps)
    excess = ops.maximum(epsilon * ops.trace(precision) - ridge, 0.0)
    identity = ops.eye(precision.shape[0], dtype=precision.dtype)
    try:
        lower = ops.cholesky(precision + excess * identity)
    except Exception as error:  # its type depends on the backend; some backends return NaN instead
        raise ValueError(not_positive(ridge)) from error
    factor = ops.sqrt(ridge + excess) * ops.solve_triangular(lower, identity, lower=True)
    return ops.where(ops.all(ops.isfinite(factor)), factor, np.nan)


def covariance(features, factor, diagonal):
    """Equation (4), `(b, b)`, or its diagonal, `(b,)`, as VᵀV with V = F Φᵀ, so variances cannot be negative.

    If F is NaN, for which a compiled program cannot raise an error, every covariance is infinite.
    """
    v = ops.matmul(factor, ops.transpose(features))
    values = ops.sum(ops.square(v), axis=0) if diagonal else ops.matmul(ops.transpose(v), v)
    return ops.where(ops.isnan(factor[0, 0]), np.inf, values)


def check_factor(factor, ridge):
    """Raise a ValueError if F is NaN. While a program is compiled, values are unknown, and nothing is raised."""
    if truth(ops.isnan(factor[0, 0])):
        raise ValueError(not_positive(ridge))


def truth(tensor):
    """The value of a boolean tensor as a bool; None while a program is compiled, when it has no value."""
    try:
        return bool(tensor)
    except TypeError:
        return None


def not_positive(ridge):
    return (
        "precision_matrix must be finite and positive definite. Check that features and logits are finite, or increase "
        f"gp_cov_ridge_penalty. Received: gp_cov_ridge_penalty={ridge}"
    )
