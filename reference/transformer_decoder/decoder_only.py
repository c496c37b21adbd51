r"""A decoder-only language model: causal blocks without a memory, from token ids to the logits of the next token.

Paper
    Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training", section 3.1.
    Vaswani et al. (2017), "Attention Is All You Need", sections 3.4 and 3.5, for embeddings and sinusoids.
    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture", section 3, for the last norm.

Equations
    (4)  h_i = block(h_{i−1}),  block being (2) or (3) of `reference/transformer_encoder.py` with CausalSelf for MultiHead
    (5)  h_0 = E_ids + P,   or  h_0 = √m E_ids + sinusoids
    (6)  logits = h_L Eᵀ,   or, with norms first,  logits = LN(h_L) Eᵀ

Axes
    b batch    t position    s key position    n vocabulary    m model

Differs from the paper
    - Norms may come first, as in Radford et al. (2019).
    - Keys and values may come from a cache, as in `reference/cached_attention.py`; positions then continue after the cached ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from reference.cached_attention import Cache, cached_attention, empty_cache
from reference.common.activations import relu
from reference.common.normalization import LayerNorm, normalize
from reference.on_device_embedding import OnDeviceEmbeddingWeights, embed
from reference.positional_embedding import PositionalEmbeddingWeights, interleaved, learned
from reference.transformer_encoder import EncoderWeights, feed_forward


class DecoderOnlyWeights(NamedTuple):
    """Named as in the layer. Without `position_embedding`, positions are sinusoids; without the last norm, blocks end in one."""

    token_embedding: OnDeviceEmbeddingWeights
    layer: tuple[EncoderWeights, ...]
    position_embedding: PositionalEmbeddingWeights | None = None
    output_layer_norm: LayerNorm | None = None


def causal_block(
    x: Float[Array, "b t m"],
    weights: EncoderWeights,
    activation: Callable = relu,
    norm_first: bool = True,
    mask: Bool[Array, "..."] | None = None,
    cache: Cache | None = None,
    step: int | None = None,
    epsilon: float = 1e-12,
) -> tuple[Float[Array, "b t m"], Cache]:
    """Equation (4), and the cache with the keys and values of `x`. Arguments as in `transformer_decoder`."""
    if cache is None:
        cache = empty_cache(len(x), 0, weights.self_attention)  # with a cache, attention is causal
    own = normalize(x, weights.self_attention_layer_norm, epsilon) if norm_first else x
    added, _, cache = cached_attention(own, own, weights.self_attention, mask=mask, cache=cache, step=step)
    y = x + added
    if norm_first:
        inner = normalize(y, weights.output_layer_norm, epsilon)
        return y + feed_forward(inner, weights.intermediate, weights.output, activation), cache
    y = normalize(y, weights.self_attention_layer_norm, epsilon)
    z = y + feed_forward(y, weights.intermediate, weights.output, activation)
    return normalize(z, weights.output_layer_norm, epsilon), cache


def transformer_decoder(
    ids: Int[Array, "b t"],
    weights: DecoderOnlyWeights,
    activation: Callable = relu,
    norm_first: bool = True,
    mask: Bool[Array, "..."] | None = None,
    caches: list[Cache] | None = None,
    step: int | None = None,
    epsilon: float = 1e-12,
) -> tuple[Float[Array, "b t n"], list[Cache]]:
    """Equations (5), (4) and (6).

    Args:
        ids: The tokens so far; with `caches`, the new ones.
        weights: Nested as in the layer.
        activation: In place of max(0, ·).
        norm_first: Whether norms come before the sublayers.
        mask: True where attention is allowed. Attention is causal whatever it allows.
        caches: The cache of each block.
        step: Slot of the caches for the first new token, as for `cached_attention`; by default they are appended.
        epsilon: Of the norms.

    Returns:
        The logits, and the new cache of each block.
    """
    table = weights.token_embedding.embeddings
    offset = step if step is not None else caches[0].key.shape[1] if caches else 0
    if weights.position_embedding is None:
        m = table.shape[1]
        x = embed(ids, table, np.sqrt(m)) + interleaved(offset + np.arange(ids.shape[1]), m)
    else:
        x = embed(ids, table)
        x = x + learned(x, weights.position_embedding.embeddings, offset=offset)
    new = []
    for block, cache in zip(weights.layer, caches or [None] * len(weights.layer)):
        x, cache = causal_block(x, block, activation, norm_first, mask, cache, step, epsilon)
        new.append(cache)
    if norm_first:
        x = normalize(x, weights.output_layer_norm, epsilon)
    return np.einsum("btm,nm->btn", x, table), new
