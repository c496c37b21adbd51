r"""Attention that takes the weights of some heads from the previous layer.

Paper
    Bhojanapalli et al. (2021), "Leveraging redundancy in attention with Reuse Transformers", the section on Reuse
    Transformers. https://arxiv.org/abs/2110.06821

Equations
    (1)  A_i = A_i of the previous layer          for the first heads, which are reused
         A_i = softmax(Q_i K_iᵀ / √d + R_i)       for the other heads, which are new
    (2)  output = Concat(A_1 V_1, …, A_h V_h) W^O = Σ_i A_i V_i W_i^O
    (3)  Ã_ts = A_ts M_ts / Σ_s' A_ts' M_ts'      for reused weights under the mask M; 0 where nothing is left
    (4)  R_ts = p_(s − t)                         if there are relative positions; s − t is clipped to −(L − 1) … L − 1

Axes
    b batch    t query position    s key position    h head
    m model    d key size          e value size      l relative position

Differs from the paper
    - (3): the paper's layers all see the same tokens, so it applies no mask to reused weights. If the mask of this layer forbids
      more than that of the source, (3) is what the source would have computed under both masks.
    - Projections may have biases. A query that may attend to nothing gets the zero vector, to which the output's bias is added.
    - (4) is the clipped distance of Shaw et al. (1803.02155) applied to a bias per head. A reused head has no such bias: its
      weights already include the positions of the source.

Layer: layers/reuse_attention/    Notebook: notebooks/reuse_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import for_every_head
from reference.common.projection import Projection, into_heads, out_of_heads, with_bias
from reference.masked_softmax import masked_softmax, masked_softmax_row


class ReuseAttentionWeights(NamedTuple):
    """Named as in the layer. The fields of reused heads are None if all heads are new, and vice versa.

    The query and key kernels (m, h, d) and `position_embeddings` belong to the new heads only. The bias belongs to the first of
    the two output kernels (h, e, m) that exists.
    """

    query: Projection | None
    key: Projection | None
    value_reuse: Projection | None
    value_new: Projection | None
    attention_output_reuse: Projection | None
    attention_output_new: Projection | None
    position_embeddings: Float[Array, "h l"] | None


def reuse_attention_one(
    x: Float[Array, " m"],
    y: Float[Array, "s _"],
    weights: ReuseAttentionWeights,
    reused: Float[Array, "_ s"] | None,
    allowed: Bool[Array, " s"],
    t: int,
) -> tuple[Float[Array, " _"], Float[Array, "h s"]]:
    """Equations (1) to (4) for the query x at position t, head by head: the definition everything else must match."""
    attention, output = [], np.zeros(output_projection(weights).kernel.shape[-1])
    for i in range(heads_in(weights.value_reuse)):
        a = renormalized_row(reused[i], allowed)
        output += a @ one_head(y, weights.value_reuse, i) @ weights.attention_output_reuse.kernel[i]
        attention.append(a)
    for i in range(heads_in(weights.value_new)):
        q, k = one_head(x, weights.query, i), one_head(y, weights.key, i)
        scores = np.array([q @ k_s for k_s in k]) / np.sqrt(len(q))
        if weights.position_embeddings is not None:
            scores = scores + [bias_at(s - t, weights.position_embeddings[i]) for s in range(len(k))]
        a = masked_softmax_row(scores, allowed)
        output += a @ one_head(y, weights.value_new, i) @ weights.attention_output_new.kernel[i]
        attention.append(a)
    return with_bias(output, output_projection(weights)), np.stack(attention)


def renormalized_row(a: Float[Array, " s"], allowed: Bool[Array, " s"]) -> Float[Array, " s"]:
    """Equation (3) for one row."""
    left = sum(a_s for a_s, ok in zip(a, allowed) if ok)
    return np.array([a_s / left if ok and left > 0 else 0.0 for a_s, ok in zip(a, allowed)])


def bias_at(distance: int, p: Float[Array, " l"]) -> float:
    """Equation (4) for one distance; p has 2 L − 1 numbers, the middle one for a distance of 0."""
    farthest = len(p) // 2
    return float(p[farthest + max(-farthest, min(distance, farthest))])


def reuse_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: ReuseAttentionWeights,
    reused: Float[Array, "b _ t s"] | None = None,
    key: Float[Array, "b s _"] | None = None,
    mask: Bool[Array, "#b #t #s"] | Bool[Array, "#b #h #t #s"] | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"]]:
    """Equations (1) to (4) for every query of every head. Returns the output and the attention weights, reused heads first.

    Args:
        query, value, key: What to attend from and to. Keys come from `value` if no `key` is given.
        weights: They say how many heads are reused, and how many are new.
        reused: The attention weights of the layer before; of its heads, the first ones are reused.
        mask: True where attention is allowed.
        bias: Added to the scores of the new heads, the last of its heads, as in `reference/attention.py`.
    """
    mask = for_every_head(mask)
    attention, v = [], []
    if k := heads_in(weights.value_reuse):
        attention.append(renormalized(reused[:, :k], None if mask is None else mask[:, :k]))
        v.append(into_heads(value, weights.value_reuse))
    if new := heads_in(weights.value_new):
        of_new = (None if part is None else part[:, -new:] for part in (mask, bias))
        attention.append(new_weights(query, value if key is None else key, weights, *of_new))
        v.append(into_heads(value, weights.value_new))
    attention, v = np.concatenate(attention, axis=1), np.concatenate(v, axis=2)
    return out_of_heads(np.einsum("bhts,bshe->bthe", attention, v), output_projection(weights)), attention


def new_weights(
    query: Float[Array, "b t m"],
    key: Float[Array, "b s _"],
    weights: ReuseAttentionWeights,
    mask: Bool[Array, "#b #h #t #s"] | None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> Float[Array, "b h t s"]:
    """The second line of equation (1)."""
    q, k = into_heads(query, weights.query), into_heads(key, weights.key)
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    if weights.position_embeddings is not None:
        scores = scores + relative_bias(query.shape[1], key.shape[1], weights.position_embeddings)
    return masked_softmax(scores if bias is None else scores + bias, mask)


def renormalized(attention: Float[Array, "b h t s"], mask: Bool[Array, "#b #h #t #s"] | None = None) -> Float[Array, "b h t s"]:
    """Equation (3) for every row; without a mask, the weights as they are."""
    if mask is None:
        return attention
    left = np.where(mask, attention, 0.0)
    total = left.sum(axis=-1, keepdims=True)
    return np.divide(left, total, out=np.zeros_like(left), where=total > 0)


def relative_bias(t: int, s: int, p: Float[Array, "h l"]) -> Float[Array, "h t s"]:
    """Equation (4) for `t` queries and `s` keys, both counted from 0. `bias_at` is the same for one distance."""
    farthest = p.shape[-1] // 2
    distance = np.arange(s)[None, :] - np.arange(t)[:, None]
    return p[:, farthest + np.clip(distance, -farthest, farthest)]


def output_projection(weights: ReuseAttentionWeights) -> Projection:
    """W^O of equation (2): the kernel of the reused heads, then that of the new heads."""
    parts = [part for part in (weights.attention_output_reuse, weights.attention_output_new) if part is not None]
    return Projection(np.concatenate([part.kernel for part in parts]), parts[0].bias)


def heads_in(value: Projection | None) -> int:
    """The number of heads of a value projection, 0 if there is no projection."""
    return 0 if value is None else value.kernel.shape[1]


def one_head(x: Float[Array, "*rows m"], weights: Projection, i: int) -> Float[Array, "*rows _"]:
    """x W_i, plus b_i if there are biases."""
    projected = x @ weights.kernel[:, i]
    return projected if weights.bias is None else projected + weights.bias[i]
