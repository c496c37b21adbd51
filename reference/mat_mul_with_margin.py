r"""Scores of all pairs of left and right vectors in a batch, with a margin by which the matching pairs must win.

Paper
    Yang et al. (2019), "Improving Multilingual Sentence Embedding using Bi-directional Dual Encoder with Additive Margin
    Softmax". https://arxiv.org/abs/1902.08564

Equations
    (1)  φ(x, y) = x · y                                      the cosine, if x and y have length 1
    (2)  logits_ij = scale (φ(x_i, y_j) − margin [i = j])
    (3)  L(x, y) = −1/N Σ_i log softmax(logits_i)_i
    (4)  both directions: L(x, y) + L(y, x)
    (5)  what the margin multiplies the gradient of a row of (3) by: (A + 1) / (A + e^{−scale·margin}),
         A = Σ_{j≠i} exp(scale (φ_ij − φ_ii)) being the row's competition

Axes
    b left vectors    c right vectors, the classes of (3); the first b match the left vectors, in order    m model

Differs from the paper
    - The scale, which Wang et al. (2018), "Additive Margin Softmax for Face Verification", have in their softmax, is an argument.
    - There may be more right vectors than left ones; the others are negatives for every left vector. From right to left, only
      the right vectors with a partner have a row, so that (3) applies to both directions.
    - Vectors are not normalized here; the caller may do so.

Layer: layers/mat_mul_with_margin.py    Notebook: notebooks/mat_mul_with_margin.ipynb
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


class MatMulWithMarginWeights(NamedTuple):
    """This layer has no weights."""


def score_one(
    x: Float[Array, " m"], i: int, right: Float[Array, "c m"], scale: float = 1.0, margin: float = 0.0
) -> Float[Array, " c"]:
    """Equation (2) for the i-th left vector `x`: the definition everything else must match."""
    return np.array([scale * (x @ y - (margin if i == j else 0)) for j, y in enumerate(right)])


def mat_mul_with_margin(
    left: Float[Array, "b m"], right: Float[Array, "c m"], scale: float = 1.0, margin: float = 0.0
) -> tuple[Float[Array, "b c"], Float[Array, "b b"]]:
    """Equation (2) for all pairs.

    Args:
        left: Each with its partner in the same row of `right`.
        right: As many, or more.
        scale, margin: Of (2). What a right pair must win by, in logits, is their product.

    Returns:
        The logits of each left vector for all right ones, and of each right vector that has a partner for all left ones.

    Raises:
        ValueError: for fewer right vectors than left ones.
    """
    if len(right) < len(left):
        raise ValueError(f"right must have at least as many rows as left. Received: {len(right)} and {len(left)}")
    logits = scale * (np.einsum("bm,cm->bc", left, right) - margin * np.eye(len(left), len(right)))
    return logits, logits[:, : len(left)].T


def losses(logits: Float[Array, "b c"]) -> Float[Array, " b"]:
    """−log softmax(logits_i)_i of equation (3), for each i, shifted so that no exponent is positive."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=-1)) - np.diagonal(shifted)


def pull_ratio(competition: float, scale: float, margin: float) -> float:
    r"""Equation (5): the factor by which the margin multiplies the gradient of a row of (3).

    With A, the row's `competition`, its loss is log(1 + A e^{scale·margin}). The gradient for the
    matching pair is −∂L/∂φ_ii = scale (1 − p_i) = scale · A / (A + e^{−scale·margin}). The gradients for the other pairs sum to
    its opposite, in proportions that do not depend on the margin. So the margin only multiplies a row's gradient by this factor.
    """
    return (competition + 1) / (competition + math.exp(-scale * margin))
