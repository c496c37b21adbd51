r"""From a token's number to its vector: a row of a table.

Paper
    Vaswani et al. (2017), "Attention Is All You Need", section 3.4, for the table and its scale. https://arxiv.org/abs/1706.03762
    Computing a row as a product comes from no paper. It is common practice on accelerators, which multiply matrices faster than
    they look up rows; Devlin et al. (2018), https://arxiv.org/abs/1810.04805, trained on such hardware.

Equations
    (1)  y_t = c E_i,   i = id_t          and y_t = 0 if there is no row i
    (2)  y_t = c o_t E,   o_tj = 1 if id_t = j, else 0          the same, with a one-hot row o_t
    (3)  ∂L/∂E_i = c Σ_{t: id_t = i} ∂L/∂y_t          c oᵀ ∂L/∂y, with the one-hot rows

Axes
    b batch    t position    n vocabulary    m model

Differs from the paper
    - The paper's scale is c = √m. Here it is an argument, 1 by default.
    - The paper's ids are all in the vocabulary. Here an id outside it, including a negative one, has the zero vector and no
      gradient. Equation (2) gives this directly, and (1) is defined to agree.

Layer: layers/on_device_embedding.py    Notebook: notebooks/on_device_embedding.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array


class OnDeviceEmbeddingWeights(NamedTuple):
    """The table, one row for each id."""

    embeddings: Float[Array, "n m"]


def embed_one(i: int, table: Float[Array, "n m"], scale: float = 1.0) -> Float[Array, " m"]:
    """Equation (1) for one id: the definition everything else must match."""
    if 0 <= i < len(table):
        return scale * table[i]
    return np.zeros_like(table[0])


def embed(ids: Int[Array, "*rows"], table: Float[Array, "n m"], scale: float = 1.0) -> Float[Array, "*rows m"]:
    """Equation (1) for all ids, by looking rows up."""
    known = (ids >= 0) & (ids < len(table))
    rows = table[np.where(known, ids, 0)]
    return scale * np.where(known[..., None], rows, 0)


def one_hot(ids: Int[Array, "*rows"], n: int) -> Float[Array, "*rows n"]:
    """o of equation (2): a one in the column of the id, or all zeros if there is no such column."""
    return (ids[..., None] == np.arange(n)).astype("float64")


def embed_by_one_hot(ids: Int[Array, "*rows"], table: Float[Array, "n m"], scale: float = 1.0) -> Float[Array, "*rows m"]:
    """Equation (2): the same as `embed`, with products instead of look-ups."""
    return scale * np.einsum("...n,nm->...m", one_hot(ids, len(table)), table)


def gradient_by_loops(
    ids: Int[Array, "*rows"], slope: Float[Array, "*rows m"], n: int, scale: float = 1.0
) -> Float[Array, "n m"]:
    """Equation (3): each token adds its gradient to the row of its id."""
    gradient = np.zeros((n, slope.shape[-1]))
    for place in np.ndindex(ids.shape):
        if 0 <= ids[place] < n:
            gradient[ids[place]] += scale * slope[place]
    return gradient


def gradient_by_one_hot(
    ids: Int[Array, "*rows"], slope: Float[Array, "*rows m"], n: int, scale: float = 1.0
) -> Float[Array, "n m"]:
    """Equation (3) as one product."""
    return scale * np.einsum("tn,tm->nm", one_hot(ids.reshape(-1), n), slope.reshape(-1, slope.shape[-1]))
