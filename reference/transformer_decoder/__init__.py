r"""The decoder block: causal self-attention, attention to a memory, and a feed-forward network, each with a residual and a norm.

Paper
    Vaswani et al. (2017), "Attention Is All You Need", sections 3.1 and 3.2.3. https://arxiv.org/abs/1706.03762
    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture", section 3, for the norm that comes first.
    https://arxiv.org/abs/2002.04745

Equations
    (1)  post-norm, the paper's:  y = LN(x + CausalSelf(x)),   z = LN(y + MultiHead(y, M, M)),   o = LN(z + FFN(z))
    (2)  pre-norm:                y = x + CausalSelf(LN(x)),   z = y + MultiHead(LN(y), M, M),   o = z + FFN(LN(z))
    (3)  CausalSelf(x)_t = MultiHead(x_t, x_{0…t}, x_{0…t})

Axes
    b batch    t query position    s key position    h head    a channel
    m model    d key size          e value size      f feed-forward

Differs from the paper
    - The activation of FFN is an argument, as in `reference/transformer_encoder.py`.
    - Keys and values of x_{0…t−1} may come from a cache, (1) of `reference/cached_attention.py`: the result is the same.
    - The memory M may have channels, such as several documents, mixed by given weights (`reference/multi_channel_attention.py`).
    - In (2) the memory is not normalized, because a pre-norm encoder already ends with a norm.

Layer: layers/transformer_decoder/    Notebook: notebooks/transformer_decoder.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend_one, multi_head_attention
from reference.cached_attention import Cache, cached_attention, empty_cache
from reference.common.activations import relu
from reference.common.normalization import LayerNorm, normalize
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.multi_channel_attention import multi_channel_attention
from reference.transformer_encoder import feed_forward


class DecoderWeights(NamedTuple):
    """Named as in the layer."""

    self_attention: AttentionWeights
    self_attention_layer_norm: LayerNorm
    encdec_attention: AttentionWeights
    encdec_attention_layer_norm: LayerNorm
    intermediate: Projection
    output: Projection
    output_layer_norm: LayerNorm


class Decoded(NamedTuple):
    """The output of a block, its attention weights, and the cached keys and values for the next tokens."""

    output: Float[Array, "b t m"]
    self_scores: Float[Array, "b h t _"]
    cross_scores: Float[Array, "b *a_h_t s"]
    cache: Cache


def attend_from(x: Float[Array, " m"], y: Float[Array, "s _"], weights: AttentionWeights) -> Float[Array, " m"]:
    """The attention of one token to the tokens `y`, over all heads."""
    q, k, v = into_heads(x, weights.query), into_heads(y, weights.key), into_heads(y, weights.value)
    heads = np.stack([attend_one(q[h], k[:, h], v[:, h]) for h in range(len(q))])
    return out_of_heads(heads, weights.attention_output)


def decode_one(
    x: Float[Array, "t m"],
    memory: Float[Array, "s _"],
    position: int,
    weights: DecoderWeights,
    activation: Callable = relu,
    epsilon: float = 1e-12,
) -> Float[Array, " m"]:
    """Equation (1) for one position of one sequence: the definition everything else must match."""
    past = x[: position + 1]
    y = x[position] + attend_from(x[position], past, weights.self_attention)
    y = normalize(y, weights.self_attention_layer_norm, epsilon)
    z = normalize(y + attend_from(y, memory, weights.encdec_attention), weights.encdec_attention_layer_norm, epsilon)
    return normalize(z + feed_forward(z, weights.intermediate, weights.output, activation), weights.output_layer_norm, epsilon)


def transformer_decoder_block(
    x: Float[Array, "b t m"],
    memory: Float[Array, "b s _"] | Float[Array, "b a s _"],
    weights: DecoderWeights,
    activation: Callable = relu,
    norm_first: bool = False,
    cross_mask: Bool[Array, "..."] | None = None,
    self_mask: Bool[Array, "..."] | None = None,
    channel_weights: Float[Array, "#b #h #t a"] | None = None,
    cache: Cache | None = None,
    step: int | None = None,
    epsilon: float = 1e-12,
    self_bias: Float[Array, "#b #h #t _"] | None = None,
) -> Decoded:
    """Equation (1), or (2) with `norm_first`, for every position.

    Args:
        x: The tokens so far; with `cache`, the new ones.
        memory: What the encoder made of its input, with a channel axis if `channel_weights` are given.
        weights: Nested as the layer nests them.
        activation: In place of max(0, ·).
        norm_first: Whether norms come before the sublayers instead of after the residual connections.
        cross_mask, self_mask: True where attention is allowed. Self-attention is causal whatever `self_mask` allows.
        channel_weights: How much of each channel of the memory each head of each query takes.
        cache, step: As for `cached_attention`.
        epsilon: Of the norms.
        self_bias: Of self-attention, as in `reference/attention.py`, over all keys of the new cache.
    """

    def before(norm, x):
        return normalize(x, norm, epsilon) if norm_first else x

    def after(norm, x):
        return x if norm_first else normalize(x, norm, epsilon)

    if cache is None:
        cache = empty_cache(len(x), 0, weights.self_attention)  # with a cache, attention is causal
    own = before(weights.self_attention_layer_norm, x)
    options = {"mask": self_mask, "cache": cache, "step": step, "bias": self_bias}
    added, self_scores, cache = cached_attention(own, own, weights.self_attention, **options)
    y = after(weights.self_attention_layer_norm, x + added)

    query = before(weights.encdec_attention_layer_norm, y)
    if channel_weights is None:
        added, cross_scores = multi_head_attention(query, memory, weights.encdec_attention, mask=cross_mask)
    else:
        added, cross_scores = multi_channel_attention(query, memory, weights.encdec_attention, channel_weights, mask=cross_mask)
    z = after(weights.encdec_attention_layer_norm, y + added)

    inner = before(weights.output_layer_norm, z)
    output = z + feed_forward(inner, weights.intermediate, weights.output, activation)
    return Decoded(after(weights.output_layer_norm, output), self_scores, cross_scores, cache)
