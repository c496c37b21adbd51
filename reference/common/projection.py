"""Linear maps into heads, out of heads, and without heads, for all chapters."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array


class Projection(NamedTuple):
    """A kernel, and a bias if there is one."""

    kernel: Float[Array, "..."]
    bias: Float[Array, "..."] | None = None


def dense(x: Float[Array, "*rows m"], weights: Projection) -> Float[Array, "*rows f"]:
    """x W + b, along the last axis."""
    return with_bias(np.einsum("...m,mf->...f", x, weights.kernel), weights)


def into_heads(x: Float[Array, "*rows m"], weights: Projection) -> Float[Array, "*rows h d"]:
    """x W_h + b_h for each head h; the kernel is (m, h, d), the bias (h, d)."""
    return with_bias(np.einsum("...m,mhd->...hd", x, weights.kernel), weights)


def out_of_heads(heads: Float[Array, "*rows h e"], weights: Projection) -> Float[Array, "*rows m"]:
    """Concat(head_1, …, head_h) W + b; the kernel is (h, e, m), the bias (m)."""
    return with_bias(np.einsum("...he,hem->...m", heads, weights.kernel), weights)


def with_bias(x: Float[Array, "..."], weights: Projection) -> Float[Array, "..."]:
    return x if weights.bias is None else x + weights.bias
