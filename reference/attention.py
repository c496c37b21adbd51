r"""Multi-head scaled dot-product attention.

Paper
    Vaswani et al. (2017), "Attention Is All You Need", sections 3.2.1 and 3.2.2. https://arxiv.org/abs/1706.03762
    Raffel et al. (2019), "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", section 2.1, for
    the bias of (3). https://arxiv.org/abs/1910.10683

Equations
    (1)  Attention(Q, K, V) = softmax(Q Kᵀ / √d) V
    (2)  MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O,   head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)
    (3)  with a bias B for each pair of query and key: Attention(Q, K, V) = softmax(Q Kᵀ / √d + B) V

Axes
    b batch    t query position    s key position    h head
    m model    d key size          e value size

Differs from the paper
    - Projections may have biases; the paper's have none.
    - A query that may attend to no key gets the zero vector, to which the output projection adds its bias. The paper does not
      consider this case.
    - Raffel et al. write the bias as a scalar added to the logit. Here, that is the score divided by √d.
    - Attention may run over several axes at once, such as the rows and columns of an image. The paper has one axis.

Layer: layers/attention.py    Notebook: notebooks/attention.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.common.projection import Projection, into_heads, out_of_heads
from reference.masked_softmax import masked_softmax


class AttentionWeights(NamedTuple):
    """Named as in the layer. The query and key kernels are (m, h, d), the value kernel (m, h, e), the output kernel (h, e, m)."""

    query: Projection
    key: Projection
    value: Projection
    attention_output: Projection


def attend_one(q: Float[Array, " d"], k: Float[Array, "s d"], v: Float[Array, "s e"]) -> Float[Array, " e"]:
    """Equation (1) for one query of one head: the definition everything else must match."""
    scores = np.array([q @ k_s for k_s in k]) / np.sqrt(len(q))
    weights = np.exp(scores) / np.sum(np.exp(scores))
    return sum(w_s * v_s for w_s, v_s in zip(weights, v))


def attend(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h e"],
    mask: Bool[Array, "#b #h #t #s"] | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h t s"]]:
    """Equation (1), or (3) with a bias, for every query of every head. Returns the outputs and the attention weights."""
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    weights = masked_softmax(scores, mask)
    return np.einsum("bhts,bshe->bthe", weights, v), weights


def multi_head_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: AttentionWeights,
    key: Float[Array, "b s _"] | None = None,
    mask: Bool[Array, "#b #t #s"] | Bool[Array, "#b #h #t #s"] | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"]]:
    """Equation (2). Keys come from `value` if no `key` is given. Returns the output and the attention weights."""
    q = into_heads(query, weights.query)
    k = into_heads(value if key is None else key, weights.key)
    v = into_heads(value, weights.value)
    heads, attention = attend(q, k, v, for_every_head(mask), bias)
    return out_of_heads(heads, weights.attention_output), attention


def for_every_head(mask: Bool[Array, "..."] | None) -> Bool[Array, "..."] | None:
    """Add a head axis to a mask (b, t, s), which becomes (b, 1, t, s). Any other mask, or None, is returned unchanged."""
    return mask[:, None] if mask is not None and mask.ndim == 3 else mask


def attention_over_axes(
    query: Float[Array, "..."],
    value: Float[Array, "..."],
    weights: tuple,
    axes: tuple[int, ...],
    mask: Bool[Array, "..."] | None = None,
    mechanism: Callable = multi_head_attention,
) -> tuple[Float[Array, "..."], ...]:
    """Equation (2) over several axes of higher-rank inputs, flattened into one sequence. The other axes are batch axes.

    Args:
        query, value: Arrays (b, …, m) of the same rank. Their sizes agree on all axes except `axes` and the last.
        weights: As for `multi_head_attention`.
        axes: The axes to attend over, in the order in which they form the sequence.
        mask: Batch axes, then the query's attended axes, then the keys'.
        mechanism: The attention over the flattened sequence, with the signature of `multi_head_attention`.

    Returns:
        The output, with its axes in the order of the query's, and the attention weights, with the axes: batch, head, query, key.
    """
    n = len(axes)
    q, k = (np.moveaxis(x, axes, range(-1 - n, -1)) for x in (query, value))
    batch, t, s = q.shape[: -1 - n], q.shape[-1 - n : -1], k.shape[-1 - n : -1]
    flat_t, flat_s = int(np.prod(t)), int(np.prod(s))
    flat_mask = None if mask is None else mask.reshape(-1, flat_t, flat_s)
    output, *attention = mechanism(
        q.reshape(-1, flat_t, q.shape[-1]), k.reshape(-1, flat_s, k.shape[-1]), weights, mask=flat_mask
    )
    output = np.moveaxis(output.reshape(*batch, *t, -1), range(-1 - n, -1), axes)
    return output, *(a.reshape(*batch, a.shape[1], *t, *s) for a in attention)
