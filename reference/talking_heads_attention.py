r"""Talking-heads attention: heads mix their scores before the softmax, and their weights after it.

Paper
    Shazeer, Lan, Cheng, Ding and Hou (2020), "Talking-Heads Attention", section 4. https://arxiv.org/abs/2003.02436

Equations
    (1)  J_h = Q_h K_hᵀ / √d                 the scores of each head, as in attention
    (2)  L_g = Σ_h J_h P^l_hg                the first mixing: logits
    (3)  A_g = softmax(L_g)                  over the keys that the mask allows
    (4)  U_g = Σ_h A_h P^w_hg                the second mixing: weights
    (5)  Y = Concat(U_1 V_1, …, U_h V_h) W^O

Axes
    b batch    t query position    s key position    h head (g in equations and einsums: the head after a mixing)
    m model    d key size          e value size

Differs from the paper
    - The number of heads is the same before, between and after the mixings. In the paper the three numbers h_k, h and h_v may
      differ.
    - Scores are divided by √d, as in attention. The paper leaves this to the weights of the query projection.
    - The paper's algorithm has no mask. Here the mask acts in (3), after the first mixing, so that no −∞ is mixed into other
      heads. A mask with a head axis is for head g of (3); the second mixing may still bring in keys that other heads attend to.
    - A bias B of `reference/attention.py` is added in (3), softmax(L_g + B_g), where the mask acts too.
    - Projections may have biases, and a query that may attend to no key gets the zero vector, as in attention.

Layer: layers/talking_heads_attention.py    Notebook: notebooks/talking_heads_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import for_every_head
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.masked_softmax import masked_softmax, masked_softmax_row


class TalkingHeadsWeights(NamedTuple):
    """The weights of attention, then P^l and P^w, whose axes are the head before a mixing and the head after it."""

    query: Projection
    key: Projection
    value: Projection
    attention_output: Projection
    pre_softmax_weight: Float[Array, "h h"]
    post_softmax_weight: Float[Array, "h h"]


def attend_one(
    q: Float[Array, "h d"],
    k: Float[Array, "s h d"],
    v: Float[Array, "s h e"],
    pre: Float[Array, "h h"],
    post: Float[Array, "h h"],
    allowed: Bool[Array, "h s"],
) -> Float[Array, "h e"]:
    """Equations (1) to (4), and U V of (5), for one query, sum by sum: the definition everything else must match."""
    heads, keys = range(len(q)), range(len(k))
    scores = [[q[h] @ k[s, h] / np.sqrt(len(q[h])) for s in keys] for h in heads]
    logits = [[sum(scores[h][s] * pre[h, g] for h in heads) for s in keys] for g in heads]
    softmax = [masked_softmax_row(np.array(logits[g]), allowed[g]) for g in heads]
    weights = [[sum(softmax[h][s] * post[h, g] for h in heads) for s in keys] for g in heads]
    return np.array([sum(weights[g][s] * v[s, g] for s in keys) for g in heads])


def mix(x: Float[Array, "b h t s"], weight: Float[Array, "h h"]) -> Float[Array, "b h t s"]:
    """Equations (2) and (4): new head g is the sum of the heads h, each times weight[h, g]."""
    return np.einsum("bhts,hg->bgts", x, weight)


def attend(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h e"],
    pre: Float[Array, "h h"],
    post: Float[Array, "h h"],
    mask: Bool[Array, "#b #h #t #s"] | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h t s"], Float[Array, "b h t s"]]:
    """`attend_one` for every query. Returns the heads' outputs, the weights U and the softmaxes A that U mixes."""
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    logits = mix(scores, pre)
    softmax = masked_softmax(logits if bias is None else logits + bias, mask)
    weights = mix(softmax, post)
    return np.einsum("bhts,bshe->bthe", weights, v), weights, softmax


def talking_heads_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: TalkingHeadsWeights,
    key: Float[Array, "b s _"] | None = None,
    mask: Bool[Array, "#b #t #s"] | Bool[Array, "#b #h #t #s"] | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"], Float[Array, "b h t s"]]:
    """Equation (5). Keys come from `value` if no `key` is given. Returns the output, the weights U and the softmaxes A."""
    q = into_heads(query, weights.query)
    k = into_heads(value if key is None else key, weights.key)
    v = into_heads(value, weights.value)
    pre, post = weights.pre_softmax_weight, weights.post_softmax_weight
    heads, mixed, softmax = attend(q, k, v, pre, post, for_every_head(mask), bias)
    return out_of_heads(heads, weights.attention_output), mixed, softmax
