r"""The encoder block: attention, then a feed-forward network, each with a residual connection and a norm.

Paper
    Vaswani et al. (2017), "Attention Is All You Need", sections 3.1 and 3.3. https://arxiv.org/abs/1706.03762
    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture", section 3, for the norm that comes first.
    https://arxiv.org/abs/2002.04745

Equations
    (1)  FFN(x) = max(0, x W_1 + b_1) W_2 + b_2
    (2)  post-norm, the paper's:  y = LN(x + MultiHead(x, x, x)),       z = LN(y + FFN(y))
    (3)  pre-norm:                y = x + MultiHead(LN(x), LN(x), LN(x)),   z = y + FFN(LN(y))

Axes
    b batch    t query position    s key position    h head    m model    f feed-forward

Differs from the paper
    - The activation is an argument: BERT uses GELU where (1) has max(0, ·).
    - Keys and values may come from a different sequence than the queries, and the residual connection around attention may be
      omitted.
    - A stack of pre-norm blocks needs one more norm at its end (Xiong et al.). That norm is part of the stack, not of a block.
    - Query heads may share key and value heads (`reference/grouped_query_attention.py`), and norms may be RMS norms.

Layer: layers/transformer_encoder/    Notebook: notebooks/transformer_encoder.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend_one
from reference.common.activations import relu
from reference.common.normalization import LayerNorm, RMSNorm, normalize
from reference.common.projection import Projection, dense, into_heads, out_of_heads
from reference.grouped_query_attention import grouped_query_attention


class EncoderWeights(NamedTuple):
    """Named as in the layer. `self_attention_layer_norm_kv` is None unless keys and values have their own norm."""

    self_attention: AttentionWeights
    self_attention_layer_norm: LayerNorm | RMSNorm
    intermediate: Projection
    output: Projection
    output_layer_norm: LayerNorm | RMSNorm
    self_attention_layer_norm_kv: LayerNorm | RMSNorm | None = None


def feed_forward(
    x: Float[Array, "*rows m"], intermediate: Projection, output: Projection, activation: Callable = relu
) -> Float[Array, "*rows _"]:
    """Equation (1), applied to every position in the same way."""
    return dense(activation(dense(x, intermediate)), output)


def encode_one(
    x: Float[Array, "s m"], position: int, weights: EncoderWeights, activation: Callable = relu, epsilon: float = 1e-12
) -> Float[Array, " m"]:
    """Equation (2) for one position of one sequence: the definition everything else must match."""
    q = into_heads(x[position], weights.self_attention.query)
    k, v = (into_heads(x, projection) for projection in (weights.self_attention.key, weights.self_attention.value))
    heads = np.stack([attend_one(q[h], k[:, h], v[:, h]) for h in range(len(q))])
    y = normalize(
        x[position] + out_of_heads(heads, weights.self_attention.attention_output), weights.self_attention_layer_norm, epsilon
    )
    z = y + feed_forward(y, weights.intermediate, weights.output, activation)
    return normalize(z, weights.output_layer_norm, epsilon)


def transformer_encoder_block(
    x: Float[Array, "b *places m"],
    weights: EncoderWeights,
    activation: Callable = relu,
    norm_first: bool = False,
    key_value: Float[Array, "b *keys _"] | None = None,
    mask: Bool[Array, "..."] | None = None,
    use_query_residual: bool = True,
    epsilon: float = 1e-12,
    attention: Callable = grouped_query_attention,
) -> tuple[Float[Array, "b *places _"], Float[Array, "..."]]:
    """Equation (2), or (3) with `norm_first`, for every position.

    Args:
        x: The block's input, from which the queries come.
        weights: Nested as in the layer.
        activation: The activation in place of max(0, ·).
        norm_first: Whether norms come before the sublayers instead of after the residual connections.
        key_value: Where keys and values come from, if not from `x`.
        mask: True where attention is allowed.
        use_query_residual: Whether `x` is added to the result of attention.
        epsilon: The ε of the norms.
        attention: The attention function; it takes queries, values, weights and mask.

    Returns:
        The output and the attention weights.
    """
    if norm_first:
        kv_norm = weights.self_attention_layer_norm_kv or weights.self_attention_layer_norm
        normed = normalize(x, weights.self_attention_layer_norm, epsilon)
        key_value = normalize(x if key_value is None else key_value, kv_norm, epsilon)
        attended, scores = attention(normed, key_value, weights.self_attention, mask=mask)
        y = x + attended if use_query_residual else attended
        inner = normalize(y, weights.output_layer_norm, epsilon)
        return y + feed_forward(inner, weights.intermediate, weights.output, activation), scores

    attended, scores = attention(x, x if key_value is None else key_value, weights.self_attention, mask=mask)
    y = normalize(x + attended if use_query_residual else attended, weights.self_attention_layer_norm, epsilon)
    z = y + feed_forward(y, weights.intermediate, weights.output, activation)
    return normalize(z, weights.output_layer_norm, epsilon), scores
