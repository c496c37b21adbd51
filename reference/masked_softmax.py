r"""Softmax over the positions that a mask allows.

Paper
    Vaswani et al. (2017), "Attention Is All You Need", section 3.2.1, equation (1), and section 3.2.3 for the mask.
    https://arxiv.org/abs/1706.03762

Equations
    (1)  p_i = e^{x_i} / Σ_{j allowed} e^{x_j}   where i is allowed,   p_i = 0 where it is not

Axes
    any number; the softmax runs over one or several of them

Differs from the paper
    - Vaswani et al. set forbidden scores to −∞ before an ordinary softmax. That is equation (1) if a row has an allowed position.
      A row without one would be 0/0; here it is all zeros.

Layer: layers/masked_softmax.py    Notebook: notebooks/masked_softmax.ipynb
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array


def masked_softmax_row(x: Float[Array, " s"], allowed: Bool[Array, " s"]) -> Float[Array, " s"]:
    """Equation (1) for one row, as it is written: the definition everything else must match."""
    total = sum(np.exp(x_j) for x_j, ok in zip(x, allowed) if ok)
    return np.array([np.exp(x_i) / total if ok else 0.0 for x_i, ok in zip(x, allowed)])


def masked_softmax(
    x: Float[Array, "*shape"],
    mask: Bool[Array, "*#shape"] | None = None,
    axes: int | tuple[int, ...] = -1,
) -> Float[Array, "*shape"]:
    """Equation (1) along `axes` of an array of any rank; a row with nothing allowed comes out as zeros.

    Subtracting the largest allowed score first changes nothing in (1) and keeps e^x from overflowing.
    """
    if mask is not None:
        x = np.where(mask, x, -np.inf)
    peak = x.max(axis=axes, keepdims=True)
    exp = np.exp(x - np.where(np.isneginf(peak), 0.0, peak))
    total = exp.sum(axis=axes, keepdims=True)
    return np.divide(exp, total, out=np.zeros_like(exp), where=total > 0)
