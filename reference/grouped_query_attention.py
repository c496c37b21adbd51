"""Attention whose query heads share keys and values in groups (Ainslie et al., 2023, 2305.13245, section 2.2)."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend, for_every_head
from reference.common.projection import into_heads, out_of_heads


def grouped_query_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: AttentionWeights,
    mask: Bool[Array, "#b #t #s"] | Bool[Array, "#b #h #t #s"] | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"]]:
    """Equation (2) of `reference/attention.py`, with each key and value head repeated for the query heads that share it.

    The key and value kernels have fewer heads than the query kernel; the first key and value head serves the first group of query
    heads, and so on. With equal numbers of heads, this is multi-head attention. Returns the output and the attention weights.
    """
    q = into_heads(query, weights.query)
    k, v = (into_heads(value, projection) for projection in (weights.key, weights.value))
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
    heads, attention = attend(q, k, v, for_every_head(mask), bias)
    return out_of_heads(heads, weights.attention_output), attention
